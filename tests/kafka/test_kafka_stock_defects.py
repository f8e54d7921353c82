"""Defects of Faust's own delivery, one test each: it fails on the stock class (so it is one), and passes on ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP

from streamproc.core.record import Position
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust.app import build_app
from streamproc.runtime.faust.client import AIOKafkaConsumer, OffsetOutOfRangeError, Place, TopicPartition, options
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.delivery import _Work
from streamproc.runtime.faust.guards import FailStop, Stop
from streamproc.runtime.faust.worker import Worker
from tests.kafka.exact import check, left_by
from tests.kafka.test_kafka_worker import line, records, rig_on, working
from tests.support import toy

PLACE = Place("lines", 0)
Make = Callable[[], Any]


MADE: list[Any] = []


def stock() -> Any:
    app = faust.App("stock", broker="kafka://127.0.0.1:1", web_enabled=False, datadir="/tmp")  # noqa: S108  not made
    MADE.append(app.consumer)
    return app.consumer


def ours() -> Any:
    config = Config(bootstrap=("127.0.0.1:1",))
    worker = Worker(config, toy.TOY, toy.TOPICS, toy.LETTERS, SystemClock())
    MADE.append(build_app(config, worker, toy.TOY).consumer)
    return MADE[-1]


@pytest.fixture(autouse=True)
def _close_loops() -> Iterator[None]:
    """Consumers that were never started leave the loops of their threads open."""
    yield
    while MADE:
        MADE.pop()._thread.thread_loop.close()


ON_BOTH = pytest.mark.parametrize(
    "make",
    [
        pytest.param(stock, id="stock", marks=pytest.mark.xfail(strict=True, reason="the defect")),
        pytest.param(ours, id="ours"),
    ],
)


def at_work(consumer: Any, offset: int) -> _Work:
    work = _Work(PLACE)
    part: Any = SimpleNamespace(
        position=Position(offset, BEGINNING), done=offset, node=toy.TOY[1], partition=0, caught_up=False, rows=()
    )
    work.part, work.ready, work.next = part, True, offset
    consumer._works[PLACE] = work
    return work


class Fetches:
    """A consumer's fetch that a test lets end when it wants."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.end = asyncio.Event()
        self.times = 0

    async def __call__(self, active_partitions: Any, timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109  Faust's
        self.times += 1
        if self.times > 1:
            await asyncio.Event().wait()
        self.begun.set()
        await self.end.wait()
        return {TP(*PLACE): [_message(offset) for offset in range(50, 60)]}


def _message(offset: int) -> Any:
    names = ("key", "value", "checksum", "timestamp_type")
    sizes = {"serialized_key_size": 0, "serialized_value_size": 0}
    rest = dict.fromkeys(names)
    return SimpleNamespace(topic="lines", partition=0, offset=offset, timestamp=0, headers=(), **sizes, **rest)


@ON_BOTH
async def test_a_fetch_begun_before_a_rebalance_is_thrown_away(make: Make) -> None:
    """Defect 1: what it brings counts as a gap behind the seek, and a gap counts as done."""
    consumer, fetch, delivered = make(), Fetches(), []

    async def deliver(message: Any) -> None:
        delivered.append(message.offset)

    consumer._getmany, consumer.callback, consumer.highwater = fetch, deliver, lambda tp: 60
    ours_ = hasattr(consumer, "_works")
    if ours_:
        at_work(consumer, 50)
    consumer._active_partitions = {TP(*PLACE)}
    consumer.resume_flow()
    draining = asyncio.create_task(
        consumer._drain_messages(SimpleNamespace(_stopped=asyncio.Event(), should_stop=False))
    )
    await fetch.begun.wait()
    consumer.stop_flow()  # a rebalance: the partition comes back, its position is 0
    if ours_:
        consumer._generation += 1
        work = at_work(consumer, 0)
    else:
        consumer._read_offset[TP(*PLACE)] = 0
    consumer.resume_flow()
    fetch.end.set()
    for _ in range(50):
        await asyncio.sleep(0)
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    assert delivered == []
    if ours_:
        assert work.queue.empty()
        assert work.next == 0


async def test_a_log_that_was_cut_under_a_reader_stops_the_worker() -> None:
    """Beside defect 1: stock Faust goes on at the earliest record, and what was cut counts as done."""
    consumer = ours()
    left: list[FailStop] = []
    consumer.worker.leave = left.append

    async def fetch(active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109  Faust's
        raise OffsetOutOfRangeError({PLACE: 7})

    consumer._getmany = fetch
    at_work(consumer, 7)
    await consumer._fetch()
    assert [stop.code for stop in left] == [Stop.TOPIC]


@ON_BOTH
async def test_nothing_is_committed_past_what_is_not_done(make: Make) -> None:
    """Defect 2: committed is 31 (31 is under way), 32 is done, and 33 gets committed."""
    consumer = make()
    told: dict[Any, int] = {}
    if hasattr(consumer, "_works"):
        at_work(consumer, 31)

        async def note(offsets: dict[Place, tuple[int, str]]) -> bool:
            told.update({place: offset for place, (offset, _) in offsets.items()})
            return True

        consumer._thread.note = note
        await consumer.force_commit()
    else:
        consumer._committed_offset[TP(*PLACE)] = 31
        consumer._acked[TP(*PLACE)] = [32]
        told.update(consumer._filter_committable_offsets([TP(*PLACE)]))
    assert max(told.values(), default=31) == 31


@ON_BOTH
async def test_what_is_done_is_committed_before_it_is_forgotten(make: Make) -> None:
    """Defect 3: on revoke the acknowledgements are dropped first, and everything of the last interval repeats."""
    consumer = make()
    told: dict[Any, int] = {}
    ended = asyncio.Event()

    async def revoked(partitions: Any) -> None:
        if not hasattr(consumer, "_works"):
            told.update(consumer._filter_committable_offsets(list(consumer._acked)))
        ended.set()

    consumer._on_partitions_revoked = revoked
    if hasattr(consumer, "_works"):
        consumer.worker.release = lambda part: None
        consumer._close_later = lambda part: None
        at_work(consumer, 40)

        async def note(offsets: dict[Place, tuple[int, str]]) -> bool:
            assert not ended.is_set()
            told.update({place: offset for place, (offset, _) in offsets.items()})
            return True

        consumer._thread.note = note
    else:
        consumer._committed_offset[TP(*PLACE)] = 30
        consumer._acked[TP(*PLACE)] = list(range(30, 40))
    await consumer.on_partitions_revoked({TP(*PLACE)})
    assert list(told.values()) == [40]


@ON_BOTH
async def test_a_long_poll_of_an_idle_partition_does_not_hold_up_others(make: Make) -> None:
    """Defect 12: 1,500 ms stand in Faust's code; four hops then take most of a second."""
    consumer = make()
    thread = consumer._thread
    thread.app.conf.consumer_auto_offset_reset = "earliest"
    made = thread._create_worker_consumer(consumer.transport)
    waits = made._fetch_max_wait_ms
    await made._client.close()
    made._closed = True
    assert waits <= 100


async def test_poison_is_not_lost_and_stops_nobody(config: Config) -> None:
    """Defects 4 and 5: an exception acknowledges the event, or hangs the next rebalance. Ours: a dead letter."""
    async with rig_on(config) as rig, working(rig):
        await rig.put(line("#oh"), line("ape"))
        await rig.until(lambda left: len(records(left, "totals")) == 1 and len(records(left, "dead-letters")) == 1)
        assert not rig.left
    left = await left_by(config, toy.TOY, toy.TOPICS)
    check(left, toy.TOY, toy.LETTERS, rig.entries)


async def test_on_stock_an_exception_loses_the_event(config: Config, tmp_path: Path) -> None:
    """Defect 4, as it is: the position of the group moves past an event that its agent failed on."""
    async with rig_on(config) as rig:
        await rig.put(line("ape", "ann"))
        app = faust.App(
            config.prefix,
            broker=f"kafka://{config.bootstrap[0]}",
            web_enabled=False,
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=0.2,
            topic_disable_leader=True,
            datadir=str(tmp_path),
        )
        failed = asyncio.Event()

        @app.agent(app.topic(config.topic("lines"), value_serializer="raw"))
        async def fold(stream: Any) -> None:
            async for _ in stream:
                failed.set()
                raise RuntimeError("poison")

        await app.start()
        async with asyncio.timeout(40):
            await failed.wait()
            while not sum((await _committed(config, app.conf.id)).values()):
                pass
        await app.stop()


async def _committed(config: Config, group: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(**options(config), group_id=group, enable_auto_commit=False)
    await consumer.start()
    found = {p: await consumer.committed(TopicPartition(config.topic("lines"), p)) or 0 for p in range(2)}
    await consumer.stop()
    return found


def test_nothing_of_fausts_own_state_is_used() -> None:
    """Defects 7, 8, 10 and 11 are of tables and of `exactly_once`: there are none here."""
    app = ours().app
    assert app.conf.processing_guarantee.value == "at_least_once"
    assert not app.in_transaction
    assert not app.tables.changelog_topics
    assert not app.conf.topic_allow_declare
