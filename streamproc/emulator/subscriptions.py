"""Webhook subscriptions: where events go, which ones, and whether they still do."""

from __future__ import annotations

import secrets
from typing import Any

from pydantic import BaseModel

INCIDENT_EVENTS = (
    "acknowledged",
    "annotated",
    "conference_bridge.updated",
    "custom_field_values.updated",
    "delegated",
    "escalated",
    "incident_type.changed",
    "priority_updated",
    "reassigned",
    "reopened",
    "resolved",
    "responder.added",
    "responder.replied",
    "role.assigned",
    "service_updated",
    "status_update_published",
    "title_updated",
    "triggered",
    "unacknowledged",
    "urgency_updated",
    "workflow.started",
    "workflow.completed",
)
EVENT_TYPES = frozenset(
    [f"incident.{name}" for name in INCIDENT_EVENTS] + ["service.created", "service.updated", "service.deleted"]
)
"""What a subscription may ask for."""
OWN = "PEMULATOR"
"""Id of the subscription that the emulator's own settings make."""
MOST_DROPS = 3
"""Webhooks dropped in a row until PagerDuty switches a subscription off (developer-docs, webhooks/02-Behavior)."""


class Subscription(BaseModel):
    """One subscription."""

    id: str
    url: str
    secret: str
    events: frozenset[str] = EVENT_TYPES
    service_id: str = ""
    """Only events of this service; empty for all."""
    team_id: str = ""
    """Only events of this team; empty for all."""
    description: str = ""
    active: bool = True
    temporarily_disabled: bool = False
    drops: int = 0
    """Webhooks dropped in a row."""

    def wants(self, event_type: str, incident: dict[str, Any]) -> bool:
        """Return whether an event goes there; `incident` is the incident as webhooks show it."""
        if not self.active or self.temporarily_disabled or event_type not in self.events:
            return False
        if self.service_id:
            return bool(incident["service"]["id"] == self.service_id)
        return not self.team_id or any(team["id"] == self.team_id for team in incident["teams"])

    def judge(self, *, delivered: bool) -> None:
        """Count a webhook that was delivered or dropped; too many dropped in a row switch the subscription off.

        The emulator's own subscription is never switched off: it stands for one that a person would switch on again.
        """
        self.drops = 0 if delivered else self.drops + 1
        if self.drops >= MOST_DROPS and self.id != OWN:
            self.temporarily_disabled = True

    def shown(self, *, with_secret: bool = False) -> dict[str, Any]:
        """Return it as the REST API shows it; the secret is shown once, when it is created."""
        filtered = {"type": "account_reference"}
        if self.service_id or self.team_id:
            kind = "service" if self.service_id else "team"
            filtered = {"type": f"{kind}_reference", "id": self.service_id or self.team_id}
        return {
            "id": self.id,
            "type": "webhook_subscription",
            "active": self.active,
            "description": self.description,
            "delivery_method": {
                "id": f"D{self.id}",
                "type": "http_delivery_method",
                "url": self.url,
                "secret": self.secret if with_secret else None,
                "temporarily_disabled": self.temporarily_disabled,
                "custom_headers": [],
            },
            "events": sorted(self.events),
            "filter": filtered,
        }


def created(url: str, events: frozenset[str], **given: str) -> Subscription:
    """Return a new subscription with a secret of its own; `given` are further fields."""
    name = f"W{secrets.token_hex(6).upper()}"
    return Subscription.model_validate(
        {"id": name, "url": url, "secret": secrets.token_urlsafe(48), "events": events, **given}
    )
