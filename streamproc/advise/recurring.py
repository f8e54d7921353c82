"""Pages that come again: a longer time to reopen, a longer hold, a longer window. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from streamproc.advise.change import Change
from streamproc.advise.evidence import Evidence, Page, count_of, days_of, minutes_of
from streamproc.advise.proposal import Candidate, Kind
from streamproc.events.alert import Severity
from streamproc.services import Catalogue
from streamproc.settings import Settings

AT_LEAST = 3
"""Pages that a longer window must save."""
MOST = 0.8
"""The shortest window is taken that saves so much of what the longest one does."""
REOPENS = (timedelta(minutes=10), timedelta(minutes=15), timedelta(minutes=30), timedelta(hours=1))
HOLDS = (timedelta(minutes=5), timedelta(minutes=10), timedelta(minutes=15))
WINDOWS = (timedelta(minutes=30), timedelta(hours=1), timedelta(hours=2))
NAMED = 3
"""Rules that the evidence names."""
REOPEN = ("pagerduty", "incidents", "auto_resolve_threshold")
HOLD = ("escalate", "reopen_hold")
WINDOW = ("correlate", "window")


@dataclass(frozen=True, slots=True)
class _Again:
    """A page that came after another one of the same rule and service."""

    page: Page
    gap: timedelta
    """Since the other one ended, or since it called where it was still open."""


def comebacks(evidence: Evidence, settings: Settings, _catalogue: Catalogue) -> Iterator[Candidate]:
    """Yield longer times within which an incident reopens, and longer holds of what reopens."""
    known = timedelta(seconds=settings.pagerduty.incidents.auto_resolve_threshold)
    hold = settings.escalate.reopen_hold
    again = [each for each in _again(evidence.learned) if each.page.lasted is not None]
    longer = [each for each in REOPENS if each > known]
    if not longer:
        return
    reopen = _shortest(longer, lambda within: len(_saved(again, within, hold)))
    plain = _saved(again, reopen, hold)
    if len(plain) >= AT_LEAST:
        yield _comeback(Kind.COMES_BACK, plain, {REOPEN: int(reopen.total_seconds())}, reopen, hold)
    holds = [each for each in HOLDS if each > hold]
    if not holds:
        return
    held = _shortest(holds, lambda until: len(_saved(again, longer[-1], until)))
    within = _shortest(longer, lambda span: len(_saved(again, span, held)))
    both = _saved(again, within, held)
    if len(both) >= len(plain) + AT_LEAST:
        change = {REOPEN: int(within.total_seconds()), HOLD: int(held.total_seconds())}
        yield _comeback(Kind.FLAPPING, both, change, within, held)


def _comeback(
    kind: Kind, again: Sequence[_Again], settings: dict[tuple[str, ...], int], within: timedelta, hold: timedelta
) -> Candidate:
    pages = [each.page for each in again]
    short = sorted(each.gap for each in again)
    pause = short[math.ceil(0.9 * len(short)) - 1]
    keep = f"{max(1, math.ceil(pause.total_seconds() / 60))}m"
    rules, named = frozenset(page.rule for page in pages), rules_of(pages)
    title = f"Reopen what comes back within {minutes_of(within)}, and do not page it anew: {named}"
    if kind is Kind.FLAPPING:
        title = f"Let what flaps settle for {minutes_of(hold)}: {named}"
    return Candidate(
        kind,
        title,
        _one(
            f"{count_of(len(again), 'page')} on {count_of(days_of(pages), 'day')} came after one of the same rule and "
            f"service had resolved at most {minutes_of(within)} before, and ended by themselves within "
            f"{minutes_of(hold)}: {_counts(pages)}.",
        ),
        Change(settings=settings),
        len(again),
        len(again),
        days_of(pages),
        rules,
        at_source=f"`keep_firing_for: {keep}` in the Prometheus rule would bridge 9 of 10 of these pauses.",
    )


def windows(evidence: Evidence, settings: Settings, _catalogue: Catalogue) -> Iterator[Candidate]:
    """Yield a longer window in which alerts join an incident that is still open."""
    known = settings.correlate.window
    longer = [each for each in WINDOWS if each > known]
    again = [each for each in _again(evidence.learned, standing=True) if each.gap > known]
    if not longer or not again:
        return
    window = _shortest(longer, lambda span: sum(each.gap <= span for each in again))
    pages = [each.page for each in again if each.gap <= window]
    if len(pages) < AT_LEAST:
        return
    yield Candidate(
        Kind.WINDOW,
        f"Let alerts join an open incident for {minutes_of(window)}: {rules_of(pages)}",
        _one(
            f"{count_of(len(pages), 'page')} on {count_of(days_of(pages), 'day')} came while one of the same service "
            f"was still open, within {minutes_of(window)} of it: {_counts(pages)}.",
        ),
        Change(settings={WINDOW: int(window.total_seconds())}),
        len(pages),
        len(pages),
        days_of(pages),
        frozenset(page.rule for page in pages),
    )


def _again(pages: Iterable[Page], *, standing: bool = False) -> Iterator[_Again]:
    """Yield the pages that came after another one: of the rule, once that had ended; of the service, while it stood."""
    last: dict[tuple[str, str, str], Page] = {}
    for page in pages:
        key = (page.scope, page.service, "" if standing else page.rule)
        before, last[key] = last.get(key), page
        if before is None:
            continue
        stood = before.ended is None or before.ended > page.at
        if stood and standing and page.service:
            yield _Again(page, page.at - before.at)
        elif before.ended is not None and not stood and not standing:
            yield _Again(page, page.at - before.ended)


def _saved(again: Iterable[_Again], within: timedelta, hold: timedelta) -> list[_Again]:
    """Return the pages that reopening would hold until they are over. Critical ones page at once."""
    return [
        each
        for each in again
        if each.gap <= within and (each.page.lasted or hold) < hold and each.page.call.severity is not Severity.CRITICAL
    ]


def _shortest(spans: Sequence[timedelta], saved: Callable[[timedelta], int]) -> timedelta:
    most = saved(spans[-1])
    return next(span for span in spans if saved(span) >= MOST * most)


def rules_of(pages: Iterable[Page]) -> str:
    """Return the rules of pages, the most frequent first."""
    counted = Counter(page.rule for page in pages).most_common()
    more = f" and {len(counted) - NAMED} more" if len(counted) > NAMED else ""
    return ", ".join(rule for rule, _ in counted[:NAMED]) + more


def _one(sentence: str) -> tuple[str]:
    return (sentence,)


def _counts(pages: Iterable[Page]) -> str:
    counted = Counter((page.rule, page.service or "no service") for page in pages).most_common(NAMED)
    return ", ".join(f"{rule} of {service} {count:,} times" for (rule, service), count in counted)
