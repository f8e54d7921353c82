from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr, ValidationError
from redis.asyncio import Redis

from streamproc.core.errors import Unusable
from streamproc.runtime.redis.config import Config
from streamproc.runtime.redis.connection import UNKNOWN, Connection, client_of
from tests.redis.servers import Server, until


async def ping(client: Redis) -> bool:
    return bool(await client.ping())


def counted(registry: CollectorRegistry, result: str) -> float:
    value = registry.get_sample_value("streamproc_redis_requests_total", {"use": "cache", "result": result})
    assert value is not None
    return value


class TestAsking:
    async def test_answers_what_redis_says(self, server: Server) -> None:
        registry = CollectorRegistry()
        async with server.connection(registry) as connection:
            assert await connection.ask("cache", ping) is True
            assert connection.up
            assert registry.get_sample_value("streamproc_redis_up") == 1
            assert counted(registry, "answered") == 1

    async def test_an_error_of_redis_is_unknown(self, server: Server) -> None:
        async def wrong(client: Redis) -> str:
            await client.set("a", "text")
            return str(await client.lpush("a", "x"))

        async with server.connection() as connection:
            assert await connection.ask("cache", wrong) is UNKNOWN

    async def test_a_server_that_is_stopped_is_left_alone_and_found_again(self, server: Server) -> None:
        registry = CollectorRegistry()
        async with server.connection(registry) as connection:
            server.stop()
            await until(lambda: not connection.up)
            assert registry.get_sample_value("streamproc_redis_up") == 0
            await server.start()
            await until(lambda: connection.up)
            assert await connection.ask("cache", ping) is True

    async def test_is_not_asked_for_a_while_after_a_failure(self, server: Server) -> None:
        server.stop()
        registry = CollectorRegistry()
        async with server.connection(registry, left_alone=3600.0) as connection:
            assert [await connection.ask("cache", ping) for _ in range(3)] == [UNKNOWN] * 3
            assert counted(registry, "failed") == 0, "the look at the start has failed already"
            assert counted(registry, "left_alone") == 3

    async def test_a_frozen_server_holds_nobody_up(self, server: Server) -> None:
        async with server.connection(timeout=0.2, left_alone=3600.0) as connection:
            server.freeze()
            async with asyncio.timeout(20.0):
                assert await connection.ask("cache", ping) is UNKNOWN
                assert await connection.ask("cache", ping) is UNKNOWN
            server.thaw()

    async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(self, server: Server) -> None:
        async def echo(client: Redis, word: str) -> str:
            return str(await client.echo(word))

        async with server.connection(timeout=0.5) as connection:
            await until(lambda: connection.up)
            server.freeze()
            assert await connection.ask("cache", lambda client: echo(client, "late")) is UNKNOWN
            server.thaw()
            answers = []

            async def answered() -> bool:
                answers.append(await connection.ask("cache", lambda client: echo(client, "next")))
                return answers[-1] is not UNKNOWN

            await until(answered)
            assert answers[-1] == "next"

    async def test_one_request_tries_while_the_others_wait_for_what_comes_of_it(self, server: Server) -> None:
        server.stop()
        async with server.connection(left_alone=0.0) as connection:
            first, second = await asyncio.gather(connection.ask("cache", ping), connection.ask("cache", ping))
            assert (first, second) == (UNKNOWN, UNKNOWN)


class TestSettings:
    def test_without_an_address_there_is_no_client(self) -> None:
        with pytest.raises(Unusable, match=r"redis\.url is not set"):
            client_of(Config())

    def test_an_address_that_cannot_be_used_is_not_shown(self) -> None:
        with pytest.raises(Unusable, match="no address") as failure:
            Connection(Config(url=SecretStr("redis://:secret@host:port/0")), CollectorRegistry())
        assert "secret" not in str(failure.value)

    def test_other_schemes_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="redis://"):
            Config(url=SecretStr("http://127.0.0.1:6379"))

    def test_tls_is_what_the_scheme_says(self) -> None:
        client = client_of(Config(url=SecretStr("rediss://127.0.0.1:6379"), tls_ca=None))
        assert "SSLConnection" in str(client.connection_pool.connection_class)
