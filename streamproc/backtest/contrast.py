"""The difference in pages with its reasons: both chains, where they part, and what became of the alerts instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from streamproc.backtest.calls import CallLog, Fate, Found
from streamproc.backtest.difference import Call, Difference, Pair, Relation, compare
from streamproc.backtest.parting import Parting, part
from streamproc.core.event import Why

CHAINS = 500
"""Differences that are told with their reason chains: what weighs most. Of the others only the calls are told."""


@dataclass(frozen=True, slots=True)
class Row:
    """One difference, and why."""

    pair: Pair
    title: str
    alert: str
    """The alert that both chains are about."""
    chain_a: tuple[Why, ...]
    """Empty where A took the alert into no incident."""
    chain_b: tuple[Why, ...]
    parting: Parting | None
    """The first step at which they part."""
    ending: Parting | None
    """How their last steps differ, where that is another one."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """A difference with its reasons."""

    difference: Difference
    rows: tuple[Row, ...]
    """What differs, what weighs most first; `CHAINS` at most by default."""
    fates: Mapping[str, Fate]
    """What became in B of alerts that no page of B covers. None for one that is in no incident."""
    fates_a: Mapping[str, Fate]
    """The same the other way round."""
    names: tuple[str, str]
    """What A and B are called."""


def contrast(a: CallLog, b: CallLog, names: tuple[str, str], most: int = CHAINS) -> Contrast:
    """Return the difference between two logs that are closed, with its reasons."""
    difference = compare(a.calls, b.calls)
    ranked = sorted(difference.differing, key=_weight)[:most]
    subjects = [_subject(pair) for pair in ranked]
    wanted = {(alert, at) for alert, at in subjects}
    named_a = {call.call_id for pair in ranked for call in pair.a}
    named_b = {call.call_id for pair in ranked for call in pair.b}
    missed = {alert for each in difference.missed for alert in each.alerts}
    gained = {alert for each in difference.gained for alert in each.alerts}
    found_a, found_b = a.find(named_a, wanted, gained), b.find(named_b, wanted, missed)
    rows = [_row(pair, subject, found_a, found_b) for pair, subject in zip(ranked, subjects, strict=True)]
    return Contrast(difference, tuple(rows), found_b.fates, found_a.fates, names)


def _weight(pair: Pair) -> tuple[bool, bool, bool, bool, bool, bool, datetime]:
    """Return what orders differences: what is missed, as a whole first, then more, later, otherwise, less."""
    calls = pair.a or pair.b
    whole = any(each.whole for each in pair.missed)
    return not whole, not pair.missed, not pair.more, not pair.later, not pair.changes, pair.less == 0, calls[0].at


def _subject(pair: Pair) -> tuple[str, datetime]:
    """Return the alert that tells the difference best, and the moment of the call that it tells of."""
    uncovered = pair.missed or pair.gained
    if uncovered:
        call, alerts = uncovered[0].call, uncovered[0].alerts
        return call.lead if call.lead in alerts else alerts[0], call.at
    if pair.later or pair.earlier:  # what did the other side say when the first one called?
        first = pair.a[0] if pair.later else pair.b[0]
        return first.lead, first.at
    # Of calls that are merged the second is the one that is no more.
    calls = {Relation.MERGED: pair.a[1:], Relation.SPLIT: pair.b[1:]}.get(pair.relation, pair.a or pair.b)
    return calls[0].lead, calls[0].at


def _row(pair: Pair, subject: tuple[str, datetime], found_a: Found, found_b: Found) -> Row:
    chain_a, chain_b = _chain(pair.a, subject, found_a), _chain(pair.b, subject, found_b)
    title = found_a.titles[pair.a[0].call_id] if pair.a else found_b.titles[pair.b[0].call_id]
    parting = part(chain_a, chain_b)
    ending = part(chain_a[-1:], chain_b[-1:]) if chain_a and chain_b else None
    return Row(pair, title, subject[0], chain_a, chain_b, parting, None if ending == parting else ending)


def _chain(calls: tuple[Call, ...], subject: tuple[str, datetime], found: Found) -> tuple[Why, ...]:
    """Return the chain of the call that an alert made at a moment, else that by which it came into its incident."""
    own = next((call for call in calls if call.lead == subject[0] and call.at <= subject[1]), None)
    return found.chains.get(subject, ()) if own is None else found.trails[own.call_id]
