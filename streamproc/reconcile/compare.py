"""Ours beside theirs: what differs. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from streamproc.core.identity import digest, incident_of
from streamproc.reconcile.ours import Claim, Said
from streamproc.reconcile.theirs import Deed, Held, Theirs


class Kind(StrEnum):
    """What differs."""

    MISSING = "missing"
    """Open here; PagerDuty has no open alert of it, and nobody closed one: its trigger was lost."""
    STRAY = "stray"
    """Over here, open there: its resolve was lost."""
    RESOLVED = "resolved"
    """A person resolved it there, and that was not heard here."""
    MERGED = "merged"
    ACKNOWLEDGED = "acknowledged"
    REASSIGNED = "reassigned"
    UNKNOWN = "unknown"
    """Open there with a key of our form, and nothing is known of it here: another streamproc's, or one forgotten."""


FIRST = (Kind.RESOLVED, Kind.MERGED, Kind.ACKNOWLEDGED, Kind.MISSING, Kind.REASSIGNED)
"""One thing is told of an incident at a time, in this order: what people did goes before what was lost."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs."""

    kind: Kind
    incident_id: str
    key: str
    """The dedup key."""
    seq: int = 0
    """Number of the last thing that was said of the incident."""
    there: str = ""
    """PagerDuty's incident, empty where it has none."""
    service: str = ""
    """Id of PagerDuty's service, empty where it is not known."""
    deed: Deed | None = None
    title: str = ""
    pinned: tuple[str, str] = ("", "")
    """Destination and routing key at which it was paged, empty where that is not known."""

    @property
    def identity(self) -> str:
        """The same for every look of every process that finds this, until something is said of the incident."""
        at = self.deed.at.isoformat() if self.deed is not None else ""
        return digest(self.kind, self.incident_id, self.key, self.there, at, str(self.seq))[:32]


def compare(ours: Mapping[str, Claim], theirs: Theirs, now: datetime, settle: timedelta) -> tuple[Difference, ...]:
    """Return what differs, of incidents that are at rest here.

    Args:
        ours: by incident id.
        theirs: what PagerDuty told.
        now: the moment.
        settle: an incident of which something was said so lately is left alone.
    """
    open_: dict[str, list[Held]] = defaultdict(list)
    for alerts in theirs.alerts.values():
        for alert in alerts:
            if alert.open:
                open_[incident_of(alert.key)].append(alert)
    found: list[Difference] = []
    for claim in ours.values():
        if claim.pending or now - claim.said_at < settle:
            continue
        if claim.state == "closed":
            found += [_of(Kind.STRAY, claim, one.key, one) for one in open_[claim.incident_id]]
        elif claim.lives:
            told = list(_lives(claim, theirs))
            found += sorted(told, key=lambda one: FIRST.index(one.kind))[:1]
    for incident, alerts_ in open_.items():
        if incident and incident not in ours:
            found += [Difference(Kind.UNKNOWN, incident, one.key, 0, one.incident, one.service) for one in alerts_]
    return tuple(found)


def _of(kind: Kind, claim: Claim, key: str, alert: Held | None, deed: Deed | None = None) -> Difference:
    there, service = (alert.incident, alert.service) if alert is not None else ("", "")
    destination, routing_key, _ = claim.pinned
    pinned = (destination, routing_key)
    return Difference(kind, claim.incident_id, key, claim.seq, there, service, deed, claim.title, pinned)


def _lives(claim: Claim, theirs: Theirs) -> Iterator[Difference]:
    """Yield what differs of an incident that must be open there."""
    for said in claim.said:
        _, routing_key, key = said
        if key not in theirs.alerts:
            continue  # nobody asked
        alerts = _places(claim, said, theirs)
        alert = next((one for one in alerts if one.open), None)
        if alert is not None:
            yield from _acted(claim, said, alert)
            continue
        resolved = [one for one in alerts if one.resolved is not None]
        last = max(resolved, key=lambda one: one.resolved.at if one.resolved else claim.triggered_at, default=None)
        if last is not None and last.resolved is not None and _since(last.resolved, claim):
            yield _of(Kind.RESOLVED, claim, key, last, last.resolved)
        elif last is not None and not _current(claim, said):
            continue  # settled there before it grew: that page stands
        elif not claim.muted and theirs.services.get(routing_key) not in theirs.silent:
            yield _of(Kind.MISSING, claim, key, None)


def _places(claim: Claim, said: Said, theirs: Theirs) -> tuple[Held, ...]:
    """Return the alerts of a key; of a key that was said in two places those of its own service alone."""
    _, routing_key, key = said
    alerts, service = theirs.alerts[key], theirs.services.get(routing_key)
    if service is None or sum(other == key for _, _, other in claim.said) == 1:
        return alerts
    return tuple(one for one in alerts if one.service == service)


def _acted(claim: Claim, said: Said, alert: Held) -> Iterator[Difference]:
    """Yield what a person did to an alert that is open."""
    if not claim.acknowledged:
        for kind, deed in ((Kind.MERGED, alert.merged), (Kind.ACKNOWLEDGED, alert.acknowledged)):
            # What was answered before it grew does not answer the growth, which has a key of its own.
            if deed is not None and (_current(claim, said) or _since(deed, claim)):
                yield _of(kind, claim, alert.key, alert, deed)
    if claim.awaits and alert.reassigned is not None and _since(alert.reassigned, claim):
        yield _of(Kind.REASSIGNED, claim, alert.key, alert, alert.reassigned)


def _current(claim: Claim, said: Said) -> bool:
    return said == claim.pinned or not claim.pinned[2]


def _since(deed: Deed, claim: Claim) -> bool:
    """Return whether something was done after the last trigger; PagerDuty tells whole seconds."""
    return deed.at >= claim.triggered_at.replace(microsecond=0)
