"""How fast does a backtest replay recorded traffic, and does its memory stay flat? The command itself, one process.

Repeats come as Alertmanager sends them: 1,000 alerts that fire, each notified again every five minutes, in webhooks of
50 or alone. New alerts come 50 to an incident, or are each an incident that pages and resolves. CPU seconds count, so
that neighbours do not; what starting costs is measured once and left out. Reference: parsing every line and every body,
the least that reading a recording costs.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from bench.kafka import quick
from bench.load import alert, body

BEGAN = datetime(2026, 3, 2, tzinfo=UTC)
ALERTS = 1_000
EVERY = timedelta(minutes=5)


def line(at: datetime, raw: bytes) -> bytes:
    """Return one recorded request."""
    told = {"at": at.isoformat(), "source": "alertmanager", "body": orjson.loads(raw)}
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def repeats(count: int, size: int) -> Iterator[bytes]:
    """Yield lines that hold `count` notifications of the same alerts."""
    firing = [alert(n, service=f"service-{n % 50}") for n in range(ALERTS)]
    webhooks = [body(firing[at : at + size]) for at in range(0, ALERTS, size)]
    for n in range(count // size):
        turn, which = divmod(n, len(webhooks))
        yield line(BEGAN + turn * EVERY + which * (EVERY / len(webhooks)), webhooks[which])


def fresh(count: int) -> Iterator[bytes]:
    """Yield lines of `count` new alerts, each alone, ten seconds apart, resolved after ten minutes."""
    lasts = 60
    for n in range(count + lasts):
        at = BEGAN + n * timedelta(seconds=10)
        if n < count:
            yield line(at, body([alert(n, service=f"service-{n}")]))
        if n >= lasts:
            yield line(at, body([alert(n - lasts, service=f"service-{n - lasts}", status="resolved")]))


def burst(count: int, size: int) -> Iterator[bytes]:
    """Yield lines of `count` new alerts, `size` a webhook, each webhook of one service of its own."""
    for n in range(count // size):
        yield line(BEGAN + n * timedelta(seconds=10), body([alert(n * size + k, service=f"s{n}") for k in range(size)]))


def replay(recorded: Path, output: Path) -> tuple[float, float]:
    """Run the command in a child; return its CPU seconds, start included, and its peak of memory in MB."""
    arguments = ["-m", "streamproc", "backtest", "--input", str(recorded), "--output", str(output)]
    silent = os.open(os.devnull, os.O_WRONLY)
    child = os.posix_spawn(
        sys.executable, [sys.executable, *arguments], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, silent, 1)]
    )
    os.close(silent)
    try:
        _, status, used = os.wait4(child, 0)
    except BaseException:
        os.kill(child, signal.SIGTERM)
        raise
    if status:
        raise RuntimeError(f"the backtest ended with status {status}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def parse(recorded: Path) -> float:
    """Return the CPU seconds that parsing alone takes."""
    begun = time.process_time()
    with recorded.open("rb") as lines:
        for text in lines:
            orjson.loads(orjson.dumps(orjson.loads(text)["body"]))
    return time.process_time() - begun


def record(folder: Path, lines: Iterator[bytes]) -> Path:
    """Write a recording."""
    recorded = folder / "raw.jsonl"
    with recorded.open("wb") as file:
        file.writelines(lines)
    return recorded


def measure(name: str, folder: Path, lines: Iterator[bytes], count: int, start: float) -> None:
    """Replay and print; `start` are the CPU seconds that a replay of one line takes."""
    recorded = record(folder, lines)
    reference = parse(recorded)
    spent, peak = replay(recorded, folder / "output")
    spent -= start
    rate, cost = count / spent, spent / count * 1e6
    print(f"{name:<42} {count:>9,} {rate:9,.0f} /s {cost:7.1f} us {peak:6,.0f} MB   parsing alone {reference:6.1f} s")


def main() -> None:
    """Measure and print."""
    scale = 100 if quick() else 1
    folder = Path(tempfile.mkdtemp(prefix="streamproc-bench-"))
    try:
        start, _ = replay(record(folder, repeats(1, 1)), folder / "output")
        print(f"CPU seconds of a process, less the {start:.1f} s that it takes to start")
        many, more, new, paged = (count // scale for count in (100_000, 1_000_000, 50_000, 20_000))
        measure("repeats, 50 a webhook", folder, repeats(many, 50), many, start)
        measure("repeats, 50 a webhook, ten times as many", folder, repeats(more, 50), more, start)
        measure("repeats, one a webhook", folder, repeats(many, 1), many, start)
        measure("new alerts, 50 a webhook and an incident", folder, burst(new, 50), new, start)
        measure("new alerts, each an incident and a page", folder, fresh(paged), paged, start)
    finally:
        shutil.rmtree(folder)
