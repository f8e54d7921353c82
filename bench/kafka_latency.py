"""How long from an alert's receipt to its page, through the whole topology on Kafka? One worker, one broker, warm.

Nine of ten alerts are repeats of those before; one of ten is new and opens an incident, which is paged. Measured from
before the append until the request has come to the endpoint. Reference: the append alone, which the sender waits for.
The hops are the broker's own append times, in whole milliseconds, of what came of one alert.
"""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from pathlib import Path

from bench.kafka import NUMBERED, ROOT, Endpoint, broker, config_at, median, quick, workers
from bench.load import alert, body
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.client import Place, TopicPartition, reader
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.topology import TOPICS

RATES = (50, 200, 1000)
CLUSTERS = 16
KNOWN = 2000
"""Repeats are of one of the last so many."""
TICK = 0.01
HOPS = ("alerts.raw", "alerts", "episodes", "escalations")


class Load:
    """Alerts at a rate: one of ten is new."""

    def __init__(self, inlet: KafkaInlet) -> None:
        self._inlet = inlet
        self._random = random.Random(1)  # noqa: S311  the same alerts each time
        self._made = 0
        self.began: dict[int, float] = {}
        """When each new alert was received, by its number, and was seen to be appended."""
        self.appended: list[float] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, rate: int, seconds: float) -> None:
        """Append so many a second for so long, one body each, however long an append takes."""
        begun, sent = time.monotonic(), 0
        while (spent := time.monotonic() - begun) < seconds:
            for _ in range(int(spent * rate) - sent):
                sent += 1
                task = asyncio.create_task(self._append(new=sent % 10 == 0))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(TICK)
        await asyncio.gather(*self._tasks)

    async def _append(self, *, new: bool) -> None:
        if new or not self._made:
            self._made += 1
            number = self._made
        else:
            number = self._random.randrange(max(1, self._made - KNOWN), self._made + 1)
        one = alert(number, service=f"s{number:08d}")
        one["labels"]["cluster"] = f"c-{number % CLUSTERS}"
        began = time.time()
        self.began.setdefault(number, began)
        key = one["labels"]["cluster"].encode()
        await self._inlet.append([Entry("alerts.raw", key, body([one]), {"source": b"alertmanager"})])
        self.appended.append(time.time() - began)


async def appended_at(config: Config, numbers: set[int]) -> dict[str, dict[int, float]]:
    """Return by topic and number of the alert when its first record was appended, in seconds."""
    found: dict[str, dict[int, float]] = {}
    for topic in HOPS:
        first = found[topic] = {}
        places = [Place(config.topic(topic), partition) for partition in range(TOPICS[topic].partitions)]
        async with reader(config, places) as consumer:
            ends = await consumer.end_offsets([TopicPartition(*place) for place in places])
            for place, end in ends.items():
                while await consumer.position(place) < end:
                    for messages in (await consumer.getmany(place, timeout_ms=200)).values():
                        for message in messages:
                            match = NUMBERED.search(message.value or b"")
                            if match is not None and (number := int(match[1])) in numbers:
                                first.setdefault(number, message.timestamp / 1e3)
    return found


async def measure(address: str, name: str, *, warm: float, seconds: float, tree: Path = ROOT) -> None:
    """Warm up, then measure at each rate, and print."""
    config, endpoint = config_at(address, name), Endpoint()
    async with endpoint.serving() as url, workers(config, url, tree=tree) as running:
        inlet = KafkaInlet(config, TOPICS, SystemClock())
        load = Load(inlet)
        await load.run(200, warm)
        for rate in RATES:
            known, cpu = set(load.began), running.cpu()
            load.appended.clear()
            await load.run(rate, seconds)
            mine = load.began.keys() - known
            until = time.monotonic() + 30
            while mine - endpoint.came.keys() and time.monotonic() < until:  # noqa: ASYNC110  pages come from outside
                await asyncio.sleep(0.1)
            used = (running.cpu() - cpu) / (rate * seconds) * 1e6
            await _print(config, rate, load, endpoint, mine)
            print(f"       CPU of the worker {used:,.0f} us an alert")
        await inlet.stop()


async def _print(config: Config, rate: int, load: Load, endpoint: Endpoint, mine: set[int]) -> None:
    took = [(endpoint.came[number] - load.began[number]) * 1e3 for number in mine if number in endpoint.came]
    lost = f"  {len(mine) - len(took)} not paged in 30 s" if len(took) < len(mine) else ""
    print(f"{rate:>6} alerts/s  {_quantiles(took)}  {len(took)} pages{lost}")
    print(f"       append alone (reference)       {_quantiles([each * 1e3 for each in load.appended])}")
    stamps: dict[str, dict[int, float]] = {"receipt": load.began, **await appended_at(config, mine)}
    stamps["the page"] = endpoint.came
    names = list(stamps)
    for before, after in pairwise(names):
        both = [number for number in mine if number in stamps[before] and number in stamps[after]]
        hop = [(stamps[after][number] - stamps[before][number]) * 1e3 for number in both]
        print(f"       {f'{before} to {after}':<30} {_quantiles(hop)}")


def _quantiles(milliseconds: list[float]) -> str:
    named = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    return "  ".join(f"{name} {median(milliseconds, share):7.1f} ms" for name, share in named)


def main() -> None:
    """Measure and print."""
    warm, seconds = (10.0, 5.0) if quick() else (60.0, 30.0)
    with broker() as address:
        asyncio.run(measure(address, "latency", warm=warm, seconds=seconds))
