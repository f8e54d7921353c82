"""The difference in pages between two runs of the pipeline over the same alerts, A and B. Pure: no files, no clock.

A page is a call: a trigger that opens an alert at PagerDuty, so that somebody is called. Calls of A and of B belong
together where they are about the same alerts: first those that cover exactly the same, then the connected components
of what is left, where two calls are connected by an alert that both cover. Every call of both sides is in one `Pair`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from streamproc.events.alert import Severity

NOTICED = timedelta(seconds=1)
"""A call that moves by less than this is said at the same time."""


class Kind(StrEnum):
    """Which of an incident's pages a call is. Calls of different kinds are never the same page."""

    FIRST = "first"
    SECOND = "second"
    """Nobody acknowledged: the second destination is called."""
    GROWN = "grown"
    """It got worse after somebody had acknowledged."""


class Relation(StrEnum):
    """How calls of A and B that are about the same alerts stand to each other."""

    SAME = "same"
    ONLY_A = "only_a"
    ONLY_B = "only_b"
    MERGED = "merged"
    """Several calls of A are one of B."""
    SPLIT = "split"
    """One call of A is several of B."""
    REGROUPED = "regrouped"
    """Several calls of A are several others of B."""


class Change(StrEnum):
    """In what one call of A and one of B differ, beside their moment."""

    SEVERITY = "severity"
    URGENCY = "urgency"
    DESTINATION = "destination"


class Finding(StrEnum):
    """What may be wrong with B, for those who let it fail a build."""

    MISSED_PAGE = "missed-page"
    PAGE = "page"
    """There is a page that A does not make."""
    LATER = "later"
    CHANGED = "changed"
    """A page has another severity, urgency or destination."""


@dataclass(frozen=True, slots=True)
class Call:
    """One page: a trigger that opened an alert at PagerDuty."""

    call_id: str
    """Unique among the calls of its side."""
    incident_id: str
    at: datetime
    lead: str
    """The alert that made the call, else the one that its incident is named after; one of `alerts`."""
    alerts: tuple[str, ...]
    """Producers' ids of what it covers: what fired in the incident at the call, and what joined until its resolve."""
    severity: Severity
    kind: Kind = Kind.FIRST
    urgency: str = ""
    destination: str = ""
    key_hint: str = ""
    """Last characters of the routing key: the same name may lead elsewhere."""
    rule: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Alerts of a call that no call of the other side covers."""

    call: Call
    """The earliest call of its own side that covers them."""
    alerts: tuple[str, ...]
    """Sorted."""

    @property
    def whole(self) -> bool:
        """True where nothing is left of the page; else some of its alerts page elsewhere."""
        return set(self.alerts) >= set(self.call.alerts)


@dataclass(frozen=True, slots=True)
class Pair:
    """Calls of A and of B that are about the same alerts; in order of time. One side may be empty."""

    a: tuple[Call, ...]
    b: tuple[Call, ...]
    missed: tuple[Uncovered, ...] = ()
    """What A's calls cover, and no call of B does."""
    gained: tuple[Uncovered, ...] = ()
    """What B's calls cover, and no call of A does."""

    @property
    def relation(self) -> Relation:
        """How both sides stand to each other."""
        if not self.b:
            return Relation.ONLY_A
        if not self.a:
            return Relation.ONLY_B
        if len(self.b) == 1:
            return Relation.SAME if len(self.a) == 1 else Relation.MERGED
        return Relation.SPLIT if len(self.a) == 1 else Relation.REGROUPED

    @property
    def delay(self) -> timedelta:
        """How much later B first calls; negative where it is earlier, zero where one side has no call."""
        return self.b[0].at - self.a[0].at if self.a and self.b else timedelta(0)

    @property
    def later(self) -> bool:
        """True where B calls noticeably later."""
        return self.delay >= NOTICED

    @property
    def earlier(self) -> bool:
        """True where B calls noticeably earlier."""
        return self.delay <= -NOTICED

    @property
    def changes(self) -> tuple[Change, ...]:
        """What else differs; only one call against one is compared."""
        if self.relation is not Relation.SAME:
            return ()
        (a,), (b,) = self.a, self.b
        differs = {
            Change.SEVERITY: a.severity is not b.severity,
            Change.URGENCY: a.urgency != b.urgency,
            Change.DESTINATION: (a.destination, a.key_hint) != (b.destination, b.key_hint),
        }
        return tuple(change for change, found in differs.items() if found)

    @property
    def less(self) -> int:
        """Calls that B saves."""
        return max(0, len(self.a) - len(self.b))

    @property
    def more(self) -> int:
        """Calls that B makes on top."""
        return max(0, len(self.b) - len(self.a))

    @property
    def differs(self) -> bool:
        """True where anything is different that a responder would notice."""
        if self.relation is not Relation.SAME:
            return True
        return bool(self.later or self.earlier or self.changes or self.missed or self.gained)


