"""A pipeline that lives through a story of everything that moves decisions, and what its recorded inboxes come to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from streamproc.backtest.recorded import EmbeddedInboxes, Inboxes
from streamproc.backtest.refold import Refold
from streamproc.core.record import Outgoing, Record
from streamproc.events.feedback import FeedbackKind
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.inboxes import bodies_of
from streamproc.runtime.memory import Memory
from streamproc.topology import TOPICS, TOPOLOGY
from tests.embedded.pipelines import Pipeline, started
from tests.support.play import T0, Play, Runtime, alert
from tests.support.replay import is_wake, written

DB = alert("db-1 down", "db")
DISK = alert("disk latency", "disk", "error")


class OnEmbedded:
    """The embedded runtime, as it runs live, for stories; its clock stands still but for `advance`."""

    def __init__(self, folder: Path) -> None:
        self.appended: list[Entry] = []
        self._clock = ManualClock(T0)
        self._folder = folder
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._pipeline: Pipeline

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run while the context is open."""
        with self._runner:
            opening = self._stack.enter_async_context(started(self._folder, clock=self._clock))
            self._pipeline = self._runner.run(_awaited(opening))
            try:
                yield
            finally:
                self._runner.run(self._stack.aclose())

    def append(self, entries: Iterable[Entry]) -> None:
        """Append what edges bring."""
        brought = list(entries)
        self._runner.run(self._pipeline.runtime.append(brought))
        self.appended.extend(brought)

    def advance(self, by: timedelta) -> None:
        """Let time pass: timers fire at their moments, and everything is folded."""
        moment, engine = self._clock.now() + by, self._pipeline.runtime._engine
        assert engine is not None
        self._rest()
        while (due := engine.next_due()) is not None and due <= moment:
            self._clock.set(max(due, self._clock.now()))
            self._rest()
        self._clock.set(moment)

    def _rest(self) -> None:
        self._runner.run(self._pipeline.until(lambda: self._pipeline.at_rest))

    def records(self, topic: str) -> list[Record]:
        """Return every record of a topic."""
        with EmbeddedInboxes(self._folder) as inboxes:
            return held(inboxes, topic, 0)


async def _awaited(opening: Awaitable[Pipeline]) -> Pipeline:
    return await opening


def live(runtime: Runtime) -> None:
    """Silence, feedback, reopening, timers, other settings in mid-stream, dead letters, a learner's labels."""
    play = Play(runtime).services(db={"destination": "database", "second_destination": "second"}, search={}, disk={})
    play.silence("maintenance", until="8m", service="web")
    play.at("30s").push(DB, alert("web slow", "web", "error"))
    play.at("1m").push(DISK, alert("nobody knows", "search", "dreadful"))
    play.at("2m").respond("db-1")
    play.at("3m").push(DISK.resolved)
    play.at("4m").push(DISK)
    play.configure(escalate={"reopen_hold": "PT1M", "page": ["critical", "error"]})
    play.at("6m").services(db={"destination": "default"}, search={"depends_on": ["db"]})
    runtime.append([Entry("alerts.raw", b"", b"{", {"type": b"raw-alert.v1", "source": b"alertmanager"})])
    runtime.append([Entry("alerts.raw", b"", b"{}", {"now": b"yesterday"})])  # as a bridge may
    play.at("7m").push(alert("db-1 full", "db", "error"), alert("search down", "search"))
    play.at("7m").push(DISK.resolved)
    play.at("8m").respond("disk", FeedbackKind.LABEL)
    play.at("10m").push(DB.resolved)


def held(inboxes: Inboxes, topic: str, partition: int) -> list[Record]:
    """Return everything that is held of a topic partition."""
    return list(inboxes.records(topic, partition, inboxes.start(topic, partition)))


def check(inboxes: Inboxes, appended: Sequence[Entry], choose: Callable[[bytes, int], int]) -> int:
    """Assert that the refolded inboxes emit what the log holds, byte for byte; return how many emits there were.

    Args:
        inboxes: of a pipeline at rest.
        appended: what edges have written.
        choose: the partition of a key among so many.
    """
    emits: dict[tuple[str, int], list[Outgoing]] = {}
    for node in TOPOLOGY:
        for partition in inboxes.partitions(node.inbox.name):
            refold = Refold(node, partition, inboxes)
            assert refold.whole
            folded = [folded for _, folded in refold.run()]
            emits[node.name, partition] = [emit for one in folded for emit in one.emits]
    others: Counter[tuple[str, bytes, bytes]] = Counter()
    total = 0
    for topic in TOPICS:
        count = len(inboxes.partitions(topic))
        for partition in inboxes.partitions(topic):
            log = [written(record) for record in held(inboxes, topic, partition) if not is_wake(record)]
            told = [
                [
                    written(each)
                    for each in made
                    if each.topic == topic and (each.everywhere or choose(each.key, count) == partition)
                ]
                for made in emits.values()
            ]
            for sequence in told:
                rest = iter(log)
                assert all(each in rest for each in sequence), f"{topic}/{partition} lacks some, or has another order"
            missing = Counter(each for sequence in told for each in sequence)
            assert missing <= Counter(log)
            total += missing.total()
            others.update((topic, key, value) for key, value, _ in (Counter(log) - missing).elements())
    assert others == Counter((entry.topic, entry.key, entry.value) for entry in appended)
    return total


class OfMemory:
    """The log of a memory runtime."""

    def __init__(self, memory: Memory) -> None:
        self._journal = memory.journal

    def partitions(self, topic: str) -> Sequence[int]:
        """Return the partitions of a topic."""
        return range(self._journal.partitions(topic))

    def start(self, topic: str, partition: int) -> int:
        """Return 0: everything is held."""
        return self._journal.start(topic, partition)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record."""
        return self._journal.end(topic, partition)

    def at(self, topic: str, partition: int, moment: datetime) -> int:
        """Return the first offset of that moment or later."""
        log = self._journal.logs[topic, partition]
        return next((record.offset for record in log if record.stamp >= moment), len(log))

    def records(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        """Yield the records from `offset` on."""
        return iter(self._journal.logs[topic, partition][offset:])

    def version(self, checksum: str) -> str | None:
        """Return the body of an artifact."""
        return bodies_of(self._journal.logs["versions", 0]).get(checksum)
