"""The one way to Redis. Asking never raises and never takes long: where there is no answer, it is unknown."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Final, Self, TypeVar

import structlog
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from streamproc.core.errors import Unusable
from streamproc.runtime.redis.config import Config
from streamproc.runtime.redis.metrics import RedisMetrics, Use

log = structlog.get_logger(__name__)

LEFT_ALONE = 3.0
"""Seconds that Redis is not asked after a failure; then one request tries."""
WATCH_EVERY = 5.0
SAY_EVERY = 30.0
ENDS_WITHIN = 0.5
"""Seconds after which a task is cancelled once more."""
T = TypeVar("T")


class Unknown(Enum):
    """What is known where Redis did not answer."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


class Connection:
    """A client with short time-outs, behind a breaker. Use it as an async context manager, on one event loop.

    Args:
        config: where.
        registry: where metrics are kept.
        left_alone: seconds that Redis is not asked after a failure.
        watch_every: seconds between looks whether it answers.

    Raises:
        Unusable: the settings name no address that can be used.
    """

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry,
        *,
        left_alone: float = LEFT_ALONE,
        watch_every: float = WATCH_EVERY,
    ) -> None:
        self.metrics = RedisMetrics(registry)
        self.prefix = config.prefix
        self._timeout = config.timeout
        self._left_alone = left_alone
        self._watch_every = watch_every
        self._client = client_of(config)
        self._ask_again_at = 0.0
        self._trying = False
        self._said_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.ask("watch", lambda client: client.ping())
        self._task = asyncio.create_task(self._watch(), name="streamproc-redis")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self._client.aclose()

    @property
    def up(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._ask_again_at == 0.0

    async def ask(self, use: Use, call: Callable[[Redis], Awaitable[T]]) -> T | Unknown:
        """Return what Redis answers, or UNKNOWN where it does not within the time-out, or is left alone.

        Args:
            use: what it is for.
            call: asks; it may be broken off, and Redis may have done it nevertheless.
        """
        if self._trying or time.monotonic() < self._ask_again_at:
            self.metrics.requests.labels(use, "left_alone").inc()
            return UNKNOWN
        self._trying = not self.up
        try:
            async with asyncio.timeout(self._timeout):
                answer = await call(self._client)
        except (RedisError, OSError, TimeoutError, ValueError) as error:  # ValueError: what is no UTF-8
            self._fail(use, error)
            return UNKNOWN
        finally:
            self._trying = False
        self.metrics.requests.labels(use, "answered").inc()
        self._recover()
        return answer

    def _fail(self, use: Use, error: Exception) -> None:
        now = time.monotonic()
        self._ask_again_at = now + self._left_alone
        self.metrics.up.set(0)
        self.metrics.requests.labels(use, "failed").inc()
        if self._said_at is None or now - self._said_at >= SAY_EVERY:
            self._said_at = now
            log.warning("Redis does not answer; everything goes on without it.", use=use, error=_said(error))

    def _recover(self) -> None:
        self.metrics.up.set(1)
        if not self.up and self._said_at is not None:
            self._said_at = None
            log.info("Redis answers again.")
        self._ask_again_at = 0.0

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_every)
            await self.ask("watch", lambda client: client.ping())


def client_of(config: Config) -> Redis:
    """Return the client of an address. It connects when it is first asked, and never tries anything again by itself.

    Raises:
        Unusable: there is no address, or none that can be used.
    """
    if config.url is None:
        raise Unusable("redis.url is not set")
    more: dict[str, Any] = {} if config.tls_ca is None else {"ssl_ca_certs": str(config.tls_ca)}
    try:
        client: Redis = Redis.from_url(
            config.url.get_secret_value(),
            socket_timeout=config.timeout,
            socket_connect_timeout=config.timeout,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            **more,
        )
    except (RedisError, ValueError):
        # Without the cause: it may show the address, which may hold a password.
        raise Unusable("redis.url: is no address of a Redis server") from None
    return client


async def end(task: asyncio.Task[None] | None) -> None:
    """End a task that asks Redis. A cancellation that meets a time-out of the client may be lost: so it is repeated."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=ENDS_WITHIN)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
