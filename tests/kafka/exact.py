"""What a run on Kafka left, read from outside: whether it is what one thread in memory makes of the same inboxes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamproc.core.event import Artifact
from streamproc.core.record import Position, Record
from streamproc.core.step import Node, Topology
from streamproc.core.table import RowKey
from streamproc.core.topic import Topic
from streamproc.ports import Entry
from streamproc.runtime.engine import BEGINNING, VERSIONS
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import Place, TopicPartition, reader
from streamproc.runtime.faust.codec import POSITION, address_of, partition_of, position_of, record_of
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends
from tests.support.replay import Replayed, Written, is_wake, replay, written

Key = tuple[str, int]


@dataclass
class Left:
    """Logs by topic and partition, rows and positions by node and partition; committed data only."""

    ids: dict[str, str]
    logs: dict[Key, list[Record]] = field(default_factory=dict)
    rows: dict[Key, dict[RowKey, bytes]] = field(default_factory=dict)
    positions: dict[Key, Position | None] = field(default_factory=dict)


async def left_by(config: Config, topology: Topology, topics: Mapping[str, Topic]) -> Left:
    standing = await catalogue.describe(config, catalogue.wanted(topics, topology, config))
    left = Left({name: standing[config.topic(name)].topic_id for name in topics})
    for topic in topics.values():
        places = [Place(config.topic(topic.name), p) for p in range(topic.partitions)]
        left.logs.update({(topic.name, p): [] for p in range(topic.partitions)})
        async with reader(config, places) as consumer:
            ends = await consumer.end_offsets([TopicPartition(*place) for place in places])
            for place in places:
                while await consumer.position(TopicPartition(*place)) < ends[TopicPartition(*place)]:
                    for messages in (await consumer.getmany(timeout_ms=200)).values():
                        for message in messages:
                            left.logs[topic.name, message.partition].append(record_of(message, topic.name))
    await _read_states(config, topology, left)
    return left


async def _read_states(config: Config, topology: Topology, left: Left) -> None:
    """Read every state topic to its end with one consumer."""
    whose = {
        Place(config.state_topic(node.name), p): (node.name, p)
        for node in topology
        for p in range(node.inbox.partitions)
    }
    left.rows.update({key: {} for key in whose.values()})
    left.positions.update(dict.fromkeys(whose.values()))
    async with reader(config, whose) as consumer:
        ends = await consumer.end_offsets([TopicPartition(*place) for place in whose])
        for partition, end in ends.items():
            while await consumer.position(partition) < end:
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    for message in messages:
                        _install(left, whose[Place(message.topic, message.partition)], message)


def _install(left: Left, key: Key, message: Any) -> None:
    if message.key == POSITION:
        left.positions[key] = position_of(message.value)
    elif message.value is None:
        left.rows[key].pop(address_of(message.key), None)
    else:
        left.rows[key][address_of(message.key)] = message.value


def replay_all(left: Left, topology: Topology, letters: Topic) -> dict[Key, Replayed]:
    bodies = {
        artifact.checksum: artifact.body
        for record in left.logs[VERSIONS, 0]
        for artifact in [Artifact.model_validate_json(record.value)]
    }
    return {
        (node.name, p): replay(node, left.logs[node.inbox.name, p], letters, bodies, topic_id=left.ids[node.inbox.name])
        for node in topology
        for p in range(node.inbox.partitions)
    }


def check(
    left: Left,
    topology: Topology,
    letters: Topic,
    acknowledged: Iterable[Entry],
    doubtful: Iterable[Entry] = (),
) -> dict[str, int]:
    """Assert that everything was folded, once, and came to what the pure fold says; return figures.

    Args:
        left: what the run left, at rest.
        topology: what ran.
        letters: the topic of dead letters.
        acknowledged: what edges wrote, each of them once in the log.
        doubtful: what edges wrote without an answer: it may be there or not.
    """
    replayed = replay_all(left, topology, letters)
    for (name, p), made in replayed.items():
        position = left.positions[name, p] or Position(0, BEGINNING, made.position.topic_id)
        assert position == made.position, f"{name}/{p} stands at {position}, its inbox comes to {made.position}"
        kept, due = left.rows[name, p], dict(made.rows.raw())
        differ = [(key, kept.get(key), due.get(key)) for key in kept | due if kept.get(key) != due.get(key)]
        assert not differ, f"{len(differ)} rows of {name}/{p} are not those of its inbox: {differ[:2]}"
    emitted = {name for node in topology for name in (t.name for ts in node.routes.values() for t, _ in ts)}
    total = 0
    expected: Counter[tuple[str, bytes, bytes]] = Counter((e.topic, e.key, e.value) for e in acknowledged)
    perhaps: Counter[tuple[str, bytes, bytes]] = Counter((e.topic, e.key, e.value) for e in doubtful)
    others: Counter[tuple[str, bytes, bytes]] = Counter()
    counts = Counter(topic for topic, _ in left.logs)
    inboxes = {node.inbox.name for node in topology}
    for (topic, p), log in left.logs.items():
        if topic not in emitted | inboxes | {letters.name}:
            continue
        held = [written(record) for record in log if not is_wake(record)]
        told = [(key, _addressed(made, topic, p, counts[topic])) for key, made in replayed.items()]
        missing = Counter(each for _, sequence in told for each in sequence)
        rest = Counter(held)
        assert missing <= rest, f"{topic}/{p} lacks {len(list((missing - rest).elements()))} emits"
        total += missing.total()
        others.update((topic, key, value) for key, value, _ in (rest - missing).elements())
        for place, sequence in told:
            remaining = iter(held)
            assert all(each in remaining for each in sequence), f"what {place} wrote to {topic}/{p} is out of order"
    expected = Counter({each: n for each, n in expected.items() if each[0] in emitted | inboxes})
    assert expected <= others, f"lost: {(expected - others).total()} of {expected.total()} acknowledged"
    surplus = others - expected
    assert surplus <= perhaps, f"{(surplus - perhaps).total()} records that nobody wrote, or emits doubled"
    return {
        "acknowledged": expected.total(),
        "emitted": total,
        "rows": sum(len(rows) for rows in left.rows.values()),
        "wakes": sum(is_wake(record) for log in left.logs.values() for record in log),
    }


def _addressed(made: Replayed, topic: str, partition: int, count: int) -> list[Written]:
    return [
        written(emit)
        for emit in made.emits
        if emit.topic == topic and (emit.everywhere or partition_of(emit.key, count) == partition)
    ]


async def at_rest(config: Config, topology: Topology) -> bool:
    """Return whether every inbox is folded to its last record, by the state topics alone."""
    return not await waiting(config, topology)


async def waiting(config: Config, topology: Topology) -> list[str]:
    """Return the node partitions that have something left to fold, by the state topics alone."""
    left, found = Left({}), []
    await _read_states(config, topology, left)
    places = [Place(config.topic(n.inbox.name), p) for n in topology for p in _parts(n)]
    known = Ends(config)
    await known.start()
    try:
        # Ends of what is written, committed or not: a commit is answered before its markers are on every partition.
        ends = await known.of(places)
    finally:
        await known.stop()
    async with reader(config, places) as consumer:
        for node in topology:
            for p in _parts(node):
                place, position = TopicPartition(config.topic(node.inbox.name), p), left.positions[node.name, p]
                consumer.seek(place, position.next_offset if position is not None else 0)
                while await consumer.position(place) < ends[Place(*place)]:
                    if any((await consumer.getmany(place, timeout_ms=200)).values()):
                        found.append(f"{node.name}/{p}")
                        break
    return found


async def rest(config: Config, topology: Topology, within: float) -> None:
    """Wait until every inbox is folded to its last record.

    Raises:
        AssertionError: that does not come to pass within so many seconds; it says where something waits.
    """
    until = time.monotonic() + within
    while left := await waiting(config, topology):
        assert time.monotonic() < until, f"not live again: something waits in {left}"
        await asyncio.sleep(0.3)


def _parts(node: Node) -> range:
    return range(node.inbox.partitions)
