"""A worker in this process, on a real broker: wakes, versions, guards."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.admin import RecordsToDelete  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from streamproc.core.errors import Unusable
from streamproc.core.event import Activated, Artifact, Wake, iso
from streamproc.core.fold import CONFIG
from streamproc.core.record import Record
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import (
    AIOKafkaConsumer,
    OffsetAndMetadata,
    Place,
    TopicPartition,
    admin_client,
    options,
)
from streamproc.runtime.faust.codec import partition_of, row_key
from streamproc.runtime.faust.commit import Line
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends
from streamproc.runtime.faust.guards import FailStop, Stop
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.shown import Shown, read_shown
from streamproc.runtime.faust.state import Progress, read_raw
from streamproc.runtime.faust.upstream import Upstream, levels
from streamproc.runtime.faust.worker import Worker
from streamproc.runtime.faust.writer import Writer
from streamproc.runtime.worker_metrics import WorkerMetrics
from tests.kafka.exact import Left, check, left_by
from tests.support import toy

WITHIN = 40.0


class Rig:
    """A toy pipeline that is written to and looked at."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.inlet = KafkaInlet(config, toy.TOPICS, SystemClock())
        self.left: list[FailStop] = []
        self.gone = asyncio.Event()
        self.entries: list[Entry] = []
        self.registry = CollectorRegistry()

    def worker(self) -> Worker:
        self.registry = CollectorRegistry()
        metrics = WorkerMetrics(toy.TOY, self.registry)
        return Worker(self.config, toy.TOY, toy.TOPICS, toy.LETTERS, SystemClock(), leave=self._leave, metrics=metrics)

    def metric(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(f"streamproc_{name}", labels)
        assert found is not None
        return found

    def _leave(self, error: FailStop) -> None:
        self.left.append(error)
        self.gone.set()

    async def put(self, *entries: Entry) -> None:
        await self.inlet.append(entries)
        self.entries.extend(entries)

    async def until(self, wanted: Callable[[Left], bool]) -> Left:
        async with asyncio.timeout(WITHIN):
            while True:
                left = await left_by(self.config, toy.TOY, toy.TOPICS)
                if wanted(left):
                    return left

    async def stopped_with(self) -> FailStop:
        async with asyncio.timeout(WITHIN):
            await self.gone.wait()
        return self.left[0]


@asynccontextmanager
async def rig_on(config: Config) -> AsyncIterator[Rig]:
    await catalogue.apply(config, catalogue.wanted(toy.TOPICS, toy.TOY, config))
    rig = Rig(config)
    yield rig
    await rig.inlet.stop()


@asynccontextmanager
async def working(rig: Rig) -> AsyncIterator[Worker]:
    worker = rig.worker()
    await worker.start()
    try:
        async with asyncio.timeout(WITHIN):
            while not worker.standing()["ready"] and not rig.left:  # noqa: ASYNC110  it is asked, as /ready does
                await asyncio.sleep(0.05)
        yield worker
    finally:
        await worker.stop()


def activation(version: int, body: str) -> list[Entry]:
    checksum = hashlib.sha256(body.encode()).hexdigest()
    artifact = Artifact(kind=CONFIG, version=version, checksum=checksum, body=body)
    switch = Activated(kind=CONFIG, version=version, checksum=checksum)
    return [Entry.of("versions", artifact, artifact.artifact_id), Entry.of("switches", switch)]


def records(left: Left, topic: str) -> list[Record]:
    return [record for (name, _), log in left.logs.items() if name == topic for record in log]


def totals(left: Left) -> list[toy.Total]:
    return [toy.Total.decode(record.value, record.headers) for record in records(left, "totals")]


def line(text: str, sender: str = "ann") -> Entry:
    return Entry.of("lines", toy.Line(sender=sender, text=text), sender)


async def test_a_row_wakes_and_what_is_activated_counts(config: Config) -> None:
    async with rig_on(config) as rig, working(rig):
        await rig.put(*activation(1, '{"count": {"idle": 2}}'))
        await rig.until(lambda left: any(at.table == "active" for at in left.rows["tally", 0]))
        await rig.put(line("ape bee cat"))
        left = await rig.until(lambda left: sum(total.over for total in totals(left)) == 3)
        assert not rig.left
    left = await left_by(config, toy.TOY, toy.TOPICS)
    figures = check(left, toy.TOY, toy.LETTERS, rig.entries)
    assert figures["wakes"] >= 3
    wakes = [Wake.decode(r.value, r.headers) for r in records(left, "words") if r.headers.get("type") == b"wake.v1"]
    assert not any(wake.forced for wake in wakes)


async def test_a_restart_goes_on_where_it_was(config: Config) -> None:
    async with rig_on(config) as rig:
        for turn in range(2):
            async with working(rig):
                await rig.put(*(line("ape bee", f"s{turn}{at}") for at in range(10)))
                await rig.until(lambda left, turn=turn: len(records(left, "totals")) >= 26 * (turn + 1))  # type: ignore[misc]
        assert not rig.left
        check(await left_by(config, toy.TOY, toy.TOPICS), toy.TOY, toy.LETTERS, rig.entries)


async def test_a_worker_shows_and_measures_what_it_owns(config: Config) -> None:
    named = config.model_copy(update={"instance": "w-1"})
    places = [(node, at) for node in toy.TOY for at in range(node.inbox.partitions)]
    async with rig_on(named) as rig:
        async with working(rig), admin_client(config) as admin:
            await rig.put(line("ape bee cat"))
            await rig.until(lambda left: len(totals(left)) == 3)
            async with asyncio.timeout(WITHIN):
                while True:
                    found = await admin.list_consumer_group_offsets(config.group_id)
                    shown = {Place(*place): read_shown(noted.metadata) for place, noted in found.items()}
                    told = [shown.get(Place(config.topic(node.inbox.name), at), Shown()) for node, at in places]
                    if all(each.ready for each in told):
                        break
                    await asyncio.sleep(0.1)
            assert {each.worker for each in told} == {"w-1"}
            for node, at in places:
                labels = {"node": node.name, "partition": str(at)}
                for gauge in ("partition_assigned", "partition_owned", "partition_ready"):
                    assert rig.metric(gauge, **labels) == 1.0
                assert rig.metric("restore_total_records", **labels) == 0.0, "none is under way"
                assert rig.metric("restore_seconds", **labels) > 0.0
            assert rig.metric("commit_seconds_count", node="tally") > 0.0
            assert rig.metric("commit_failures_total", node="tally") == 0.0
            assert rig.metric("rebalances_total") >= rig.metric("rebalance_seconds_count") >= 1.0
        progress = Progress()
        await read_raw(config, "tally", 0, progress)
        await read_raw(config, "tally", 1, other := Progress())
        assert (progress.read, other.read) == (progress.total, other.total)
        assert progress.total + other.total > 0


async def test_wakes_wait_for_what_is_upstream(config: Config) -> None:
    now = datetime.now(UTC)
    async with rig_on(config) as rig:
        ends = Ends(config)
        await ends.start()
        async with admin_client(config) as admin:
            upstream = Upstream(config, toy.TOY, ends, admin)
            assert await upstream.folded("tally", now) == now, "nothing was ever written upstream"
            await rig.put(line("ape"))
            assert await upstream.folded("tally", now) == BEGINNING, "a line waits, and nobody has folded any"
            stamp = now - timedelta(minutes=3)
            lines = [Place(config.topic("lines"), p) for p in range(2)]
            place = next(TopicPartition(*at) for at, end in (await ends.of(lines)).items() if end)
            await _show(config, place, 0, stamp)
            assert await upstream.folded("tally", now) == stamp - timedelta(microseconds=1)
            await _show(config, place, 1, stamp)
            assert await upstream.folded("tally", now) == now, "it stands at the head"
            assert await upstream.folded("split", now) == now, "nothing but the relay is upstream of it"
        await ends.stop()


async def _show(config: Config, place: TopicPartition, offset: int, now: datetime) -> None:
    consumer = AIOKafkaConsumer(**options(config), group_id=config.group_id, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([place])
    await consumer.commit({place: OffsetAndMetadata(offset, iso(now).decode())})
    await consumer.stop()


def test_the_farthest_upstream_comes_first() -> None:
    assert [[node.name for node in level] for level in levels(toy.TOY, toy.TOY[2])] == [["relay", "split"]]
    assert levels(toy.TOY, toy.TOY[0]) == ()


async def test_a_stamp_from_the_future_stops_the_worker(config: Config) -> None:
    ahead = iso(datetime.now(UTC) + timedelta(minutes=6))
    async with rig_on(config) as rig, working(rig):
        await rig.put(Entry("lines", b"ann", toy.Line(sender="ann", text="ape").encode(), {"now": ahead}))
        stopped = await rig.stopped_with()
    assert stopped.code is Stop.STAMP
    assert "more than 5 minutes ahead" in str(stopped)
    assert records(await left_by(config, toy.TOY, toy.TOPICS), "words") == []


async def test_a_topic_made_anew_stops_the_worker(config: Config) -> None:
    async with rig_on(config) as rig:
        async with working(rig):
            await rig.put(line("ape"))
            await rig.until(lambda left: len(totals(left)) == 1)
        wanted = [each for each in catalogue.wanted(toy.TOPICS, toy.TOY, config) if each.name.endswith(".words")]
        async with admin_client(config) as client:
            await client.delete_topics([wanted[0].name])
        while await catalogue.describe(config, wanted):  # noqa: ASYNC110  the broker tells nobody
            await asyncio.sleep(0.05)
        await catalogue.apply(config, wanted)
        async with working(rig):
            stopped = await rig.stopped_with()
        assert stopped.code is Stop.TOPIC
        assert "was made anew" in str(stopped)


async def test_rows_of_a_newer_version_stop_the_worker(config: Config) -> None:
    """It would lose what it does not know. What the newer one wrote stands as it was."""
    newer: Line = (row_key(toy.COUNT.at("ape")), b'{"v": 2, "word": "ape", "moon": "full"}', [])
    writer = Writer(config)
    async with rig_on(config) as rig:
        try:
            await writer.write(config.state_topic("tally"), partition_of(b"ape", 2), [newer])
        finally:
            await writer.stop()
        async with working(rig):
            stopped = await rig.stopped_with()
        assert stopped.code is Stop.VERSION
        assert "row count/ape was written by a newer streamproc" in str(stopped)
        raw, _, _ = await read_raw(config, "tally", partition_of(b"ape", 2))
        assert raw[newer[0]] == newer[1]


async def test_a_topic_that_was_cut_stops_the_worker(config: Config) -> None:
    async with rig_on(config) as rig:
        async with working(rig):
            await rig.put(line("ape"))
            await rig.until(lambda left: len(totals(left)) == 1)
        await rig.put(*(line("bee") for _ in range(5)))
        left = await left_by(config, toy.TOY, toy.TOPICS)
        partition = next(p for p in range(2) if left.logs["lines", p])
        async with admin_client(config) as client:
            place = TopicPartition(config.topic("lines"), partition)
            await client.delete_records({place: RecordsToDelete(before_offset=4)})
        async with working(rig):
            stopped = await rig.stopped_with()
        assert stopped.code is Stop.TOPIC
        assert "the log was cut or restored" in str(stopped)


async def test_missing_topics_are_said_at_start(config: Config) -> None:
    worker = Worker(config, toy.TOY, toy.TOPICS, toy.LETTERS, SystemClock())
    with pytest.raises(Unusable, match="does not exist; run `streamproc topics apply`"):
        await worker.start()
    await worker.stop()
