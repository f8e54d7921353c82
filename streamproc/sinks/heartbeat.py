"""The heartbeat to a watcher outside (healthchecks.io, Dead Man's Snitch, ...), who raises the alarm when it stops."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Self
from urllib.parse import urlsplit

import httpx
import stamina
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from streamproc import __version__

TIMEOUT = 10.0
ATTEMPTS, PAUSE = 2, 1.0


class HeartbeatConfig(BaseModel):
    """Who watches the watcher."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: SecretStr | None = None
    """Asked for (GET) while the pipeline is healthy from end to end; the other side raises the alarm when that stops.
    Empty sends no canaries and no heartbeat. It is a secret: whoever knows it can keep the alarm silent."""
    every: timedelta = Field(default=timedelta(seconds=60), gt=timedelta(0))
    """How often. The other side should wait for three of them."""
    within: timedelta = Field(default=timedelta(seconds=60), gt=timedelta(0))
    """So soon a canary alert must be through the whole pipeline."""

    @field_validator("url")
    @classmethod
    def _can_be_asked(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None or not url.get_secret_value().strip():
            return None
        said = url.get_secret_value().strip()
        try:
            parts = urlsplit(said)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("it is no http:// or https:// address")
        return SecretStr(said)


class _Failed(Exception):
    """The watcher did not take it."""


class Pinger:
    """Asks for the address. Close it, or use it as an async context manager.

    Args:
        url: the address.
        transport: what carries the request; httpx's own by default.
        timeout: seconds for an answer.
    """

    def __init__(
        self, url: str, *, transport: httpx.AsyncBaseTransport | None = None, timeout: float = TIMEOUT
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._http = httpx.AsyncClient(
            transport=transport, timeout=timeout, headers={"User-Agent": f"streamproc/{__version__}"}
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ping(self) -> str:
        """Ask once, and once more where that fails; return what went wrong, empty where the other side took it.

        The address is in no message: it is a secret.
        """

        # No arguments: the retry library logs them.
        @stamina.retry(on=_Failed, attempts=ATTEMPTS, wait_initial=PAUSE, wait_max=PAUSE, wait_jitter=0)
        async def attempt() -> None:
            await self._ask()

        try:
            await attempt()
        except _Failed as failure:
            return str(failure)
        return ""

    async def _ask(self) -> None:
        try:
            # httpx bounds each read, not the whole.
            async with asyncio.timeout(self._timeout):
                answer = await self._http.get(self._url)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise _Failed(type(error).__name__) from None
        if not answer.is_success:
            raise _Failed(f"status {answer.status_code}")
