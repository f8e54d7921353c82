"""Send events to PagerDuty: pooled, bounded in attempts and seconds, with jitter; never raises for the outside."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import httpx
import stamina
import structlog

from streamproc import __version__
from streamproc.events.escalation import Verdict
from streamproc.sinks.pagerduty.config import ApiConfig
from streamproc.sinks.pagerduty.connections import KEPT_FOR, MOST, connections_to
from streamproc.sinks.pagerduty.encode import Encoded
from streamproc.sinks.pagerduty.verdict import retry_after, verdict

log = structlog.get_logger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE, _JITTER = 1.0, 30.0, 1.0
_LIMITS = httpx.Limits(max_connections=MOST, max_keepalive_connections=MOST, keepalive_expiry=KEPT_FOR)


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a request."""

    verdict: Verdict
    status: int | None
    """HTTP status of the last attempt, None where there was no answer."""
    message: str
    attempts: int
    retry_after: float | None = None
    """Seconds that PagerDuty asked to wait before the next attempt, None where it named none."""


class _Again(Exception):
    def __init__(self, sent: Sent) -> None:
        super().__init__(sent.message)
        self.sent = sent


class EventsClient:
    """A client of the Events API v2. Close it, or use it as an async context manager.

    Args:
        config: where and how often.
        transport: what carries the requests; `Connections` by default, httpx's own where a proxy is set.
        most_seconds: no further attempt begins later than this after the first.
        clock: monotonic seconds.
        now: the wall clock, for a Retry-After that names a date.
        before: called before every attempt; it may end the process.
    """

    def __init__(
        self,
        config: ApiConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        most_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._config = config
        self._most_seconds = most_seconds
        self._clock = clock
        self._now = now
        self._before = before
        self._http = httpx.AsyncClient(
            transport=transport or connections_to(config.base_url),
            limits=_LIMITS,
            timeout=config.timeout,
            headers={"Content-Type": "application/json", "User-Agent": f"streamproc/{__version__}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the pooled connections."""
        await self._http.aclose()

    async def send(self, encoded: Encoded, wanted: Callable[[], bool] = lambda: True) -> Sent:
        """Send a request until PagerDuty takes or refuses it, or attempts or seconds are used up.

        Args:
            encoded: the request.
            wanted: asked before every attempt but the first; once it says no there is none. Whoever took over from us
                may have said something newer meanwhile, which an old request must not follow.
        """
        started = self._clock()
        numbers = itertools.count(1)
        last: Sent | None = None

        def pause(failure: Exception) -> bool | float:
            if not isinstance(failure, _Again):
                return False
            return pause_for(failure.sent.retry_after, self._clock() - started, self._most_seconds)

        # No arguments: the retry library logs them, and the body holds the routing key.
        @stamina.retry(
            on=pause,
            attempts=self._config.retry_config.max_attempts,
            timeout=self._most_seconds,
            wait_initial=_FIRST_PAUSE,
            wait_max=_LONGEST_PAUSE,
            wait_jitter=_JITTER,
            wait_exp_base=self._config.retry_config.backoff_factor,
        )
        async def attempt() -> Sent:
            nonlocal last
            if last is not None and not wanted():
                return last
            self._before()
            last = replace(await self._post(encoded), attempts=next(numbers))
            if last.verdict is Verdict.AGAIN:
                raise _Again(last)
            return last

        try:
            return await attempt()
        except _Again as failure:
            sent = failure.sent
            log.warning(
                "PagerDuty did not take the request.",
                path=encoded.path,
                status=sent.status,
                message=sent.message,
                attempts=sent.attempts,
            )
            return sent

    async def _post(self, encoded: Encoded) -> Sent:
        try:
            # httpx bounds each read, not the whole: an answer that trickles in would never end.
            async with asyncio.timeout(self._config.timeout):
                answer = await self._http.post(f"{self._config.base_url}{encoded.path}", content=encoded.body)
        except (httpx.HTTPError, TimeoutError) as failure:
            judged = verdict(None, b"")
            message = f"{judged.message}: {type(failure).__name__} {failure}".rstrip()
            return Sent(judged.verdict, None, message, attempts=1)
        judged = verdict(answer.status_code, answer.content)
        wait = retry_after(answer.headers.get("Retry-After"), self._now())
        return Sent(judged.verdict, answer.status_code, judged.message, attempts=1, retry_after=wait)


def pause_for(asked: float | None, elapsed: float, most: float) -> bool | float:
    """Return the seconds to wait before the next attempt: True for the usual backoff, False for no further attempt.

    Args:
        asked: seconds that the other side asked for, None where it asked for none.
        elapsed: seconds since the first attempt.
        most: seconds after which no attempt may begin.
    """
    if asked is None:
        return True
    return asked if elapsed + asked <= most else False
