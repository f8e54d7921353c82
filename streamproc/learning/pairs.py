"""How likely two alerts tell of one trouble: a logistic score of the pair. And which of many began it. Pure.

The weights were fitted (Newton's method, l2 1) to pairs of alerts that started within twenty minutes of each other, in
streams of interleaved incidents that were made from public ones (ITBench, PetShop), with their dependency graph, with
a third of it gone, and without any. What it reaches on streams with other seeds stands in docs/intelligence.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

from streamproc.services import Catalogue
from streamproc.state import Spot

BIAS = -4.2
SOON, NEAR_IN_TIME = 1.1, 3.6
"""Weights of exp(-gap / 60 s) and of exp(-gap / 900 s)."""
HOPS = {0: 4.2, 1: 3.0, 2: 2.7, 3: 1.2, 4: 1.2}
"""By the edges between their services; 0 for the same one."""
UNCONNECTED = -3.2
"""The catalogue knows both services, and no way between them."""
NAMED = 4.2
"""The text of one names the other's service."""
ELSEWHERE = -7.1
"""In different places (namespaces), and no dependency connects them."""
ALIKE = 2.3
"""Weight of the share of words that they have in common."""
TOP = 2
"""The likeliest pairs whose mean counts for an incident."""
SURE = 0.98
"""So likely, and no further pairs or incidents are looked at."""

LATE, NAMED_AS_CAUSE = 0.5, 0.7
"""In the ranking of causes: what every two minutes behind the first alert cost, and what being named is worth."""
LATENESS = 120.0
MOST_LATE = 10.0

WORDS = re.compile(r"[a-z][a-z0-9_.-]*[a-z0-9]")
MOST_WORDS = 24
"""Words of an alert that are kept."""
LITTLE = frozenset(
    re.findall(
        r"\w+",
        "above after all and any are because been below but cannot could due for from has have "
        "in into is its less longer more no not of off on only or other over per service than that the then "
        "there this to too under up was when where which while with within",
    )
)
"""Words that say nothing of what is broken."""


class Kinship(NamedTuple):
    """How likely an alert belongs to what is known, and by what."""

    p: float
    spot: Spot
    """The likeliest one of the known."""
    hops: int | None
    """Edges to its service; None where nothing connects them."""
    named: bool


def words_of(*texts: str) -> tuple[str, ...]:
    """Return the telling words of texts, lower case, each once, in order, at most `MOST_WORDS`."""
    found = dict.fromkeys(word for text in texts for word in WORDS.findall(text.lower()) if word not in LITTLE)
    return tuple(found)[:MOST_WORDS]


def kinship(spot: Spot, known: Sequence[Spot], catalogue: Catalogue) -> Kinship:
    """Return how likely `spot` tells of the trouble that `known` tell of: the mean of its `TOP` likeliest pairs.

    Args:
        spot: an alert.
        known: those of one incident, at least one.
        catalogue: the dependencies.
    """
    mine = catalogue.name_of(spot.service)
    ways = catalogue.distances(mine)
    best: list[Kinship] = []
    for other in reversed(known):
        best.append(_pair(spot, mine, ways, other, catalogue))
        best.sort(key=_likelihood, reverse=True)
        del best[TOP:]
        if len(best) == TOP and best[-1].p >= SURE:
            break  # whatever comes, it is as good as certain
    return best[0]._replace(p=sum(pair.p for pair in best) / len(best))


_likelihood = attrgetter("p")


def _pair(one: Spot, mine: str, ways: Mapping[str, int], other: Spot, catalogue: Catalogue) -> Kinship:
    gap = min(abs((one.at - other.at).total_seconds()), abs((one.at - other.since).total_seconds()))
    score = BIAS + SOON * math.exp(-gap / 60) + NEAR_IN_TIME * math.exp(-gap / 900) + ALIKE * _alike(one, other)
    hops, named = None, False
    if mine and other.service:
        theirs = catalogue.name_of(other.service)
        hops = 0 if mine == theirs else ways.get(theirs)
        named = hops != 0 and (one.service.lower() in other.telling or other.service.lower() in one.telling)
        if hops is None and ways and catalogue.knows(theirs):
            score += UNCONNECTED
    if hops is not None:
        score += HOPS[hops]
    score += NAMED * named
    if not hops and one.place and other.place and one.place != other.place:
        score += ELSEWHERE
    return Kinship(1 / (1 + math.exp(-score)), other, hops, named)


def _alike(one: Spot, other: Spot) -> float:
    """Return the share of words that both have, the names of their services left out."""
    own = (one.service.lower(), other.service.lower())
    mine, theirs = one.telling.difference(own), other.telling.difference(own)
    both = len(mine & theirs)
    return both / (len(mine) + len(theirs) - both) if both else 0.0


def causes(spots: Sequence[Spot], catalogue: Catalogue) -> list[Spot]:
    """Return the first alert of every service, the likeliest root cause first.

    A service is likelier the cause the more of the alerting services depend on it, the fewer of them it depends on, the
    sooner it told, and the more of the others name it.
    """
    first: dict[str, Spot] = {}
    for spot in sorted(spots, key=lambda spot: (spot.since, spot.fingerprint)):
        first.setdefault(catalogue.name_of(spot.service), spot)
    begun = min(spot.since for spot in spots)
    needs = {name: catalogue.needs(name) for name in first}
    scored = [
        (-_cause(name, spot, first, needs, spots) + LATE * min(_late(spot, begun), MOST_LATE), at, spot)
        for at, (name, spot) in enumerate(first.items())
    ]
    return [spot for _, _, spot in sorted(scored, key=lambda each: each[:2])]


def _late(spot: Spot, begun: datetime) -> float:
    return (spot.since - begun).total_seconds() / LATENESS


def _cause(
    name: str, spot: Spot, services: Iterable[str], needs: Mapping[str, Mapping[str, int]], spots: Sequence[Spot]
) -> float:
    others = [other for other in services if other != name]
    told = [other for other in spots if other.service != spot.service]
    needed = sum(name in needs[other] for other in others)
    needing = sum(other in needs[name] for other in others)
    named = sum(spot.service.lower() in other.telling for other in told) if spot.service else 0
    return (needed - needing) / (len(others) + 1) + NAMED_AS_CAUSE * named / len(spots)


def mentioned(words: Iterable[str], catalogue: Catalogue) -> Iterator[str]:
    """Yield the words that are the name of a service of the catalogue, or an alias."""
    return (word for word in words if catalogue.names(word))
