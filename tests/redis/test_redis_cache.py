"""Bodies of versions in a real Redis, and what workers find there."""

from __future__ import annotations

import hashlib

import pytest
from prometheus_client import CollectorRegistry

from streamproc.runtime.redis.cache import LARGEST, BodyCache
from tests.redis.servers import Server

BODY = '{"escalate": {}}'


def checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def found(registry: CollectorRegistry) -> dict[str, float | None]:
    return {
        result: registry.get_sample_value("streamproc_cache_requests_total", {"cache": "versions", "result": result})
        for result in ("hit_local", "hit_redis", "miss")
    }


async def test_a_process_that_begins_finds_what_another_wrote(server: Server) -> None:
    async with server.connection() as connection:
        await BodyCache(connection).put(checksum(BODY), BODY)
    registry = CollectorRegistry()
    async with server.connection(registry) as connection:
        cache = BodyCache(connection)
        assert [await cache.get(checksum(BODY)) for _ in range(3)] == [BODY] * 3
        assert await cache.get(checksum("another")) is None
    assert found(registry) == {"hit_local": 2, "hit_redis": 1, "miss": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"{}", id="another body"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
)
async def test_what_does_not_fit_its_checksum_is_not_used(server: Server, wrong: bytes) -> None:
    async with server.connection() as connection:
        key = f"streamproc:body:{checksum(BODY)}"
        await connection.ask("watch", lambda client: client.set(key, wrong))
        assert await BodyCache(connection).get(checksum(BODY)) is None


async def test_without_redis_it_has_what_this_process_put_there(server: Server) -> None:
    async with server.connection() as connection:
        cache = BodyCache(connection)
        server.stop()
        assert await cache.get(checksum(BODY)) is None
        await cache.put(checksum(BODY), BODY)
        assert await cache.get(checksum(BODY)) == BODY


async def test_keeps_those_that_were_asked_for_last(server: Server) -> None:
    registry = CollectorRegistry()
    bodies = [f"{n}" * 10 for n in range(5)]
    async with server.connection(registry) as connection:
        cache = BodyCache(connection, local=30)
        for body in bodies:
            await cache.put(checksum(body), body)
        await server.flush()
        assert [await cache.get(checksum(body)) for body in bodies] == [None, None, *bodies[2:]]
    assert found(registry) == {"hit_local": 3, "hit_redis": 0, "miss": 2}


async def test_a_body_that_is_too_large_stays_in_the_process(server: Server) -> None:
    body = "x" * (LARGEST + 1)
    async with server.connection() as connection:
        cache = BodyCache(connection)
        await cache.put(checksum(body), body)
        assert await cache.get(checksum(body)) == body
        assert await BodyCache(connection).get(checksum(body)) is None
