"""The `memory` runtime: lists and dicts, a manual clock; for tests, backtests and `try`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from streamproc.core.event import Event
from streamproc.core.record import Position, Record
from streamproc.core.step import Topology
from streamproc.core.table import RowKey
from streamproc.core.topic import Topic
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.engine import BATCH, Engine, Sensor
from streamproc.runtime.journal import Append


class MemoryJournal:
    """A journal that lives as long as the process. A commit is an assignment."""

    def __init__(self, topics: Mapping[str, Topic], partitions: int = 1) -> None:
        self._counts = {name: min(topic.partitions, partitions) for name, topic in topics.items()}
        self.logs: dict[tuple[str, int], list[Record]] = {
            (name, p): [] for name, count in self._counts.items() for p in range(count)
        }
        self.rows: dict[tuple[str, int], dict[RowKey, bytes]] = {}
        self.positions: dict[tuple[str, int], Position] = {}
        self._staged: list[Record] = []
        self._saved: list[tuple[tuple[str, int], Mapping[RowKey, bytes | None], Position]] = []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything written inside becomes visible together, or not at all."""
        self._staged, self._saved = [], []
        yield
        self._publish()

    def _publish(self) -> None:
        for record in self._staged:
            self.logs[record.topic, record.partition].append(record)
        for place, rows, position in self._saved:
            kept = self.rows.setdefault(place, {})
            for address, raw in rows.items():
                if raw is None:
                    kept.pop(address, None)
                else:
                    kept[address] = raw
            self.positions[place] = position

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        return self._counts[topic]

    def topic_id(self, topic: str) -> str:
        """Return the identity of the topic."""
        return f"memory:{topic}"

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""
        return len(self.logs[topic, partition])

    def start(self, topic: str, partition: int) -> int:  # noqa: ARG002  nothing is ever cut
        """Return 0: everything is kept."""
        return 0

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on."""
        return self.logs[topic, partition][offset : offset + limit]

    def append(self, appends: Sequence[Append], stamp: datetime) -> None:
        """Append records, in order."""
        ahead: dict[tuple[str, int], int] = {}
        for record in self._staged:
            place = (record.topic, record.partition)
            ahead[place] = ahead.get(place, 0) + 1
        for append in appends:
            place = (append.topic, append.partition)
            offset = self.end(*place) + ahead.get(place, 0)
            ahead[place] = ahead.get(place, 0) + 1
            self._staged.append(
                Record(
                    append.topic,
                    append.partition,
                    offset,
                    append.value,
                    stamp,
                    append.key,
                    append.headers,
                    append.event,
                )
            )

    def save(self, node: str, partition: int, rows: Mapping[RowKey, bytes | None], position: Position) -> None:
        """Write changed rows and the position of a node partition."""
        self._saved.append(((node, partition), rows, position))

    def load(self, node: str, partition: int) -> tuple[Iterable[tuple[RowKey, bytes]], Position | None]:
        """Return the rows and the position of a node partition."""
        return dict(self.rows.get((node, partition), {})).items(), self.positions.get((node, partition))


class Memory:
    """Runs a topology in memory, one transaction a micro-batch, time moved by hand."""

    rounds = 1_000_000
    """More rounds without rest than any input can need: a topology that feeds itself for ever is a defect, no hang."""

    def __init__(
        self,
        topology: Topology,
        letters: Topic,
        journal: MemoryJournal,
        clock: ManualClock,
        *,
        batch: int = BATCH,
        sensor: Sensor | None = None,
    ) -> None:
        self.journal = journal
        self.clock = clock
        self.engine = Engine(topology, letters, journal, clock, sensor)
        self._batch = batch

    def append(self, entries: Iterable[Entry]) -> None:
        """Append what an edge brings."""
        with self.journal.transaction():
            self.engine.append(entries)

    def put(self, topic: str, event: Event, key: str = "") -> None:
        """Append one event."""
        self.append([Entry.of(topic, event, key)])

    def run(self) -> int:
        """Fold until every node stands at the head of its inbox; return how many records were folded."""
        done = 0
        for _ in range(self.rounds):
            before = done
            for part in self.engine.parts:
                with self.journal.transaction():
                    done += self.engine.step(part, self._batch)
            if done == before:
                return done
        raise RuntimeError("the topology never comes to rest")

    def advance(self, by: timedelta) -> None:
        """Let time pass: timers fire at their due times, in order, and everything they cause is folded."""
        self.advance_to(self.clock.now() + by)

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until `moment`."""
        self.run()
        while (due := self.engine.next_due()) is not None and due <= moment:
            self.clock.set(max(due, self.clock.now()))
            with self.journal.transaction():
                self.engine.fire(self.clock.now())
            self.run()
        self.clock.set(moment)

    def records(self, topic: str) -> list[Record]:
        """Return every record of a topic, partition by partition."""
        count = self.journal.partitions(topic)
        return [record for p in range(count) for record in self.journal.logs[topic, p]]
