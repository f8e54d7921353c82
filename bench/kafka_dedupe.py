"""How fast is `deduplicate` alone on Kafka? 200,000 alerts of about 850 bytes, 40,000 keys, 4 partitions, one process.

Three ways over the same records, each a process of its own: our worker with a topology of that one node; a loop by hand
on aiokafka with the same fold and the same transactions, one for each micro-batch (the reference); and a stock Faust
agent, event by event, with its table (at least once; it takes a tenth of the records). Then our worker once more, under
a profiler: where the processor time of its main thread goes.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import faust

from bench.kafka import broker, config_at, produce, quick
from bench.load import BEGAN, bodies
from streamproc.core.event import iso
from streamproc.core.fold import Folded, Lookups, fold
from streamproc.core.record import Position, Record
from streamproc.core.step import Node
from streamproc.core.table import RowStore, encode_rows
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock, SystemClock
from streamproc.runtime.collector import tune
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import Place, reader, transactional_producer
from streamproc.runtime.faust.codec import partition_of, record_of
from streamproc.runtime.faust.commit import Line, Router, commit, state_lines
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.worker import Worker
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.stages import deduplicate
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

PARTITIONS = 4
ROUNDS = 5
"""Each key comes so often: one opens an episode, the others are repeats."""
ALERTS = TOPICS["alerts"].model_copy(update={"partitions": PARTITIONS})
CATALOGUE = {
    topic.name: topic for topic in (ALERTS, *(TOPICS[n] for n in ("episodes", "versions", "policies", LETTERS.name)))
}
NODE = Node("deduplicate", ALERTS, (deduplicate.STAGE,), (CATALOGUE["episodes"],))
NOBODY = Lookups(lambda _: None)
BATCH = 2000
FETCHED_AT_ONCE = 8000
MEASURED = "measured: "


class Meter:
    """Counts what is done; measures from the first record's beginning to the last one's end."""

    def __init__(self, wanted: int, *, profiled: bool = False) -> None:
        self._left = self._wanted = wanted
        self._profile = cProfile.Profile() if profiled else None
        self.done = asyncio.Event()

    def begin(self) -> None:
        """Note that the first record is there; only the first call counts."""
        if self._left == self._wanted and not hasattr(self, "_begun"):
            self._begun, self._cpu, self._thread = time.perf_counter(), time.process_time(), time.thread_time()
            if self._profile is not None:
                self._profile.enable()

    def count(self, some: int) -> None:
        """Note that some are done for good."""
        self._left -= some
        if self._left <= 0 and not self.done.is_set():
            if self._profile is not None:
                self._profile.disable()
            spent, cpu = time.perf_counter() - self._begun, time.process_time() - self._cpu
            main = (time.thread_time() - self._thread) / cpu
            self.said = f"{self._wanted / spent} {cpu / self._wanted * 1e6} {main}"
            self.done.set()

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:  # noqa: ARG002  a sensor's signature
        """Count as the sensor of a worker."""
        self.begin()
        self.count(count)

    def shares(self) -> list[tuple[str, float]]:
        """Return by what it is for the share of the main thread's time, waiting left out."""
        if self._profile is None:
            return []
        spent: Counter[str] = Counter()
        for (file, _, name), (*_, own, _, _) in vars(pstats.Stats(self._profile))["stats"].items():
            spent[_belongs(file, name)] += own
        waiting = spent.pop("waiting")
        whole = spent.total()
        return [
            ("waiting, of all time", waiting / (whole + waiting)),
            *((n, s / whole) for n, s in spent.most_common()),
        ]


def _belongs(file: str, name: str) -> str:
    places = (
        ("/streamproc/stages/", "the stage"),
        ("/streamproc/runtime/", "our runtime"),
        ("/streamproc/", "the fold"),
        ("/aiokafka/", "aiokafka"),
        ("/faust/", "Faust"),
        ("/mode/", "Faust"),
        ("/asyncio/", "the event loop"),
    )
    words = (
        ("validate_json", "decoding (pydantic)"),
        ("to_json", "encoding (pydantic)"),
        ("poll", "waiting"),
        ("_socket", "sockets"),
        ("orjson", "orjson"),
        ("_crecords", "aiokafka"),
    )
    if file == "~":
        return next((what for word, what in words if word in name), "builtins")
    return next((what for place, what in places if place in file), "other")


