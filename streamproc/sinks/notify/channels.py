"""Messages to people beside PagerDuty, bounded in rate: an outage of everything must not flood a chat."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

MINUTE = timedelta(minutes=1)


class Notifier(Protocol):
    """A way to tell people something."""

    async def tell(self, title: str, body: str) -> bool:
        """Tell it; True where it was taken. Never raises for an outside failure."""


class Channels:
    """A notifier that says at most so much a minute; what was held back is counted in the next message.

    Args:
        notifier: who tells it.
        rate_limit: messages in any 60 seconds.
        now: the moment.
    """

    def __init__(self, notifier: Notifier, rate_limit: int, now: Callable[[], datetime]) -> None:
        self._notifier = notifier
        self._rate_limit = rate_limit
        self._now = now
        self._told: deque[datetime] = deque()
        self.held_back = 0

    async def tell(self, title: str, body: str) -> bool:
        """Tell it, unless too much was told within a minute; True where it was taken."""
        now = self._now()
        while self._told and now - self._told[0] >= MINUTE:
            self._told.popleft()
        if len(self._told) >= self._rate_limit:
            self.held_back += 1
            return False
        self._told.append(now)
        held = self.held_back
        taken = await self._notifier.tell(title, body + _more(held))
        if taken:
            self.held_back -= held
        return taken


def _more(held: int) -> str:
    if not held:
        return ""
    messages = "1 earlier message was" if held == 1 else f"{held} earlier messages were"
    return f"\n({messages} held back by pagerduty.notifications.rate_limit.)"
