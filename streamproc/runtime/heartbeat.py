"""The heartbeat: a canary alert goes through the real pipeline; only where it comes through is a watcher outside told.

Whatever goes wrong here goes wrong towards silence, which is the alarm. Nothing here holds the pipeline up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from streamproc.core.errors import Unusable
from streamproc.events.canary import canary, canary_id
from streamproc.ports import Entry, Inlet, Overloaded
from streamproc.runtime.clock import Clock
from streamproc.runtime.pace import LoopTiming, Timing
from streamproc.sinks.heartbeat import HeartbeatConfig
from streamproc.views import PipelineStatus, Vitals

log = structlog.get_logger(__name__)

TOPIC = "alerts.raw"
LOOK_EVERY = 0.5
"""Seconds between looks whether the canary is through."""
SECOND = timedelta(seconds=1)
OUTCOMES = ("sent", "withheld", "failed")


class Desk(Protocol):
    """What is asked whether the pipeline lives; blocking."""

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands."""

    def vitals(self, canary: str) -> Vitals:
        """Return how a canary is shown, and since when pages wait."""


class Watcher(Protocol):
    """Who hears the heartbeat."""

    async def ping(self) -> str:
        """Tell it; return what went wrong, empty where it was heard."""


class Health(StrEnum):
    """Why the watcher is told, or is not."""

    HEALTHY = "healthy"
    NOT_TAKEN = "the log does not take the canary"
    NOT_SHOWN = "what people look at cannot be read"
    NOT_THROUGH = "the canary did not come through in time"
    NOT_READY = "the pipeline is not ready"
    PAGES_WAIT = "pages wait too long for PagerDuty"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the pipeline."""

    taken: bool
    """The log took the canary."""
    shown: bool = True
    """The desk could be read."""
    through: bool = False
    """The desk shows the canary as it was sent last."""
    ready: bool = False
    why_not: str = ""
    waits: timedelta = timedelta(0)
    """How long the oldest of what waits to be sent has waited."""


class HeartMetrics:
    """What a heart counts, kept in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Gauge(
            "streamproc_canary_seconds",
            "Seconds that the last canary that came through took from end to end.",
            registry=registry,
        )
        self.beats = Counter(
            "streamproc_heartbeat_total", "Heartbeats by what became of them.", ("outcome",), registry=registry
        )
        for outcome in OUTCOMES:
            self.beats.labels(outcome)


def judge(seen: Seen, patience: timedelta) -> Health:
    """Return whether the pipeline is healthy from end to end. Total, no side effects.

    Args:
        seen: what was seen.
        patience: so long a page may wait.
    """
    if not seen.taken:
        return Health.NOT_TAKEN
    if not seen.shown:
        return Health.NOT_SHOWN
    if not seen.through:
        return Health.NOT_THROUGH
    if not seen.ready:
        return Health.NOT_READY
    return Health.PAGES_WAIT if seen.waits > patience else Health.HEALTHY


class Heart:
    """Sends canaries and beats.

    Args:
        process: who sends; no other process may have the name.
        config: how often.
        patience: so long a page may wait.
        inlet: the way into the log.
        desk: what shows the canary at the other end.
        watcher: who is told.
        clock: moments.
        registry: where metrics are kept.
        timing: seconds, and waiting for them.
    """

    def __init__(
        self,
        process: str,
        config: HeartbeatConfig,
        patience: timedelta,
        inlet: Inlet,
        desk: Desk,
        watcher: Watcher,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        timing: Timing | None = None,
    ) -> None:
        self._process = process
        self._every = config.every / SECOND
        self._within = config.within / SECOND
        self._patience = patience
        self._inlet = inlet
        self._desk = desk
        self._watcher = watcher
        self._clock = clock
        self._timing = timing or LoopTiming()
        self._never = asyncio.Event()
        self._fires: datetime | None = None
        self._said = ""
        self._metrics = HeartMetrics(registry)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            begun = self._timing.monotonic()
            await self.beat()
            await self._timing.wait(self._never, max(0.0, begun + self._every - self._timing.monotonic()))

    async def beat(self) -> None:
        """Send one canary, wait for it, and tell the watcher where all is well."""
        seen = await self._look()
        health = judge(seen, self._patience)
        if health is not Health.HEALTHY:
            self._note("withheld", health.value, seen.why_not)
            return
        failure = await self._watcher.ping()
        self._note("failed" if failure else "sent", failure)

    async def _look(self) -> Seen:
        begun = self._timing.monotonic()
        since, self._fires = self._fires, None
        wanted: Literal["open", "resolved"] = "open" if since is None else "resolved"
        moment = self._clock.now()
        sent = canary(self._process, moment) if since is None else canary(self._process, since, moment)
        try:
            async with asyncio.timeout(self._within):
                await self._inlet.append([Entry.of(TOPIC, sent, sent.group)])
        except (Overloaded, TimeoutError):
            return Seen(taken=False)
        if since is None:
            self._fires = since = moment
        named, until = canary_id(self._process, since), begun + self._within
        try:
            vitals = await asyncio.to_thread(self._desk.vitals, named)
            while vitals.canary != wanted and self._timing.monotonic() < until:
                await self._timing.wait(self._never, min(LOOK_EVERY, self._within))
                vitals = await asyncio.to_thread(self._desk.vitals, named)
            status = await asyncio.to_thread(self._desk.status)
        except Unusable:
            return Seen(taken=True, shown=False)
        through = vitals.canary == wanted
        if through:
            self._metrics.seconds.set(self._timing.monotonic() - begun)
        waits = timedelta(0) if vitals.waits_since is None else self._clock.now() - vitals.waits_since
        return Seen(taken=True, through=through, ready=status.ready, why_not=status.why_not, waits=waits)

    def _note(self, outcome: str, why: str, detail: str = "") -> None:
        """Count it, and say it where it is news."""
        self._metrics.beats.labels(outcome).inc()
        news = why if outcome == "withheld" else outcome
        if news == self._said:
            return
        self._said = news
        if outcome == "withheld":
            log.error("The heartbeat is withheld: the pipeline is not healthy from end to end.", why=why, detail=detail)
        elif outcome == "failed":
            log.warning("The heartbeat is not heard.", error=why)
        else:
            log.info("The heartbeat is heard.")