# -- the three ways --------------------------------------------------------------------------------------------------


async def ours(config: Config, meter: Meter) -> None:
    """Run our worker until everything is folded."""

    def leave(error: Exception) -> None:
        raise error

    worker = Worker(config, (NODE,), CATALOGUE, LETTERS, SystemClock(), meter, leave)
    await worker.start()
    await meter.done.wait()
    await worker.stop()


async def by_hand(config: Config, meter: Meter) -> None:
    """Read, fold and commit in a loop."""
    places = [Place(config.topic(ALERTS.name), p) for p in range(PARTITIONS)]
    router = Router(config, CATALOGUE)
    producers = [await transactional_producer(config, f"hand-{p}") for p in range(PARTITIONS)]
    rows = [RowStore(NODE.tables) for _ in range(PARTITIONS)]
    positions = [Position(0, BEGINNING, "hand") for _ in range(PARTITIONS)]

    async def take(partition: int, messages: list[Any]) -> None:
        for at in range(0, len(messages), BATCH):
            records = [record_of(message, ALERTS.name) for message in messages[at : at + BATCH]]
            folded = fold(NODE, records, rows[partition], positions[partition], NOBODY, LETTERS)
            written = encode_rows(folded.changes)
            batches = router.route(folded.emits)
            batches[Place(config.state_topic(NODE.name), partition)] = state_lines(written, folded.position)
            await commit(producers[partition], batches)
            rows[partition].install(folded.changes, written)
            positions[partition] = folded.position
            meter.count(len(records))

    async with reader(config, places) as consumer:
        while not meter.done.is_set():
            found = await consumer.getmany(timeout_ms=200, max_records=FETCHED_AT_ONCE)
            if found:
                meter.begin()
            await asyncio.gather(*(take(place.partition, messages) for place, messages in found.items()))
    for producer in producers:
        await producer.stop()


async def stock(config: Config, meter: Meter) -> None:
    """Run a Faust agent that takes event by event, with Faust's own table."""
    app = faust.App(
        f"{config.prefix}stock",
        broker=[f"kafka://{address}" for address in config.bootstrap],
        store="memory://",
        web_enabled=False,
        topic_partitions=PARTITIONS,
        consumer_auto_offset_reset="earliest",
        datadir=tempfile.mkdtemp(),
        autodiscover=False,
    )
    named: dict[str, Any] = {"key_type": bytes, "key_serializer": "raw", "value_type": bytes, "value_serializer": "raw"}
    source = app.topic(config.topic(ALERTS.name), partitions=PARTITIONS, **named)
    sink = app.topic(config.topic("episodes"), **named)
    table = app.Table("rows", partitions=PARTITIONS)
    rows = [RowStore(NODE.tables) for _ in range(PARTITIONS)]
    positions = [Position(0, BEGINNING, "stock") for _ in range(PARTITIONS)]

    @app.agent(source)
    async def deduplicate_each(stream: Any) -> None:
        async for event in stream.events():
            meter.begin()
            message = event.message
            partition = message.partition
            now = datetime.fromtimestamp(message.timestamp, UTC)
            headers = dict(message.headers)
            record = Record(ALERTS.name, partition, message.offset, message.value, now, message.key, headers)
            folded = fold(NODE, [record], rows[partition], positions[partition], NOBODY, LETTERS)
            written = encode_rows(folded.changes)
            rows[partition].install(folded.changes, written)
            positions[partition] = folded.position
            for address, raw in written.items():
                table[f"{address.table}:{address.key}"] = (raw or b"").decode()
            for emit in folded.emits:
                await sink.send(key=emit.key, value=emit.value, headers=dict(emit.headers))
            meter.count(1)

    await app.start()
    await meter.done.wait()
    await app.stop()


