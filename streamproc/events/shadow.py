"""What a candidate beside production comes to: where its pages differ from production's, and how it stands."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime

from streamproc.core.event import Digest, Event, Frozen, Why
from streamproc.events.alert import Severity


class DifferingPage(Frozen):
    """One page of one side: somebody was called, or would have been."""

    incident_id: str
    at: AwareDatetime
    kind: Literal["first", "second", "grown"] = "first"
    """The first of an incident, the one of its second destination, or one for growth after an acknowledgement."""
    severity: Severity
    urgency: str = ""
    destination: str = ""
    rule: str = ""
    service: str = ""
    alerts: int
    """How many alerts it covers."""


class Difference(Event):
    """Pages of production (a) and of the candidate (b) that are about the same alerts, and differ. Public."""

    TYPE: ClassVar[str] = "difference.v1"

    about: str
    """Names the difference, the same after a restart; a later one with it takes its place."""
    candidate: Digest
    relation: Literal["same", "only_a", "only_b", "merged", "split", "regrouped"]
    """`merged`: several pages of production are one; `split`: one is several; `same`: one each, see `changes`."""
    changes: tuple[Literal["severity", "urgency", "destination"], ...] = ()
    delay_seconds: float = 0.0
    """How much later the candidate first pages; negative where it is earlier."""
    a: tuple[DifferingPage, ...] = ()
    b: tuple[DifferingPage, ...] = ()
    missed: tuple[str, ...] = ()
    """Alerts that production paged and the candidate does not; at most 50."""
    gained: tuple[str, ...] = ()
    """Alerts that only the candidate pages; at most 50."""
    why_a: tuple[Why, ...] = ()
    """The reason chain of production about the first alert in question; empty where it took it into no incident."""
    why_b: tuple[Why, ...] = ()
    parted_at: str = ""
    """The stage at which the chains part, empty where they say the same."""
    settled_at: AwareDatetime
    """The moment of the log at which it was settled."""
    withdrawn: bool = False
    """True where later records showed that there is no such difference."""


class Progress(Event):
    """How far the candidate has come, and what it came to so far."""

    TYPE: ClassVar[str] = "shadow-progress.v1"

    about: Digest
    """The candidate."""
    version: int
    """Its number."""
    since: AwareDatetime
    """Incidents that opened later are compared; later than the candidate's start where the log began later."""
    until: AwareDatetime
    """How far the log is replayed."""
    requests: int = 0
    """Requests of producers since then."""
    pages_current: int = 0
    pages_candidate: int = 0
    incidents_current: int = 0
    incidents_candidate: int = 0
    open: int = 0
    """Pages that are not settled yet: their incidents are open, or closed just now."""
    agreed: int = 0
    """Settled pages of production that the candidate makes in the same way."""
    differences: dict[str, int] = {}
    """Settled differences by relation."""
    missed: int = 0
    """Settled differences with an alert that production paged and the candidate does not."""
    unheard: int = 0
    """Answers of people about incidents of which the candidate has no alert open."""