@dataclass(frozen=True, slots=True)
class Difference:
    """What B does otherwise than A."""

    pairs: tuple[Pair, ...]
    """In order of time; those that are the same too."""

    @property
    def differing(self) -> tuple[Pair, ...]:
        """What differs, in order of time."""
        return tuple(pair for pair in self.pairs if pair.differs)

    @property
    def missed(self) -> tuple[Uncovered, ...]:
        """Pages of A with alerts that no page of B covers, each alert under the first page that covers it."""
        return tuple(each for pair in self.pairs for each in pair.missed)

    @property
    def gained(self) -> tuple[Uncovered, ...]:
        """Pages of B with alerts that no page of A covers."""
        return tuple(each for pair in self.pairs for each in pair.gained)

    @property
    def findings(self) -> frozenset[Finding]:
        """What may be wrong with B."""
        found: set[Finding] = set()
        for pair in self.pairs:
            seen = {
                Finding.MISSED_PAGE: bool(pair.missed),
                Finding.PAGE: pair.more > 0,
                Finding.LATER: pair.later,
                Finding.CHANGED: bool(pair.changes),
            }
            found.update(finding for finding, holds in seen.items() if holds)
        return frozenset(found)

    def counts(self) -> dict[str, int]:
        """Return how many of what. `pages_b` is `pages_a - less + more`."""
        pairs = self.pairs
        relations = Counter(pair.relation for pair in pairs)
        return {
            "pages_a": sum(len(pair.a) for pair in pairs),
            "pages_b": sum(len(pair.b) for pair in pairs),
            "unchanged": sum(not pair.differs for pair in pairs),
            "less": sum(pair.less for pair in pairs),
            "more": sum(pair.more for pair in pairs),
            "later": sum(pair.later for pair in pairs),
            "earlier": sum(pair.earlier for pair in pairs),
            "changed": sum(bool(pair.changes) for pair in pairs),
            **{str(relation): relations[relation] for relation in Relation if relation is not Relation.SAME},
            "missed_pages": len(self.missed),
            "missed_alerts": sum(len(each.alerts) for each in self.missed),
            "gained_pages": len(self.gained),
            "gained_alerts": sum(len(each.alerts) for each in self.gained),
        }


def compare(a: Iterable[Call], b: Iterable[Call]) -> Difference:
    """Return what B does otherwise than A.

    Args:
        a: every page of A, in any order.
        b: every page of B.
    """
    ours, theirs = _in_time(a), _in_time(b)
    missed, gained = _uncovered(ours, theirs), _uncovered(theirs, ours)
    found: list[Pair] = []
    for group_a, group_b in _groups(ours, theirs):
        lost = tuple(missed[call.call_id] for call in group_a if call.call_id in missed)
        won = tuple(gained[call.call_id] for call in group_b if call.call_id in gained)
        found.append(Pair(group_a, group_b, lost, won))
    return Difference(tuple(sorted(found, key=_when)))


def _when(pair: Pair) -> tuple[datetime, str, str]:
    return min((call.at, call.incident_id, call.call_id) for call in (*pair.a, *pair.b))


def _in_time(calls: Iterable[Call]) -> tuple[Call, ...]:
    return tuple(sorted(calls, key=lambda call: (call.at, call.incident_id, call.call_id)))


def _uncovered(calls: Sequence[Call], others: Sequence[Call]) -> dict[str, Uncovered]:
    """Return what of `calls` none of `others` covers, by id of the first call that covers it."""
    known = {alert for call in others for alert in call.alerts}
    found: dict[str, Uncovered] = {}
    for call in calls:
        alone = sorted(set(call.alerts) - known)
        if alone:
            found[call.call_id] = Uncovered(call, tuple(alone))
            known.update(alone)
    return found


Group = tuple[tuple[Call, ...], tuple[Call, ...]]
_Key = Callable[[Call], tuple[object, ...]]
_Twins = list[tuple[tuple[Call], tuple[Call]]]


def _groups(a: Sequence[Call], b: Sequence[Call]) -> Iterator[Group]:
    """Yield the calls that belong together: those of equal coverage first, at the same moment before others."""
    for key in (_at_once, _alike):
        twins, a, b = _twins(a, b, key)
        yield from twins
    yield from _components(a, b)


def _at_once(call: Call) -> tuple[object, ...]:
    return call.kind, frozenset(call.alerts), call.at


def _alike(call: Call) -> tuple[object, ...]:
    return call.kind, frozenset(call.alerts)


def _twins(a: Sequence[Call], b: Sequence[Call], key: _Key) -> tuple[_Twins, list[Call], list[Call]]:
    """Return pairs of equal keys, in order of time, and what has none."""
    waiting: dict[object, deque[Call]] = {}
    for call in b:
        waiting.setdefault(key(call), deque()).append(call)
    found: _Twins = []
    left: list[Call] = []
    for call in a:
        twins = waiting.get(key(call))
        if twins:
            found.append(((call,), (twins.popleft(),)))
        else:
            left.append(call)
    taken = {twin.call_id for _, (twin,) in found}
    return found, left, [call for call in b if call.call_id not in taken]


def _components(a: Sequence[Call], b: Sequence[Call]) -> Iterator[Group]:
    """Yield the connected components: two calls of one kind are connected by an alert that both sides cover."""
    calls = [*a, *b]
    covered_a, covered_b = ({(call.kind, alert) for call in side for alert in call.alerts} for side in (a, b))
    shared = covered_a & covered_b
    forest = list(range(len(calls)))
    first: dict[tuple[Kind, str], int] = {}
    for number, call in enumerate(calls):
        for alert in call.alerts:
            if (call.kind, alert) in shared:
                _join(forest, number, first.setdefault((call.kind, alert), number))
    found: dict[int, tuple[list[Call], list[Call]]] = {}
    for number, call in enumerate(calls):
        found.setdefault(_root(forest, number), ([], []))[number >= len(a)].append(call)
    for group_a, group_b in found.values():
        yield tuple(group_a), tuple(group_b)


def _root(forest: list[int], number: int) -> int:
    """Return the number that stands for a component; union-find with path halving (Tarjan, van Leeuwen, 1984)."""
    while forest[number] != number:
        forest[number] = forest[forest[number]]
        number = forest[number]
    return number


def _join(forest: list[int], one: int, other: int) -> None:
    forest[_root(forest, one)] = _root(forest, other)
