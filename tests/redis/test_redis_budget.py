"""The budget of an account, leased from a real Redis: by several at once, and stopped, frozen and emptied meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from streamproc.runtime.clock import ManualClock
from streamproc.runtime.redis.budget import AccountBudget
from streamproc.runtime.redis.connection import Connection
from streamproc.runtime.sender import Config, Sender
from streamproc.runtime.work import CRITICAL, OTHER
from streamproc.sinks.pagerduty.encode import Encoded
from streamproc.state import IntentRow
from tests.redis.servers import Server, until
from tests.support.sending import T0, TAKEN, Answer, FakeLog, World

LIMIT = 100
AN_HOUR = 3600.0


@asynccontextmanager
async def budgets(
    server: Server, count: int, limit: int = LIMIT, *, span: float = AN_HOUR, settling: float = 0.0
) -> AsyncIterator[list[AccountBudget]]:
    """Return budgets that lease only when they are told to."""
    async with AsyncExitStack() as stack:
        made = []
        for number in range(count):
            connection = await stack.enter_async_context(server.connection())
            made.append(budget(connection, f"p{number}", limit, span=span, settling=settling))
        for one in made:
            await one.renew()
        yield made


def budget(
    connection: Connection, holder: str, limit: int = LIMIT, *, span: float = AN_HOUR, settling: float = 0.0
) -> AccountBudget:
    return AccountBudget(connection, "events", limit, holder, span=span, settling=settling)


def use(one: AccountBudget, rank: int = OTHER) -> int:
    """Send as much as a request of this rank may; return how much."""
    sent = 0
    while one.least_urgent(time.monotonic()) >= rank:
        one.spend(time.monotonic())
        sent += 1
    return sent


class TestLeasing:
    async def test_all_together_use_all_but_the_reserve_and_urgent_ones_the_rest(self, server: Server) -> None:
        async with budgets(server, 3) as several:
            sent = 0
            for _ in range(40):
                for one in several:
                    await one.renew()
                    sent += use(one)
            assert sent == LIMIT - LIMIT // 10
            for _ in range(10):
                for one in several:
                    one.want(CRITICAL)
                    await one.renew()
                    sent += use(one, CRITICAL)
            assert sent == LIMIT
            assert {one.share.holders for one in several} == {3}

    async def test_leases_at_once_never_overdraw(self, server: Server) -> None:
        async with budgets(server, 8, 40) as several:
            sent = 0
            for _ in range(12):
                await asyncio.gather(*(one.renew() for one in several))
                sent += sum(use(one) for one in several)
            assert sent == 36

    async def test_what_leaves_the_window_is_free_again(self, server: Server) -> None:
        async with budgets(server, 1, 10, span=1.0) as [one]:
            sent = 0

            async def used(count: int) -> bool:
                nonlocal sent
                await one.renew()
                sent += use(one)
                return sent >= count

            await until(lambda: used(30))

    async def test_what_is_not_used_comes_back_at_the_end(self, server: Server) -> None:
        async with server.connection() as connection:
            async with budget(connection, "first") as first:
                assert first.share.free(time.monotonic()) == 5
                first.spend(time.monotonic(), 2)
            second = budget(connection, "second")
            await second.renew()
            found = await connection.ask("watch", lambda client: client.hgetall("streamproc:{budget:events}:spent"))
            assert isinstance(found, dict)
            assert sum(int(count) for name, count in found.items() if name != "life") == 2 + 5
            assert second.share.holders == 1

    async def test_keys_of_one_name_are_shared_and_others_are_not(self, server: Server) -> None:
        async with server.connection() as connection:
            events, rest = budget(connection, "p"), AccountBudget(connection, "rest:1a2b", 960, "p", settling=0.0)
            await events.renew()
            await rest.renew()
            assert (events.share.free(time.monotonic()), rest.share.free(time.monotonic())) == (5, 48)

    async def test_a_client_of_the_rest_api_waits_for_its_turn(self, server: Server) -> None:
        async with server.connection() as connection, budget(connection, "p", span=2.0) as one:
            await one.take(90)
            waiting = asyncio.create_task(one.take(10))
            await asyncio.sleep(0)
            assert not waiting.done()
            async with asyncio.timeout(30.0):
                await waiting


class TestWithoutRedis:
    async def test_goes_on_with_its_share_while_redis_is_stopped_and_tells_it_afterwards(self, server: Server) -> None:
        async with budgets(server, 2) as several:
            await several[0].renew()
            server.stop()
            for one in several:
                await one.renew()
            sent = [use(one, CRITICAL) for one in several]
            assert all(one.share.alone for one in several)
            assert all(count >= 40 for count in sent)
            assert sum(sent) <= LIMIT
            await server.start()
            first = several[0]

            async def leasing() -> bool:
                for one in several:
                    await one.renew()
                return not any(one.share.alone for one in several)

            await until(leasing)
            assert await leasing(), "everybody has told what it sent, and what was leased before that is given back"
            assert first.share.free(time.monotonic()) == 0, "all of it was sent in this window"

    async def test_a_frozen_redis_is_not_waited_for(self, server: Server) -> None:
        async with server.connection(timeout=0.3, left_alone=AN_HOUR) as connection:
            one = budget(connection, "p")
            await until(lambda: connection.up)
            await one.renew()
            server.freeze()
            async with asyncio.timeout(20.0):
                await one.renew()
            assert one.share.alone
            assert use(one) > 0
            server.thaw()

    async def test_what_was_sent_is_told_again_to_a_redis_that_was_emptied(self, server: Server) -> None:
        async with budgets(server, 2) as several:
            sent = 0
            for _ in range(30):
                for one in several:
                    await one.renew()
                    sent += use(one)
            await server.flush()
            for _ in range(4):
                for one in several:
                    await one.renew()
            assert sent == LIMIT - LIMIT // 10
            assert [use(one) for one in several] == [0, 0]

    async def test_an_emptied_redis_gives_nothing_before_everybody_could_tell(self, server: Server) -> None:
        async with budgets(server, 2, settling=AN_HOUR) as several:
            assert all(one.share.alone for one in several)
            assert {one.share.holders for one in several} == {1, 2}

    async def test_a_process_that_begins_without_redis_sends(self, server: Server) -> None:
        server.stop()
        async with server.connection() as connection, budget(connection, "p") as one:
            assert use(one, CRITICAL) == LIMIT


class Taking:
    """A PagerDuty that takes everything."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def send(self, encoded: Encoded, /, wanted: Callable[[], bool]) -> Answer:
        self.paths.append(encoded.path)
        return TAKEN


