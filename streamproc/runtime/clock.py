"""Clocks: the real one, and one that a test or a replay sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What time it is, for runtimes only; stages are told."""

    def now(self) -> datetime:
        """Return the moment, in UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the moment, in UTC."""
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands until it is set."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        """Return the moment, in UTC."""
        return self._at

    def set(self, at: datetime) -> None:
        """Move to `at`; going back is refused, as the log's time never does."""
        if at < self._at:
            raise ValueError(f"the clock stands at {self._at}, it cannot go back to {at}")
        self._at = at

    def advance(self, by: timedelta) -> None:
        """Move on by `by`."""
        self.set(self._at + by)
