"""Fail-stop: a process that cannot keep its promises ends at once, before harm is done; its supervisor starts another.

Nothing half done can be committed by that: an open transaction is aborted by whoever claims its partition next.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from enum import IntEnum

import structlog

from streamproc.core.errors import StreamprocError

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.25


class Stop(IntEnum):
    """Exit codes of a fail-stop, one for each promise. docs/kafka.md says what to do about each."""

    DEFECT = 70
    """The fold, or Faust, broke a contract."""
    POSITION = 71
    """What was fetched is not what is to be folded next: records would be lost or folded twice."""
    STAMP = 72
    """A record is stamped more than 5 minutes ahead: a clock is wrong, and time in the log never goes back."""
    TOPIC = 73
    """An inbox was made anew, cut or restored."""
    STALLED = 74
    """The process stood still for longer than its session: others may have its partitions."""
    COMMIT = 75
    """A micro-batch is not committed although the broker answers."""
    VERSION = 76
    """A partition holds rows of a newer version: this one would lose what it does not know."""


class FailStop(StreamprocError):
    """A promise cannot be kept; the process must end with this code."""

    def __init__(self, code: Stop, message: str) -> None:
        super().__init__(message)
        self.code = code


Exit = Callable[[int], object]
LastWords = Callable[[FailStop], object]
"""Tells people, from a process that can do no harm any more; see streamproc/lastwords.py. It need not return."""


def fail_stop(error: FailStop, last_words: LastWords | None = None, leave: Exit = os._exit) -> None:
    """End the process at once.

    Args:
        error: why.
        last_words: tells people, and ends the process too; None where there is nobody to tell.
        leave: ends the process.
    """
    log.critical(
        "The process ends itself, so that nothing wrong is committed.",
        code=int(error.code),
        guard=error.code.name.lower(),
        error=str(error),
    )
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if last_words is not None:
            last_words(error)
    finally:
        leave(int(error.code))


class StallWatch:
    """Ends the process once it, or its event loop, stood still for `limit` seconds.

    A stopped process, a frozen machine or a blocked loop: whoever was away for longer than its session may have been
    replaced. A thread of its own looks, so that a blocked loop is noticed too.
    """

    def __init__(self, limit: float, leave: Callable[[FailStop], object] = fail_stop) -> None:
        self._limit = limit
        self._leave = leave
        self._beat = time.monotonic()
        self._done = threading.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the running event loop."""
        self._beat = time.monotonic()
        self._task = asyncio.create_task(self._tick(), name="streamproc-stall-watch")
        threading.Thread(target=self._watch, name="streamproc-stall-watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._done.set()
        if self._task is not None:
            self._task.cancel()

    def look(self) -> None:
        """Look now, on the event loop: before something leaves that a successor could have overtaken.

        The thread may come a moment late, while the loop goes on with what stood still.
        """
        away = time.monotonic() - self._beat
        if away > self._limit:
            self._leave(FailStop(Stop.STALLED, f"stood still for {away:.1f} s"))

    async def _tick(self) -> None:
        while True:
            self.look()
            self._beat = time.monotonic()
            await asyncio.sleep(LOOK_EVERY)

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._done.wait(LOOK_EVERY):
            now = time.monotonic()
            away = max(now - last, now - self._beat)
            if away > self._limit:
                self._leave(FailStop(Stop.STALLED, f"stood still for {away:.1f} s"))
                return
            last = now
