"""How long until a partition's rows are back from Kafka? Rows of `deduplicate` as they are, one partition.

Reference: reading the same records with the same client and throwing them away.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from bench.kafka import broker, config_at, produce, quick
from bench.load import BEGAN, bodies
from streamproc.core.record import Position
from streamproc.core.table import RowKey
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import Place, TopicPartition, reader
from streamproc.runtime.faust.codec import POSITION, position_bytes, row_key
from streamproc.runtime.faust.commit import Line
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.state import read_state
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.state import EPISODE
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

NODE = next(node for node in TOPOLOGY if node.name == "deduplicate")
BEFORE = TOPOLOGY[: TOPOLOGY.index(NODE) + 1]
MEBIBYTE = 1024 * 1024


def row() -> bytes:
    """Return the row of one firing alert of about 850 bytes."""
    runtime = Memory(BEFORE, LETTERS, MemoryJournal(TOPICS), ManualClock(BEGAN + timedelta(hours=1)))
    runtime.append([Entry("alerts.raw", b"", bodies(1, 1)[0], {"source": b"alertmanager"})])
    runtime.run()
    rows = runtime.journal.rows["deduplicate", 0]
    return next(raw for address, raw in rows.items() if address.table == EPISODE.name)


def lines(count: int) -> Iterator[Line]:
    """Return so many rows, and the position."""
    value = row()
    for number in range(count):
        yield row_key(RowKey(EPISODE.name, f"fp:v1:{number:032x}")), value, []
    yield POSITION, position_bytes(Position(count, BEGAN, "bench")), []


async def restore(config: Config) -> tuple[int, float, int]:
    """Return how many rows came back, in how many seconds, and the bytes that this process grew by."""
    before, begun = _resident(), time.perf_counter()
    restored = await read_state(config, NODE, 0)
    return len(restored.rows), time.perf_counter() - begun, _resident() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def read_only(config: Config) -> float:
    """Return the seconds of reading alone."""
    place, begun = TopicPartition(config.state_topic(NODE.name), 0), time.perf_counter()
    async with reader(config, [Place(*place)]) as consumer:
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            await consumer.getmany(place, timeout_ms=200, max_records=5000)
    return time.perf_counter() - begun


async def measure(address: str, count: int) -> None:
    """Fill a state topic, restore from it in a process of its own, and print."""
    config = config_at(address, f"restore-{count}")
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))
    size = await produce(config, Place(config.state_topic(NODE.name), 0), lines(count))
    command = [sys.executable, "-m", "bench.kafka_restore", config.model_dump_json(include={"bootstrap", "prefix"})]
    said = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
    rows, seconds, grown, reference = map(float, said.stdout.split())
    print(f"{count:>9,} rows, {size / MEBIBYTE:6.0f} MiB   reference: reading alone {reference:6.2f} s")
    print(
        f"{'':>9} restored {rows:,.0f} in {seconds:6.2f} s  {rows / seconds:10,.0f} rows/s  "
        f"{seconds / reference:5.2f} x  memory {grown / MEBIBYTE:,.0f} MiB"
    )


async def _side(told: str) -> None:
    config = Config.model_validate_json(told)
    reference = await read_only(config)
    print(*await restore(config), reference)


def main() -> None:
    """Measure and print."""
    with broker() as address:
        for count in (10_000, 50_000) if quick() else (100_000, 1_000_000):
            asyncio.run(measure(address, count))


if __name__ == "__main__":
    asyncio.run(_side(sys.argv[1]))
