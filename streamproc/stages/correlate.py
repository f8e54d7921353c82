"""Episode -> Incident: alerts of a scope that belong together become one incident.

First stage of node decide, keyed by scope. Owns INCIDENT (open, and closed ones that may reopen) and MEMBER (open
episodes). An alert joins the open incident that it was in before, else that of its source group, else the one that it
is likeliest of by time, dependencies and text (`learning/pairs.py`), within a rolling window; else it opens one. No
incident closes while a member fires. Incidents are looked for by index only, and few of them, so that an alert costs
the same however many are open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Any

from pydantic import Field

from streamproc.core.event import Scalar, Wake
from streamproc.core.fold import CONFIG
from streamproc.core.identity import digest, incident_id
from streamproc.core.step import ACTIVE, NO_PINS, Pins, Stage, StageConfig, Step
from streamproc.core.table import Row, RowKey, Rows
from streamproc.events.alert import Alert, Episode, EpisodeChange
from streamproc.events.canary import is_canary
from streamproc.events.incident import IncidentChange, Member
from streamproc.learning.pairs import SURE, Kinship, causes, kinship, mentioned, words_of
from streamproc.services import CATALOGUE, FAR, Catalogue
from streamproc.state import (
    INCIDENT,
    MEMBER,
    IncidentRow,
    MemberRow,
    Spot,
    alert_index,
    bucket_of,
    group_index,
    kind_index,
    name_index,
    named_index,
    service_index,
)


class Config(StageConfig):
    """What belongs together, and the bounds of an incident."""

    window: timedelta = Field(default=timedelta(minutes=20), gt=timedelta(0), le=timedelta(hours=6))
    """An open incident takes alerts that are like its own until nothing joined for this long."""
    join: float = Field(default=0.8, gt=0, le=1)
    """An alert joins where it is so likely to tell of the same trouble. Higher makes more and smaller incidents."""
    hops: int = Field(default=FAR, ge=0, le=FAR)
    """How far along dependencies incidents are looked for; 0 leaves dependencies out."""
    place_labels: tuple[str, ...] = ("namespace", "kubernetes_namespace", "kube_namespace", "project", "region")
    """Labels that name the place; alerts of different places belong together only where a dependency connects them."""
    kind_gap: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(0))
    """Alerts that name no service are one incident by their name, until none came for this long."""
    kind_age: timedelta = Field(default=timedelta(hours=1), ge=timedelta(0))
    """Such an incident takes no more once it is so old, so that what comes later is said."""
    max_age: timedelta = Field(default=timedelta(hours=24), gt=timedelta(0))
    """An incident older than this takes no more alerts; it stays open until its members resolve."""
    max_members: int = Field(default=100_000, ge=1)
    """An incident with so many firing members takes no more; the next alert opens another."""
    max_services: int = Field(default=50, ge=1)
    """So many services and source groups of an incident are found again; further ones still join it."""
    reopen_within: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(0), le=timedelta(hours=1))
    """A resolved incident whose alerts come back within this time is the same incident, reopened."""


class Reason(StrEnum):
    """Why an alert is where it is."""

    OPENED = "opened"
    SAME_ALERT = "same_alert"
    """It was in the incident before."""
    SAME_GROUP = "same_group"
    SAME_SERVICE = "same_service"
    NEIGHBOUR = "neighbour"
    NAMED = "named"
    """Its text names a service of the incident, or the other way round."""
    ALIKE = "alike"
    """At the same time, with much the same text."""
    SAME_KIND = "same_kind"
    """It names no service, and has the name of the incident's alerts."""
    REOPENED = "reopened"
    OVERFULL = "overfull"
    """Opened, because the incident that it belongs to takes no more."""
    MEMBER_CHANGED = "member_changed"
    MEMBER_RESOLVED = "member_resolved"
    RESOLVED = "resolved"
    UNKNOWN_MEMBER = "unknown_member"
    FORGOTTEN = "forgotten"


UNKNOWN = Catalogue()
"""Where no catalogue is active."""
MOST_LOOKED_AT = 24
"""Incidents that an alert is compared with at most."""
CROWD = 100
"""So many incidents of one half hour under one name tell nothing of who belongs to whom, and are not read."""
MOST_NEAR = 256
"""Services near that of an alert, the nearest first, under which incidents are looked for."""
MOST_SPOTS, FIRST_SPOTS = 24, 8
"""Kinds of alerts that an incident is told by: the first ones, and the latest."""
MOST_NAMES = 4
MOST_CANDIDATES = 3
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
    spot = spot_of(event.alert, rows, config)
    return _join(event, spot, decide(event.alert, spot, rows, now, config), rows, now, config)


