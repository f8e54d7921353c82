"""What answers from outside: the gateway, PagerDuty's two hosts, Redis. Nothing is sent that anybody would hear of."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
from prometheus_client import CollectorRegistry

from streamproc import __version__
from streamproc.core.errors import Rejected, StreamprocError, Transient
from streamproc.doctor.finding import WITHIN, Finding, State, compare_clocks
from streamproc.gateway.config import GatewayConfig
from streamproc.runtime.redis.config import Config as RedisConfig
from streamproc.runtime.redis.connection import Connection, Unknown
from streamproc.sinks.pagerduty.config import ApiConfig, RestConfig, RetryConfig
from streamproc.sinks.pagerduty.rest import RestClient

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104  compared with, not bound to
"""Addresses to listen on that are none to ask at, and where to ask then."""
Now = Callable[[], datetime]


def address_of(gateway: GatewayConfig) -> str:
    """Return where the gateway of these settings answers, seen from its machine."""
    host = EVERYWHERE.get(gateway.host, gateway.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{gateway.port}"


async def find_gateway(
    url: str, *, needed: bool, now: Now, transport: httpx.AsyncBaseTransport | None = None
) -> list[Finding]:
    """Return whether a gateway is ready.

    Args:
        url: its address.
        needed: whether a process works that should answer there.
        now: this machine's clock.
        transport: what carries the request; httpx's own by default.
    """
    try:
        answer = await _get(f"{url.rstrip('/')}/ready", transport)
    except httpx.HTTPError as error:
        said = f"nothing answers at {url}: {_words(error)}"
        if needed:
            mend = "give --url where it listens (gateway.host and gateway.port); read its log"
            return [Finding("gateway", State.FAIL, said, mend)]
        return [Finding("gateway", State.WARN, said, "start it: `streamproc run`, or on Kafka `streamproc gateway`")]
    return [_readiness(url, answer), *_clock("the gateway", answer, now())]


def _readiness(url: str, answer: httpx.Response) -> Finding:
    try:
        told = answer.json()
        ready, why_not = bool(told["ready"]), str(told["why_not"])
    except (ValueError, KeyError, TypeError):
        said = f"what answers at {url} is no streamproc (HTTP {answer.status_code})"
        return Finding("gateway", State.FAIL, said, "give the right --url, or free the port for it")
    if ready:
        return Finding("gateway", State.OK, f"is ready at {url}")
    return Finding("gateway", State.FAIL, f"is not ready: {why_not}", "wait while it catches up; else read its log")


async def find_events(
    config: ApiConfig, *, now: Now, transport: httpx.AsyncBaseTransport | None = None
) -> list[Finding]:
    """Return whether the Events API's host can be reached, and how its clock differs; no event is sent."""
    try:
        answer = await _get(config.base_url, transport)
    except httpx.HTTPError as error:
        return [Finding("pagerduty", State.FAIL, f"{config.base_url}: {_words(error)}", _mend(error, config.base_url))]
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        said = f"{config.base_url} answers {answer.status_code}"
        found = Finding("pagerduty", State.WARN, said, "wait: pages are kept and tried again; see status.pagerduty.com")
    else:
        found = Finding("pagerduty", State.OK, f"{config.base_url} is in reach; no event was sent")
    return [found, *_clock("PagerDuty", answer, now())]


async def find_rest(config: RestConfig) -> list[Finding]:
    """Return whether the key of the REST API is taken; one small list is read."""
    if not config.api_key.get_secret_value():
        said = "there is no key: what people did while we were away is not seen, and nothing is compared"
        return [Finding("pagerduty rest", State.WARN, said, "set PAGERDUTY_API_KEY, or pagerduty.rest.api_key")]
    once = config.model_copy(update={"retry_config": RetryConfig(max_attempts=1), "timeout": min(config.timeout, 4.0)})
    try:
        async with RestClient(once) as client:
            await client.priorities()
    except Rejected:
        pass  # an account without priorities: the key itself was taken
    except StreamprocError as error:
        said = " ".join(str(error).split())
        host = urlsplit(config.base_url).hostname
        key = "make a new key under Integrations > API Access Keys"
        mend = f"let this machine reach {host}: firewall, or HTTPS_PROXY" if isinstance(error, Transient) else key
        return [Finding("pagerduty rest", State.FAIL, said, mend)]
    return [Finding("pagerduty rest", State.OK, f"the key is taken at {config.base_url}")]


async def find_redis(config: RedisConfig, *, now: Now) -> list[Finding]:
    """Return whether Redis answers, and how its clock differs; nothing where none is set."""
    if config.url is None:
        return []
    async with Connection(config, CollectorRegistry()) as connection:
        told = await connection.ask("watch", lambda client: client.info("server"))
        stamp = await connection.ask("watch", lambda client: client.time())
    if isinstance(told, Unknown) or isinstance(stamp, Unknown):
        said = f"there is no answer within {config.timeout:g} s: everything goes on without it"
        return [Finding("redis", State.WARN, said, "is redis.url right, and the server up? See docs/redis.md")]
    seconds, micros = stamp
    theirs = datetime.fromtimestamp(seconds + micros / 1_000_000, UTC)
    return [
        Finding("redis", State.OK, f"Redis {told['redis_version']} answers"),
        compare_clocks("Redis", theirs, now()),
    ]


async def _get(url: str, transport: httpx.AsyncBaseTransport | None) -> httpx.Response:
    headers = {"User-Agent": f"streamproc/{__version__}", "Accept": "application/json"}
    async with httpx.AsyncClient(transport=transport, timeout=WITHIN - 1.0, headers=headers) as client:
        async with asyncio.timeout(WITHIN - 0.5):
            return await client.get(url)


def _clock(name: str, answer: httpx.Response, ours: datetime) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        return
    yield compare_clocks(name, theirs.replace(tzinfo=theirs.tzinfo or UTC), ours)


def _words(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def _mend(error: BaseException, url: str) -> str:
    host = urlsplit(url).hostname
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"let this machine resolve {host} (DNS), or set pagerduty.api.base_url right"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "TLS: does a proxy stand between? Make its authority known (SSL_CERT_FILE)"
    return f"let this machine reach {host} at port {urlsplit(url).port or 443}: firewall, or HTTPS_PROXY"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