@pytest.mark.parametrize("fault", ["stopped", "frozen", "emptied", "stopped and empty again"])
async def test_every_page_goes_out_whatever_happens_to_redis_in_mid_stream(server: Server, fault: str) -> None:
    registry, world, log, pagerduty = CollectorRegistry(), World(), FakeLog(ManualClock(T0)), Taking()
    async with (
        server.connection(registry, timeout=0.3, left_alone=0.3) as connection,
        AccountBudget(connection, "events", 1200, "p", settling=0.5) as account,
    ):
        config = Config(rate_limit=1000)
        sender = Sender(config, pagerduty, log, ManualClock(T0), None, registry, account=account)
        log.offer = sender.offer
        sender.offer({"none": IntentRow()})
        running = asyncio.create_task(sender.run())
        await until(lambda: not account.share.alone)
        for n in range(300):
            log.fold(world.say(f"i{n}"))
            if n == 100:
                await until(lambda: len(pagerduty.paths) > 20)
                await _break(server, fault)
            if n == 200 and fault == "stopped and empty again":
                await server.start()
            await asyncio.sleep(0)
        await until(lambda: len(log.outcomes) == 300)
        if fault == "frozen":
            server.thaw()
        await sender.stop()
        await running
    assert len(pagerduty.paths) == 300
    assert len({outcome.dedup_key for outcome in log.outcomes}) == 300


async def _break(server: Server, fault: str) -> None:
    match fault:
        case "frozen":
            server.freeze()
        case "emptied":
            await server.flush()
        case _:
            server.stop()
