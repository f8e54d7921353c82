"""Runs the follower as a process of its own beside `streamproc run`, while there is a candidate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from streamproc.core.errors import StreamprocError
from streamproc.core.record import Record
from streamproc.events.shadow import Progress
from streamproc.runtime.clock import Clock
from streamproc.runtime.embedded.inboxes import EmbeddedInboxes
from streamproc.shadow.candidate import TOPIC, Standing, newest
from streamproc.shadow.metrics import ShadowMetrics

log = structlog.get_logger(__name__)

ENDS_WITHIN = 3.0
"""Seconds that a follower may take to end; then it is killed, which costs nothing."""


class Supervisor:
    """Keeps a follower alive while there is a candidate, and tells metrics what it published.

    Args:
        folder: the data directory.
        command: starts a follower.
        registry: where metrics are kept.
        clock: moments.
        look_every: seconds between looks for a candidate.
        again_after: seconds until a follower that ended is started again: at first, and at most.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        registry: CollectorRegistry,
        clock: Clock,
        *,
        look_every: float = 1.0,
        again_after: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        self._look_every = look_every
        self._again_after = again_after
        self._folder = folder
        self._command = tuple(command)
        self._metrics = ShadowMetrics(registry, clock)
        self._read = 0
        self._standing: Standing | None = None
        self._child: asyncio.subprocess.Process | None = None
        self._pause, self._at, self._began = again_after[0], 0.0, 0.0

    async def run(self) -> None:
        """Look again and again, until cancelled; the follower ends with it."""
        try:
            while True:
                try:
                    self._look()
                except StreamprocError as error:
                    log.warning("Whether there is a candidate cannot be read.", error=str(error))
                await self._tend()
                await asyncio.sleep(self._look_every)
        finally:
            await self._end()

    def _look(self) -> None:
        with EmbeddedInboxes(self._folder) as inboxes:
            end = inboxes.end(TOPIC, 0)
            if end == self._read:
                return
            records = list(inboxes.records(TOPIC, 0, max(self._read, inboxes.start(TOPIC, 0))))
            self._read = end
        found = newest(records)
        if found is not None and found.follows(self._standing):
            self._standing = found
            self._metrics.show(None)
        progress = _last(records)
        if self._standing is not None and self._standing.runs and progress is not None:
            self._metrics.show(progress if progress.version == self._standing.switch.version else None)

    async def _tend(self) -> None:
        wanted = self._standing is not None and self._standing.runs
        child, now = self._child, asyncio.get_running_loop().time()
        if not wanted:
            await self._end()
        elif child is None and now >= self._at:
            self._child = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.DEVNULL)
            self._began = now
        elif child is not None and child.returncode is not None:
            first, most = self._again_after
            self._pause = first if now - self._began > most else min(most, 2 * self._pause)
            log.warning("The follower of the candidate has ended.", code=child.returncode, again_after=self._pause)
            self._child, self._at = None, now + self._pause

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        child.terminate()
        try:
            await asyncio.wait_for(child.wait(), ENDS_WITHIN)
        except TimeoutError:
            child.kill()
            await child.wait()


def _last(records: Sequence[Record]) -> Progress | None:
    for record in reversed(records):
        if record.headers.get("type") == Progress.TYPE.encode():
            try:
                return Progress.model_validate_json(record.value)
            except ValidationError:
                continue
    return None


@asynccontextmanager
async def supervised(supervisor: Supervisor) -> AsyncIterator[None]:
    """Let a supervisor work while the context is open."""
    working = asyncio.create_task(supervisor.run(), name="streamproc-shadow")
    try:
        yield
    finally:
        working.cancel()
        await asyncio.wait({working})
