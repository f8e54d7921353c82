"""The retry budget of an endpoint: what share of all requests may be repetitions. No I/O, no clock."""

from __future__ import annotations

from collections import deque

SHARE = 0.2
LEAST = 10
SPAN = 60.0
"""Seconds that are looked back on. Share and minimum as in Finagle's `RetryBudget` and Envoy's `retry_budget` (20 % of
the requests); the minimum is a minute's here, not a second's: PagerDuty takes about two requests a second for a key."""


class RetryBudget:
    """Lets quick retries be made while they are few beside first attempts.

    A single page that meets a hiccup is tried again within seconds. Where much fails at once, repetitions of the same
    would multiply the load on an endpoint that has too much already: 3 attempts each make 3 times as many requests.
    What is denied is not lost: its row waits for the pause of its routing key (`lanes`), and that is no quick retry.

    Args:
        share: retries for each first attempt within `span`.
        least: retries within `span` that are always allowed.
        span: seconds.
    """

    def __init__(self, share: float = SHARE, least: int = LEAST, span: float = SPAN) -> None:
        self._share = share
        self._least = least
        self._span = span
        self._firsts: deque[float] = deque()  # bounded by what the paces of the routing keys let through in a minute
        self._retries: deque[float] = deque()

    def note(self, now: float) -> None:
        """Note a first attempt."""
        self._forget(now)
        self._firsts.append(now)

    def take(self, now: float) -> bool:
        """Return whether a retry may be made now; it counts as made where it may."""
        self._forget(now)
        if len(self._retries) >= self._least + self._share * len(self._firsts):
            return False
        self._retries.append(now)
        return True

    def _forget(self, now: float) -> None:
        for moments in (self._firsts, self._retries):
            while moments and moments[0] + self._span <= now:
                moments.popleft()
