"""Replay: what the pure fold makes of the inboxes that a journal recorded, and whether the journal holds just that.

`check_held` is the law of every runtime: rows, positions and emits are those of the fold over the recorded inboxes,
each once, whatever crashed in between. `check_rest` says that nothing waits any more that should have been done.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streamproc.core.event import Artifact, DeadLetter, Wake
from streamproc.core.fold import Lookups, Observation, fold
from streamproc.core.record import Outgoing, Position, Record
from streamproc.core.step import Node, Topology
from streamproc.core.table import RowKey, RowStore
from streamproc.core.topic import Topic
from streamproc.ports import Entry
from streamproc.runtime.engine import BATCH, BEGINNING, VERSIONS
from streamproc.runtime.journal import Journal

Place = tuple[str, int]
"""A node, or a topic, and one of its partitions."""
Written = tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]
"""Key, value and headers of a record."""
MANY = 1_000_000


@dataclass(slots=True)
class Replayed:
    """What the fold makes of one recorded inbox partition."""

    rows: RowStore
    position: Position
    emits: list[Outgoing] = field(default_factory=list)
    observations: Counter[Observation] = field(default_factory=Counter)
    letters: list[DeadLetter] = field(default_factory=list)
    unaccounted: list[str] = field(default_factory=list)
    """Origins of batches in which fewer things were observed than records were folded."""


def replay(
    node: Node,
    records: Sequence[Record],
    letters: Topic,
    bodies: Mapping[str, str],
    *,
    batch: int = BATCH,
    topic_id: str = "",
) -> Replayed:
    """Fold recorded inbox records from the beginning, `batch` at a time, without any runtime."""
    rows, lookups = RowStore(node.tables), Lookups(bodies.get)
    made = Replayed(rows, Position(0, BEGINNING, topic_id))
    for start in range(0, len(records), batch):
        # Decoded from their bytes, as by another process: what a runtime hands on undecoded must come to the same.
        some = [record._replace(event=None) for record in records[start : start + batch]]
        folded = fold(node, some, rows, made.position, lookups, letters)
        rows.apply(folded.changes)
        made.position = folded.position
        made.emits.extend(folded.emits)
        made.observations.update(folded.observations)
        made.letters.extend(folded.dead_letters)
        if folded.observations.total() < len(some):
            made.unaccounted.append(some[0].origin)
    return made


def bodies_of(journal: Journal) -> dict[str, str]:
    """Return the bodies of every version that the log holds, by checksum."""
    found = [Artifact.model_validate_json(record.value) for record in log_of(journal, VERSIONS, 0)]
    return {artifact.checksum: artifact.body for artifact in found}


def log_of(journal: Journal, topic: str, partition: int) -> list[Record]:
    """Return everything that a topic partition holds."""
    return journal.read(topic, partition, journal.start(topic, partition), MANY)


def inbox_of(journal: Journal, node: Node, partition: int) -> list[Record]:
    """Return what a node partition has folded so far."""
    _, position = journal.load(node.name, partition)
    folded = 0 if position is None else position.next_offset
    return [record for record in log_of(journal, node.inbox.name, partition) if record.offset < folded]


def places(topology: Topology, journal: Journal) -> Iterable[tuple[Node, int]]:
    """Yield every node partition."""
    return ((node, p) for node in topology for p in range(journal.partitions(node.inbox.name)))


def replay_all(topology: Topology, letters: Topic, journal: Journal, *, batch: int = BATCH) -> dict[Place, Replayed]:
    """Replay every node over what it has folded, each alone."""
    bodies = bodies_of(journal)
    return {
        (node.name, p): replay(
            node,
            inbox_of(journal, node, p),
            letters,
            bodies,
            batch=batch,
            topic_id=journal.topic_id(node.inbox.name),
        )
        for node, p in places(topology, journal)
    }


def check_held(
    topology: Topology, letters: Topic, journal: Journal, appended: Iterable[Entry], *, batch: int = BATCH
) -> None:
    """Assert that a journal holds what the pure fold makes of its inboxes: all of it, once, and nothing else.

    Args:
        topology: what ran.
        letters: the topic of dead letters.
        journal: what it left, at rest or not, but whole: nothing trimmed.
        appended: what edges have written, acknowledged or not, as often as it is in the log.
        batch: how many records are folded at once; it must not matter.
    """
    replayed = replay_all(topology, letters, journal, batch=batch)
    for (name, p), made in replayed.items():
        kept, position = journal.load(name, p)
        assert dict(kept) == dict(made.rows.raw()), f"rows of {name}/{p} are not those of its inbox"
        assert (position or Position(0, BEGINNING, made.position.topic_id)) == made.position, f"position of {name}/{p}"
        assert not made.unaccounted, f"{name}/{p} took records without a word: {made.unaccounted}"
    _check_logs(journal, replayed, {letters.name, *_topics(topology)}, appended)


def _topics(topology: Topology) -> set[str]:
    written = {topic.name for node in topology for routes in node.routes.values() for topic, _ in routes}
    return written | {node.inbox.name for node in topology}


def _check_logs(
    journal: Journal, replayed: Mapping[Place, Replayed], topics: set[str], appended: Iterable[Entry]
) -> None:
    expected: Counter[tuple[str, bytes, bytes]] = Counter(
        (entry.topic, entry.key, entry.value) for entry in appended if not is_wake(entry)
    )
    others: Counter[tuple[str, bytes, bytes]] = Counter()
    for topic in sorted(topics):
        count = journal.partitions(topic)
        for p in range(count):
            held = [written(record) for record in log_of(journal, topic, p) if not is_wake(record)]
            told = {place: _addressed(made.emits, topic, p, count) for place, made in replayed.items()}
            missing = Counter(each for sequence in told.values() for each in sequence)
            rest = Counter(held)
            assert missing <= rest, f"{topic}/{p} lacks {missing - rest}"
            others.update((topic, key, value) for key, value, _ in (rest - missing).elements())
            for place, sequence in told.items():
                assert _in_order(sequence, held), f"what {place} wrote to {topic}/{p} is out of order"
    seen = Counter({each: times for each, times in expected.items() if each[0] in topics})
    assert others == seen, f"the logs hold what nobody wrote: {others - seen}, and lack {seen - others}"


def check_rest(topology: Topology, journal: Journal, now: datetime) -> None:
    """Assert that every node stands at the head of its inbox, and that no row waits for a moment that has passed."""
    for node, p in places(topology, journal):
        kept, position = journal.load(node.name, p)
        folded = 0 if position is None else position.next_offset
        assert folded == journal.end(node.inbox.name, p), f"{node.name}/{p} has not folded all"
        rows = RowStore(node.tables)
        for address, raw in kept:
            wake = rows.restore(address, raw)
            assert wake is None or wake.due > now, f"{address} still waits for {wake.due if wake else now}"


def is_wake(record: Record | Entry) -> bool:
    """Return whether a record is a timer's."""
    return record.headers.get("type") == Wake.TYPE.encode()


def written(record: Record | Outgoing) -> Written:
    """Return what of a record does not depend on where it stands."""
    return record.key, record.value, tuple(sorted(record.headers.items()))


def _addressed(emits: Iterable[Outgoing], topic: str, partition: int, count: int) -> list[Written]:
    return [
        written(emit)
        for emit in emits
        if emit.topic == topic and (emit.everywhere or zlib.crc32(emit.key) % count == partition)
    ]


def _in_order(sequence: Sequence[Written], held: Iterable[Written]) -> bool:
    """Return whether a sequence is in a log, in its order, with others in between."""
    log = iter(held)
    return all(each in log for each in sequence)


def rows_of(made: Replayed) -> dict[RowKey, bytes]:
    """Return the rows as bytes."""
    return dict(made.rows.raw())
