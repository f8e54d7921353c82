"""What do traces cost? Memory runtime, no disk, no HTTP in; CPU of all threads, the collector's stand-in among them.

Reference: the same webhooks without a `traceparent`, which is what an installation without traces folds.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry

from bench.load import BEGAN, bodies
from streamproc.beginning import arming
from streamproc.core.trace import TRACEPARENT, Trace
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.engine import Sensor
from streamproc.runtime.latency import NodeLatency
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.runtime.traces.config import Config
from streamproc.runtime.traces.folding import SpanSensor
from streamproc.runtime.traces.otlp import Exporter
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

ALERTS = 2_000
ROUNDS = 3
"""Each way is measured so often, in turns, and its quietest run counts."""
BATCH = 50


class _Swallows(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's name
        """Say nothing."""


def push(webhooks: list[bytes], sensor: Sensor | None, exporter: Exporter | None, *, traced: bool) -> tuple[float, ...]:
    """Return microseconds of CPU for each alert: those that open incidents, then their repeats."""
    clock = ManualClock(BEGAN + timedelta(hours=1))
    if exporter is not None:
        sensor = SpanSensor(exporter, clock)
    runtime = Memory(TOPOLOGY, LETTERS, MemoryJournal(TOPICS), clock, sensor=sensor, batch=BATCH)
    runtime.put("policies", arming(1, clock.now(), author="bench", adopt=False))
    runtime.run()
    costs = []
    for turn in (1, 2):
        entries = [Entry("alerts.raw", b"", body, headers(turn, n, traced=traced)) for n, body in enumerate(webhooks)]
        runtime.append(entries)
        begun = time.process_time()
        runtime.run()
        if exporter is not None and turn == 2:
            exporter.close()  # what it has not posted yet is part of the cost
        costs.append((time.process_time() - begun) / ALERTS * 1e6)
    return tuple(costs)


def headers(turn: int, number: int, *, traced: bool) -> dict[str, bytes]:
    """Return the headers of a raw record."""
    trace = Trace(f"{turn}{number:031x}", f"{turn}{number:015x}")
    return {"source": b"alertmanager", **({TRACEPARENT: trace.header()} if traced else {})}


def main() -> None:
    """Measure and print."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Swallows)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    config = Config(endpoint=endpoint, queue=100_000)
    for size in (100, 1):
        webhooks = bodies(ALERTS, size, services=ALERTS)
        runs: dict[str, list[tuple[float, ...]]] = {}
        for _ in range(ROUNDS):
            clock = ManualClock(BEGAN + timedelta(hours=1))
            latency = NodeLatency(TOPOLOGY, CollectorRegistry(), clock)
            ways = {
                "no trace (reference)": push(webhooks, None, None, traced=False),
                "latency budget": push(webhooks, latency, None, traced=False),
                "the header travels": push(webhooks, None, None, traced=True),
                "spans to a collector": push(
                    webhooks, None, Exporter(config, endpoint, "bench", CollectorRegistry()), traced=True
                ),
            }
            for name, costs in ways.items():
                runs.setdefault(name, []).append(costs)
        best = {name: tuple(map(min, zip(*costs, strict=True))) for name, costs in runs.items()}
        opened, repeated = best["no trace (reference)"]
        print(f"{size:>4} alerts a body          opens an incident        a repeat")
        for name, (opens, repeats) in best.items():
            told = f"{opens:7.1f} us {opens / opened:5.2f} x {repeats:10.1f} us {repeats / repeated:5.2f} x"
            print(f"     {name:<22} {told}")
    server.shutdown()
    server.server_close()
