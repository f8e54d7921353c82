"""Requests to the REST API v2 through PagerDuty's own client, in threads: bounded, paced, judged.

The client (`pagerduty`, kept by PagerDuty) is synchronous. Its own retries sleep in the thread, for a 429 without end,
and its pages cannot wait for a budget: so every request goes through here alone, and is tried again here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import stamina
import structlog
from httpx2 import Response
from pagerduty import Error, HttpError, RestApiV2Client, UrlError

from streamproc.core.errors import Rejected, StreamprocError, Transient, Unusable
from streamproc.sinks.pagerduty.budget import Budget
from streamproc.sinks.pagerduty.client import pause_for
from streamproc.sinks.pagerduty.config import EU_REST, US_REST, RestConfig, is_local
from streamproc.sinks.pagerduty.verdict import retry_after

log = structlog.get_logger(__name__)

LAST = 10_000
"""`offset` and `limit` together may not be over it (developer-docs, "Pagination")."""
PAGE = 100
NOT_FOUND = "not_found"
"""Reason of a refusal: there is no such thing."""
_THREADS = 4
_FIRST_PAUSE, _LONGEST_PAUSE, _JITTER = 0.5, 15.0, 1.0
_SHOWN = 300
_READS = "GET"
_REASONS: Mapping[int, str] = {HTTPStatus.NOT_FOUND: NOT_FOUND, HTTPStatus.PAYMENT_REQUIRED: "no_ability"}
_AGAIN_STATUS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class _Client(RestApiV2Client):
    """The client with one attempt a request, and plain HTTP for this machine (the emulator)."""

    max_network_attempts = 0

    @property
    def url(self) -> str:
        return str(self._url)

    @url.setter
    def url(self, given: str) -> None:
        if not given.startswith("https://") and not is_local(urlsplit(given).hostname or ""):
            raise UrlError("API base URL must use scheme https://")
        self._url = given

    def postprocess(self, response: Response, suffix: str | None = None) -> None:  # noqa: ARG002  as it is called
        """Let no 429 reach the client's own loop, which would try again for ever; count nothing, log nothing."""
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise HttpError("Too Many Requests", response)


class _Again(Exception):
    """A request that may succeed later."""

    def __init__(self, failure: Transient, *, taken: bool) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.taken = taken
        """Whether PagerDuty may have done what was asked."""


