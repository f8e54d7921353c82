"""What streamproc decided meanwhile: its incidents, with when and why each would have paged. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from streamproc.core.event import Why
from streamproc.events.incident import Action, Decision, Incident, Member


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that stood from `at` on."""

    at: datetime
    action: Action
    reason: str
    chain: tuple[Why, ...] = ()
    muted_by: str = ""
    """The policies that mute its alerts."""


@dataclass(slots=True)
class OurAlert:
    """One alert of an incident of ours, and when it was there."""

    member: Member
    seen_at: datetime
    gone_at: datetime | None = None


@dataclass(slots=True)
class OurIncident:
    """One incident of ours."""

    incident_id: str
    title: str
    severity: str
    services: tuple[str, ...]
    opened_at: datetime
    alerts: dict[str, list[OurAlert]] = field(default_factory=dict)
    """By fingerprint; several where one came back."""
    decisions: list[Decided] = field(default_factory=list)
    """Each that differed from the one before, in order."""

    def pages(self) -> list[tuple[Decided, datetime | None]]:
        """Return when it would have paged, and until when each page stood (None: it still does).

        A page stands while the incident is open: a hold or a ticket after it ends it no more than a silence does.
        """
        found: list[tuple[Decided, datetime | None]] = []
        for one in self.decisions:
            stands = bool(found) and found[-1][1] is None
            if one.action is Action.PAGE and not stands:
                found.append((one, None))
            elif stands and one.reason == RESOLVED:
                found[-1] = (found[-1][0], one.at)
        return found

    def decided_by(self, at: datetime) -> Decided:
        """Return the decision that stood at a moment; before all of them, the first."""
        return next((one for one in reversed(self.decisions) if one.at <= at), self.decisions[0])


RESOLVED = "resolved"


def ours_of(publications: Iterable[Incident]) -> dict[str, OurIncident]:
    """Return our incidents by id.

    Args:
        publications: records of `incidents.enriched`, those of one incident in order. Canaries are left out.
    """
    found: dict[str, OurIncident] = {}
    for told in publications:
        if told.canary or told.decision is None:
            continue
        ours = found.get(told.incident_id)
        if ours is None:
            ours = OurIncident(told.incident_id, "", "", (), told.opened_at)
            found[told.incident_id] = ours
        if told.status == "open" or not ours.title:
            ours.title, ours.severity, ours.services = told.title, str(told.severity), told.services
        _take_members(ours, told)
        _take_decision(ours, told, told.decision)
    return found


def _take_members(ours: OurIncident, told: Incident) -> None:
    for member in told.joined:
        lives = ours.alerts.setdefault(member.fingerprint, [])
        if not lives or lives[-1].gone_at is not None:
            lives.append(OurAlert(member, told.changed_at))
        else:
            lives[-1].member = member
    for fingerprint in told.left:
        for life in ours.alerts.get(fingerprint, [])[-1:]:
            life.gone_at = life.gone_at or told.changed_at


def _take_decision(ours: OurIncident, told: Incident, decision: Decision) -> None:
    last = ours.decisions[-1] if ours.decisions else None
    if last is not None and (last.action, last.reason) == (decision.action, decision.reason):
        return
    muting = sorted({member.muted_by for member in told.joined if member.muted_by})
    ours.decisions.append(Decided(told.changed_at, decision.action, decision.reason, told.trail, ", ".join(muting)))
