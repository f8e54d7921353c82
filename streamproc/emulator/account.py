"""Alerts and incidents as PagerDuty keeps them. No I/O, no clock; one alert makes one incident.

Source: PagerDuty/developer-docs, `docs/events-API-v2/02-Trigger-Events.md`, "Alert De-Duplication" and "Event Action
Behavior".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel

from streamproc.core.errors import Rejected

Status = Literal["triggered", "acknowledged", "resolved"]


class Effect(StrEnum):
    """What an accepted event did."""

    OPENED = "opened"
    """A new alert and incident; people are notified."""
    DEDUPLICATED = "deduplicated"
    """A trigger for an alert that is open."""
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    UNCHANGED = "unchanged"
    """An acknowledge for an incident that is acknowledged."""
    DROPPED = "dropped"
    """An acknowledge or resolve for no open alert of this routing key."""
    CHANGE = "change"
    """A change event, which notifies nobody."""


class Deed(StrEnum):
    """What a person can do to an incident; the value is the webhook's event type without `incident.`."""

    ACKNOWLEDGE = "acknowledged"
    UNACKNOWLEDGE = "unacknowledged"
    RESOLVE = "resolved"
    REOPEN = "reopened"
    ANNOTATE = "annotated"
    ESCALATE = "escalated"
    REASSIGN = "reassigned"
    PRIORITY = "priority_updated"
    URGENCY = "urgency_updated"


class Alert(BaseModel):
    """One alert, from the trigger that opened it to its resolve."""

    id: str
    routing_key: str
    dedup_key: str
    status: Status
    severity: str
    summary: str
    incident_id: str
    triggers: int
    """How many triggers it took, the first one counted."""
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None = None
    event: dict[str, Any]
    """The last trigger."""


class Incident(BaseModel):
    """One incident."""

    id: str
    number: int
    status: Status
    incident_key: str
    """The dedup key of the event that opened it."""
    routing_key: str
    alert_id: str
    title: str
    urgency: str
    created_at: datetime
    changed_at: datetime
    client: str = ""
    priority: str = ""
    assignee: str = "Responder 1"
    notes: list[str] = []
    log: list[str] = []
    """What happened to it, in order."""


class Account:
    """What one PagerDuty account holds."""

    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}
        self.incidents: dict[str, Incident] = {}
        self.changes: list[dict[str, Any]] = []
        self._open: dict[tuple[str, str], Alert] = {}

    def take(self, event: dict[str, Any], dedup_key: str, now: datetime) -> tuple[Effect, Incident | None]:
        """Apply a valid alert event; `dedup_key` is its own, or the one that was made for it."""
        key = (event["routing_key"], dedup_key)
        alert = self._open.get(key)
        if event["event_action"] == "trigger":
            if alert is None:
                return Effect.OPENED, self._open_incident(event, dedup_key, now)
            return Effect.DEDUPLICATED, self._repeat(alert, event, now)
        if alert is None:
            return Effect.DROPPED, None
        incident = self.incidents[alert.incident_id]
        if event["event_action"] == "resolve":
            self._set(incident, "resolved", "resolved by the API", now)
            return Effect.RESOLVED, incident
        if incident.status == "acknowledged":
            return Effect.UNCHANGED, incident
        self._set(incident, "acknowledged", "acknowledged by the API", now)
        return Effect.ACKNOWLEDGED, incident

    def act(self, incident: Incident, deed: Deed, by: str, value: str, now: datetime) -> None:
        """Do what a person does.

        Raises:
            Rejected: the incident's state does not allow it.
        """
        allowed, change = _DEEDS[deed]
        if incident.status not in allowed:
            raise Rejected("not_possible", f"incident {incident.number} is {incident.status}")
        alert = self.alerts[incident.alert_id]
        key = (alert.routing_key, alert.dedup_key)
        if deed is Deed.REOPEN and key in self._open:
            raise Rejected("not_possible", "a newer alert with the same dedup key is open")
        change(incident, value)
        self._set(incident, incident.status, f"{deed} by {by}{f': {value}' if value else ''}", now)
        if deed is Deed.REOPEN:
            self._open[key] = alert

    def _open_incident(self, event: dict[str, Any], dedup_key: str, now: datetime) -> Incident:
        number = len(self.incidents) + 1
        payload = event["payload"]
        incident = Incident(
            id=f"Q{number:013d}",
            number=number,
            status="triggered",
            incident_key=dedup_key,
            routing_key=event["routing_key"],
            alert_id=f"A{number:013d}",
            title=payload["summary"],
            urgency="high" if payload["severity"] in ("critical", "error") else "low",
            created_at=now,
            changed_at=now,
            client=event.get("client", ""),
            log=[f"{now.isoformat()} triggered"],
        )
        alert = Alert(
            id=incident.alert_id,
            routing_key=event["routing_key"],
            dedup_key=dedup_key,
            status="triggered",
            severity=payload["severity"],
            summary=payload["summary"],
            incident_id=incident.id,
            triggers=1,
            opened_at=now,
            changed_at=now,
            event=event,
        )
        self.incidents[incident.id] = incident
        self.alerts[alert.id] = alert
        self._open[alert.routing_key, dedup_key] = alert
        return incident

    def _repeat(self, alert: Alert, event: dict[str, Any], now: datetime) -> Incident:
        alert.triggers += 1
        alert.severity = event["payload"]["severity"]
        alert.summary = event["payload"]["summary"]
        alert.event = event
        alert.changed_at = now
        incident = self.incidents[alert.incident_id]
        incident.log.append(f"{now.isoformat()} triggered again: {alert.severity}, {alert.summary}")
        return incident

    def _set(self, incident: Incident, status: Status, entry: str, now: datetime) -> None:
        alert = self.alerts[incident.alert_id]
        incident.status = alert.status = status
        incident.changed_at = alert.changed_at = now
        incident.log.append(f"{now.isoformat()} {entry}")
        alert.resolved_at = now if status == "resolved" else None
        if status == "resolved":
            self._open.pop((alert.routing_key, alert.dedup_key), None)


def _to(status: Status) -> Callable[[Incident, str], None]:
    def change(incident: Incident, _value: str) -> None:
        incident.status = status

    return change


def _note(incident: Incident, value: str) -> None:
    incident.notes.append(value)


def _give(name: Literal["assignee", "priority", "urgency"]) -> Callable[[Incident, str], None]:
    def change(incident: Incident, value: str) -> None:
        setattr(incident, name, value)

    return change


_ANY = ("triggered", "acknowledged", "resolved")
_OPEN = ("triggered", "acknowledged")
_DEEDS: dict[Deed, tuple[tuple[str, ...], Callable[[Incident, str], None]]] = {
    Deed.ACKNOWLEDGE: (_OPEN, _to("acknowledged")),
    Deed.UNACKNOWLEDGE: (("acknowledged",), _to("triggered")),
    Deed.RESOLVE: (_OPEN, _to("resolved")),
    Deed.REOPEN: (("resolved",), _to("triggered")),
    Deed.ANNOTATE: (_ANY, _note),
    Deed.ESCALATE: (_OPEN, _give("assignee")),
    Deed.REASSIGN: (_OPEN, _give("assignee")),
    Deed.PRIORITY: (_ANY, _give("priority")),
    Deed.URGENCY: (_OPEN, _give("urgency")),
}
