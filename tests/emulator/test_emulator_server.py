"""The emulator on a real port: start, stop, and the faults that cut connections; with our own client against it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest
import stamina

from streamproc.core.errors import Unusable
from streamproc.emulator.account import Effect
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.emulator.server import Served, serve
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction, PageText, Verdict
from streamproc.sinks.pagerduty.client import EventsClient
from streamproc.sinks.pagerduty.config import ApiConfig, RetryConfig
from streamproc.sinks.pagerduty.encode import Encoded, encode

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=50, cap=True):
        yield


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    emulator = await serve(EmulatorConfig())
    yield emulator
    await emulator.stop()


def event(action: PageAction = PageAction.TRIGGER) -> Encoded:
    said = Escalation(
        incident_id="in:v1:prod:0011",
        scope="prod",
        destination="shop",
        routing_key=KEY,
        dedup_key="in:v1:prod:0011",
        action=action,
        seq=1,
        text=PageText(summary="checkout is down", source="prod", severity=Severity.CRITICAL),
        at=datetime(2026, 11, 22, 8, 30, tzinfo=UTC),
    )
    return encode(said, delayed_by=None)


def client(served: Served, timeout: float = 10.0) -> EventsClient:
    return EventsClient(ApiConfig(base_url=served.url, timeout=timeout, retry_config=RetryConfig(max_attempts=2)))


async def test_our_client_and_every_action(served: Served) -> None:
    async with client(served) as events:
        for action in PageAction:
            sent = await events.send(event(action))
            assert (sent.verdict, sent.status, sent.message) == (Verdict.DELIVERED, 202, "Event processed")
    assert [taken.effect for taken in served.emulator.requests] == [
        Effect.OPENED,
        Effect.ACKNOWLEDGED,
        Effect.RESOLVED,
        Effect.CHANGE,
    ]


@pytest.mark.parametrize(
    ("kind", "effects"),
    [
        pytest.param(FaultKind.DROP_BEFORE, [None, Effect.OPENED], id="dropped before it was taken"),
        pytest.param(FaultKind.DROP_AFTER, [Effect.OPENED, Effect.DEDUPLICATED], id="dropped after it was taken"),
    ],
)
async def test_a_dropped_connection_is_tried_again(
    served: Served, kind: FaultKind, effects: list[Effect | None]
) -> None:
    served.emulator.faults.add(Fault(kind=kind, count=1))
    async with client(served) as events:
        sent = await events.send(event())
    assert (sent.verdict, sent.attempts) == (Verdict.DELIVERED, 2)
    assert [taken.effect for taken in served.emulator.requests] == effects
    assert [taken.fault for taken in served.emulator.requests] == [kind, None]
    assert len(served.emulator.account.incidents) == 1


async def test_a_dropped_connection_is_a_network_error(served: Served) -> None:
    served.emulator.faults.add(Fault(kind=FaultKind.DROP_AFTER))
    async with httpx.AsyncClient(base_url=served.url) as http:
        with pytest.raises(httpx.TransportError):
            await http.post("/v2/enqueue", content=event().body, headers={"Content-Type": "application/json"})


async def test_what_is_swallowed_looks_taken(served: Served) -> None:
    served.emulator.faults.add(Fault(kind=FaultKind.SWALLOW, count=1))
    async with client(served) as events:
        for _ in range(2):
            sent = await events.send(event())
            assert (sent.verdict, sent.status, sent.message) == (Verdict.DELIVERED, 202, "Event processed")
    assert [taken.effect for taken in served.emulator.requests] == [None, Effect.OPENED]
    assert [taken.status for taken in served.emulator.requests] == [202, 202]


async def test_a_stall_outlasts_the_client(served: Served) -> None:
    served.emulator.faults.add(Fault(kind=FaultKind.STALL, seconds=30))
    async with client(served, timeout=0.05) as events:
        sent = await events.send(event())
    assert (sent.verdict, sent.status, sent.attempts) == (Verdict.AGAIN, None, 2)
    assert served.emulator.account.incidents == {}


async def test_a_stall_ends_in_a_closed_connection(served: Served) -> None:
    served.emulator.faults.add(Fault(kind=FaultKind.STALL, seconds=0.01))
    async with client(served) as events:
        sent = await events.send(event())
    assert (sent.verdict, sent.status) == (Verdict.AGAIN, None)


async def test_stopping_cuts_a_stall() -> None:
    served = await serve(EmulatorConfig())
    served.emulator.faults.add(Fault(kind=FaultKind.STALL, seconds=600))
    asked = asyncio.Event()

    def clock() -> datetime:
        asked.set()
        return datetime.now(UTC)

    served.emulator.clock = clock
    async with client(served, timeout=60.0) as events:
        waiting = asyncio.create_task(events.send(event()))
        await asked.wait()
        await asyncio.wait_for(served.stop(), 20)
        assert (await waiting).verdict is Verdict.AGAIN


async def test_nothing_listens_after_the_stop() -> None:
    served = await serve(EmulatorConfig())
    await served.stop()
    async with client(served) as events:
        assert (await events.send(event())).verdict is Verdict.AGAIN


async def test_a_port_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unusable, match="cannot listen on"):
        await serve(EmulatorConfig(), port=taken.getsockname()[1])


async def test_answers_do_not_wait_for_more_to_send() -> None:
    # An answer is written as head and body: with Nagle's algorithm on, the body waits for the head's acknowledgement.
    served = await serve(EmulatorConfig())
    (listener,) = served._server.servers[0].sockets
    proto = listener.proto
    await served.stop()
    assert proto == socket.IPPROTO_TCP


async def test_urls_of_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    served = await serve(EmulatorConfig(), host="::1")
    try:
        assert served.url == f"http://[::1]:{served.port}"
    finally:
        await served.stop()