@dataclass(frozen=True, slots=True)
class Found:
    """Where an alert belongs, and why; no row means that it opens an incident."""

    reason: Reason
    row: IncidentRow | None = None
    kin: Kinship | None = None


def decide(alert: Alert, spot: Spot, rows: Rows, now: datetime, config: Config) -> Found:
    """Return where an alert belongs. Total, no side effects."""
    if is_canary(alert):
        return Found(Reason.OPENED)
    overfull = False
    for found in _candidates(alert, spot, rows, now, config):
        if found.row is None or found.row.open_count < config.max_members:
            return found
        overfull = True
    return Found(Reason.OVERFULL if overfull else Reason.OPENED)


def _candidates(alert: Alert, spot: Spot, rows: Rows, now: datetime, config: Config) -> Iterator[Found]:
    """Yield where the alert could belong, the surest kinship first."""
    yield from _again(alert, rows, now, config)
    if _tells(alert):
        names = [group_index(alert.scope, alert.group)]
        yield from (Found(Reason.SAME_GROUP, row) for row in _open(names, rows, now, config))
    yield from _like(spot, alert.scope, rows, now, config)
    if not alert.service:
        names = [name_index(alert.scope, alert.name, bucket, served=False) for bucket in _buckets(now, config)]
        for row in _open(names, rows, now, config):
            if now - row.joined_at <= config.kind_gap and now - row.opened_at <= config.kind_age:
                yield Found(Reason.SAME_KIND, row)


def _again(alert: Alert, rows: Rows, now: datetime, config: Config) -> Iterator[Found]:
    """Yield incidents that the alert was in, or whose kind it is and that were resolved just now."""
    kind = kind_of(alert)
    names = [alert_index(alert.fingerprint), kind_index(alert.scope, kind)]
    for row in _rows(names, rows):
        if row.status == "resolved":
            known = row.resolved_at is not None and now - row.resolved_at <= config.reopen_within
            if known and kind in row.kinds:
                yield Found(Reason.REOPENED, row)
        elif now - row.opened_at <= config.max_age:
            yield Found(Reason.SAME_ALERT, row)


def _like(spot: Spot, scope: str, rows: Rows, now: datetime, config: Config) -> list[Found]:
    """Return the incidents that tell of the same trouble, the likeliest first; further ones only where none is sure."""
    catalogue = (rows.artifact(CATALOGUE) if config.hops else None) or UNKNOWN
    found: list[Found] = []
    seen: set[str] = set()
    for names in _near(spot, scope, catalogue, now, config):
        for row in _rows(names, rows, seen):
            if not _takes(row, now, config):
                continue
            kin = kinship(spot, row.told_by, catalogue)
            if kin.p >= config.join:
                found.append(Found(Reason.REOPENED if row.status == "resolved" else _why(kin), row, kin))
        if any(each.kin is not None and each.kin.p >= SURE for each in found):
            break
    return sorted(found, key=lambda each: each.kin.p if each.kin else 0.0, reverse=True)


def _takes(row: IncidentRow, now: datetime, config: Config) -> bool:
    """Return whether an incident takes what is like it: an open one for `window`, one resolved just now too."""
    if row.resolved_at is not None:
        return now - row.resolved_at <= config.reopen_within
    return now - row.joined_at <= config.window and now - row.opened_at <= config.max_age


def _why(kin: Kinship) -> Reason:
    if kin.hops is not None:
        return Reason.NEIGHBOUR if kin.hops else Reason.SAME_SERVICE
    return Reason.NAMED if kin.named else Reason.ALIKE


def _near(spot: Spot, scope: str, catalogue: Catalogue, now: datetime, config: Config) -> Iterator[list[str]]:
    """Yield the index names under which incidents may stand that are like an alert, the nearest first."""
    buckets = _buckets(now, config)
    if spot.service:
        own = catalogue.name_of(spot.service)
        found = [service_index(scope, way, bucket) for bucket in buckets for way in {spot.service: 0, own: 0}]
        said = dict.fromkeys((spot.service, *catalogue.written(own)))  # texts may say any of its names
        yield [*found, *(named_index(scope, way, bucket) for bucket in buckets for way in said)]
    near = [name for name, hops in catalogue.distances(spot.service).items() if hops <= config.hops][:MOST_NEAR]
    named = (catalogue.name_of(word) for word in spot.words)
    ways = [way for name in dict.fromkeys((*near, *named)) for way in catalogue.written(name)]
    yield [service_index(scope, way, bucket) for bucket in buckets for way in ways]
    yield [name_index(scope, spot.name, bucket, served=served) for bucket in buckets for served in (True, False)]


def _buckets(now: datetime, config: Config) -> range:
    return range(bucket_of(now), bucket_of(now - config.window) - 1, -1)


