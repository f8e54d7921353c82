"""How many requests the REST API may be asked: a port, and the share of one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

_BURST = 0.1
"""Share of a minute's requests that may go at once; the rest flows evenly, so that no minute sees more than its all."""


class Budget(Protocol):
    """What is still free of the requests that PagerDuty takes."""

    async def take(self, n: int = 1) -> None:
        """Return when `n` requests may be made; they count as made."""


class LocalBudget:
    """A token bucket of one process, first come, first served.

    Args:
        per_minute: requests that any 60 seconds may see.
        clock: monotonic seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        per_minute: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._burst = per_minute * _BURST
        self._rate = (per_minute - self._burst) / 60.0
        self._clock = clock
        self._sleep = sleep
        self._tokens = self._burst
        self._at = clock()

    async def take(self, n: int = 1) -> None:
        """Return when `n` requests may be made; they count as made, and stay so where the wait is given up."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - n
        self._at = now
        # Below zero is a debt: whoever comes next waits behind it.
        if self._tokens < 0:
            await self._sleep(-self._tokens / self._rate)
