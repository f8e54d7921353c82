"""What happened to an incident, in lines for a spectator: from its public records, with the reasons they carry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from streamproc.events.escalation import Page, PageAction
from streamproc.events.escalation import Verdict as Sending
from streamproc.stages.correlate import Reason as Correlated
from streamproc.stages.escalate import Reason as Escalated
from streamproc.views import IncidentView, TimelineEntry

COUNTED_EVERY = timedelta(seconds=1)
"""A growing incident is told of so often."""
SINGLE = 2
"""So many alerts that join at once are named one by one."""


class Verb(StrEnum):
    """What a line tells of."""

    SCENE = "scene"
    PAGE = "page"
    TICKET = "ticket"
    HOLD = "hold"
    QUIET = "quiet"
    JOIN = "join"
    SENT = "sent"
    ACK = "ack"
    CLOSE = "close"
    FOLD = "fold"
    LATE = "late"
    LETTER = "letter"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened."""

    at: float
    """Seconds after the start."""
    verb: Verb
    subject: str
    words: str
    reason: str = ""
    """`stage/reason`, as in metrics and reason chains."""
    more: str = ""
    """What an alert or incident says itself, where there is room for it."""


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened to an incident."""

    moment: datetime
    verb: Verb
    words: str
    reason: str
    more: str = ""


class Teller:
    """Tells of one incident, everything once."""

    def __init__(self) -> None:
        self._members = 0
        self._counted_at: datetime | None = None
        self._changes = 0
        self._pages = 0
        self._paged: set[str] = set()

    def news(self, view: IncidentView, now: datetime) -> Iterator[News]:
        """Yield what is new; crowds that join are counted once in `COUNTED_EVERY`."""
        changes = [entry for entry in view.timeline if entry.chain and entry.chain[-1].stage == "escalate"]
        yield from self._joined(view, now)
        yield from _distinct(_of_change(entry, view) for entry in changes[self._changes :])
        yield from (self._of_page(page) for page in view.pages[self._pages :])
        self._changes, self._pages = len(changes), len(view.pages)

    def _joined(self, view: IncidentView, now: datetime) -> Iterator[News]:
        new = [each.member for each in view.members[self._members :] if each.member.why in _JOINS]
        moment = view.summary.changed_at
        if len(new) > SINGLE:
            if self._counted_at is not None and now - self._counted_at < COUNTED_EVERY:
                return
            self._counted_at = now
            most, _ = Counter(member.why for member in new).most_common(1)[0]
            yield News(moment, Verb.JOIN, f"{len(new):,} more alerts", f"correlate/{most}")
        else:
            for member in new:
                words = f"{member.service} {member.name}"
                yield News(moment, Verb.JOIN, words, f"correlate/{member.why}", member.summary)
        self._members = len(view.members)

    def _of_page(self, page: Page) -> News:
        words = f"{page.action} {page.verdict}"
        if page.action is PageAction.TRIGGER and page.verdict is Sending.DELIVERED:
            anew = page.destination not in self._paged
            words = f"PagerDuty pages {page.destination}" if anew else "PagerDuty updated, no new page"
            self._paged.add(page.destination)
        elif page.action is PageAction.RESOLVE:
            words = "resolved in PagerDuty"
            self._paged.discard(page.destination)
        return News(page.sent_at, Verb.SENT, words, f"deliver/{page.verdict}")


_JOINS = frozenset(
    {
        Correlated.SAME_ALERT,
        Correlated.SAME_GROUP,
        Correlated.SAME_SERVICE,
        Correlated.NEIGHBOUR,
        Correlated.NAMED,
        Correlated.ALIKE,
        Correlated.SAME_KIND,
    }
)
_SAYS: dict[str, tuple[Verb, str]] = {
    Escalated.LEARNED_PAGE: (Verb.PAGE, "the model is sure: worth a page"),
    Escalated.LEARNED_QUIET: (Verb.TICKET, "the model is sure: no page"),
    Escalated.BELOW: (Verb.QUIET, "wakes nobody"),
    Escalated.MUTED: (Verb.QUIET, "silenced"),
    Escalated.REOPENED: (Verb.HOLD, "back already: must stay 2 min"),
    Escalated.HOLD_OVER: (Verb.PAGE, "it stayed: pages"),
    Escalated.ADOPTED: (Verb.QUIET, "was open before arming"),
    Escalated.WORSE: (Verb.PAGE, "worse than was said"),
    Escalated.UNACKNOWLEDGED: (Verb.PAGE, "nobody acknowledged: told again"),
}


def _of_change(entry: TimelineEntry, view: IncidentView) -> News | None:
    """Return what a publication tells that a spectator wants to hear, or None."""
    why = entry.chain[-1]
    said = _SAYS.get(why.reason)
    if why.reason == Escalated.SEVERITY:
        severity = why.figures.get("severity")
        paged = why.figures.get("state") == "paged"
        said = (Verb.PAGE, f"{severity}: pages at once") if paged else (Verb.TICKET, f"{severity}: no page, a ticket")
    elif why.reason == Escalated.ACKNOWLEDGED:
        said = (Verb.ACK, f"by {view.summary.acknowledged_by or 'somebody'}")
    elif why.reason == Escalated.RESOLVED:
        total = view.summary.total_count
        said = (Verb.CLOSE, f"its {total:,} alerts are over" if total > 1 else "its alert is over")
    return None if said is None else News(entry.at, *said, f"{why.stage}/{why.reason}", view.summary.title)


def _distinct(news: Iterable[News | None]) -> Iterator[News]:
    """Leave out what says the same as the one before."""
    last = None
    for each in news:
        if each is not None and (each.verb, each.words) != last:
            last = (each.verb, each.words)
            yield each


def subject(view: IncidentView) -> str:
    """Return what an incident is called in a line."""
    return view.summary.service or view.root.resource or view.root.name
