"""Folds micro-batches of owned partitions, each in one transaction; memory follows only what is committed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from streamproc.core.errors import Defect
from streamproc.core.event import Activated
from streamproc.core.fold import Lookups, fold
from streamproc.core.record import Position, Record
from streamproc.core.table import Row, RowKey
from streamproc.core.topic import Topic
from streamproc.runtime.clock import Clock
from streamproc.runtime.engine import AHEAD, Listener, Sensor
from streamproc.runtime.faust.client import KafkaError, Place
from streamproc.runtime.faust.commit import Line, Router, commit, state_lines
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.guards import FailStop, Stop
from streamproc.runtime.faust.part import OwnedPart
from streamproc.runtime.faust.versions import Versions
from streamproc.runtime.worker_metrics import WorkerMetrics

SLICE = 0.05
"""Seconds of folding at a stretch: the event loop is everyone's."""
LEAST = 20
ACTIVATED = Activated.TYPE.encode()
STUCK_AFTER = 120.0
"""Seconds that a commit may take while the broker answers others; twice the transaction's time."""


class Folding:
    """Does the work of a worker: records in, one transaction out.

    Args:
        config: where.
        topics: the catalogue.
        letters: the topic of dead letters.
        versions: bodies of activated versions.
        clock: for the guard against stamps from the future.
        sensor: told of every commit.
        metrics: counts commits.
    """

    def __init__(
        self,
        config: Config,
        topics: Mapping[str, Topic],
        letters: Topic,
        versions: Versions,
        clock: Clock,
        sensor: Sensor | None = None,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self._config = config
        self._router = Router(config, topics)
        self._letters = letters
        self._versions = versions
        self._lookups = Lookups(versions.find)
        self._clock = clock
        self._sensor = sensor
        self._metrics = metrics or WorkerMetrics()
        self._listeners: dict[str, Listener] = {}
        self.answered = time.monotonic()
        """Monotonic time at which the broker last took a commit."""

    def listen(self, node: str, listener: Listener) -> None:
        """Tell `listener` of every committed change of a node's rows."""
        self._listeners[node] = listener

    def limit(self, part: OwnedPart) -> int:
        """Return how many records the next micro-batch may have, so that folding it takes about `SLICE`."""
        if not part.seconds:
            return min(LEAST, self._config.batch)
        return max(LEAST, min(self._config.batch, int(SLICE / part.seconds)))

    async def take(self, part: OwnedPart, records: Sequence[Record]) -> None:
        """Fold a micro-batch and commit it.

        Raises:
            KafkaError: the commit is not known to have happened; the partition must be claimed anew.
            FailStop: a promise cannot be kept.
        """
        self._guard(part, records)
        if any(record.headers.get("type") == ACTIVATED for record in records):
            await self._versions.need(_activated(records))
        begun, thread_begun = time.perf_counter(), time.thread_time()
        try:
            folded = fold(part.node, records, part.rows, part.position, self._lookups, self._letters)
        except Defect as defect:
            raise FailStop(Stop.DEFECT, f"{part.node.name}/{part.partition}: {defect}") from defect
        written = folded.written
        batches = self._router.route(folded.emits)
        batches[self._state(part)] = state_lines(written, folded.position)
        spent = (time.thread_time() - thread_begun) / len(records)
        part.seconds = 0.7 * part.seconds + 0.3 * spent if part.seconds else spent
        await self._commit(part, batches)
        self._install(part, folded.changes, written, folded.position)
        if self._sensor is not None:
            seconds = time.perf_counter() - begun
            self._sensor.folded(part.node.name, part.partition, len(records), folded, seconds)
        if (listener := self._listeners.get(part.node.name)) is not None:
            listener(part, folded.changes)

    async def renew(self, part: OwnedPart, offset: int) -> None:
        """Commit a position behind which there is nothing to fold, before retention overtakes the one that stands.

        Raises:
            KafkaError: as for `take`.
        """
        position = Position(offset, part.position.now, part.position.topic_id)
        await self._commit(part, {self._state(part): state_lines({}, position)})
        part.position = position

    async def _commit(self, part: OwnedPart, batches: Mapping[Place, Sequence[Line]]) -> None:
        part.begun = begun = time.monotonic()
        try:
            await commit(part.producer, batches)
        except KafkaError:
            self._metrics.commit_failures.labels(part.node.name).inc()
            raise
        except Defect as defect:
            raise FailStop(Stop.DEFECT, f"{part.node.name}/{part.partition}: {defect}") from defect
        finally:
            part.begun = None
        self.answered = part.written = time.monotonic()
        self._metrics.commit_seconds.labels(part.node.name).observe(part.written - begun)

    def _install(
        self,
        part: OwnedPart,
        changes: Mapping[RowKey, Row | None],
        written: Mapping[RowKey, bytes | None],
        position: Position,
    ) -> None:
        part.rows.install(changes, written)
        part.position = position
        part.timers.follow(changes)

    def _state(self, part: OwnedPart) -> Place:
        return Place(self._config.state_topic(part.node.name), part.partition)

    def _guard(self, part: OwnedPart, records: Sequence[Record]) -> None:
        latest, due = self._clock.now() + AHEAD, part.position.next_offset
        for record in records:
            if record.offset < due:
                raise FailStop(Stop.POSITION, f"{record.origin} was handed over where offset {due} was due")
            due = record.offset + 1
            try:
                ahead = record.now > latest
            except ValueError:
                continue  # the fold makes it a dead letter
            if ahead:
                raise FailStop(
                    Stop.STAMP,
                    f"{record.origin} is stamped {record.now}, more than 5 minutes ahead: set the clocks right",
                )

    def stuck(self, part: OwnedPart) -> FailStop | None:
        """Return the alarm where a commit does not come to an end although the broker answers others, else None."""
        if part.begun is None or self.answered - part.begun < STUCK_AFTER:
            return None
        seconds = time.monotonic() - part.begun
        return FailStop(
            Stop.COMMIT, f"{part.node.name}/{part.partition} folds, but its commit is not answered for {seconds:.0f} s"
        )


def _activated(records: Sequence[Record]) -> list[str]:
    """Return the checksums of the versions that records switch to; what cannot be read becomes a dead letter later."""
    found = []
    for record in records:
        if record.headers.get("type") == ACTIVATED:
            with suppress(ValueError):
                found.append(Activated.decode(record.value, record.headers).checksum)
    return found
