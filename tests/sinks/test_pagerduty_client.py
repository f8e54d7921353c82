"""Client: what is sent, how often, and that nothing of the outside is raised."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest
import stamina
import structlog
from pydantic import ValidationError

from streamproc.events.escalation import Verdict
from streamproc.sinks.pagerduty.client import EventsClient, Sent, pause_for
from streamproc.sinks.pagerduty.config import EU_EVENTS, US_EVENTS, ApiConfig, RetryConfig
from streamproc.sinks.pagerduty.encode import Encoded

NOW = datetime(2026, 11, 22, 8, 30, 0, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"
EVENT = Encoded(f'{{"routing_key":"{KEY}"}}'.encode(), (), "/v2/enqueue")
CHANGE = Encoded(b"{}", (), "/v2/change/enqueue")
TAKEN = httpx.Response(202, json={"status": "success", "message": "Event processed", "dedup_key": "k"})

Reply = httpx.Response | Exception


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=50, cap=True):
        yield


class Endpoint:
    """Answers in turn, the last answer for ever, and remembers what it was asked."""

    def __init__(self, *replies: Reply) -> None:
        self._replies: Sequence[Reply] = replies
        self._turn = itertools.count()
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self._replies[min(next(self._turn), len(self._replies) - 1)]
        if isinstance(reply, Exception):
            raise reply
        return reply


def client(endpoint: Callable[[httpx.Request], httpx.Response], **given: object) -> EventsClient:
    config = ApiConfig.model_validate(given)
    return EventsClient(config, transport=httpx.MockTransport(endpoint), now=lambda: NOW)


async def test_what_is_sent() -> None:
    endpoint = Endpoint(TAKEN)
    async with client(endpoint) as events:
        sent = await events.send(EVENT)
        await events.send(CHANGE)
    assert sent == Sent(Verdict.DELIVERED, 202, "Event processed", attempts=1)
    first, second = endpoint.requests
    assert (first.method, str(first.url), first.content) == ("POST", f"{US_EVENTS}/v2/enqueue", EVENT.body)
    assert first.headers["content-type"] == "application/json"
    assert first.headers["user-agent"].startswith("streamproc/")
    assert str(second.url) == f"{US_EVENTS}/v2/change/enqueue"


@pytest.mark.parametrize(
    ("replies", "sent"),
    [
        pytest.param(
            (httpx.Response(500), httpx.ConnectError("down"), TAKEN),
            Sent(Verdict.DELIVERED, 202, "Event processed", attempts=3),
            id="taken at last",
        ),
        pytest.param(
            (httpx.Response(400, json={"message": "Event object is invalid", "errors": ["x"]}),),
            Sent(Verdict.REFUSED, 400, "Event object is invalid: x", attempts=1),
            id="refused is not tried again",
        ),
        pytest.param((httpx.Response(503),), Sent(Verdict.AGAIN, 503, "HTTP 503", attempts=3), id="attempts used up"),
        pytest.param(
            (httpx.ConnectError("down"),),
            Sent(Verdict.AGAIN, None, "no answer: ConnectError down", attempts=3),
            id="no connection",
        ),
        pytest.param(
            (httpx.ReadTimeout("slow"),),
            Sent(Verdict.AGAIN, None, "no answer: ReadTimeout slow", attempts=3),
            id="timeout",
        ),
        pytest.param(
            (httpx.Response(429, headers={"Retry-After": "20"}), TAKEN),
            Sent(Verdict.DELIVERED, 202, "Event processed", attempts=2),
            id="throttled for a while",
        ),
        pytest.param(
            (httpx.Response(429, headers={"Retry-After": "3600"}), TAKEN),
            Sent(Verdict.AGAIN, 429, "HTTP 429", attempts=1, retry_after=3600.0),
            id="asked to wait beyond the bound",
        ),
        pytest.param(
            (httpx.Response(503, headers={"Retry-After": format_datetime(NOW.replace(hour=9), usegmt=True)}), TAKEN),
            Sent(Verdict.AGAIN, 503, "HTTP 503", attempts=1, retry_after=3600.0),
            id="asked to wait until a date beyond the bound",
        ),
    ],
)
async def test_outcomes(replies: tuple[Reply, ...], sent: Sent) -> None:
    async with client(Endpoint(*replies)) as events:
        assert await events.send(EVENT) == sent


async def test_attempts_are_configured() -> None:
    endpoint = Endpoint(httpx.Response(500))
    async with client(endpoint, retry_config={"max_attempts": 7}) as events:
        assert (await events.send(EVENT)).attempts == 7
    assert len(endpoint.requests) == 7


async def test_seconds_are_bounded_too() -> None:
    endpoint = Endpoint(httpx.Response(500, headers={"Retry-After": "10"}))
    seconds = itertools.count(step=25)
    config = ApiConfig(retry_config=RetryConfig(max_attempts=20))
    transport = httpx.MockTransport(endpoint)
    async with EventsClient(config, transport=transport, clock=lambda: float(next(seconds))) as events:
        # 25 + 10 and 50 + 10 are within 60 s, 75 + 10 is not.
        assert (await events.send(EVENT)).attempts == 3


@pytest.mark.parametrize(
    ("asked", "elapsed", "pause"),
    [
        pytest.param(None, 59.0, True, id="nothing asked: the usual backoff"),
        pytest.param(7.0, 1.0, 7.0, id="as asked"),
        pytest.param(59.0, 1.0, 59.0, id="just within the bound"),
        pytest.param(59.1, 1.0, False, id="beyond the bound"),
    ],
)
def test_pause(asked: float | None, elapsed: float, *, pause: bool | float) -> None:
    answer = pause_for(asked, elapsed, most=60.0)
    assert answer == pause
    assert isinstance(answer, bool) == isinstance(pause, bool)


async def test_what_is_wanted_no_more_is_not_tried_again() -> None:
    endpoint, wanted = Endpoint(httpx.Response(500), httpx.Response(500), TAKEN), iter([True, False])
    async with client(endpoint) as events:
        sent = await events.send(EVENT, lambda: next(wanted))
    assert (sent.verdict, sent.attempts, len(endpoint.requests)) == (Verdict.AGAIN, 2, 2)


async def test_someone_may_look_before_each_attempt() -> None:
    endpoint, looks = Endpoint(httpx.Response(500), TAKEN), []
    transport = httpx.MockTransport(endpoint)
    async with EventsClient(
        ApiConfig(), transport=transport, before=lambda: looks.append(len(endpoint.requests))
    ) as events:
        await events.send(EVENT)
    assert looks == [0, 1]


async def test_an_answer_that_trickles_in_ends_at_the_timeout() -> None:
    class Trickle(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    config = ApiConfig(timeout=0.01, retry_config=RetryConfig(max_attempts=2))
    async with EventsClient(config, transport=Trickle()) as events:
        assert await events.send(EVENT) == Sent(Verdict.AGAIN, None, "no answer: TimeoutError", attempts=2)


async def test_a_defect_is_not_hidden() -> None:
    async with client(Endpoint(ZeroDivisionError())) as events:
        with pytest.raises(ZeroDivisionError):
            await events.send(EVENT)


async def test_no_log_has_the_routing_key() -> None:
    with structlog.testing.capture_logs() as logs:
        async with client(Endpoint(httpx.Response(500))) as events:
            await events.send(EVENT)
    assert logs
    assert KEY not in repr(logs)
    assert logs[-1]["event"] == "PagerDuty did not take the request."
    assert logs[-1]["attempts"] == 3


@pytest.mark.parametrize(
    ("given", "base"),
    [
        pytest.param(US_EVENTS, US_EVENTS, id="US"),
        pytest.param(f"{EU_EVENTS}/", EU_EVENTS, id="EU with a slash"),
        pytest.param(f"{US_EVENTS}/v2/enqueue", US_EVENTS, id="full address"),
        pytest.param(f"{US_EVENTS}/v2/enqueue/", US_EVENTS, id="full address with a slash"),
        pytest.param(f"{US_EVENTS}/v2/change/enqueue", US_EVENTS, id="address of change events"),
        pytest.param(f"{US_EVENTS}/v2", US_EVENTS, id="with the version"),
        pytest.param(" http://127.0.0.1:8081/pd/v2/enqueue ", "http://127.0.0.1:8081/pd", id="a proxy's folder"),
    ],
)
def test_base_url(given: str, base: str) -> None:
    assert ApiConfig(base_url=given).base_url == base


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"base_url": "events.pagerduty.com"}, id="no scheme"),
        pytest.param({"base_url": "ftp://events.pagerduty.com"}, id="other scheme"),
        pytest.param({"base_url": "https://"}, id="no host"),
        pytest.param({"base_url": "https://events.pagerduty.com/?a=b"}, id="query"),
        pytest.param({"timeout": 0}, id="no time"),
        pytest.param({"version": "v3"}, id="unknown version"),
        pytest.param({"retry_config": {"max_attempts": 0}}, id="no attempt"),
        pytest.param({"retries": 3}, id="unknown key"),
    ],
)
def test_unusable_config(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ApiConfig.model_validate(given)
