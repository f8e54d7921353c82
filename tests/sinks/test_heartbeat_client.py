"""The watcher outside: asked once, once more where that fails, and its address is told to nobody."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator

import httpx
import pytest
import stamina
from pydantic import ValidationError
from structlog.testing import capture_logs

from streamproc.sinks import heartbeat
from streamproc.sinks.heartbeat import HeartbeatConfig, Pinger

URL = "https://watch.test/secret-uuid"
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=heartbeat.ATTEMPTS, cap=True):
        yield


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError(f"no way to {request.url}")


def answers(*statuses: int) -> tuple[Answer, list[httpx.Request]]:
    asked: list[httpx.Request] = []
    turn = itertools.chain(statuses)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(next(turn))

    return answer, asked


@pytest.mark.parametrize(
    ("statuses", "failure"),
    [
        pytest.param((200,), "", id="taken"),
        pytest.param((202,), "", id="taken, as Dead Man's Snitch says it"),
        pytest.param((500, 200), "", id="taken at the second attempt"),
        pytest.param((500, 503), "status 503", id="not taken"),
        pytest.param((404, 404), "status 404", id="no such check"),
        pytest.param((302, 302), "status 302", id="a redirect is no answer"),
    ],
)
async def test_what_comes_of_it(statuses: tuple[int, ...], failure: str) -> None:
    answer, asked = answers(*statuses)
    async with Pinger(URL, transport=httpx.MockTransport(answer)) as pinger:
        assert await pinger.ping() == failure
    assert [(one.method, str(one.url)) for one in asked] == [("GET", URL)] * len(statuses)


async def test_no_message_holds_the_address() -> None:
    async with Pinger(URL, transport=httpx.MockTransport(refuse)) as pinger:
        with capture_logs() as told:
            assert await pinger.ping() == "ConnectError"
    assert "secret" not in str(told)


async def test_an_answer_that_never_ends_is_none() -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with Pinger(URL, transport=httpx.MockTransport(hang), timeout=0.01) as pinger:
        assert await pinger.ping() == "TimeoutError"


@pytest.mark.parametrize("url", [None, "", "  "])
def test_nothing_is_off(url: str | None) -> None:
    assert HeartbeatConfig.model_validate({"url": url}).url is None


@pytest.mark.parametrize("url", ["ftp://a/b", "watch.test/x", "https://", "http://[", "https://[::1/x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValidationError, match="no http:// or https:// address"):
        HeartbeatConfig.model_validate({"url": url})


def test_the_address_is_a_secret() -> None:
    config = HeartbeatConfig.model_validate({"url": f" {URL} "})
    assert config.url is not None
    assert config.url.get_secret_value() == URL
    assert "secret" not in repr(config)
