"""Workers and gateways on a real broker with a real Redis: it helps while it is there, and nothing needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streamproc.distributed import with_openings
from streamproc.ports import Desk
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.desk import KafkaDesk
from streamproc.runtime.faust.guards import FailStop
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.mirror import Mirror
from streamproc.runtime.faust.worker import Worker
from streamproc.runtime.redis.cache import BodyCache
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.embedded.pipelines import alert, paging, raw
from tests.redis.servers import Server, redis_server

WITHIN = 90.0
HITS = ("hit_local", "hit_redis")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110  what it waits for happens at the broker
            await asyncio.sleep(0.05)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    with redis_server(tmp_path) as made:
        await made.start()
        yield made


@dataclass
class Gateway:
    """A gateway's copy, and what it shows."""

    mirror: Mirror
    desk: KafkaDesk
    shown: Desk

    def open(self) -> list[str]:
        return sorted(summary.title for summary in self.shown.incidents("open", 50, ""))


@asynccontextmanager
async def gateway(config: Config, folder: Path, server: Server, *, follows: bool = True) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(server.connection())
        mirror = Mirror(config, TOPICS, folder)
        await mirror.start()
        stack.push_async_callback(mirror.stop)
        desk = KafkaDesk(folder, mirror.group)
        shown = await with_openings(connection, mirror, desk, stack)
        if follows:
            stack.callback(asyncio.create_task(mirror.run()).cancel)
        yield Gateway(mirror, desk, shown)


@asynccontextmanager
async def worker(config: Config, server: Server, registry: CollectorRegistry) -> AsyncIterator[Worker]:
    stopped: list[FailStop] = []
    async with server.connection(registry, timeout=1.0) as connection:
        bodies = BodyCache(connection)
        one = Worker(config, TOPOLOGY, TOPICS, LETTERS, SystemClock(), leave=stopped.append, bodies=bodies)
        await one.start()
        try:
            await until(lambda: bool(one.standing()["ready"]))
            yield one
        finally:
            await one.stop()
    assert not stopped


def asked(registry: CollectorRegistry) -> dict[str, float]:
    found = {
        result: registry.get_sample_value("streamproc_cache_requests_total", {"cache": "versions", "result": result})
        for result in (*HITS, "miss")
    }
    return {result: count or 0.0 for result, count in found.items()}


async def test_a_night_with_redis_that_is_lost_in_the_middle_of_it(
    config: Config, tmp_path: Path, server: Server
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))
    inlet = KafkaInlet(config, TOPICS, SystemClock())
    first, second, third = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    try:
        await inlet.append(paging())
        async with gateway(config, tmp_path / "one", server) as one:
            async with worker(config, server, first):
                await until(lambda: one.desk.status().armed)
                await inlet.append([raw(alert(name, since=since)) for name in "abc"])
                await until(lambda: len(one.open()) == 3)
            # A worker that begins finds its versions in Redis; one that has begun, in itself.
            async with worker(config, server, second):
                await inlet.append([raw(alert("d", since=since))])
                await until(lambda: len(one.open()) == 4)
            async with gateway(config, tmp_path / "begins", server, follows=False) as begins:
                assert begins.desk.incidents("open", 50, "") == [], "its own copy has nothing yet"
                assert await told(begins, one)
            found = asked(second)
            assert (found["miss"], found["hit_redis"]) == (0, 1)
            everything = {result: count + found[result] for result, count in asked(first).items()}
            assert sum(everything[hit] for hit in HITS) > 0.92 * sum(everything.values())
            # Emptied, and then frozen while a third one begins: both read the log instead.
            await server.flush()
            server.freeze()
            async with worker(config, server, third):
                await inlet.append([raw(alert("e", since=since)), raw(alert("a", since=since, status="resolved"))])
                await until(lambda: len(one.open()) == 4 and len(one.desk.incidents("resolved")) == 1)
            assert asked(third)["hit_redis"] == 0
            server.thaw()
            async with gateway(config, tmp_path / "later", server, follows=False) as later:
                assert await told(later, one)
    finally:
        await inlet.stop()


async def told(begins: Gateway, other: Gateway) -> bool:
    """Wait until one that begins shows what the other has written."""
    await until(lambda: begins.open() == other.open())
    return begins.shown.status().open_incidents == len(other.open())
