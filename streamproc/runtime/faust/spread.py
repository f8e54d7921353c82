"""Which worker folds what: every node's partitions are spread over all workers, and stay where they are if they can.

aiokafka's own sticky assignor evens out the number of partitions alone: of two workers, seen on a real broker, one got
all of `normalise` and `deduplicate`, the other all of `deliver`. Kafka's round robin spreads them well and moves nearly
all of them whenever a worker joins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor  # type: ignore[import-untyped]
from aiokafka.coordinator.protocol import (  # type: ignore[import-untyped]
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from streamproc.runtime.faust.client import Place

VERSION = 0


def spread(
    partitions: Mapping[str, int], members: Collection[str], owned: Mapping[str, Collection[Place]]
) -> dict[str, set[Place]]:
    """Return the partitions of each member. Total, and the same for the same input.

    Of each topic no member gets more than one partition more than another. A partition stays with its owner as far as
    that allows. Who gets one more of a topic is who has fewest of those before.

    Args:
        partitions: how many each topic has.
        members: everyone, at least one.
        owned: what members own now; where two claim a partition the first by name has it.
    """
    names = sorted(members)
    owners = {place: name for name in reversed(names) for place in owned.get(name, ())}
    found: dict[str, set[Place]] = {name: set() for name in names}
    for topic, count in sorted(partitions.items(), key=lambda each: (-each[1], each[0])):
        low, more = divmod(count, len(names))
        held: dict[str, list[Place]] = {name: [] for name in names}
        for partition in range(count):
            if (owner := owners.get(Place(topic, partition))) is not None:
                held[owner].append(Place(topic, partition))
        turn = sorted(names, key=lambda name: (len(found[name]), -len(held[name]), name))
        share = {name: low + (at < more) for at, name in enumerate(turn)}
        kept = {name: held[name][: share[name]] for name in names}
        staying = {place for places in kept.values() for place in places}
        free = [place for partition in range(count) if (place := Place(topic, partition)) not in staying]
        for name in names:
            wanted = share[name] - len(kept[name])
            found[name].update(kept[name], free[:wanted])
            del free[:wanted]
    return found


class SpreadAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """Kafka's side of `spread`: each member tells what it owns when it joins. One for each consumer."""

    name = "streamproc-spread"

    def __init__(self) -> None:
        self._owned: list[tuple[str, list[int]]] = []

    def assign(  # noqa: D102  aiokafka's interface
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        topics = {topic for member in members.values() for topic in member.subscription}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        found = spread(counts, members, {name: told(member.user_data) for name, member in members.items()})
        return {
            name: ConsumerProtocolMemberAssignment(VERSION, _by_topic(places), b"") for name, places in found.items()
        }

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:  # noqa: D102  likewise
        return ConsumerProtocolMemberMetadata(VERSION, list(topics), orjson.dumps(dict(self._owned)))

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:  # noqa: D102  likewise
        self._owned = [(topic, list(partitions)) for topic, partitions in assignment.assignment]


def told(user_data: bytes) -> list[Place]:
    """Return what a member says that it owns; nothing where that cannot be read."""
    try:
        owned = orjson.loads(user_data)
        return [Place(topic, int(partition)) for topic, partitions in owned.items() for partition in partitions]
    except (ValueError, TypeError, AttributeError):
        return []


def _by_topic(places: Iterable[Place]) -> list[tuple[str, list[int]]]:
    found: dict[str, list[int]] = {}
    for place in sorted(places):
        found.setdefault(place.topic, []).append(place.partition)
    return list(found.items())
