"""Clients that mean ill, or are broken, over real connections: each is dealt with, counted, and harms nobody else."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Response

from streamproc.gateway.server import Address, serve
from streamproc.gateway.wire import DROPPED, RESERVED_FILES, Limits, fitting
from tests.gateway.gateway_fakes import ALERT, Stand

HOST = "127.0.0.1"
GENERIC = "/v1/ingest/generic"
HEAD = b"POST /v1/ingest/generic HTTP/1.1\r\nhost: localhost\r\n"
SOON = 0.05
"""Seconds that stand for a limit: nothing is asserted about how long anything takes."""


class Client:
    """A connection that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, however it ends."""
        held = bytearray()
        try:
            while piece := await self.reader.read(65_536):
                held += piece
        except ConnectionError:
            pass
        return bytes(held)


class Site:
    """A gateway that listens, and its clients."""

    def __init__(self, stand: Stand, address: Address) -> None:
        self.stand = stand
        self.address = address
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(HOST, self.address.port))
        self._clients.append(client)
        return client

    async def post(self, path: str = GENERIC, body: bytes = ALERT, **headers: str) -> httpx.Response:
        """Post as a good client, over a connection of its own."""
        async with httpx.AsyncClient(base_url=self.address.url, timeout=60) as client:
            return await client.post(path, content=body, headers=headers)

    async def until_waiting(self, count: int) -> None:
        """Return once so many requests wait for the log."""
        while self.stand.inlet.waiting < count:  # noqa: ASYNC110  the fake counts, and tells nobody
            await asyncio.sleep(0.001)

    def dropped(self, reason: str) -> float:
        assert reason in DROPPED
        return self.stand.count("streamproc_http_dropped_total", reason=reason) or 0

    def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()


@asynccontextmanager
async def site(limits: Limits | None = None, **settings: Any) -> AsyncIterator[Site]:
    stand = Stand(**settings)
    async with serve(stand.app, HOST, 0, stop_within=0, limits=limits) as address:
        made = Site(stand, address)
        yield made
        made.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"P", id="one byte"),
        pytest.param(HEAD, id="a head without an end"),
        pytest.param(b"\r\n" * 20, id="blank lines"),
    ],
)
async def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    async with site(Limits(head_seconds=SOON)) as here:
        client = await here.connect()
        await client.send(sent)
        assert await client.rest() == b""
        assert here.dropped("head_too_slow") == 1
        assert (await here.post()).status_code == 202


async def test_a_head_that_drips_is_not_given_more_time() -> None:
    async with site(Limits(head_seconds=SOON)) as here:
        client = await here.connect()
        await client.send(HEAD)
        reading = asyncio.create_task(client.rest())
        while not reading.done():
            client.writer.write(b"x-a: b\r\n")
            await asyncio.sleep(0.001)
        assert here.dropped("head_too_slow") == 1


async def test_a_second_request_has_its_own_time_for_its_head() -> None:
    async with site(Limits(head_seconds=SOON)) as here:
        client = await here.connect()
        await client.send(HEAD + b"content-length: %d\r\n\r\n%s" % (len(ALERT), ALERT) + HEAD)
        assert (await client.rest()).startswith(b"HTTP/1.1 202")
        assert here.dropped("head_too_slow") == 1


async def test_what_follows_an_answer_without_an_end_is_cut_off() -> None:
    """A body in endless pieces that nobody reads any more, since the request was refused by its head."""
    async with site(Limits(head_seconds=SOON)) as here:
        client = await here.connect()
        await client.send(HEAD.replace(b"generic", b"nagios") + b"transfer-encoding: chunked\r\n\r\n")
        reading = asyncio.create_task(client.rest())
        while not reading.done():
            client.writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.001)
        assert (await reading).startswith(b"HTTP/1.1 404")
        assert here.dropped("head_too_slow") == 1


@pytest.mark.parametrize("start", [pytest.param(HEAD + b"x: ", id="a header"), pytest.param(b"GET /", id="a path")])
async def test_a_head_without_an_end_is_bounded(start: bytes) -> None:
    async with site(Limits(head_bytes=10_000)) as here:
        client = await here.connect()
        await client.send(start)
        reading = asyncio.create_task(client.rest())
        while not reading.done():
            client.writer.write(b"a" * 4096)
            await asyncio.sleep(0)
        assert (await reading) == b"" or (await reading).startswith(b"HTTP/1.1 431")  # a reset may eat the answer
        assert here.dropped("head_too_large") == 1


async def test_trailers_change_nothing() -> None:
    async with site() as here:
        client = await here.connect()
        await client.send(HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        await client.send(b"%x\r\n%s\r\n0\r\ncontent-encoding: gzip\r\n\r\n" % (len(ALERT), ALERT))
        assert (await client.rest()).startswith(b"HTTP/1.1 202")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"content-length: 100\r\n\r\n", id="declared and never begun"),
        pytest.param(b"content-length: 100\r\n\r\n{", id="begun and not ended"),
        pytest.param(b"transfer-encoding: chunked\r\n\r\n", id="in pieces, of which none comes"),
        pytest.param(b"content-length: 5\r\nexpect: 100-continue\r\n\r\n", id="announced"),
    ],
)
async def test_slow_bodies_end_and_give_their_place_back(body: bytes) -> None:
    """Found by reading: a body of which no byte came held its place for ever, and 256 of them shut everybody out."""
    async with site(body_timeout=SOON, max_in_flight=2) as here:
        for _ in range(3):
            client = await here.connect()
            await client.send(HEAD + body)
            assert b"HTTP/1.1 503" in await client.rest()
        assert here.stand.count("streamproc_http_rejected_total", source="generic", reason="body_too_slow") == 3
        assert (await here.post()).status_code == 202


async def test_a_body_in_endless_pieces_is_bounded() -> None:
    async with site(body_limit=10_000) as here:
        client = await here.connect()
        await client.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        reading = asyncio.create_task(client.rest())
        while not reading.done():
            client.writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
            await asyncio.sleep(0)
        assert (await reading) == b"" or (await reading).startswith(b"HTTP/1.1 413")
        assert here.stand.count("streamproc_http_rejected_total", source="generic", reason="too_large") == 1


LARGE = json.dumps({"name": "a", "status": "firing", "summary": "x" * 4_999_000}).encode()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(LARGE, {}, 202, id="5 MB"),
        pytest.param(LARGE + b" " * 1_100, {}, 413, id="more than 5 MB"),
        pytest.param(gzip.compress(LARGE), {"content-encoding": "gzip"}, 202, id="5 MB packed"),
        pytest.param(gzip.compress(b" " * 500_000_000, 1), {"content-encoding": "gzip"}, 413, id="a bomb"),
        pytest.param(b"[" * 1_000_000, {}, 400, id="deep"),
        pytest.param(b'{"a":' * 1_000_000, {}, 400, id="deep objects"),
        pytest.param(ALERT, {"content-type": "multipart/form-data"}, 415, id="another type"),
        pytest.param(b'"\xff"', {}, 400, id="not UTF-8"),
    ],
)
async def test_heavy_bodies(body: bytes, headers: dict[str, str], status: int) -> None:
    async with site() as here:
        assert (await here.post(GENERIC, body, **headers)).status_code == status
        assert (await here.post()).status_code == 202


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", id="two lengths of a body"),
        pytest.param(b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef", id="two content lengths"),
        pytest.param(b"content-length: +5\r\n\r\nabcde", id="a signed length"),
        pytest.param(b"content-length: -5\r\n\r\n", id="a negative length"),
        pytest.param(b"content-length: 99999999999999999999999\r\n\r\n", id="an endless length"),
        pytest.param(b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", id="chunked is not the last"),
        pytest.param(b"transfer-encoding: chunked\r\n\r\nzz\r\n", id="a size that is none"),
        pytest.param(b"transfer-encoding: chunked\r\n\r\n5\r\nabcdefgh\r\n0\r\n\r\n", id="a piece longer than said"),
        pytest.param(b"content-length : 5\r\n\r\nabcde", id="a space before the colon"),
        pytest.param(b"content-length: 5\r\n folded: x\r\n\r\nabcde", id="a folded header"),
        pytest.param(b"x\0y: z\r\n\r\n", id="a NUL in a name"),
        pytest.param(b"x: a\0b\r\n\r\n", id="a NUL in a value"),
        pytest.param(b"x: a\rcontent-length: 5\r\n\r\n", id="a bare return"),
    ],
)
async def test_heads_that_two_servers_could_read_in_two_ways_are_refused(head: bytes) -> None:
    async with site() as here:
        client = await here.connect()
        await client.send(HEAD + head)
        client.writer.write_eof()
        answers = await client.rest()
        assert answers.count(b"HTTP/1.1 ") <= 1 + (b"HTTP/1.1 400" in answers)
        assert b"HTTP/1.1 202" not in answers
        assert b"HTTP/1.1 4" in answers
        assert here.stand.inlet.entries == []
        assert (await here.post()).status_code == 202


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
        pytest.param(b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example\r\n\r\n", id="a tunnel"),
        pytest.param(b"GET http://evil.example/ HTTP/9.9\r\n\r\n", id="another version"),
        pytest.param(b"\xff\xfe\0" * 50, id="noise"),
        pytest.param(b"GET /\xc3\xa9 HTTP/1.1\r\nhost: localhost\r\n\r\n", id="a path that is not ASCII"),
        pytest.param(
            b"GET // HTTP/1.1\r\nhost: localhost\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\r\n", id="h2c"
        ),
    ],
)
async def test_what_is_no_request_is_answered_4xx_at_most(sent: bytes) -> None:
    async with site(Limits(head_seconds=1)) as here:
        client = await here.connect()
        await client.send(sent)
        client.writer.write_eof()
        answer = await client.rest()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert (await here.post()).status_code == 202


async def test_what_is_malformed_behind_a_request_is_not_taken_for_its_answer() -> None:
    async with site() as here:
        here.stand.inlet.released.clear()
        client = await here.connect()
        await client.send(HEAD + b"content-length: %d\r\n\r\n%s" % (len(ALERT), ALERT))
        await here.until_waiting(1)
        await client.send(b"\0\0\r\n\r\n")
        assert await client.rest() == b""
        assert here.dropped("malformed") == 1
        here.stand.inlet.released.set()


async def test_malformed_requests_are_counted_and_answered_in_the_one_shape() -> None:
    async with site() as here:
        client = await here.connect()
        await client.send(b"BREW\r\n\r\n")
        head, _, body = (await client.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert json.loads(body)["error"]["reason"] == "malformed"
        assert here.dropped("malformed") == 1


async def test_a_thousand_idle_connections_keep_nobody_out() -> None:
    """Those that have been without a request the longest give way."""
    async with site(Limits(connections=300)) as here:
        idle = [await here.connect() for _ in range(1000)]
        assert len([client for client in idle if not client.writer.transport.is_closing()]) == 1000
        answers = await asyncio.gather(*(here.post() for _ in range(20)))
        assert {answer.status_code for answer in answers} == {202}
        assert here.dropped("crowded_out") >= 700


async def test_where_every_connection_works_one_more_is_503() -> None:
    async with site(Limits(connections=2)) as here:
        here.stand.inlet.released.clear()
        working = [asyncio.create_task(here.post()) for _ in range(2)]
        await here.until_waiting(2)
        answer = await here.post()
        assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "too_many_connections")
        assert int(answer.headers["retry-after"]) >= 1
        assert here.dropped("too_many_connections") == 1
        here.stand.inlet.released.set()
        assert {(await task).status_code for task in working} == {202}


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with site(Limits(answer_seconds=SOON)) as here:
        here.stand.app.add_api_route("/large", lambda: Response(b" " * 50_000_000))
        client = await here.connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # those of sockets have it
        await client.send(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2)
        while not here.dropped("answer_not_read"):  # noqa: ASYNC110  the counter tells nobody
            await asyncio.sleep(0.001)
        assert (await here.post()).status_code == 202


async def test_one_source_that_floods_leaves_room_for_the_others() -> None:
    async with site(max_in_flight=16) as here:
        here.stand.inlet.released.clear()
        flood = [asyncio.create_task(here.post()) for _ in range(30)]
        while sum(task.done() for task in flood) < 22:
            await asyncio.wait([task for task in flood if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        refused = [task.result() for task in flood if task.done()]
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.json()["error"]["reason"] for answer in refused} == {"over_share"}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert here.stand.count("streamproc_http_rejected_total", source="generic", reason="over_share") == 22
        other = asyncio.create_task(here.post("/v1/ingest/datadog", b'{"title": "a"}'))
        await here.until_waiting(9)
        here.stand.inlet.released.set()
        assert (await other).status_code == 202
        statuses = [(await task).status_code for task in flood]
        assert (statuses.count(202), statuses.count(503)) == (8, 22)


async def test_bytes_are_shared_too() -> None:
    async with site(body_limit=10_000, max_in_flight_bytes=40_000) as here:
        here.stand.inlet.released.clear()
        body = json.dumps({"name": "a", "summary": "x" * 9_000}).encode()
        held = [asyncio.create_task(here.post(body=body)) for _ in range(2)]
        await here.until_waiting(2)
        answer = await here.post(body=body)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "over_share")
        other = asyncio.create_task(here.post("/v1/ingest/datadog", b'{"title": "%s"}' % (b"x" * 9_000)))
        await here.until_waiting(3)
        here.stand.inlet.released.set()
        assert {(await task).status_code for task in (*held, other)} == {202}
        assert (await here.post(body=body)).status_code == 202


def test_limits_fit_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, expected in ((1024, 1024 - RESERVED_FILES), (100, 1), (10**6, 4096), (-1, 4096)):
        monkeypatch.setattr("resource.getrlimit", lambda _, files=files: (files, files))
        assert fitting().connections == expected
