"""What a report says: their pages set against ours. Models only."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime

from streamproc.beside.theirs import Kept


class Fate(StrEnum):
    """What one of their pages would have been with us."""

    OURS_TOO = "ours_too"
    """We would have paged, too."""
    MERGED = "merged"
    """It would have been part of a page that was there already."""
    QUIET = "quiet"
    """We knew it, and would have held or muted it, or made a ticket."""
    UNKNOWN = "unknown"
    """It never reached us."""


class Link(Kept):
    """One decision of the chain."""

    stage: str
    reason: str
    said: str


class Judged(Kept):
    """One of their pages, and what it would have been with us."""

    incident_id: str
    number: int
    title: str
    service: str
    url: str
    created_at: AwareDatetime
    fate: Fate
    acted: bool | None
    """Whether a person acted upon it; None where that could not be read."""
    acts: str = ""
    """What people did, and who, for example `acknowledge by Dana Ruiz`."""
    our_incident: str = ""
    our_title: str = ""
    confidence: str = ""
    by: str = ""
    """By what both were seen to be the same."""
    action: str = ""
    """What we would have done: page, ticket, hold or none."""
    reason: str = ""
    """The reason of our decision; empty where it never reached us."""
    why: str = ""
    """The same for people."""
    mend: str = ""
    """What to do where it never reached us."""
    chain: tuple[Link, ...] = ()
    seconds: float | None = None
    """How much later than theirs our page would have come; negative where sooner."""


class Extra(Kept):
    """A page of ours that they had none of."""

    our_incident: str
    title: str
    severity: str
    services: tuple[str, ...]
    at: AwareDatetime
    why: str


class Lead(Kept):
    """How much later than theirs our pages would have come, in seconds; negative is sooner."""

    count: int
    median: float
    soonest: float
    latest: float
    latest_incident: str
    """Their incident of the latest."""


class Counts(Kept):
    """Their pages, counted."""

    theirs: int
    """Pages that people got: incidents of high urgency that a machine made."""
    ours: int
    """Pages that we would have sent."""
    ours_too: int = 0
    merged: int = 0
    quiet: int = 0
    unknown: int = 0
    acted: int = 0
    needless: int = 0
    """Nobody acted upon them."""
    needless_ours_too: int = 0
    """Of those, so many we would have paged, too."""
    unread: int = 0
    """Of so many it could not be read whether anybody acted."""
    low_urgency: int = 0
    """Incidents of low urgency: they called nobody, and are compared for what we would have paged beside."""
    by_hand: int = 0
    """Incidents that people made themselves; left out."""
    ours_at_pagerduty: int = 0
    """Incidents that streamproc made itself; left out."""


class Report(Kept):
    """Their pages of some time, set against ours."""

    made_at: AwareDatetime
    since: AwareDatetime
    until: AwareDatetime
    known: bool
    """False where PagerDuty was never read: then nothing is compared."""
    gaps: tuple[str, ...]
    """What is missing, each with its mend; empty where nothing is."""
    headline: str
    counts: Counts
    lead: Lead | None
    missed: tuple[Judged, ...]
    """People acted upon them, and we would not have paged."""
    doubtful: tuple[Judged, ...]
    """We would not have paged, and whether anybody acted could not be read; or people acted, and that we would have
    paged is a guess."""
    judged: tuple[Judged, ...]
    """All of their pages, in order."""
    extra: tuple[Extra, ...]
