"""The lanes of the sender: one for each routing key. No I/O, no clock.

A lane answers the question what goes next: criticals before resolves before the rest, then what has waited longest;
within the pace of its routing key, and one at a time while PagerDuty does not answer it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from streamproc.runtime.allowance import least_urgent
from streamproc.runtime.pace import Window, backoff
from streamproc.runtime.work import OTHER, Work

MOST_ASKED = 600.0
"""Seconds of a Retry-After that are obeyed at most: a mistaken header must not silence pages for a day."""


@dataclass(slots=True, eq=False)
class Lane:
    """One routing key: what waits for it, at which pace it goes, and whether PagerDuty answers it.

    While it does not, one request at a time asks whether it does again, each time for another row: else one request
    that PagerDuty cannot digest (500) would hold up all the others. Such a one backs off by itself.
    """

    routing_key: str
    window: Window
    reserve: int
    """Requests of the window that only urgent ones may use; the last half of them only criticals."""
    in_flight: int
    works: dict[str, Work] = field(default_factory=dict)
    waiting: dict[str, Work] = field(default_factory=dict)
    """Those that a request can be sent for."""
    unheard: dict[str, Work] = field(default_factory=dict)
    """Those that are settled without a request."""
    flying: int = 0
    failures: int = 0
    wave: int = 0
    """Rises with every failure that was not known when its request began."""
    retry_at: float = 0.0
    silent_since: datetime | None = None
    """Since when people may have missed something, None while PagerDuty answers."""
    error: str = ""

    def place(self, work: Work) -> None:
        """Put a work where it belongs now."""
        self.waiting.pop(work.key, None)
        self.unheard.pop(work.key, None)
        if work.busy or work.head is None:
            return
        (self.unheard if work.unheard else self.waiting)[work.key] = work

    @property
    def settles(self) -> bool:
        """True where what needs no request may be reported.

        While it is open whether PagerDuty is in reach it is kept, so that the digest can tell of it, and even the next
        process can.
        """
        return bool(self.unheard) and not self.flying and (self.silent_since is None or not self.waiting)

    def drop(self, work: Work) -> None:
        """Forget a work."""
        for held in (self.works, self.waiting, self.unheard):
            held.pop(work.key, None)

    def next(self, now: float, account: int = OTHER) -> Work | None:
        """Return the work that a request may be sent for now, None where none may be.

        Args:
            now: monotonic seconds.
            account: the least urgent rank that all routing keys together leave room for.
        """
        if not self.waiting or self.flying >= (1 if self.failures else self.in_flight) or now < self.retry_at:
            return None
        least = min(account, least_urgent(self.window.free(now), self.reserve))
        ready = [work for work in self.waiting.values() if work.urgency[0] <= least and work.retry_at <= now]
        return min(ready, key=self._turn, default=None)

    def _turn(self, work: Work) -> tuple[int, tuple[int, datetime], str]:
        return (work.failed_wave if self.failures else 0, work.urgency, work.key)

    def next_due(self, now: float) -> float | None:
        """Return when `next` may say something else although nothing happens, None where it cannot."""
        if not self.waiting or self.flying >= (1 if self.failures else self.in_flight):
            return None
        if now < self.retry_at:
            return self.retry_at
        moments = (self.window.next_free(), *(work.retry_at for work in self.waiting.values()))
        return min((moment for moment in moments if moment is not None and moment > now), default=None)

    def note_answer(self) -> None:
        """Note that PagerDuty answers this routing key."""
        self.failures, self.retry_at, self.error = 0, 0.0, ""

    def note_failure(
        self, work: Work, began: Began, now: float, asked: float | None, error: str, jitter: float
    ) -> None:
        """Note that a request was not answered for good, and back off.

        Args:
            work: what was sent.
            began: how the lane stood when the request began.
            now: monotonic seconds.
            asked: seconds that PagerDuty asked to wait, None where it named none.
            error: its words.
            jitter: 0 to 1.
        """
        if began.wave == self.wave:  # else an earlier answer of the same volley has been counted
            self.failures += 1
            self.wave += 1
            self.retry_at = now + backoff(self.failures, jitter)
        self.retry_at = max(self.retry_at, now + min(asked or 0.0, MOST_ASKED))
        self.note_silence(began.moment)
        self.error = work.error = error
        work.failed_wave = self.wave
        if began.healthy:
            work.failures += 1
            work.retry_at = now + backoff(work.failures, jitter)

    def gone(self) -> list[Work]:
        """Return what came and went unheard, and has not been told of; what resolved first stands first."""
        found = [(resolved, work.key, work) for work in self.works.values() if (resolved := work.gone) is not None]
        return [work for *_, work in sorted(found)]

    def note_silence(self, since: datetime) -> None:
        """Note that something may have come and gone unheard since a moment."""
        self.silent_since = since if self.silent_since is None else min(since, self.silent_since)


@dataclass(frozen=True, slots=True)
class Began:
    """How a lane stood when a request began."""

    wave: int
    healthy: bool
    moment: datetime
