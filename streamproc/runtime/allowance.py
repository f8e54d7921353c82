"""What one account may send, over all its routing keys: a port for the sender, and the window of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamproc.runtime.pace import Window
from streamproc.runtime.work import CRITICAL, OTHER, RESOLVE

NOBODY = -1
RESERVE = 10
"""The tenth part of all requests is kept for what is urgent, the last half of it for criticals."""


def least_urgent(free: int, reserve: int) -> int:
    """Return the least urgent rank that may use one of the `free` requests; -1 where none may.

    Args:
        free: requests that are left.
        reserve: how many of them are kept for what is urgent; the last half of them for criticals.
    """
    if free > reserve:
        return OTHER
    return RESOLVE if free > reserve // 2 else CRITICAL if free > 0 else NOBODY


class Allowance(Protocol):
    """What an account may still send. Asking never waits."""

    def least_urgent(self, now: float) -> int:
        """Return the least urgent rank that may send one request now; -1 where none may."""

    def spend(self, now: float, count: int = 1) -> None:
        """Note `count` requests; more than are free where they were made without asking."""

    def want(self, rank: int) -> None:
        """Note that a request of this rank waits for it."""

    def next_free(self, now: float) -> float | None:
        """Return when more may be free although nothing is told, None where that is not known."""

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` when more may be free."""


class OwnAllowance:
    """All of an account's requests, where this process alone uses them.

    Args:
        limit: requests in any minute.
    """

    def __init__(self, limit: int) -> None:
        self._window = Window(limit)
        self._reserve = limit // RESERVE

    def least_urgent(self, now: float) -> int:
        """Return the least urgent rank that may send one request now; -1 where none may."""
        return least_urgent(self._window.free(now), self._reserve)

    def spend(self, now: float, count: int = 1) -> None:
        """Note `count` requests."""
        self._window.spend(now, count)

    def want(self, rank: int) -> None:
        """Know that already: the window says when more is free."""

    def next_free(self, now: float) -> float | None:
        """Return when the oldest request falls out of the window."""
        self._window.free(now)
        return self._window.next_free()

    def listen(self, changed: Callable[[], None]) -> None:
        """Have nothing to tell."""
