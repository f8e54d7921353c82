"""How many alerts a second does the embedded runtime take for good? One process, disk synced before every answer.

Reference: SQLite alone, appending the same bodies with one sync a body: what the promise of durability costs at least.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Literal

from bench.load import bodies
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.embedded.runtime import Config, Embedded
from streamproc.topology import TOPICS, TOPOLOGY

ALERTS = 10_000
WAITING = 64
Synchronous = Literal["full", "normal"]
SYNCHRONOUS: tuple[Synchronous, ...] = ("full", "normal")


async def take(folder: Path, webhooks: list[bytes], synchronous: Synchronous) -> tuple[float, float]:
    """Return alerts a second until all are durable and folded, and CPU microseconds for each."""
    runtime = Embedded(folder, TOPOLOGY, TOPICS, SystemClock(), Config(synchronous=synchronous), None, _fatal)
    await runtime.start()
    queue = list(reversed(webhooks))

    async def post() -> None:
        while queue:
            await runtime.append([Entry("alerts.raw", b"", queue.pop(), {"source": b"alertmanager"})])

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(post() for _ in range(WAITING)))
    await runtime.stop()
    again = Embedded(folder, TOPOLOGY, TOPICS, SystemClock(), Config(synchronous=synchronous), None, _fatal)
    await again.start()  # folds what is left
    spent, used = time.perf_counter() - begun, time.process_time() - cpu
    await again.stop()
    return ALERTS / spent, used / ALERTS * 1e6


def _fatal(error: Exception) -> None:
    raise error


def sqlite_alone(folder: Path, webhooks: list[bytes]) -> float:
    """Return alerts a second of SQLite with one synced transaction a body."""
    db = sqlite3.connect(folder / "reference.db", isolation_level=None)
    db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE log(value BLOB);")
    begun = time.perf_counter()
    for webhook in webhooks:
        db.execute("BEGIN")
        db.execute("INSERT INTO log VALUES(?)", (webhook,))
        db.execute("COMMIT")
    spent = time.perf_counter() - begun
    db.close()
    return ALERTS / spent


def main() -> None:
    """Measure and print."""
    for size in (1, 100):
        new, folder = bodies(ALERTS, size, services=ALERTS), Path(tempfile.mkdtemp())
        try:
            reference = sqlite_alone(folder, new)
            print(f"{size:>4} alerts a body   reference: SQLite, one sync a body {reference:9,.0f} alerts/s")
            for synchronous in SYNCHRONOUS:
                for name in ("opens an incident", "repeat"):
                    rate, cost = asyncio.run(take(folder / synchronous, new, synchronous))
                    said = f"{rate:9,.0f} alerts/s {cost:7.1f} us {rate / reference:6.2f} x"
                    print(f"       {name:<20} {synchronous:<7} {said}")
        finally:
            shutil.rmtree(folder)
