"""Alerts and incidents as PagerDuty keeps them. No I/O, no clock; one alert makes one incident, a merge moves alerts.

Source: PagerDuty/developer-docs, `docs/events-API-v2/02-Trigger-Events.md`, "Alert De-Duplication" and "Event Action
Behavior"; REST API v2, "Update an incident", "Merge incidents", "Update an alert".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from streamproc.core.errors import Rejected
from streamproc.emulator.incident import Alert, Incident, LogEntry, Note, Status

__all__ = ["Account", "Alert", "Deed", "Effect", "Incident"]


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
    TITLE = "title_updated"
    LEVEL = "escalated_to"
    """Escalate to a level of the policy, given as a number; the webhook is `incident.escalated`."""


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
            self.resolve_alert(alert, "", now)
            return Effect.RESOLVED, incident
        if incident.status == "acknowledged":
            return Effect.UNCHANGED, incident
        self._set(incident, "acknowledged", now)
        incident.log.append(LogEntry(at=now, what="acknowledged"))
        return Effect.ACKNOWLEDGED, incident

    def act(self, incident: Incident, deed: Deed, by: str, value: str, now: datetime) -> None:
        """Do what a person does.

        Raises:
            Rejected: the incident's state does not allow it.
        """
        allowed, change = _DEEDS[deed]
        if incident.status not in allowed:
            raise Rejected("not_possible", f"incident {incident.number} is {incident.status}")
        alerts = self.alerts_of(incident)
        keys = [(alert.routing_key, alert.dedup_key) for alert in alerts]
        if deed is Deed.REOPEN and incident.merged_into:
            raise Rejected("not_possible", f"incident {incident.number} was merged into another")
        if deed is Deed.REOPEN and any(key in self._open for key in keys):
            raise Rejected("not_possible", "a newer alert with the same dedup key is open")
        change(incident, value)
        if deed is Deed.ANNOTATE:
            note = Note(id=f"N{incident.number:06d}{len(incident.notes) + 1:06d}", content=value, by=by, at=now)
            incident.notes.append(note)
        self._set(incident, incident.status, now)
        if deed in (Deed.RESOLVE, Deed.REOPEN):
            incident.resolved_by = by if deed is Deed.RESOLVE else ""
        incident.log.append(LogEntry(at=now, what=str(deed), by=by, text=value))
        if deed is Deed.REOPEN:
            self._open.update(zip(keys, alerts, strict=True))

    def merge(self, target: Incident, sources: list[Incident], by: str, now: datetime) -> None:
        """Move the open alerts of the sources to the target, and resolve the sources.

        Raises:
            Rejected: the target is resolved, or is a source itself.
        """
        if target.status == "resolved" or target in sources:
            raise Rejected("not_possible", f"nothing can be merged into incident {target.number} ({target.status})")
        for source in sources:
            moved = [alert for alert in self.alerts_of(source) if alert.status != "resolved"]
            for alert in moved:
                self._move(alert, target)
            source.merged_into, source.resolved_by = target.id, by
            self._set(source, "resolved", now)
            source.log.append(LogEntry(at=now, what="resolved", by=by, text=f"merged into incident {target.number}"))
            target.log.append(LogEntry(at=now, what="merged", by=by, text=f"incident {source.number}"))

    def reassociate(self, alert: Alert, target: Incident) -> None:
        """Move one alert to another incident.

        Raises:
            Rejected: the other incident is resolved.
        """
        if target.status == "resolved":
            raise Rejected("not_possible", f"incident {target.number} is resolved")
        self._move(alert, target)

    def resolve_alert(self, alert: Alert, by: str, now: datetime) -> bool:
        """Resolve one alert; its incident with it where it was the last, which is told by True."""
        alert.status, alert.changed_at, alert.resolved_at = "resolved", now, now
        self._open.pop((alert.routing_key, alert.dedup_key), None)
        incident = self.incidents[alert.incident_id]
        if any(other.status != "resolved" for other in self.alerts_of(incident)) or incident.status == "resolved":
            return False
        self._set(incident, "resolved", now)
        incident.resolved_by = by
        incident.log.append(LogEntry(at=now, what="resolved", by=by))
        return True

    def alerts_of(self, incident: Incident) -> list[Alert]:
        """Return the alerts of an incident, the first one first."""
        return [self.alerts[name] for name in incident.alert_ids]

    def _move(self, alert: Alert, target: Incident) -> None:
        self.incidents[alert.incident_id].alert_ids.remove(alert.id)
        alert.incident_id = target.id
        target.alert_ids.append(alert.id)

    def _open_incident(self, event: dict[str, Any], dedup_key: str, now: datetime) -> Incident:
        number = len(self.incidents) + 1
        payload = event["payload"]
        incident = Incident(
            id=f"Q{number:013d}",
            number=number,
            status="triggered",
            incident_key=dedup_key,
            routing_key=event["routing_key"],
            alert_ids=[f"A{number:013d}"],
            title=payload["summary"],
            urgency="high" if payload["severity"] in ("critical", "error") else "low",
            created_at=now,
            changed_at=now,
            client=event.get("client", ""),
            log=[LogEntry(at=now, what="triggered")],
        )
        alert = Alert(
            id=incident.alert_ids[0],
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
        incident.log.append(LogEntry(at=now, what="repeated", text=f"{alert.severity}, {alert.summary}"))
        return incident

    def _set(self, incident: Incident, status: Status, now: datetime) -> None:
        reopens = status != "resolved" and all(alert.status == "resolved" for alert in self.alerts_of(incident))
        incident.status, incident.changed_at = status, now
        for alert in self.alerts_of(incident):
            if alert.status == "resolved" and not reopens:
                continue
            alert.status, alert.changed_at = status, now
            alert.resolved_at = now if status == "resolved" else None
            if status == "resolved":
                self._open.pop((alert.routing_key, alert.dedup_key), None)


def _to(status: Status) -> Callable[[Incident, str], None]:
    def change(incident: Incident, _value: str) -> None:
        incident.status = status

    return change


def _same(_incident: Incident, _value: str) -> None:
    """Change nothing of the incident itself."""


def _level(incident: Incident, value: str) -> None:
    incident.level = int(value)


def _give(name: Literal["assignee", "priority", "urgency", "title"]) -> Callable[[Incident, str], None]:
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
    Deed.ANNOTATE: (_ANY, _same),
    Deed.ESCALATE: (_OPEN, _give("assignee")),
    Deed.REASSIGN: (_OPEN, _give("assignee")),
    Deed.PRIORITY: (_ANY, _give("priority")),
    Deed.URGENCY: (_OPEN, _give("urgency")),
    Deed.TITLE: (_ANY, _give("title")),
    Deed.LEVEL: (_OPEN, _level),
}