class Calls:
    """Requests to one account.

    Args:
        config: where, with which key, how often.
        budget: asked before every attempt.
        most_seconds: no further attempt begins later than this after the first.
        clock: monotonic seconds.
        now: the wall clock, for a Retry-After that names a date.

    Raises:
        Unusable: there is no API key.
    """

    def __init__(
        self,
        config: RestConfig,
        budget: Budget,
        *,
        most_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not config.api_key.get_secret_value():
            raise Unusable("there is no key of PagerDuty's REST API: set PAGERDUTY_API_KEY, or pagerduty.rest.api_key")
        self._config = config
        self._budget = budget
        self._most_seconds = most_seconds
        self._clock = clock
        self._now = now
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pagerduty-rest")
        self._client = _Client(
            config.api_key.get_secret_value(), default_from=config.from_email or None, base_url=config.base_url
        )
        self._client.timeout = math.ceil(config.timeout)

    async def aclose(self) -> None:
        """Close the connections; what is under way is given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._client.close)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        repeatable: bool = True,
    ) -> Any:
        """Return the JSON of an answer, None where it has no body.

        Args:
            method: GET, PUT, POST or DELETE.
            path: for example `/incidents`.
            params: the query; a list becomes `name[]` for each of its values.
            body: what is sent, as JSON.
            repeatable: whether it does no harm if PagerDuty does it twice; else only what it surely did not do is tried
                again.

        Raises:
            Transient: PagerDuty did not answer, or could not; attempts or seconds are used up.
            Unusable: the key, or what it may do, is at fault; the message has the mend.
            Rejected: PagerDuty will never take this request; `reason` is `not_found`, `no_ability` or `refused`.
        """
        started = self._clock()

        def pause(failure: Exception) -> bool | float:
            if not isinstance(failure, _Again) or (failure.taken and not repeatable):
                return False
            return pause_for(failure.failure.retry_after, self._clock() - started, self._most_seconds)

        @stamina.retry(
            on=pause,
            attempts=self._config.retry_config.max_attempts,
            timeout=self._most_seconds,
            wait_initial=_FIRST_PAUSE,
            wait_max=_LONGEST_PAUSE,
            wait_jitter=_JITTER,
            wait_exp_base=self._config.retry_config.backoff_factor,
        )
        async def attempt() -> Any:
            await self._budget.take(1)
            return self._judged(await self._request(method, path, params, body), method, path)

        try:
            return await attempt()
        except _Again as again:
            log.warning("PagerDuty's REST API did not answer the request.", method=method, path=path, why=str(again))
            raise again.failure from again.__cause__

    async def page(self, path: str, name: str, params: Mapping[str, Any], offset: int) -> tuple[list[Any], bool]:
        """Return one page of a list, and whether there are more.

        Raises:
            Transient, Unusable, Rejected: as `ask`.
        """
        answer = await self.ask("GET", path, params={**params, "limit": PAGE, "offset": offset})
        found = answer.get(name) if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise self._strange("GET", path)
        return found, bool(answer.get("more")) and bool(found)

    async def _request(self, method: str, path: str, params: Mapping[str, Any] | None, body: Any) -> Response:
        loop = asyncio.get_running_loop()
        given = {name: value for name, value in (("params", params), ("json", body)) if value}
        try:
            # The client bounds each read, not the whole: an answer that trickles in would never end.
            async with asyncio.timeout(self._config.timeout):
                return await loop.run_in_executor(self._threads, self._send, method, path, given)
        except TimeoutError as late:
            what = f"{method} {path}: no answer within {self._config.timeout:g} s"
            raise _Again(Transient(what), taken=method != _READS) from late

    def _send(self, method: str, path: str, given: Mapping[str, Any]) -> Response:
        try:
            return self._client.request(method, path, **given)
        except HttpError as failure:
            answer = failure.response
            if not isinstance(answer, Response):
                raise
            return answer
        except Error as failure:
            why = failure.__cause__ or failure
            what = f"{self._config.base_url} cannot be reached: {type(why).__name__} {why}".rstrip()
            raise _Again(Transient(what), taken=method != _READS) from failure

    def _judged(self, answer: Response, method: str, path: str) -> Any:
        status = answer.status_code
        if answer.is_success:
            if not answer.content.strip():
                return None
            try:
                return answer.json()
            except ValueError as failure:
                raise self._strange(method, path) from failure
        said = f"{method} {path}: PagerDuty answers {status}: {_words(answer)}"
        if status in _AGAIN_STATUS or status // 100 != HTTPStatus.BAD_REQUEST // 100:
            taken = status != HTTPStatus.TOO_MANY_REQUESTS and method != _READS
            raise _Again(Transient(said, self._wait(answer)), taken=taken)
        raise self._refusal(status, said, method)

    def _refusal(self, status: int, said: str, method: str) -> StreamprocError:
        if status == HTTPStatus.UNAUTHORIZED:
            base = self._config.base_url
            other = {US_REST: f"the EU needs {EU_REST}", EU_REST: f"the US needs {US_REST}"}.get(base, "")
            region = f"; an account in {other} as pagerduty.rest.base_url" if other else ""
            return Unusable(f"{said} ({base}): the API key is not known there; check PAGERDUTY_API_KEY{region}")
        if status == HTTPStatus.FORBIDDEN:
            return Unusable(f"{said}: the API key may not do this; give one that is not read-only, of a user who may")
        if status == HTTPStatus.BAD_REQUEST and method != _READS and not self._config.from_email:
            return Unusable(f"{said}; a key of the account needs pagerduty.rest.from_email (PAGERDUTY_FROM_EMAIL)")
        if status == HTTPStatus.BAD_REQUEST and "requester user" in said.lower():
            return Unusable(f"{said}: {self._config.from_email} (pagerduty.rest.from_email) is no user of this account")
        return Rejected(_REASONS.get(status, "refused"), said)

    def _wait(self, answer: Response) -> float | None:
        asked = retry_after(answer.headers.get("Retry-After"), self._now())
        if asked is None and answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return retry_after(answer.headers.get("ratelimit-reset"), self._now())
        return asked

    def _strange(self, method: str, path: str) -> Transient:
        base = self._config.base_url
        return Transient(f"{method} {path}: what answers at {base} is not PagerDuty's REST API; is a proxy between?")


def _words(answer: Response) -> str:
    """Return what an error says, at most 300 characters."""
    try:
        given = answer.json()
    except ValueError:
        given = None
    error = given.get("error") if isinstance(given, dict) else None
    if not isinstance(error, dict):
        return answer.text.strip()[:_SHOWN] or "nothing more"
    errors = error.get("errors")
    more = "; ".join(str(one) for one in errors) if isinstance(errors, list) else ""
    return ": ".join(filter(None, (str(error.get("message", "")), more)))[:_SHOWN] or "nothing more"
