"""The scenarios that memory plays, on a real broker and a real worker, in the scenario's own time.

What PagerDuty was told must be the same, and what the worker left must be what the pure fold makes of its inboxes.

By default a few of them, with KAFKA_CAMPAIGN=all (`make chaos`) every one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from streamproc.core.record import Record
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import AIOKafkaConsumer, Place, TopicPartition, reader
from streamproc.runtime.faust.codec import record_of
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends
from streamproc.runtime.faust.guards import FailStop
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.worker import Worker
from streamproc.service import warm_up
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.kafka.exact import check, left_by
from tests.scenarios.scenarios import SCENARIOS, Scenario
from tests.support.play import T0

T = TypeVar("T")
WITHIN = 120.0
PAUSE = 0.02
SHARE = {
    "one page for a cascade over dependencies",
    "what is silenced pages when the silence ends and it still fires",
    "what nobody acknowledges goes to the second destination",
    "nothing is paged in a dry run and arming adopts with one change event",
}
"""Correlation, updates that are coalesced, wakes, feedback, outcomes, and policies in every partition."""


class OnKafka:
    """A runtime for scenarios: its clock stands still but for `advance`, while the worker lives in real time.

    The worker runs on a thread of its own, so that it lives on between the calls of a scenario.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._clock = ManualClock(T0)
        self._inlet = KafkaInlet(config, TOPICS, self._clock)
        self.appended: list[Entry] = []
        self._stopped: list[FailStop] = []
        self._worker = Worker(config, TOPOLOGY, TOPICS, LETTERS, self._clock, leave=self._stopped.append)
        self._logs: dict[Place, list[Record]] = {
            Place(name, p): [] for name, topic in TOPICS.items() for p in range(topic.partitions)
        }
        self._ends = Ends(config)
        self._reader: AIOKafkaConsumer = None
        self._next_due: datetime | None = None
        self._at_rest = False
        self._stack = AsyncExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scenario")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run a worker while the context is open."""
        self._thread.start()
        try:
            self._call(self._start())
            yield
            assert not self._stopped
        finally:
            self._call(self._stack.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def append(self, entries: Iterable[Entry]) -> None:
        """Append what edges bring."""
        self._at_rest = False
        brought = list(entries)
        self._call(self._inlet.append(brought))
        self.appended.extend(brought)

    def advance(self, by: timedelta) -> None:
        """Let time pass: what is due is woken at its moment, and everything is folded."""
        moment = self._clock.now() + by
        if not self._at_rest:
            self._call(self._rest())
        while self._next_due is not None and self._next_due <= moment:
            self._clock.set(self._next_due)
            self._call(self._rest())
        self._clock.set(moment)

    def records(self, topic: str) -> list[Record]:
        """Return every record of a topic, as it stood at the last rest."""
        return [record for place, log in self._logs.items() if place.topic == topic for record in log]

    def _call(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result(WITHIN)

    async def _start(self) -> None:
        await catalogue.apply(self._config, catalogue.wanted(TOPICS, TOPOLOGY, self._config))
        self._stack.push_async_callback(self._inlet.stop)
        await self._ends.start()
        self._stack.push_async_callback(self._ends.stop)
        places = [Place(self._config.topic(name), p) for name, p in self._logs]
        self._reader = await self._stack.enter_async_context(reader(self._config, places))
        await asyncio.to_thread(warm_up)  # what a decision imports when it first needs it must not hold the loop up
        await self._worker.start()
        self._stack.push_async_callback(self._worker.stop)
        while not self._worker.standing()["ready"]:  # noqa: ASYNC110  it is asked, as /ready does
            await asyncio.sleep(PAUSE)

    async def _rest(self) -> None:
        """Wait until every inbox is folded to its end, and no row waits for a moment that has come.

        Positions and rows are looked at first: where the logs, read after that, end before them, nothing was under way.
        """
        while True:
            assert not self._stopped, self._stopped
            parts = {Place(part.node.inbox.name, part.partition): part for part in self._worker.parts()}
            due = {place: part.position.next_offset for place, part in parts.items()}
            rows = (part.rows.get(address) for part in parts.values() for address in part.rows.raw())
            self._next_due = min((row.wake_at for row in rows if row and row.wake_at), default=None)
            await self._read()
            folded = all(not (log := self._logs[place]) or log[-1].offset < due[place] for place in due)
            if folded and (self._next_due is None or self._next_due > self._clock.now()):
                self._at_rest = True
                return
            await asyncio.sleep(PAUSE)

    async def _read(self) -> None:
        """Read every log to its end, what is committed but waits for its marker included.

        The broker answers a commit before its markers are everywhere; the end of committed data may lie before them.
        """
        ends = await self._ends.of(Place(self._config.topic(name), p) for name, p in self._logs)
        while any([await self._reader.position(TopicPartition(*place)) < end for place, end in ends.items()]):
            for messages in (await self._reader.getmany(timeout_ms=50)).values():
                for message in messages:
                    name = message.topic.removeprefix(self._config.prefix)
                    self._logs[Place(name, message.partition)].append(record_of(message, name))


def _chosen(scenario: Scenario) -> Any:
    of_all = pytest.mark.skipif(os.environ.get("KAFKA_CAMPAIGN") != "all", reason="of the long campaign: make chaos")
    return pytest.param(scenario, id=scenario.name, marks=() if scenario.name in SHARE else of_all)


@pytest.mark.parametrize("scenario", [_chosen(scenario) for scenario in SCENARIOS])
def test_on_kafka(scenario: Scenario, config: Config) -> None:
    runtime = OnKafka(config)
    with runtime.running():
        scenario.play(runtime)
    left = asyncio.run(left_by(config, TOPOLOGY, TOPICS))
    check(left, TOPOLOGY, LETTERS, runtime.appended)


def test_the_share_is_of_the_scenarios() -> None:
    assert {scenario.name for scenario in SCENARIOS} > SHARE
