"""Pages that come together: a dependency that the service catalogue lacks. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from streamproc.advise.change import Change
from streamproc.advise.evidence import Evidence, Page, count_of, days_of, minutes_of
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.recurring import rules_of
from streamproc.services import Catalogue
from streamproc.settings import Settings

AT_LEAST = 3
"""Times that two services must page together."""
HOPS = 2
"""Services that are fewer edges apart are known to belong together already."""
NEAR = timedelta(minutes=10)
"""Pages of two services so near to each other came together."""
ALWAYS = 0.8
"""Share of the pages of the one that pages less which had one of the other near."""
BY_CHANCE = 0.3
"""Where the other pages so often that this share would be near it anyway, nothing follows."""
MOST_PAIRS = 8
MOST_NEAR = 200
"""Pages before one that it is compared with: in a storm everything comes together, and it says nothing."""


def joined(evidence: Evidence, _settings: Settings, catalogue: Catalogue) -> Iterator[Candidate]:
    """Yield dependencies that are missing: of two services that always page together the later one needs the first."""
    pages = evidence.learned
    counts = Counter((page.scope, page.service) for page in pages)
    span = max(evidence.split - evidence.first_at, NEAR)
    found: list[Candidate] = []
    for (scope, one, other), times in sorted(_couples(pages).items()):
        fewer, more = sorted((counts[scope, one], counts[scope, other]))
        chance = 1 - math.exp(-2 * NEAR / span * more)
        near = catalogue.distances(one)
        if len(times) < AT_LEAST or len(times) < ALWAYS * fewer or chance > BY_CHANCE:
            continue
        if near.get(catalogue.name_of(other), HOPS) < HOPS:
            continue
        found.append(_couple(one, other, times, chance))
    yield from sorted(found, key=lambda each: (-each.expected, each.title))[:MOST_PAIRS]


def _couples(pages: Sequence[Page]) -> dict[tuple[str, str, str], list[tuple[Page, Page]]]:
    """Return every time two services paged near to each other, in the order in which they did; each page once."""
    found: dict[tuple[str, str, str], list[tuple[Page, Page]]] = {}
    used: set[tuple[str, str]] = set()
    recent: list[Page] = []
    for page in pages:
        recent = [each for each in recent[-MOST_NEAR:] if page.at - each.at <= NEAR]
        for before in recent if page.service else ():
            one, other = sorted((before.service, page.service))
            keys = {(before.call.call_id, page.service), (page.call.call_id, before.service)}
            if not before.service or one == other or before.scope != page.scope or keys & used:
                continue
            used |= keys
            found.setdefault((page.scope, one, other), []).append((before, page))
        recent.append(page)
    return found


def _couple(one: str, other: str, times: Sequence[tuple[Page, Page]], chance: float) -> Candidate:
    leads = Counter(before.service for before, _ in times)
    first, second = (one, other) if leads[one] >= leads[other] else (other, one)
    pages = [page for both in times for page in both]
    rules = {service: rules_of([page for page in pages if page.service == service]) for service in (first, second)}
    how_often = f"{count_of(len(times), 'time')} on {count_of(days_of(pages), 'day')}"
    which = f"{first} first {leads[first]:,} times"
    return Candidate(
        Kind.TOGETHER,
        f"Say that {second} depends on {first}: they page together",
        (
            f"{how_often} both paged within {minutes_of(NEAR)}, {which}; chance alone makes it {chance:.0%} of them.",
            f"{first}: {rules[first]}. {second}: {rules[second]}.",
        ),
        Change(services={second: {"depends_on": [first]}}),
        len(times),
        len(times),
        days_of(pages),
        frozenset(page.rule for page in pages),
    )
