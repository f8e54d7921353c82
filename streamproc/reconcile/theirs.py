"""What PagerDuty holds of ours, taken from its answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streamproc.sinks.pagerduty.resources import Alert, Incident, LogEntry, MaintenanceWindow, Reference, Service

RESOLVED, MERGED = "resolve_log_entry", "merge_log_entry"
REASSIGNED = frozenset({"assign_log_entry", "delegate_log_entry"})
_SILENT = frozenset({"disabled", "maintenance"})


@dataclass(frozen=True, slots=True)
class Deed:
    """What a person did there."""

    by: str
    at: datetime
    value: str = ""
    """Name of the incident that it was merged into, or of those that it was assigned to."""


@dataclass(frozen=True, slots=True)
class Held:
    """One alert of ours, in the incident where it is now."""

    key: str
    """The dedup key."""
    service: str
    """Id of the service that it came to."""
    incident: str
    """Id of the incident."""
    open: bool
    acknowledged: Deed | None = None
    resolved: Deed | None = None
    """Who resolved it; None while it is open, and where no person did."""
    merged: Deed | None = None
    """Who moved it into this incident; None where nobody did."""
    reassigned: Deed | None = None


@dataclass(frozen=True, slots=True)
class Theirs:
    """What PagerDuty told."""

    alerts: Mapping[str, tuple[Held, ...]]
    """By dedup key. A key that was asked for and is not there has an empty tuple; one that is not here proves nothing.
    """
    services: Mapping[str, str] = field(default_factory=dict)
    """Id of the service of each routing key, as far as PagerDuty shows it."""
    silent: frozenset[str] = frozenset()
    """Ids of services that open no incidents now: disabled, or in a maintenance window."""


def routing_keys(services: Sequence[Service]) -> dict[str, str]:
    """Return the id of the service of each routing key."""
    keyed = (
        (one.integration_key.get_secret_value(), service.id) for service in services for one in service.integrations
    )
    return {key: service for key, service in keyed if key}


def silent(services: Sequence[Service], windows: Sequence[MaintenanceWindow]) -> frozenset[str]:
    """Return the ids of the services that open no incidents now."""
    maintained = {service.id for window in windows for service in window.services}
    return frozenset(maintained | {service.id for service in services if service.status in _SILENT})


def alone(incident: Incident) -> Held:
    """Return the one alert of an open incident that holds no other."""
    return Held(
        incident.incident_key, incident.service.id, incident.id, open=True, acknowledged=_acknowledged(incident)
    )


def held(incident: Incident, alert: Alert, log: Sequence[LogEntry]) -> Held:
    """Return one alert of an incident.

    Args:
        incident: where it is.
        alert: the alert.
        log: what happened to the incident, the latest first; empty where that need not be known.
    """
    open_ = alert.status == "triggered" and incident.status != "resolved"
    moved = incident.incident_key not in ("", alert.alert_key)
    return Held(
        key=alert.alert_key,
        service=(alert.service or incident.service).id,
        incident=incident.id,
        open=open_,
        acknowledged=_acknowledged(incident) if open_ else None,
        resolved=None if open_ else _last(log, frozenset({RESOLVED})),
        merged=_last(log, frozenset({MERGED}), incident.title) if open_ and moved else None,
        reassigned=_last(log, REASSIGNED, ", ".join(one.summary for one in incident.assignees)) if open_ else None,
    )


def is_person(who: Reference | None) -> bool:
    """Return whether somebody did it; events, timers and other tools are told as services and integrations."""
    return who is not None and who.type.startswith("user")


def _acknowledged(incident: Incident) -> Deed | None:
    people = [one for one in incident.acknowledgements if is_person(one.acknowledger)]
    if incident.status != "acknowledged" or not people:
        return None
    at = people[-1].at or incident.last_status_change_at or incident.created_at
    return Deed(people[-1].acknowledger.summary, at)


def _last(log: Sequence[LogEntry], types: frozenset[str], value: str = "") -> Deed | None:
    """Return the last deed of these types where a person did it.

    What the machine did after a person counts: a resolve by an event is not that of whoever resolved it last week.
    Assignments by a policy do not undo those of people.
    """
    entries = [entry for entry in log if entry.type in types]
    if types is REASSIGNED:
        entries = [entry for entry in entries if is_person(entry.agent)]
    if not entries or entries[0].agent is None or not is_person(entries[0].agent):
        return None
    return Deed(entries[0].agent.summary, entries[0].created_at, value)
