"""How fast the sender goes: the window of a rate limit, the pauses between attempts, and how it waits.

The library `limits` is not used here: its in-memory storage reads the system's clock itself, so that no test or replay
could move it, cleans up in threads, and keeps no part of a limit for what is urgent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Protocol

LOOK_BACK = 61.0
"""Seconds: PagerDuty looks back 60 s (developer-docs, `05-Rate-Limits.md`); one more for what the network delays."""
FIRST, LONGEST = 1.0, 60.0
"""Seconds of the first and of the longest pause."""


class Timing(Protocol):
    """Seconds that never go back, and waiting for them; tests move both by hand."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return when `event` is set or `seconds` have passed; None waits for the event alone."""


class LoopTiming:
    """The machine's own time."""

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Return when `event` is set or `seconds` have passed; None waits for the event alone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


class Window:
    """What one routing key may still send: never more than `limit` requests in any window of `span` seconds.

    A log of the moments of the last requests ("moving window"): a token bucket of the same size would let through
    twice the limit within one look-back. Moments are not kept over a restart; if that breaks the limit, PagerDuty
    answers 429 and the sender slows down.
    """

    def __init__(self, limit: int, span: float = LOOK_BACK) -> None:
        self._limit = limit
        self._span = span
        self._moments: deque[float] = deque()

    def free(self, now: float) -> int:
        """Return how many requests may go now."""
        while self._moments and self._moments[0] + self._span <= now:
            self._moments.popleft()
        return max(0, self._limit - len(self._moments))

    def spend(self, now: float, count: int = 1) -> None:
        """Note `count` requests; more than are free where they were made without asking."""
        self._moments.extend([now] * count)

    def next_free(self) -> float | None:
        """Return when the oldest request falls out of the window, None where there is none."""
        return self._moments[0] + self._span if self._moments else None


def backoff(failures: int, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row: doubling from 1 to 60, at least 1.

    Args:
        failures: 1 for the first.
        jitter: 0 to 1; up to half of the pause is taken off by it, so that many senders do not come back at once.
    """
    whole = min(LONGEST, FIRST * 2.0 ** min(failures - 1, 16))
    return max(FIRST, whole * (1.0 - jitter / 2.0))
