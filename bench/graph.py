"""What does an alert cost in the pure graph? Memory runtime, one core, no disk, no HTTP.

Reference: parsing and normalising the same bodies alone, which no alert can be spared.
"""

from __future__ import annotations

import time
from datetime import timedelta

from bench.load import BEGAN, bodies
from streamproc.beginning import arming
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

ALERTS = 10_000


def pipeline() -> Memory:
    """Return an armed pipeline."""
    clock = ManualClock(BEGAN + timedelta(hours=1))
    runtime = Memory(TOPOLOGY, LETTERS, MemoryJournal(TOPICS), clock)
    runtime.put("policies", arming(1, clock.now(), author="bench", adopt=False))
    runtime.run()
    return runtime


def push(runtime: Memory, webhooks: list[bytes]) -> float:
    """Push webhooks through and return microseconds of CPU for each alert."""
    entries = [Entry("alerts.raw", b"", webhook, {"source": b"alertmanager"}) for webhook in webhooks]
    runtime.append(entries)
    begun = time.process_time()
    runtime.run()
    return (time.process_time() - begun) / ALERTS * 1e6


def normalise_only(webhooks: list[bytes]) -> float:
    """Return microseconds of CPU to parse and normalise each alert."""
    node = next(node for node in TOPOLOGY if node.name == "normalise")
    runtime = Memory((node,), LETTERS, MemoryJournal(TOPICS), ManualClock(BEGAN + timedelta(hours=1)))
    return push(runtime, webhooks)


def main() -> None:
    """Measure and print."""
    for size in (100, 1):
        many = bodies(ALERTS, size, services=ALERTS)
        one = bodies(ALERTS, size)
        reference = normalise_only(many)
        runtime = pipeline()
        incident = push(runtime, many)
        repeat = push(runtime, many)
        joined = push(pipeline(), one)
        print(f"{size:>4} alerts a body   reference: parse and normalise {reference:7.1f} us")
        for name, cost in (("repeat", repeat), ("joins an incident", joined), ("opens an incident", incident)):
            print(f"       {name:<24} {cost:7.1f} us of CPU an alert   {cost / reference:5.2f} x")