SIDES: dict[str, Callable[[Config, Meter], Any]] = {"ours": ours, "by hand": by_hand, "stock": stock}


# -- measuring -------------------------------------------------------------------------------------------------------


def lines(keys: int) -> list[list[Line]]:
    """Return the records of each partition, once around: an alert for each key, as `normalise` writes it."""
    node = next(node for node in TOPOLOGY if node.name == "normalise")
    runtime = Memory((node,), LETTERS, MemoryJournal(TOPICS), ManualClock(BEGAN + timedelta(hours=1)))
    runtime.append(Entry("alerts.raw", b"", one, {"source": b"alertmanager"}) for one in bodies(keys, 100))
    runtime.run()
    found: list[list[Line]] = [[] for _ in range(PARTITIONS)]
    now = iso(datetime.now(UTC))
    for record in runtime.journal.logs["alerts", 0]:
        headers = [(name, now if name == "now" else value) for name, value in record.headers.items()]
        found[partition_of(record.key, PARTITIONS)].append((record.key, record.value, headers))
    return found


async def fill(config: Config, records: list[list[Line]], rounds: int) -> None:
    """Make the topics, and write the records."""
    await catalogue.apply(config, catalogue.wanted(CATALOGUE, (NODE,), config))
    for partition, some in enumerate(records):
        await produce(config, Place(config.topic(ALERTS.name), partition), some * rounds)


def measure(
    address: str, side: str, records: list[list[Line]], rounds: int, *, profiled: bool = False
) -> tuple[float, float]:
    """Let one way take everything, print, and return alerts a second and microseconds of CPU for each."""
    config = config_at(address, f"{side.replace(' ', '-')}{'-profiled' * profiled}")
    asyncio.run(fill(config, records, rounds))
    total = sum(map(len, records)) * rounds
    told = [side, config.model_dump_json(include={"bootstrap", "prefix", "replication", "production"}), str(total)]
    command = [sys.executable, "-m", "bench.kafka_dedupe", *told, *(["--profile"] if profiled else [])]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=900).stdout
    said = out.partition(MEASURED)[2].splitlines()  # logs stand before
    rate, cost, main_thread = map(float, said[0].split())
    shown = (
        f"{total:>9,} alerts  {rate:9,.0f} alerts/s  {cost:7.1f} us of CPU, {main_thread:4.0%} of it in the main thread"
    )
    print(f"{side + (' (profiled)' if profiled else ''):<16}{shown}")
    for line in said[1:]:
        print(f"       {line}")
    return rate, cost


def main() -> None:
    """Measure and print."""
    keys = 4_000 if quick() else 40_000
    records = lines(keys)
    some = [each[: len(each) // 10] for each in records]
    size = sum(len(value or b"") for each in records for _, value, _ in each) // keys
    print(f"{keys * ROUNDS:,} alerts of {size} bytes")
    with broker() as address:
        measure(address, "by hand", records, 1, profiled=True)  # a broker is slow in its first minute
        hand, hand_cost = measure(address, "by hand", records, ROUNDS)
        mine, cost = measure(address, "ours", records, ROUNDS)
        agent, agent_cost = measure(address, "stock", some, ROUNDS)
        print(f"ours: {mine / hand:.2f} x the loop by hand, {mine / agent:.1f} x the agent", end="")
        print(f"; by CPU {hand_cost / cost:.2f} x and {agent_cost / cost:.1f} x")
        measure(address, "ours", records, ROUNDS, profiled=True)


async def _side(side: str, told: str, total: int, *, profiled: bool) -> None:
    tune()
    meter = Meter(total, profiled=profiled)
    await asyncio.wait_for(SIDES[side](Config.model_validate_json(told), meter), 600)
    print(MEASURED + meter.said)
    for what, share in meter.shares():
        print(f"{share:6.1%}  {what}")


if __name__ == "__main__":
    asyncio.run(_side(sys.argv[1], sys.argv[2], int(sys.argv[3]), profiled="--profile" in sys.argv))