def _open(names: Iterable[str], rows: Rows, now: datetime, config: Config) -> list[IncidentRow]:
    """Return the open incidents under some index names that still take alerts, the newest first."""
    return [row for row in _rows(names, rows) if row.status == "open" and now - row.opened_at <= config.max_age]


def _rows(names: Iterable[str], rows: Rows, seen: set[str] | None = None) -> list[IncidentRow]:
    """Return the incidents under some index names: open ones first, then the newest; no more than `MOST_LOOKED_AT`.

    Args:
        names: of the index.
        rows: of the node.
        seen: what was looked at before and is left out; is filled.
    """
    known = set() if seen is None else seen
    found: list[IncidentRow] = []
    telling = (name for name in names if rows.count(INCIDENT, name) <= CROWD)
    for key in chain.from_iterable(rows.keys(INCIDENT, name) for name in telling):
        if len(known) >= MOST_LOOKED_AT:
            break
        if key not in known:
            known.add(key)
            row = rows.get(INCIDENT, key)
            if row is not None and not is_canary(row.root):
                found.append(row)
    found.sort(key=lambda row: (row.status == "open", row.opened_at), reverse=True)
    return found


def _tells(alert: Alert) -> bool:
    """Return whether the source's group is worth something: by alert name and cluster alone, strangers share one."""
    if '="' not in alert.group:
        return alert.group != ""
    return any(value and f'="{value}"' in alert.group for value in (alert.service, alert.resource))


def spot_of(alert: Alert, rows: Rows, config: Config) -> Spot:
    """Return what likeness to others is told by."""
    catalogue, words = rows.artifact(CATALOGUE) or UNKNOWN, words_of(alert.summary, alert.description)
    place = next((value for name in config.place_labels if (value := alert.labels.get(name))), "")
    return Spot(
        fingerprint=alert.fingerprint,
        alert_id=alert.alert_id,
        name=alert.name,
        service=alert.service,
        place=place,
        words=words,
        names=tuple(mentioned(words, catalogue))[:MOST_NAMES],
        since=alert.starts_at,
        at=alert.starts_at,
    )


def _pins(event: Episode | Wake, rows: Rows) -> Pins:
    held = rows.get(MEMBER, event.alert.fingerprint) if isinstance(event, Episode) else None
    row = None if held is None else rows.get(INCIDENT, held.incident_id)
    return NO_PINS if row is None else row.pinned


def kind_of(alert: Alert) -> str:
    """Return the kind of an alert: a hash of its name and service."""
    return digest(alert.name, alert.service)[:12]


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


def _join(event: Episode, spot: Spot, found: Found, rows: Rows, now: datetime, config: Config) -> Step:
    alert, reason = event.alert, found.reason
    row = found.row or _new(alert, rows, now, reason)
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
            **_told(row, member, spot, rows),
        }
    )
    change = CHANGES.get(reason, IncidentChange.GREW)
    emit = joined.event(change, now).model_copy(update={"joined": (member,), "new_kind": new_kind})
    changes: dict[RowKey, Row | None] = {
        INCIDENT.at(row.incident_id): joined,
        MEMBER.at(alert.fingerprint): MemberRow(incident_id=row.incident_id, member=member),
    }
    figures: dict[str, Scalar] = {"incident": row.incident_id, "open": joined.open_count, "total": joined.total_count}
    if found.kin is not None:
        likeness = {"p": round(found.kin.p, 3), "hops": found.kin.hops, "like": found.kin.spot.alert_id}
        figures.update({name: value for name, value in likeness.items() if value is not None})
    return Step(changes, reason, (emit,), figures=figures)


def _told(row: IncidentRow, member: Member, spot: Spot, rows: Rows) -> dict[str, Any]:
    """Return what changes of how an incident is told where an alert joins: its kinds, and the likeliest cause."""
    known = row.told_by
    for at, like in enumerate(known):
        if (like.name, like.service) == (spot.name, spot.service):
            again = like.model_copy(update={"at": max(like.at, spot.at)})
            return {"spots": (*known[:at], again, *known[at + 1 :])}
    spots = (*known, spot)
    if len(spots) > MOST_SPOTS:
        spots = (*spots[:FIRST_SPOTS], *spots[FIRST_SPOTS + 1 :])
    ranked = causes(spots, rows.artifact(CATALOGUE) or UNKNOWN)[:MOST_CANDIDATES]
    cause = ranked[0].fingerprint
    root = row.root
    if cause == member.fingerprint:
        root = member
    elif cause != root.fingerprint:
        held = rows.get(MEMBER, cause)
        if held is not None and held.incident_id == row.incident_id:  # it may have left, and be in another one now
            root = held.member
    return {"spots": spots, "root": root, "root_candidates": tuple(each.alert_id for each in ranked)}


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
