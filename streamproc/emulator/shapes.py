"""JSON as PagerDuty shapes it, in webhooks and in answers of the REST API. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from streamproc.emulator.directory import Directory, identifier
from streamproc.emulator.incident import Alert, Incident, LogEntry, Note

SITE = "https://emulator.pagerduty.test"
API = "https://api.pagerduty.test"
PLURAL = {
    "user": "users",
    "team": "teams",
    "service": "services",
    "schedule": "schedules",
    "escalation_policy": "escalation_policies",
    "priority": "priorities",
    "maintenance_window": "maintenance_windows",
}
"""Kinds of things with a name, and the path of each."""
_ENTRY_TYPES = {
    "triggered": "trigger_log_entry",
    "repeated": "trigger_log_entry",
    "acknowledged": "acknowledge_log_entry",
    "unacknowledged": "unacknowledge_log_entry",
    "resolved": "resolve_log_entry",
    "reopened": "reopen_log_entry",
    "annotated": "annotate_log_entry",
    "escalated": "escalate_log_entry",
    "escalated_to": "escalate_log_entry",
    "reassigned": "assign_log_entry",
    "priority_updated": "priority_change_log_entry",
    "urgency_updated": "urgency_change_log_entry",
    "merged": "merge_log_entry",
}


def moment(at: datetime) -> str:
    """Return a moment as webhooks write it."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def second(at: datetime) -> str:
    """Return a moment as the REST API writes it."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def reference(kind: str, name: str) -> dict[str, Any]:
    """Return a reference to something that has a name."""
    return _reference(kind, PLURAL[kind], identifier(kind, name), name)


def named(kind: str, name: str) -> dict[str, Any]:
    """Return the fields that everything with a name has when it is shown itself."""
    return {**reference(kind, name), "type": kind, "name": name}


def incident_reference(incident: Incident) -> dict[str, Any]:
    """Return a reference to an incident."""
    return _reference("incident", "incidents", incident.id, incident.title)


def webhook_incident(incident: Incident, directory: Directory) -> dict[str, Any]:
    """Return an incident as webhooks show it."""
    return {
        **_common(incident, directory, moment(incident.created_at)),
        "assignees": [] if incident.status == "resolved" else [reference("user", incident.assignee)],
        "conference_bridge": None,
        "incident_type": {"name": "incident_default"},
    }


def rest_incident(incident: Incident, directory: Directory, alerts: list[Alert]) -> dict[str, Any]:
    """Return an incident as the REST API shows it.

    Args:
        incident: the incident.
        directory: the account's.
        alerts: its alerts.
    """
    changed, still = second(incident.changed_at), sum(alert.status != "resolved" for alert in alerts)
    assigned = [] if incident.status == "resolved" else [reference("user", incident.assignee)]
    acknowledged = [entry for entry in incident.log if entry.what == "acknowledged"][-1:]
    return {
        **_common(incident, directory, second(incident.created_at)),
        "incident_number": incident.number,
        "summary": f"[#{incident.number}] {incident.title}",
        "description": incident.title,
        "updated_at": changed,
        "resolved_at": changed if incident.status == "resolved" else None,
        "last_status_change_at": changed,
        "last_status_change_by": _agent(incident.log[-1], incident, directory),
        "assignments": [{"at": changed, "assignee": one} for one in assigned],
        "acknowledgements": [
            {"at": second(entry.at), "acknowledger": _agent(entry, incident, directory)}
            for entry in acknowledged
            if incident.status == "acknowledged"
        ],
        "alert_counts": {"all": len(alerts), "triggered": still, "resolved": len(alerts) - still},
        "escalation_level": incident.level,
    }


def rest_alert(alert: Alert, incident: Incident, directory: Directory) -> dict[str, Any]:
    """Return an alert; PagerDuty's are triggered or resolved, never acknowledged."""
    return {
        **_reference("alert", "alerts", alert.id, alert.summary),
        "type": "alert",
        "status": "resolved" if alert.status == "resolved" else "triggered",
        "alert_key": alert.dedup_key,
        "severity": alert.severity,
        "created_at": second(alert.opened_at),
        "resolved_at": None if alert.resolved_at is None else second(alert.resolved_at),
        "service": reference("service", directory.service(alert.routing_key).name),
        "incident": incident_reference(incident),
        "suppressed": False,
        "body": {"type": "alert_body", "details": alert.event["payload"].get("custom_details", {})},
    }


def rest_note(note: Note) -> dict[str, Any]:
    """Return a note of an incident."""
    return {
        "id": note.id,
        "content": note.content,
        "created_at": second(note.at),
        "user": reference("user", note.by),
        "channel": {"summary": "The PagerDuty website or APIs"},
    }


def webhook_note(incident: Incident, content: str) -> dict[str, Any]:
    """Return a note as webhooks show it: without the incident key."""
    return {
        "incident": incident_reference(incident),
        "id": incident.notes[-1].id if incident.notes else "",
        "content": content,
        "trimmed": False,
        "type": "incident_note",
    }


def log_entry(number: int, entry: LogEntry, incident: Incident, directory: Directory) -> dict[str, Any]:
    """Return what happened to an incident; `number` counts from 0."""
    kind = _ENTRY_TYPES.get(entry.what, "field_value_change_log_entry")
    name = f"R{incident.number:07d}{number:06d}"
    shown = _reference(kind, "log_entries", name, f"{entry.what} {entry.text}".strip())
    return {
        **shown,
        "type": kind,
        "created_at": second(entry.at),
        "agent": _agent(entry, incident, directory),
        "channel": {"type": "website" if entry.by else "api", "summary": entry.text},
        "incident": incident_reference(incident),
    }


def _common(incident: Incident, directory: Directory, created_at: str) -> dict[str, Any]:
    service = directory.service(incident.routing_key)
    merged = {"type": "merge_resolve_reason", "incident": {"id": incident.merged_into, "type": "incident_reference"}}
    return {
        **incident_reference(incident),
        "type": "incident",
        "number": incident.number,
        "status": incident.status,
        "incident_key": incident.incident_key,
        "created_at": created_at,
        "title": incident.title,
        "service": reference("service", service.name),
        "escalation_policy": reference("escalation_policy", incident.policy or service.policy),
        "teams": [reference("team", service.team)] if service.team else [],
        "priority": reference("priority", incident.priority) if incident.priority else None,
        "urgency": incident.urgency,
        "resolve_reason": merged if incident.merged_into else None,
    }


def _agent(entry: LogEntry, incident: Incident, directory: Directory) -> dict[str, Any]:
    return (
        reference("user", entry.by) if entry.by else reference("service", directory.service(incident.routing_key).name)
    )


def _reference(kind: str, path: str, name: str, summary: str) -> dict[str, Any]:
    return {
        "html_url": f"{SITE}/{path}/{name}",
        "id": name,
        "self": f"{API}/{path}/{name}",
        "summary": summary,
        "type": f"{kind}_reference",
    }
