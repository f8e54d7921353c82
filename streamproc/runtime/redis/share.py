"""What one process may send of an account's budget: leased from all of it, or its share while alone. No I/O, no clock.

While Redis answers, requests are leased a few at a time, and what is not used is given back with the next question.
While it does not, each process has `limit / holders` requests in the window, less its part of what all of them were
last known to have sent, and less what others may have leased since. So at a loss for all of them together they send at
most one lease each more than the limit, in whatever order they notice it. Where only some lose Redis, each of these may
send its share on top, until Redis has missed it for some seconds and keeps that share back from the others. A process
that begins while Redis is away knows of no other, and takes all of the limit for its share.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streamproc.runtime.allowance import RESERVE, least_urgent
from streamproc.runtime.pace import LOOK_BACK
from streamproc.runtime.work import CRITICAL, OTHER, RESOLVE

LEASED_FOR = 2.0
"""Seconds that a lease may be used."""
SPAN = LOOK_BACK + LEASED_FOR + 1.0
"""Seconds that a lease counts: used at its end it is still within PagerDuty's look back; Redis counts whole seconds."""
PARTS = 20
"""A lease is this part of the limit at most: what is lost, or sent too much, when Redis goes."""
SHARED = 4
"""All leases together are this part of the limit at most, so that idle processes do not hold all of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of Redis."""

    want: int
    floor: int
    """Requests that must be left after the lease."""
    known: str
    """Which life of the keys was last seen; empty before the first answer."""
    back: tuple[int, int]
    """Second of the last lease (Redis's time), and how many of it were not used."""
    told: tuple[tuple[float, int], ...]
    """Requests that Redis has not heard of: their age in seconds, and how many."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Redis says."""

    life: str
    """Which life of the keys this is; another one than before where they were lost."""
    settling: bool
    """True while not everybody can have told what it sent: nothing is leased then."""
    second: int
    granted: int
    left: int
    """Requests that are left of the limit; below 0 where it was overdrawn."""
    holders: int
    used: tuple[tuple[float, int], ...]
    """What all holders have sent or leased: its age in seconds, and how many."""


class Share:
    """What this process may send.

    Args:
        limit: requests of the account in any minute.
        span: seconds that a request counts.
    """

    def __init__(self, limit: int, span: float = SPAN) -> None:
        self.limit = limit
        self.holders = 1
        self.alone = False
        """True while it counts on its own."""
        self._span = span
        self._life = ""
        self._pocket, self._granted, self._second = 0, 0, 0
        self._until = self._leased_at = 0.0
        self._left = 0
        self._used: deque[tuple[float, int]] = deque()
        self._told: deque[tuple[float, int]] = deque()
        """Sent by this process, and Redis has heard of it."""
        self._asked: deque[tuple[float, int]] = deque()
        """Of these it is being told."""
        self._untold: deque[tuple[float, int]] = deque()
        self._rank = OTHER

    @property
    def lease(self) -> int:
        """Requests of one lease at most."""
        return max(1, min(self.limit // PARTS, self.limit // (SHARED * self.holders)))

    @property
    def part(self) -> int:
        """Requests in the window while alone."""
        return max(1, self.limit // self.holders)

    def free(self, now: float) -> int:
        """Return how many requests may go now."""
        if not self.alone and now >= self._until:
            self.lose(now)  # nobody asked in time, whatever the reason: pages must go out
        if not self.alone:
            return self._pocket
        others = -(-self._counted(self._used, now) // self.holders)
        own = self._counted(self._asked, now) + self._counted(self._untold, now)
        return max(0, self.part - others - own)

    def least_urgent(self, now: float) -> int:
        """Return the least urgent rank that may send one request now; -1 where none may."""
        free = self.free(now)
        if self.alone:
            return least_urgent(free, self.part // RESERVE)
        return least_urgent(max(0, self._left) + free, self.limit // RESERVE) if free else least_urgent(0, 0)

    def spend(self, now: float, count: int) -> None:
        """Note `count` requests."""
        free = self.free(now)
        leased = 0 if self.alone else min(count, free)
        self._pocket -= leased
        if count > leased:
            self._untold.append((now, count - leased))

    def want(self, rank: int) -> None:
        """Note that a request of this rank waits."""
        self._rank = min(self._rank, rank)

    def next_free(self, now: float) -> float | None:
        """Return when more may be free by itself, None for never; while leasing that is when an answer is overdue."""
        if not self.alone:
            return self._until
        moments = [queue[0][0] + self._span for queue in (self._used, self._asked, self._untold) if queue]
        return min((moment for moment in moments if moment > now), default=None)

    def ask(self, now: float) -> Question:
        """Return what to ask now. What was leased cannot be used any more: it is given back."""
        keep = {OTHER: self.limit // RESERVE, RESOLVE: self.limit // RESERVE // 2, CRITICAL: 0}
        used = self._granted - self._pocket
        if used:
            self._told.append((self._leased_at, used))
        back, self._pocket, self._granted = (self._second, self._pocket), 0, 0
        self._counted(self._told, now)
        self._asked, self._untold = self._asked + self._untold, deque()
        self._counted(self._asked, now)
        told = tuple((now - moment, count) for moment, count in self._asked)
        question = Question(self.lease, keep[self._rank], self._life, back, told)
        self._rank = OTHER
        return question

    def take(self, question: Question, answer: Answer, now: float) -> None:
        """Take over an answer.

        Args:
            question: what was asked.
            answer: what came.
            now: monotonic seconds at which it came.
        """
        if question.known and answer.life != question.known:
            # Redis lost everything, and has heard nothing of this question either: all of it is told again.
            self._life = answer.life
            self._untold = self._told + self._asked + self._untold
            self._told, self._asked = deque(), deque()
            self._begin_alone()
            return
        self._life = answer.life
        self._told, self._asked = self._told + self._asked, deque()
        self._used = deque((now - age, count) for age, count in answer.used)
        if answer.settling:
            self.holders = max(self.holders, answer.holders)
            self._begin_alone()
            return
        self.alone, self.holders = False, max(1, answer.holders)
        self._pocket = self._granted = answer.granted
        self._second, self._left = answer.second, answer.left
        self._leased_at, self._until = now, now + LEASED_FOR

    def lose(self, now: float) -> None:
        """Note that Redis does not answer."""
        if not self.alone:
            # What others may have leased since the last answer.
            self._used.append((now, self.lease * (self.holders - 1)))
        self._begin_alone()

    def _begin_alone(self) -> None:
        self.alone = True
        self._pocket = self._granted = 0

    def _counted(self, queue: deque[tuple[float, int]], now: float) -> int:
        while queue and queue[0][0] + self._span <= now:
            queue.popleft()
        return sum(count for _, count in queue)
