"""Episode -> Incident: alerts of a scope that belong together become one incident.

First stage of node decide, keyed by scope. Owns INCIDENT (open, and closed ones that may reopen) and MEMBER (open
episodes). An alert joins an open incident of its source group, else of its service, else of a neighbouring service
(the catalogue's dependencies) within a rolling window; else it opens one. No incident closes while a member fires.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from streamproc.core.event import Scalar, Wake
from streamproc.core.fold import CONFIG
from streamproc.core.identity import digest, incident_id
from streamproc.core.step import ACTIVE, NO_PINS, Pins, Stage, StageConfig, Step
from streamproc.core.table import Row, RowKey, Rows
from streamproc.events.alert import Alert, Episode, EpisodeChange
from streamproc.events.canary import is_canary
from streamproc.events.incident import IncidentChange, Member
from streamproc.services import CATALOGUE
from streamproc.state import INCIDENT, MEMBER, IncidentRow, MemberRow, group_index, service_index


class Config(StageConfig):
    """What belongs together, and the bounds of an incident."""

    window: timedelta = Field(default=timedelta(minutes=20), gt=timedelta(0))
    """An open incident takes alerts of its services and their neighbours until nothing joined for this long."""
    hops: int = Field(default=1, ge=0, le=3)
    """How far along dependencies a neighbour may be."""
    max_age: timedelta = Field(default=timedelta(hours=24), gt=timedelta(0))
    """An incident older than this takes no more alerts; it stays open until its members resolve."""
    max_members: int = Field(default=5000, ge=1)
    """An incident with so many firing members takes no more; the next alert opens another."""
    max_services: int = Field(default=50, ge=1)
    """So many services and source groups of an incident are found again; further ones still join it."""
    reopen_within: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(0), le=timedelta(hours=1))
    """A resolved incident whose alerts come back within this time is the same incident, reopened."""


class Reason(StrEnum):
    """Why an alert is where it is."""

    OPENED = "opened"
    SAME_GROUP = "same_group"
    SAME_SERVICE = "same_service"
    NEIGHBOUR = "neighbour"
    REOPENED = "reopened"
    OVERFULL = "overfull"
    """Opened, because the incident that it belongs to takes no more."""
    MEMBER_CHANGED = "member_changed"
    MEMBER_RESOLVED = "member_resolved"
    RESOLVED = "resolved"
    UNKNOWN_MEMBER = "unknown_member"
    FORGOTTEN = "forgotten"


PINNED = (CONFIG, CATALOGUE.name)
"""What an open incident is decided by as it was when it opened: newer settings by themselves change nothing of it."""
CHANGES = {
    Reason.OPENED: IncidentChange.OPENED,
    Reason.OVERFULL: IncidentChange.OPENED,
    Reason.REOPENED: IncidentChange.REOPENED,
}
"""What a joining alert does to its incident; where it is none of these, the incident grows."""


def step(event: Episode | Wake, rows: Rows, now: datetime, config: Config) -> Step:
    """Put an episode into its incident, or take it out."""
    if isinstance(event, Wake):
        return Step({INCIDENT.at(event.key): None}, Reason.FORGOTTEN)
    held = rows.get(MEMBER, event.alert.fingerprint)
    if event.change is EpisodeChange.RESOLVED:
        return _leave(event, held, rows, now, config)
    if held is not None and (row := rows.get(INCIDENT, held.incident_id)) is not None:
        return _change(event, held, row, now)
    reason, row = decide(event.alert, rows, now, config)
    return _join(event, row or _new(event.alert, rows, now, reason), reason, now, config)


def decide(alert: Alert, rows: Rows, now: datetime, config: Config) -> tuple[Reason, IncidentRow | None]:
    """Return where an alert belongs and why; no row means that it opens an incident. Total, no side effects."""
    if is_canary(alert):
        return Reason.OPENED, None
    overfull = False
    for reason, row in _candidates(alert, rows, config):
        if row.status == "resolved":
            known = row.resolved_at is not None and now - row.resolved_at <= config.reopen_within
            if known and kind_of(alert) in row.kinds:
                return Reason.REOPENED, row
        elif now - row.opened_at > config.max_age or (
            reason is not Reason.SAME_GROUP and now - row.joined_at > config.window
        ):
            continue
        elif row.open_count >= config.max_members:
            overfull = True
        else:
            return reason, row
    return (Reason.OVERFULL if overfull else Reason.OPENED), None


def _pins(event: Episode | Wake, rows: Rows) -> Pins:
    held = rows.get(MEMBER, event.alert.fingerprint) if isinstance(event, Episode) else None
    row = None if held is None else rows.get(INCIDENT, held.incident_id)
    return NO_PINS if row is None else row.pinned


def kind_of(alert: Alert) -> str:
    """Return the kind of an alert: a hash of its name and service."""
    return digest(alert.name, alert.service)[:12]


def _candidates(alert: Alert, rows: Rows, config: Config) -> Iterator[tuple[Reason, IncidentRow]]:
    """Yield incidents that the alert could belong to: nearest kinship first, then open ones, then the newest."""
    kin = [(Reason.SAME_GROUP, [group_index(alert.scope, alert.group)])] if alert.group else []
    if alert.service:
        kin.append((Reason.SAME_SERVICE, [service_index(alert.scope, alert.service)]))
        catalogue = rows.artifact(CATALOGUE)
        if catalogue is not None and config.hops:
            near = sorted(catalogue.neighbours(alert.service, config.hops))
            kin.append((Reason.NEIGHBOUR, [service_index(alert.scope, service) for service in near]))
    seen: set[str] = set()
    for reason, names in kin:
        keys = {key for name in names for key in rows.keys(INCIDENT, name)} - seen
        seen |= keys
        found = [row for key in sorted(keys) if (row := rows.get(INCIDENT, key)) and not is_canary(row.root)]
        found.sort(key=lambda row: (row.status == "open", row.opened_at), reverse=True)
        yield from ((reason, row) for row in found)


def _new(alert: Alert, rows: Rows, now: datetime, reason: Reason) -> IncidentRow:
    """Return the empty incident that an alert opens.

    Its id derives from the alert and the moment, not from the alert's start: Alertmanager states the old start when an
    alert fires again, and what it opened then may still be open without it, or have pages that wait.
    """
    named = incident_id(alert.scope, alert.fingerprint, now.isoformat())
    while (
        rows.get(INCIDENT, named) is not None
    ):  # the log's time stands still while a clock that was set back catches up
        named = incident_id(alert.scope, alert.fingerprint, named)
    return IncidentRow(
        incident_id=named,
        scope=alert.scope,
        status="open",
        root=_member(alert, reason),
        environment=alert.environment,
        cluster=alert.cluster,
        opened_at=now,
        joined_at=now,
        pinned={kind: row for kind in PINNED if (row := rows.get(ACTIVE, kind)) is not None},
    )


def _join(event: Episode, row: IncidentRow, reason: Reason, now: datetime, config: Config) -> Step:
    alert = event.alert
    member = _member(alert, reason)
    kind, most_kinds = kind_of(alert), 4 * config.max_services
    # Beyond what is remembered none counts as new: else every alert of a wide storm would be said at once.
    new_kind = kind not in row.kinds and len(row.kinds) < most_kinds
    joined = row.model_copy(
        update={
            "status": "open",
            "resolved_at": None,
            "wake_at": None,
            "joined_at": now,
            "services": _with(row.services, alert.service, config.max_services),
            "groups": _with(row.groups, alert.group, config.max_services),
            "kinds": _with(row.kinds, kind, most_kinds),
            "open_count": row.open_count + 1,
            "total_count": row.total_count + 1,
            "severities": _count(row.severities, member, 1),
            "reopened": row.reopened + (reason is Reason.REOPENED),
            "digest": _said(row, alert),
        }
    )
    change = CHANGES.get(reason, IncidentChange.GREW)
    emit = joined.event(change, now).model_copy(update={"joined": (member,), "new_kind": new_kind})
    changes: dict[RowKey, Row | None] = {
        INCIDENT.at(row.incident_id): joined,
        MEMBER.at(alert.fingerprint): MemberRow(incident_id=row.incident_id, member=member),
    }
    figures: dict[str, Scalar] = {"incident": row.incident_id, "open": joined.open_count, "total": joined.total_count}
    return Step(changes, reason, (emit,), figures=figures)


def _change(event: Episode, held: MemberRow, row: IncidentRow, now: datetime) -> Step:
    member = _member(event.alert, held.member.why)
    counted = _count(_count(row.severities, held.member, -1), member, 1)
    root = member if row.root.fingerprint == member.fingerprint else row.root
    changed = row.model_copy(update={"severities": counted, "root": root, "digest": _said(row, event.alert)})
    emit = changed.event(IncidentChange.CHANGED, now).model_copy(update={"joined": (member,)})
    changes: dict[RowKey, Row | None] = {
        INCIDENT.at(row.incident_id): changed,
        MEMBER.at(member.fingerprint): held.model_copy(update={"member": member}),
    }
    was, stands = held.member.severity.value, member.severity.value
    figures: dict[str, Scalar] = {"incident": row.incident_id, "was": was, "is": stands}
    return Step(changes, Reason.MEMBER_CHANGED, (emit,), figures=figures)


def _leave(event: Episode, held: MemberRow | None, rows: Rows, now: datetime, config: Config) -> Step:
    fingerprint = event.alert.fingerprint
    row = None if held is None else rows.get(INCIDENT, held.incident_id)
    if held is None or row is None:
        return Step({MEMBER.at(fingerprint): None} if held else {}, Reason.UNKNOWN_MEMBER)
    left = row.model_copy(
        update={
            "open_count": row.open_count - 1,
            "severities": _count(row.severities, held.member, -1),
            "digest": _said(row, event.alert),
        }
    )
    changes: dict[RowKey, Row | None] = {MEMBER.at(fingerprint): None}
    reason, change = Reason.MEMBER_RESOLVED, IncidentChange.SHRANK
    wake: tuple[Wake, ...] = ()
    if left.open_count == 0:
        reason, change = Reason.RESOLVED, IncidentChange.RESOLVED
        due = now + config.reopen_within
        left = left.model_copy(update={"status": "resolved", "resolved_at": now, "wake_at": due})
        wake = (Wake(table=INCIDENT.name, key=row.incident_id, due=due),)
    changes[INCIDENT.at(row.incident_id)] = left
    emit = left.event(change, now).model_copy(update={"left": (fingerprint,)})
    figures: dict[str, Scalar] = {"incident": row.incident_id, "open": left.open_count, "expired": event.expired}
    return Step(changes, reason, (emit,), wake, figures)


def _member(alert: Alert, why: str) -> Member:
    return Member(
        fingerprint=alert.fingerprint,
        alert_id=alert.alert_id,
        name=alert.name,
        severity=alert.severity,
        summary=alert.summary,
        service=alert.service,
        resource=alert.resource,
        source=alert.source,
        labels=alert.labels,
        runbook=alert.runbook,
        links=alert.links,
        starts_at=alert.starts_at,
        why=str(why),
    )


def _with(known: tuple[str, ...], one: str, most: int) -> tuple[str, ...]:
    return known if not one or one in known or len(known) >= most else (*known, one)


def _count(counts: tuple[int, int, int, int], member: Member, by: int) -> tuple[int, int, int, int]:
    info, warning, error, critical = (count + by * (at == member.severity.rank) for at, count in enumerate(counts))
    return info, warning, error, critical


def _said(row: IncidentRow, alert: Alert) -> str:
    return digest(row.digest, alert.fingerprint, alert.status, alert.severity, alert.at.isoformat())


STAGE = Stage(
    "correlate",
    step,
    takes=(Episode,),
    reasons=Reason,
    config=Config,
    owns=(INCIDENT, MEMBER),
    reads=(CATALOGUE,),
    pins=_pins,
    unintended=frozenset({Reason.UNKNOWN_MEMBER}),
)
