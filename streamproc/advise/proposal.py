"""What is proposed: a change, on what evidence, and how many pages it should save by what the pages alone say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from streamproc.advise.change import Change


class Kind(StrEnum):
    """Of what kind a proposal is."""

    NEEDLESS = "needless"
    """A rule pages, and nobody acts on it."""
    COMES_BACK = "comes_back"
    """Alerts resolve, come back soon after, and page again."""
    FLAPPING = "flapping"
    """The same, again and again: a threshold that is crossed to and fro."""
    WINDOW = "window"
    """An incident is still open, and the same service pages again."""
    TOGETHER = "together"
    """Two services always page together: a dependency is missing."""
    UNOWNED = "unowned"
    """Services page, and nobody is named for them."""
    SILENCE = "silence"
    """A silence has become permanent."""
    ALL = "all"
    """Everything that is proposed, at once."""


TIDY = frozenset({Kind.UNOWNED, Kind.SILENCE})
"""These need save no page."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change that is worth a backtest."""

    kind: Kind
    title: str
    """What to do, in one line."""
    why: tuple[str, ...]
    """The evidence, a sentence each."""
    change: Change
    expected: int
    """Pages of the first part that it should save; orders candidates where not all can be tried."""
    occurrences: int
    """How often what it is about was seen, in the first part of the recording."""
    days: int
    """On how many days."""
    rules: frozenset[str] = frozenset()
    """Rules that it is about: whether their pages came again in the last part says whether that part can confirm it."""
    at_source: str = ""
    """What would mend it where the alert is made, which no setting of ours does."""
    worth_at_most: float | None = None
    """Share of such pages that may be worth acting on, at 95 % confidence; None where that is no question."""
