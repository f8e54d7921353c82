"""The server: a real socket, a known port, a stop that waits and one that does not wait for ever."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

import httpx
import pytest

from streamproc.core.errors import Unusable
from streamproc.gateway.server import Address, serve
from tests.gateway.gateway_fakes import ALERT, Stand

HOST = "127.0.0.1"


async def test_it_serves_on_a_free_port_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stand = Stand()
    async with serve(stand.app, HOST, 0) as address, httpx.AsyncClient(base_url=address.url) as client:
        assert address.port > 0
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        assert (await client.get("/live")).status_code == 200
        assert (await client.post("/v1/ingest/generic", content=ALERT)).json() == {"accepted": 1}
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, address.port)) != 0


async def test_a_body_over_the_limit_gets_its_answer_over_a_real_connection() -> None:
    stand = Stand(body_limit=100_000)
    async with serve(stand.app, HOST, 0) as address, httpx.AsyncClient(base_url=address.url) as client:
        answer = await client.post("/v1/ingest/generic", content=b" " * 350_000)
        assert answer.status_code == 413
        assert (await client.post("/v1/ingest/generic", content=ALERT)).status_code == 202


async def test_a_stop_lets_requests_in_flight_end() -> None:
    stand = Stand()
    stand.inlet.released.clear()
    async with httpx.AsyncClient() as client:
        async with serve(stand.app, HOST, 0) as address:
            asking = asyncio.create_task(client.post(f"{address.url}/v1/ingest/generic", content=ALERT))
            await stand.inlet.entered.wait()
            asyncio.get_running_loop().call_later(0.05, stand.inlet.released.set)
        assert (await asking).status_code == 202


async def test_a_stop_does_not_wait_for_ever() -> None:
    stand = Stand()
    stand.inlet.released.clear()
    async with httpx.AsyncClient() as client:
        async with serve(stand.app, HOST, 0, stop_within=0) as address:
            asking = asyncio.create_task(client.post(f"{address.url}/v1/ingest/generic", content=ALERT))
            await stand.inlet.entered.wait()
        with contextlib.suppress(httpx.TransportError):
            assert (await asking).status_code >= 500
    assert stand.inlet.entries == []


async def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Unusable, match=f"port {port}: another program"):
            async with serve(Stand().app, HOST, port):
                pass


def test_addresses_can_be_opened() -> None:
    assert Address("::1", 80).url == "http://[::1]:80"
    assert Address("localhost", 80).url == "http://localhost:80"
