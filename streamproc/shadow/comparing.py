"""Settles pages of production (a) and the candidate (b) against each other, while both go on.

Pages that belong together are settled once all their incidents are over, or an hour after the first of them: a page
that the other side makes later than that counts as none until then. What is settled may still change while incidents
are open; then the difference is told again under its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from streamproc.backtest.difference import Call, Pair, Uncovered, compare
from streamproc.backtest.parting import part
from streamproc.core.event import Why
from streamproc.core.identity import digest
from streamproc.events.shadow import Difference, DifferingPage
from streamproc.shadow.calls import Calls

OVER_AFTER = timedelta(minutes=15)
"""An incident is over for the comparison so long after it resolved: by then the other side has resolved it too."""
LONGEST = timedelta(hours=1)
A, B = "a", "b"
"""Begin the ids of calls of the two sides."""
MOST_NAMED = 50
MOST_PAGES = 20


Signature = tuple[object, ...]


class Comparing:
    """Compares again and again.

    Args:
        candidate: its checksum; differences are named after it.
        since: incidents that opened earlier are no part of the comparison.
        a: pages of production.
        b: pages of the candidate.
    """

    def __init__(self, candidate: str, since: datetime, a: Calls, b: Calls) -> None:
        self.relations: Counter[str] = Counter()
        """Settled differences that stand."""
        self.agreed = 0
        """Pages of production that the candidate makes in the same way."""
        self.missed = 0
        """Settled differences with an alert that only production pages."""
        self._candidate = candidate
        self._since = since
        self._a = a
        self._b = b
        self._names: dict[str, str] = {}
        self._told: dict[str, tuple[Signature, Difference]] = {}

    def look(self, now: datetime) -> list[Difference]:
        """Return differences that are settled by now, or that changed since they were; each takes its earlier place."""
        said: list[Difference] = []
        stands: set[str] = set()
        for pair in compare(self._a.calls(), self._b.calls()).pairs:
            calls = (*pair.a, *pair.b)
            over = all(self._over(call, now) for call in calls)
            named = sorted({self._names[call.call_id] for call in calls if call.call_id in self._names})
            if not (over or named or now - min(call.at for call in calls) >= LONGEST):
                continue
            free = [name for name in named if name not in stands]
            if pair.differs and self._counts(calls):
                name = free.pop(0) if free else self._named(calls)
                stands.add(name)
                self._names.update((call.call_id, name) for call in calls)
                said += self._tell(name, pair, now)
            elif over and self._counts(calls):
                self.agreed += len(pair.a)
            said += [self._withdraw(name, now) for name in free if name in self._told]
            if over:
                self._let_go(pair)
        return said

    def _tell(self, name: str, pair: Pair, now: datetime) -> list[Difference]:
        ids = tuple(call.call_id for call in (*pair.a, *pair.b))
        uncovered = tuple(each.alerts for each in (*pair.missed, *pair.gained))
        signature = (pair.relation, pair.changes, ids, uncovered)
        before = self._told.get(name)
        if before is not None and before[0] == signature:
            return []
        if before is not None:
            self._count(before[1], -1)
        event = self._event(name, pair, now)
        self._count(event, 1)
        self._told[name] = signature, event
        return [event]

    def _withdraw(self, name: str, now: datetime) -> Difference:
        """Take back what is no difference any more."""
        _, event = self._told.pop(name)
        self._count(event, -1)
        return event.model_copy(update={"withdrawn": True, "settled_at": now})

    def _count(self, event: Difference, by: int) -> None:
        self.relations[event.relation] += by
        self.missed += by * bool(event.missed)

    def _let_go(self, pair: Pair) -> None:
        for side, calls in ((self._a, pair.a), (self._b, pair.b)):
            for call in calls:
                side.settle(call)
                self._told.pop(self._names.pop(call.call_id, ""), None)

    def _named(self, calls: Sequence[Call]) -> str:
        """Return a name for a difference: of its first page, so that a restart finds the same one."""
        return digest(self._candidate, calls[0].call_id)[:16]

    def _side(self, call: Call) -> Calls:
        return self._a if call.call_id.startswith(A) else self._b

    def _over(self, call: Call, now: datetime) -> bool:
        seen = self._side(call).seen(call.incident_id)
        return seen is not None and seen.over_at is not None and now - seen.over_at >= OVER_AFTER

    def _counts(self, calls: Sequence[Call]) -> bool:
        """Return whether all incidents opened since the comparison began."""
        found = [self._side(call).seen(call.incident_id) for call in calls]
        return all(seen is not None and seen.opened_at is not None and seen.opened_at >= self._since for seen in found)

    def _event(self, name: str, pair: Pair, now: datetime) -> Difference:
        alert = next((each.alerts[0] for each in (*pair.missed, *pair.gained)), "")
        why_a, why_b = _chain(self._a, pair.a, pair.b, alert), _chain(self._b, pair.b, pair.a, alert)
        parted = part(why_a, why_b)
        return Difference(
            about=name,
            candidate=self._candidate,
            relation=str(pair.relation),
            changes=tuple(str(change) for change in pair.changes),
            delay_seconds=pair.delay.total_seconds(),
            a=tuple(_page(call) for call in pair.a[:MOST_PAGES]),
            b=tuple(_page(call) for call in pair.b[:MOST_PAGES]),
            missed=_alerts(pair.missed),
            gained=_alerts(pair.gained),
            why_a=why_a,
            why_b=why_b,
            parted_at="" if parted is None else parted.stage,
            settled_at=now,
        )


def _chain(side: Calls, own: Sequence[Call], other: Sequence[Call], alert: str) -> tuple[Why, ...]:
    """Return the chain of the page that covers an alert, the first one by default; else why nobody was called."""
    covering = next((call for call in own if alert in call.alerts), own[0] if own else None)
    return side.chain(covering) if covering is not None else side.about(alert or other[0].lead)


def _alerts(uncovered: Sequence[Uncovered]) -> tuple[str, ...]:
    return tuple(alert for each in uncovered for alert in each.alerts)[:MOST_NAMED]


def _page(call: Call) -> DifferingPage:
    return DifferingPage(
        incident_id=call.incident_id,
        at=call.at,
        kind=str(call.kind),
        severity=call.severity,
        urgency=call.urgency,
        destination=call.destination,
        rule=call.rule,
        service=call.service,
        alerts=len(call.alerts),
    )
