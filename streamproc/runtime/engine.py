"""The engine: runs a topology over a journal. Shared by the runtimes on one machine, `memory` and `embedded`."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from streamproc.core.errors import Defect
from streamproc.core.event import Artifact, Wake, iso
from streamproc.core.fold import Folded, Lookups, fold
from streamproc.core.record import Outgoing, Position, Record
from streamproc.core.step import Node, Topology
from streamproc.core.table import MOST_DECODED, Row, RowKey, RowStore
from streamproc.core.topic import Topic
from streamproc.ports import Entry
from streamproc.runtime.clock import Clock
from streamproc.runtime.journal import Append, Journal
from streamproc.runtime.timers import Timers

AHEAD = timedelta(minutes=5)
"""A stamp further ahead of the clock stops the node: a clock is wrong, and time in the log never goes back."""
PATIENCE = timedelta(minutes=2)
"""A wake waits so long for upstream nodes that lag behind its due time."""
BATCH = 500
WAKES = 500
VERSIONS = "versions"
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Sensor(Protocol):
    """What wants to know of every commit."""

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:
        """Note a micro-batch of `count` records, folded and written in `seconds`."""


@dataclass
class Part:
    """One node over one partition of its inbox."""

    node: Node
    partition: int
    rows: RowStore
    position: Position
    timers: Timers = field(default_factory=Timers)


Listener = Callable[[Part, Mapping[RowKey, Row | None]], None]


class Engine:
    """Folds every node over its inbox partitions. Not thread-safe: one thread owns it.

    Memory runs ahead of the journal only inside a transaction; if a commit fails, the engine must be thrown away.

    Args:
        topology: the nodes.
        letters: the topic of dead letters.
        journal: what it reads and writes.
        clock: stamps what edges bring.
        sensor: told of every commit.
        most_decoded: rows that each node partition keeps decoded.
    """

    def __init__(
        self,
        topology: Topology,
        letters: Topic,
        journal: Journal,
        clock: Clock,
        sensor: Sensor | None = None,
        most_decoded: int = MOST_DECODED,
    ) -> None:
        self.topology = topology
        self.journal = journal
        self.clock = clock
        self._letters = letters
        self._sensor = sensor
        self._bodies: dict[str, str] = {}
        self._lookups = Lookups(self._bodies.get)
        self._listeners: dict[str, Listener] = {}
        self._most_decoded = most_decoded
        self._load_versions()
        self.parts = [self._restore(node, p) for node in topology for p in range(journal.partitions(node.inbox.name))]
        self._upstream = {node.name: _upstream(topology, node) for node in topology}

    def listen(self, node: str, listener: Listener) -> None:
        """Tell `listener` of every change of a node's rows, inside the transaction: it must only take notes."""
        self._listeners[node] = listener

    def part(self, node: str, partition: int = 0) -> Part:
        """Return one node partition."""
        return next(part for part in self.parts if part.node.name == node and part.partition == partition)

    def append(self, entries: Iterable[Entry]) -> None:
        """Append what an edge brings; the log stamps it. To be called inside a transaction."""
        now = self.clock.now()
        stamp = iso(now)
        appends = [
            Append(
                entry.topic,
                self._partition(entry.topic, entry.key),
                entry.key,
                entry.value,
                {"now": stamp, **entry.headers},
            )
            for entry in entries
        ]
        self._write(appends, now)

    def step(self, part: Part, limit: int = BATCH) -> int:
        """Fold one micro-batch and write what it came to; return how many records it had. Inside a transaction."""
        inbox = part.node.inbox.name
        records = self.journal.read(inbox, part.partition, part.position.next_offset, limit)
        if not records:
            return 0
        self._guard(part, records)
        begun = time.perf_counter()
        folded = fold(part.node, records, part.rows, part.position, self._lookups, self._letters)
        written = folded.written
        self._commit(part, folded, written)
        part.rows.install(folded.changes, written)
        part.position = folded.position
        part.timers.follow(folded.changes)
        if (listener := self._listeners.get(part.node.name)) is not None:
            listener(part, folded.changes)
        if self._sensor is not None:
            self._sensor.folded(part.node.name, part.partition, len(records), folded, time.perf_counter() - begun)
        return len(records)

    def _commit(self, part: Part, folded: Folded, written: Mapping[RowKey, bytes | None]) -> None:
        """Write rows, emits and position of one micro-batch. Inside one transaction: all or nothing."""
        self.journal.save(part.node.name, part.partition, written, folded.position)
        self._write([append for emit in folded.emits for append in self._addressed(emit)], self.clock.now())

    def fire(self, now: datetime, limit: int = WAKES) -> int:
        """Append the wakes that are due, and whose upstream has come so far; return how many. Inside a transaction."""
        fired = 0
        for part in self.parts:
            due = part.timers.next_due
            if due is None or due > now:
                continue
            folded = self._upstream_folded(part.node.name, now)
            wakes = [
                wake if wake.due <= folded else wake.model_copy(update={"forced": True})
                for wake in part.timers.take(max(folded, now - PATIENCE), limit)
            ]
            self._write([_wake(part, wake, now) for wake in wakes], now)
            fired += len(wakes)
        return fired

    def next_due(self) -> datetime | None:
        """Return when the next row wants to be looked at, None where no row waits."""
        return min((due for part in self.parts if (due := part.timers.next_due) is not None), default=None)

    def lag(self, part: Part) -> int:
        """Return how many records of the inbox wait."""
        return self.journal.end(part.node.inbox.name, part.partition) - part.position.next_offset

    @property
    def idle(self) -> bool:
        """True where every node stands at the head of its inbox."""
        return all(self.lag(part) == 0 for part in self.parts)

    def _upstream_folded(self, node: str, now: datetime) -> datetime:
        """Return the moment up to which everything upstream of a node has been folded, `now` at most."""
        lagging = [part for part in self.parts if part.node.name in self._upstream[node] and self.lag(part)]
        # A record with the stamp of the position may still wait: what is folded for good ends just before it.
        return min([now, *(part.position.now - timedelta.resolution for part in lagging)])

    def _guard(self, part: Part, records: Sequence[Record]) -> None:
        """Stop where the log is not what the position says, or a clock is wrong."""
        latest = self.clock.now() + AHEAD
        for at, record in enumerate(records, part.position.next_offset):
            if record.offset != at:
                raise Defect(f"{record.origin} was read where offset {at} was due: records are missing from the log")
            try:
                ahead = record.now > latest
            except ValueError:
                continue  # the fold makes it a dead letter
            if ahead:
                raise Defect(
                    f"{record.origin} is stamped {record.now}, more than 5 minutes ahead: set the clocks right"
                )

    def _restore(self, node: Node, partition: int) -> Part:
        topic_id = self.journal.topic_id(node.inbox.name)
        found, position = self.journal.load(node.name, partition)
        rows = RowStore(node.tables, self._most_decoded)
        part = Part(node, partition, rows, position or Position(0, BEGINNING, topic_id))
        inbox = f"{node.inbox.name}/{partition}"
        if part.position.topic_id != topic_id:
            raise Defect(f"{inbox} was made anew: {node.name} has folded another log; see docs/operations.md")
        start, end = self.journal.start(node.inbox.name, partition), self.journal.end(node.inbox.name, partition)
        if not start <= part.position.next_offset <= end:
            raise Defect(
                f"{inbox} holds offsets {start} to {end}, but {node.name} stands at {part.position.next_offset}: "
                "the log was cut or restored; see docs/operations.md"
            )
        for address, raw in found:
            wake = part.rows.restore(address, raw)
            if wake is not None:
                part.timers.add(address, wake.due)
        return part

    def _load_versions(self) -> None:
        offset = self.journal.start(VERSIONS, 0)
        while records := self.journal.read(VERSIONS, 0, offset, BATCH):
            for record in records:
                self._know(record.value)
            offset = records[-1].offset + 1

    def _know(self, value: bytes) -> None:
        artifact = Artifact.model_validate_json(value)
        self._bodies[artifact.checksum] = artifact.body

    def _write(self, appends: Sequence[Append], stamp: datetime) -> None:
        for append in appends:
            if append.topic == VERSIONS:
                self._know(append.value)
        if appends:
            self.journal.append(appends, stamp)

    def _addressed(self, emit: Outgoing) -> Iterable[Append]:
        count = self.journal.partitions(emit.topic)
        chosen = range(count) if emit.everywhere else (self._partition(emit.topic, emit.key),)
        for partition in chosen:
            yield Append(emit.topic, partition, emit.key, emit.value, emit.headers, emit.event)

    def _partition(self, topic: str, key: bytes) -> int:
        return zlib.crc32(key) % self.journal.partitions(topic)


def _wake(part: Part, wake: Wake, now: datetime) -> Append:
    headers = {"type": wake.TYPE.encode(), "now": iso(wake.due)}
    fired = wake.model_copy(update={"fired": now})
    return Append(part.node.inbox.name, part.partition, b"", fired.encode(), headers, fired)


def _upstream(topology: Topology, node: Node) -> frozenset[str]:
    """Return the nodes whose emits may reach the inbox of `node`, itself left out."""
    found: set[str] = set()
    inboxes = {node.inbox.name}
    while True:
        more = {
            other.name
            for other in topology
            if other.name not in found
            and any(topic.name in inboxes for routes in other.routes.values() for topic, _ in routes)
        } - {node.name}
        if not more:
            return frozenset(found)
        found |= more
        inboxes |= {other.inbox.name for other in topology if other.name in more}
