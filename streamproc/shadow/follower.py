"""The follower: looks which candidate stands, plays it, and publishes what it comes to. A process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import structlog

from streamproc.backtest.recorded import Inboxes
from streamproc.core.errors import Unusable
from streamproc.core.record import Record
from streamproc.events.shadow import Progress
from streamproc.ports import Entry
from streamproc.runtime.clock import Clock
from streamproc.shadow.candidate import TOPIC, Standing, body_of_candidate, newest
from streamproc.shadow.following import WARM, Shadow
from streamproc.shadow.metrics import ShadowMetrics

log = structlog.get_logger(__name__)

TELL_EVERY = timedelta(minutes=1)
"""How the candidate stands is published so often; where its figures change, after `TELL_SOON`."""
TELL_SOON = timedelta(seconds=5)


class Follower:
    """Follows whatever candidate stands; delivers nothing.

    Args:
        inboxes: production's log.
        publish: appends records to it; only to the topic `shadow`.
        clock: the machine's.
        delay: stays so far behind the clock, so that records of other partitions of a moment are there.
        metrics: are told how the candidate stands; None where nobody asks.
        warm: see `Shadow`.
    """

    def __init__(
        self,
        inboxes: Inboxes,
        publish: Callable[[Sequence[Entry]], object],
        clock: Clock,
        delay: timedelta,
        metrics: ShadowMetrics | None = None,
        warm: timedelta = WARM,
    ) -> None:
        self._inboxes = inboxes
        self._publish = publish
        self._clock = clock
        self._delay = delay
        self._metrics = metrics
        self._warm = warm
        self._read: dict[int, int] = {}
        self._standing: Standing | None = None
        self._shadow: Shadow | None = None
        self._told_at: datetime | None = None
        self._told: Progress | None = None

    @property
    def follows(self) -> bool:
        """True while there is a candidate."""
        return self._shadow is not None

    def step(self) -> None:
        """Take in what is new, and publish what it comes to.

        Raises:
            Transient: the log cannot be read or written now; another step goes on where this one was.
            StreamprocError: it cannot go on.
        """
        self._look()
        if self._shadow is None:
            return
        limit = self._clock.now() - self._delay
        differences = self._shadow.advance(limit)
        progress, now = self._shadow.progress, self._clock.now()
        if self._metrics is not None:
            self._metrics.show(progress)
        entries = [Entry.of(TOPIC, each, each.about) for each in differences]
        if entries or self._is_due(progress, now):
            self._publish([*entries, Entry.of(TOPIC, progress, progress.about)])
            self._told_at, self._told = now, progress

    def _is_due(self, progress: Progress, now: datetime) -> bool:
        if self._told_at is None or self._told is None:
            return True
        same = progress.model_copy(update={"until": self._told.until}) == self._told
        return now - self._told_at >= (TELL_EVERY if same else TELL_SOON)

    def _look(self) -> None:
        """Look for a switch to another candidate among what the topic has more than the last time."""
        found = newest(self._more())
        if found is None or not found.follows(self._standing):
            return
        self._standing, self._shadow, self._told_at = found, None, None
        if self._metrics is not None:
            self._metrics.show(None)
        if found.runs:
            self._begin(found)

    def _more(self) -> Iterator[Record]:
        for partition in self._inboxes.partitions(TOPIC):
            since = self._read.get(partition, self._inboxes.start(TOPIC, partition))
            end = self._inboxes.end(TOPIC, partition)
            if end > since:
                yield from self._inboxes.records(TOPIC, partition, since)
            self._read[partition] = end

    def _begin(self, found: Standing) -> None:
        try:
            candidate = body_of_candidate(self._inboxes, found.switch.checksum)
        except Unusable as error:
            log.warning("The candidate cannot be followed.", error=str(error))
            return
        self._shadow = Shadow(self._inboxes, found, candidate, self._warm)
        log.info("A candidate is followed.", name=candidate.name, version=found.switch.version)
