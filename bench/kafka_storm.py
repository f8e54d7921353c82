"""What does a storm do? 200,000 alerts at once through the whole topology on Kafka, with one worker and with two.

40,000 different alerts of 400 services in 16 clusters, five times each, ten a webhook, appended as fast as the broker
takes them. Until every inbox is folded to its end. Reference: one worker.
"""

from __future__ import annotations

import asyncio
import time

from bench.kafka import Endpoint, at_rest, broker, config_at, quick, workers
from bench.load import alert, body
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.topology import TOPICS, TOPOLOGY

ROUNDS = 5
SERVICES, CLUSTERS = 400, 16
A_BODY = 10
AT_ONCE = 100
WITHIN = 1800.0
MEBIBYTE = 1024 * 1024


def storm(alerts: int) -> list[Entry]:
    """Return the webhooks of a storm."""
    entries: list[Entry] = []
    for begin in range(0, alerts // ROUNDS, A_BODY):
        cluster = f"c-{begin // A_BODY % CLUSTERS}"
        some = []
        for number in range(begin, begin + A_BODY):
            one = alert(number, service=f"service-{number % (SERVICES // CLUSTERS)}")
            one["labels"]["cluster"] = cluster
            some.append(one)
        entries.append(Entry("alerts.raw", cluster.encode(), body(some), {"source": b"alertmanager"}))
    return entries * ROUNDS


async def measure(address: str, name: str, alerts: int, count: int) -> tuple[float, float]:
    """Return alerts a second and microseconds of CPU for each, all workers together; print them with memory."""
    config, endpoint, entries = config_at(address, name), Endpoint(), storm(alerts)
    async with endpoint.serving() as url, workers(config, url, count) as running:
        inlet = KafkaInlet(config, TOPICS, SystemClock())
        cpu, begun = running.cpu(), time.perf_counter()
        running.rss.clear()
        for at in range(0, len(entries), AT_ONCE):
            await inlet.append(entries[at : at + AT_ONCE])
        taken = time.perf_counter() - begun
        await at_rest(config, TOPOLOGY, WITHIN)
        spent, used = time.perf_counter() - begun, running.cpu() - cpu
        await inlet.stop()
        marks = [running.rss[int((len(running.rss) - 1) * part / 4)] // MEBIBYTE for part in range(5)]
    print(f"{count} worker(s)  {alerts / spent:9,.0f} alerts/s  {used / alerts * 1e6:7.1f} us of CPU an alert")
    print(f"       appended in {taken:.1f} s, all folded in {spent:.1f} s, {endpoint.requests} requests to PagerDuty")
    print(f"       MiB of the largest worker, from the beginning to the end: {', '.join(map(str, marks))}")
    return alerts / spent, used / alerts * 1e6


def main() -> None:
    """Measure and print."""
    alerts = 20_000 if quick() else 200_000
    with broker() as address:
        print("to warm the broker up:")
        asyncio.run(measure(address, "warm", alerts // 4, 1))
        rate, cost = asyncio.run(measure(address, "one", alerts, 1))
        rates, costs = asyncio.run(measure(address, "two", alerts, 2))
    print(f"two against one: {rates / rate:.2f} x the rate, {costs / cost:.2f} x the CPU an alert")
