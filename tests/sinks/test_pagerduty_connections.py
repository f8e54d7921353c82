"""Connections: the whole answer is read, connections are kept, and every failure is one of httpx's own."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from streamproc.sinks.pagerduty.client import EventsClient
from streamproc.sinks.pagerduty.config import ApiConfig
from streamproc.sinks.pagerduty.connections import Connections, connections_to
from streamproc.sinks.pagerduty.encode import Encoded

PACKED = gzip.compress(b'{"status":"success"}')
WHOLE = b"HTTP/1.1 202 Accepted\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED
MOVED = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
CUT = b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nonly this"
NO_HTTP = b"what?\r\n\r\n"


class Server:
    """Answers each request with the same bytes; closes the connection where it is told so."""

    def __init__(self, answer: bytes, *, closes: bool = False) -> None:
        self._answer = answer
        self._closes = closes
        self.requests: list[bytes] = []
        self.connections = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, answering: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                self.requests.append(head + await reader.readexactly(int(length)))
                answering.write(self._answer)
                if self._closes:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            answering.close()


async def test_a_request_and_its_answer_are_whole() -> None:
    server = Server(WHOLE)
    async with server.serving() as url, httpx.AsyncClient(transport=Connections()) as http:
        answer = await http.post(f"{url}/v2/enqueue", content=b"{}", headers={"X-One": "1"})
    assert (answer.status_code, answer.json()) == (202, {"status": "success"})
    (sent,) = server.requests
    assert sent.startswith(b"POST /v2/enqueue HTTP/1.1\r\n")
    assert sent.endswith(b"\r\n\r\n{}")
    assert b"x-one: 1" in sent.lower()


async def test_a_connection_is_kept() -> None:
    server = Server(WHOLE)
    async with server.serving() as url, httpx.AsyncClient(transport=Connections()) as http:
        for _ in range(3):
            await http.post(url, content=b"{}")
    assert (len(server.requests), server.connections) == (3, 1)


async def test_a_redirect_is_not_followed() -> None:
    server = Server(MOVED)
    async with server.serving() as url, httpx.AsyncClient(transport=Connections()) as http:
        answer = await http.post(url, content=b"{}")
    assert (answer.status_code, len(server.requests)) == (302, 1)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(CUT, httpx.ReadError, id="cut short"),
        pytest.param(NO_HTTP, httpx.ReadError, id="no HTTP"),
        pytest.param(b"", httpx.ReadError, id="closed without an answer"),
    ],
)
async def test_an_answer_that_is_none(answer: bytes, kind: type[httpx.HTTPError]) -> None:
    async with Server(answer, closes=True).serving() as url, httpx.AsyncClient(transport=Connections()) as http:
        with pytest.raises(kind):
            await http.post(url, content=b"{}")


async def test_nobody_listens() -> None:
    async with Server(WHOLE).serving() as url:
        pass
    async with httpx.AsyncClient(transport=Connections()) as http:
        with pytest.raises(httpx.ConnectError):
            await http.post(url, content=b"{}")


async def test_closing_what_was_never_used() -> None:
    await Connections().aclose()


async def test_the_client_uses_them(no_proxies: Callable[[], None]) -> None:
    no_proxies()
    server = Server(WHOLE)
    async with server.serving() as url, EventsClient(ApiConfig(base_url=url)) as events:
        sent = await events.send(Encoded(b"{}", (), "/v2/enqueue"))
    assert (sent.status, len(server.requests)) == (202, 1)


@pytest.mark.parametrize(
    ("named", "ours"),
    [
        pytest.param({}, Connections, id="no proxy"),
        pytest.param({"https_proxy": "http://proxy.test:3128"}, type(None), id="a proxy for https"),
        pytest.param({"all_proxy": "socks5://proxy.test:1080"}, type(None), id="a proxy for all"),
        pytest.param({"http_proxy": "http://proxy.test:3128"}, Connections, id="a proxy for http only"),
        pytest.param(
            {"https_proxy": "http://proxy.test:3128", "no_proxy": "pagerduty.com"}, Connections, id="not for this host"
        ),
    ],
)
def test_proxies_are_left_to_httpx(
    named: dict[str, str], ours: type[object], no_proxies: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_proxies()
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    assert type(connections_to("https://events.pagerduty.com")) is ours


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forget() -> None:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)

    return forget
