"""PagerDuty webhooks v3: whether one is signed by PagerDuty, and what it says about our incidents. Pure.

Source: PagerDuty developer documentation, webhooks/{01-Overview,04-Signatures}.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from streamproc.core.identity import SUFFIX, scope_of
from streamproc.events.feedback import Feedback, FeedbackKind

KINDS = {
    "incident.acknowledged": FeedbackKind.ACKNOWLEDGED,
    "incident.unacknowledged": FeedbackKind.UNACKNOWLEDGED,
    "incident.resolved": FeedbackKind.RESOLVED,
    "incident.reopened": FeedbackKind.REOPENED,
    "incident.annotated": FeedbackKind.ANNOTATED,
    "incident.reassigned": FeedbackKind.REASSIGNED,
    "incident.delegated": FeedbackKind.REASSIGNED,
    "incident.escalated": FeedbackKind.ESCALATED,
    "incident.priority_updated": FeedbackKind.PRIORITY,
    "incident.urgency_updated": FeedbackKind.URGENCY,
    "incident.triggered": FeedbackKind.TRIGGERED,
}
VALUE_LIMIT = 500


class _Reference(BaseModel):
    summary: str | None = None
    type: str | None = None


class _Occurrence(BaseModel):
    """The part of `event` that counts; unknown fields are none of our business."""

    id: str = ""
    event_type: str
    occurred_at: AwareDatetime | None = None
    agent: _Reference | None = None
    data: dict[str, Any] = {}


class _Webhook(BaseModel):
    event: _Occurrence


@dataclass(frozen=True, slots=True)
class Heard:
    """What a webhook came to: feedback, or the reason why there is none."""

    outcome: str
    """The kind of the feedback; else `ignored` (a type without use), `unjoined` (names no incident key), `foreign`
    (an incident that is not ours) or `unreadable`."""
    feedback: Feedback | None = None


class ForeignIncident(BaseModel):
    """An incident that is not ours, as a webhook shows it; unknown fields are none of our business."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)

    id: str
    number: int = 0
    title: str = ""
    status: Literal["triggered", "acknowledged", "resolved"]
    incident_key: str | None = None
    urgency: Literal["high", "low"] = "high"
    html_url: str | None = None
    created_at: AwareDatetime
    service: _Reference = _Reference()


@dataclass(frozen=True, slots=True)
class Foreign:
    """What happened to an incident that is not ours."""

    kind: FeedbackKind
    incident_id: str
    """PagerDuty's id of it."""
    at: datetime
    by: str
    """Who did it, empty where nobody is named."""
    person: bool
    incident: ForeignIncident | None
    """The incident itself; None where the webhook only names it, as that of a note does."""


def foreign(body: bytes) -> Foreign | None:
    """Return what a webhook says of an incident that is not ours; None where it says nothing, or cannot be read.

    Args:
        body: the raw body, of which `read` said `foreign` or `unjoined`.
    """
    try:
        event = _Webhook.model_validate_json(body).event
        kind = _kind(event)
        if kind is None or event.occurred_at is None:
            return None
        named = event.data.get("incident")
        if isinstance(named, dict):
            shown, incident_id = None, str(named.get("id") or "")
        else:
            shown = ForeignIncident.model_validate(event.data)
            incident_id = shown.id
    except ValidationError:
        return None
    if not incident_id:
        return None
    by = (event.agent.summary if event.agent else None) or ""
    person = event.agent is not None and (event.agent.type or "").startswith("user")
    return Foreign(kind, incident_id, event.occurred_at, by[:VALUE_LIMIT], person, shown)


def signed(header: str, body: bytes, secrets: Sequence[bytes]) -> bool:
    """Return whether one of the signatures in `X-PagerDuty-Signature` fits one of the secrets, in constant time.

    Args:
        header: comma-separated `v1=<hex HMAC-SHA256 of the body>`; several while PagerDuty rotates a secret.
        body: the raw body.
        secrets: every secret that counts; several while we rotate.
    """
    parts = (part.strip() for part in header.split(","))
    given = [part[3:].lower().encode("ascii", "replace") for part in parts if part.startswith("v1=")]
    fits = False
    for secret in secrets:
        right = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
        for signature in given:
            fits |= hmac.compare_digest(right, signature)
    return fits


def read(body: bytes, webhook_id: str) -> Heard:
    """Return what a webhook says.

    Args:
        body: the raw body.
        webhook_id: header `X-Webhook-Id`; it counts where the event has no id. The event's own goes first: it too is
            the same on every redelivery, and the signature covers it.
    """
    try:
        event = _Webhook.model_validate_json(body).event
        kind = _kind(event)
        if kind is None:
            return Heard("ignored")
        key = _incident_key(event.data)
        if not key:
            return Heard("unjoined")
        if scope_of(key) is None:
            return Heard("foreign")
        if event.occurred_at is None:
            return Heard("unreadable")
        agent = event.agent.summary if event.agent else None
        feedback = Feedback(
            feedback_id=event.id or webhook_id,
            incident_id=key,
            kind=kind,
            by=(agent or "")[:VALUE_LIMIT],
            person=_is_person(event.agent, kind),
            value=_value(kind, event.data)[:VALUE_LIMIT],
            at=event.occurred_at,
        )
    except ValidationError:
        return Heard("unreadable")
    return Heard(str(kind), feedback)


def _kind(event: _Occurrence) -> FeedbackKind | None:
    """Return what it says; an incident that was merged into another is told as resolved, too."""
    kind, why = KINDS.get(event.event_type), event.data.get("resolve_reason")
    merged = kind is FeedbackKind.RESOLVED and isinstance(why, dict) and why.get("type") == "merge_resolve_reason"
    return FeedbackKind.MERGED if merged else kind


def _is_person(agent: _Reference | None, kind: FeedbackKind) -> bool:
    """Return whether a person did it. What we resolve ourselves is told, too, by an integration or by nobody."""
    if agent is None:
        return kind is not FeedbackKind.RESOLVED
    return "integration" not in (agent.type or "")


def _incident_key(data: dict[str, Any]) -> str:
    """Return our incident id. Notes name only their incident, so they have one where PagerDuty adds its key."""
    incident = data.get("incident")
    key = data.get("incident_key") or (incident.get("incident_key") if isinstance(incident, dict) else None)
    return SUFFIX.sub("", key) if isinstance(key, str) else ""


def _value(kind: FeedbackKind, data: dict[str, Any]) -> str:
    if kind is FeedbackKind.MERGED:
        return _summary(data["resolve_reason"].get("incident"))
    if kind is FeedbackKind.PRIORITY:
        return _summary(data.get("priority"))
    if kind is FeedbackKind.URGENCY:
        return str(data.get("urgency") or "")
    if kind is FeedbackKind.ANNOTATED:
        return str(data.get("content") or "")
    if kind in {FeedbackKind.REASSIGNED, FeedbackKind.ESCALATED}:
        assignees = data.get("assignees")
        return ", ".join(filter(None, map(_summary, assignees))) if isinstance(assignees, list) else ""
    return ""


def _summary(reference: Any) -> str:
    return str(reference.get("summary") or "") if isinstance(reference, dict) else ""
