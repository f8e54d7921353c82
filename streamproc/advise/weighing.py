"""What the backtest of a candidate says: what it saves, what it misses, whether the last part bears it out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from streamproc.advise.evidence import Evidence, night_of
from streamproc.advise.proposal import TIDY, Candidate
from streamproc.backtest.difference import Call, Difference, Pair

EARLIER, LATER = timedelta(hours=1), timedelta(minutes=1)
"""Who acted upon a page must still be called: by a page that covers it and came so much before or after at most."""


class Verdict(StrEnum):
    """What becomes of a candidate."""

    CONFIRMED = "confirmed"
    """It saves pages in the last part, too, which it was not made from."""
    NOT_SEEN_AGAIN = "not_seen_again"
    """What it is about did not page in the last part."""
    NOT_CONFIRMED = "not_confirmed"
    """It did, and nothing was saved there."""
    TIDY = "tidy"
    """It is there to put things in order, and misses nothing."""
    MISSES = "misses"
    """Refused: it would miss a page that was acted upon."""
    DELAYS = "delays"
    """Refused: a page that was acted upon would come late, or be said long before."""
    SAVES_NOTHING = "saves_nothing"
    """Refused: the backtest saves no page."""
    COSTS = "costs"
    """Refused: it makes more pages in the last part."""
    UNUSABLE = "unusable"
    """Refused: the settings that would come of it cannot be used."""


KEPT = (Verdict.CONFIRMED, Verdict.NOT_SEEN_AGAIN, Verdict.NOT_CONFIRMED, Verdict.TIDY)
"""In the order in which they are told."""


@dataclass(frozen=True, slots=True)
class Part:
    """The difference in one part of the recording."""

    pages: int
    """With the present settings."""
    less: int
    more: int
    missed: int
    """Pages with an alert that no page covers any more; none of them was acted upon in what is proposed."""

    @property
    def saved(self) -> int:
        """Pages saved."""
        return self.less - self.more


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate and its backtest."""

    candidate: Candidate
    verdict: Verdict
    learned: Part = Part(0, 0, 0, 0)
    """Before the split."""
    confirmed: Part = Part(0, 0, 0, 0)
    """After it."""
    nights: int = 0
    """Nights that are no longer disturbed."""
    merged: int = 0
    """Rows in which several pages became one."""
    later: int = 0
    """Pages that come noticeably later."""
    acted_missed: int = 0
    """Alerts that were acted upon, and that no page covers."""
    acted_late: int = 0
    """Pages that were acted upon, and are not said at their time."""
    fault: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is proposed."""
        return self.verdict in KEPT

    @property
    def saved(self) -> int:
        """Pages saved in the whole recording."""
        return self.learned.saved + self.confirmed.saved

    @property
    def missed(self) -> int:
        """Pages missed in the whole recording."""
        return self.learned.missed + self.confirmed.missed


def weigh(candidate: Candidate, difference: Difference, evidence: Evidence) -> Weighed:
    """Return what a backtest says of a candidate.

    Args:
        candidate: what was tried.
        difference: from the present settings to those of the candidate, over the whole recording.
        evidence: of the recording.
    """
    split = evidence.split
    learned = part([pair for pair in difference.pairs if _when(pair) < split])
    confirmed = part([pair for pair in difference.pairs if _when(pair) >= split])
    missed = sum(len(set(each.alerts) & evidence.acted_alerts) for each in difference.missed)
    late = len(_late(difference.pairs, {page.call.call_id for page in evidence.pages if page.acted}))
    counts = difference.counts()
    return Weighed(
        candidate,
        _verdict(candidate, learned, confirmed, missed, late, _came_again(candidate, evidence)),
        learned,
        confirmed,
        _nights(difference.pairs),
        counts["merged"],
        counts["later"],
        missed,
        late,
    )


def _verdict(candidate: Candidate, learned: Part, confirmed: Part, missed: int, late: int, again: bool) -> Verdict:  # noqa: FBT001  a figure among figures
    if missed:
        return Verdict.MISSES
    if late:
        return Verdict.DELAYS
    if candidate.kind in TIDY:
        return Verdict.TIDY
    if learned.saved <= 0:
        return Verdict.SAVES_NOTHING
    if confirmed.saved < 0:
        return Verdict.COSTS
    if confirmed.saved > 0:
        return Verdict.CONFIRMED
    return Verdict.NOT_CONFIRMED if again else Verdict.NOT_SEEN_AGAIN


def _came_again(candidate: Candidate, evidence: Evidence) -> bool:
    later = (page for page in evidence.pages if page.at >= evidence.split)
    return any(page.rule in candidate.rules for page in later)


def part(pairs: Iterable[Pair]) -> Part:
    """Return the figures of some rows of a difference."""
    rows = list(pairs)
    return Part(
        sum(len(pair.a) for pair in rows),
        sum(pair.less for pair in rows),
        sum(pair.more for pair in rows),
        sum(len(pair.missed) for pair in rows),
    )


def _when(pair: Pair) -> datetime:
    return min(call.at for call in (*pair.a, *pair.b))


def _nights(pairs: Sequence[Pair]) -> int:
    before = {night_of(call.at) for pair in pairs for call in pair.a} - {""}
    after = {night_of(call.at) for pair in pairs for call in pair.b} - {""}
    return len(before) - len(after)


def _late(pairs: Sequence[Pair], acted: Collection[str]) -> list[Call]:
    """Return the pages that were acted upon of whose alerts nobody would be called at their time."""
    wanted = [call for pair in pairs for call in pair.a if call.call_id in acted]
    alerts = {alert for call in wanted for alert in call.alerts}
    moments: dict[str, list[datetime]] = {}
    for pair in pairs:
        for call in pair.b:
            for alert in alerts.intersection(call.alerts):
                moments.setdefault(alert, []).append(call.at)
    return [call for call in wanted if not _said(call, moments)]


def _said(call: Call, moments: dict[str, list[datetime]]) -> bool:
    said = (moment for alert in call.alerts for moment in moments.get(alert, ()))
    return any(call.at - EARLIER <= moment <= call.at + LATER for moment in said)


def ranked(weighed: Iterable[Weighed]) -> list[Weighed]:
    """Return what is kept: confirmed ones first, then by pages and nights saved."""
    kept = [each for each in weighed if each.kept]
    return sorted(kept, key=lambda each: (KEPT.index(each.verdict), -each.saved, -each.nights, each.candidate.title))
