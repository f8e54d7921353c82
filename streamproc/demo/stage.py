"""What the demo is played on: a pipeline in this process, or the processes of one on Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from streamproc.core.errors import StreamprocError
from streamproc.demo.figures import Process
from streamproc.ports import Desk
from streamproc.service import Running, running
from streamproc.settings import Settings
from streamproc.stages.deduplicate import Reason
from streamproc.views import PipelineStatus

NOTIFICATIONS = frozenset(Reason) - {Reason.EXPIRED, Reason.FORGOTTEN}
"""Reasons that a notification gets; the others are timers'."""


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that happened to a process of the pipeline."""

    moment: datetime
    subject: str
    words: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Notifications that were decided, by the pipeline's own log."""

    alerts: int
    again: int = 0
    """Of them those that stand there more than once."""


@dataclass(frozen=True, slots=True)
class Outlived:
    """A death within the pipeline, and what it took."""

    victim: str
    heir: str
    waited: int
    """Records that waited at most until the heir had taken over."""
    seconds: float
    """From the death until the heir had everything, restored and caught up."""


class Stage(Protocol):
    """A pipeline that runs, whichever its runtime is."""

    runtime: str
    """What it runs on, in words."""
    url: str
    """Of the gateway."""
    site: str
    """Options of commands that look at it."""
    again: str
    """Options of `streamproc demo` that play it on this runtime."""
    stale: float
    """Seconds by which what the desk tells may be behind."""
    patience: float
    """Seconds that people and senders wait for it."""
    outlived: Outlived | None
    """What it outlived, once it has."""

    @property
    def desk(self) -> Desk:
        """What people look at."""

    def decisions(self, status: PipelineStatus) -> Mapping[str, int]:
        """Return how often each `stage/reason` was decided, as far as is known while it runs."""

    def workers(self, status: PipelineStatus) -> tuple[Process, ...]:
        """Return the processes that share the work; none where it is this one."""

    def news(self) -> list[Happened]:
        """Return what happened to its processes since the last call."""

    def failures(self) -> Iterable[str]:
        """Return what its processes did not do as they should have, in words."""

    def stopped(self) -> StreamprocError | None:
        """Return why it has stopped by itself, None while it runs."""

    async def suffer(self) -> None:
        """Lose a process in the middle of its work, and recover; nothing where there is only one."""

    async def count(self) -> Counted:
        """Count what was decided, exactly, once nothing waits any more."""


class Alone:
    """The embedded runtime, in this process.

    Args:
        pipeline: what runs.
        folder: its data directory.
    """

    runtime = "one process, its log and rows in one SQLite file"
    again = ""
    stale = 0.0
    patience = 30.0
    outlived: Outlived | None = None

    def __init__(self, pipeline: Running, folder: Path) -> None:
        self._pipeline = pipeline
        self.desk = pipeline.desk
        self.url = pipeline.url
        self.site = f"--data-dir {folder}"

    def decisions(self, status: PipelineStatus) -> Mapping[str, int]:
        """Return how often each `stage/reason` was decided."""
        return status.decisions

    def workers(self, status: PipelineStatus) -> tuple[Process, ...]:  # noqa: ARG002  as every stage
        """Return none: it is this process."""
        return ()

    def news(self) -> list[Happened]:
        """Return nothing: its process is this one."""
        return []

    def failures(self) -> Iterable[str]:
        """Return nothing: it has no other processes."""
        return ()

    def stopped(self) -> StreamprocError | None:
        """Return why it has stopped by itself, None while it runs."""
        return self._pipeline.stopped.result() if self._pipeline.stopped.done() else None

    async def suffer(self) -> None:
        """Do nothing: who kills the only process ends the demo."""

    async def count(self) -> Counted:
        """Count by the decisions: one process has made all of them."""
        decisions = self.desk.status().decisions
        return Counted(sum(decisions.get(f"deduplicate/{reason}", 0) for reason in NOTIFICATIONS))


@asynccontextmanager
async def alone(told: Mapping[str, Any], folder: Path) -> AsyncIterator[Alone]:
    """Run the pipeline in this process while the context is open.

    Args:
        told: its settings, as a settings file says them.
        folder: the data directory.

    Raises:
        StreamprocError: it cannot start.
    """
    async with running(Settings.model_validate(told), folder, armed=True) as pipeline:
        yield Alone(pipeline, folder)
