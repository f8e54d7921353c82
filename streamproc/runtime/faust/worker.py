"""A worker: the Faust app of a topology, and everything that runs beside it. Any number share one group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog

from streamproc.core.record import Record
from streamproc.core.step import Topology
from streamproc.core.table import Row, RowKey
from streamproc.core.topic import Topic
from streamproc.runtime.clock import Clock
from streamproc.runtime.engine import Part, Sensor
from streamproc.runtime.faust import chatter, delivery
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.app import App, MicroBatch, add_agent, build_app
from streamproc.runtime.faust.client import AIOKafkaAdminClient, KafkaError, Place, admin_client
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends
from streamproc.runtime.faust.folding import Folding
from streamproc.runtime.faust.guards import FailStop, StallWatch, Stop, fail_stop
from streamproc.runtime.faust.identity import topic_ids
from streamproc.runtime.faust.part import Claims, OwnedPart
from streamproc.runtime.faust.shown import Shown
from streamproc.runtime.faust.state import Progress
from streamproc.runtime.faust.upstream import Upstream
from streamproc.runtime.faust.versions import Bodies, Versions
from streamproc.runtime.faust.wakes import Waker
from streamproc.runtime.faust.writer import Writer
from streamproc.runtime.worker_metrics import PartStanding, Standing, WorkerMetrics

log = structlog.get_logger(__name__)

ALARM_EVERY = 5.0
TOPICS_EVERY = 30.0
STOP_WITHIN = 8.0


class Worker:
    """Folds the partitions that the group assigns to it, until it is stopped or must stop itself.

    Args:
        config: where, and who we are.
        topology: what runs.
        topics: the catalogue.
        letters: the topic of dead letters.
        clock: moments.
        sensor: told of every commit.
        leave: ends the process when a promise cannot be kept.
        metrics: of what it owns, restores and commits.
        bodies: a cache of versions' bodies, so that a start need not read all of them from the log.
    """

    def __init__(
        self,
        config: Config,
        topology: Topology,
        topics: Mapping[str, Topic],
        letters: Topic,
        clock: Clock,
        sensor: Sensor | None = None,
        leave: Callable[[FailStop], object] = fail_stop,
        metrics: WorkerMetrics | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        self._config = config
        self._topology = topology
        self._topics = topics
        self._clock = clock
        self.leave = leave
        self.name = name_of(config)
        self._watch = StallWatch(config.session_timeout, leave)
        self.metrics = metrics or WorkerMetrics()
        self.metrics.watch(self._parts_standing)
        self._nodes = {config.topic(node.inbox.name): node for node in topology}
        self._ends = Ends(config)
        self._versions = Versions(config, self._ends, bodies)
        self.folding = Folding(config, topics, letters, self._versions, clock, sensor, self.metrics)
        self._claims: Claims | None = None
        self._owned: dict[Place, OwnedPart] = {}
        self._assigned: set[Place] | None = None
        self._moving: float | None = None
        self._rows_listeners: dict[str, Callable[[OwnedPart, bool], None]] = {}
        self._app: App | None = None
        self._agents: dict[str, Any] = {}
        self._stack = AsyncExitStack()
        self._stopping = False

    # -- from outside -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Check the topics, read the versions, and join the group; partitions come and go from then on.

        Raises:
            Transient: no broker answers.
            Unusable: a topic is not as it must be.
        """
        chatter.bound()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        standing = await catalogue.require(self._config, catalogue.wanted(self._topics, self._topology, self._config))
        ids = {name: standing[self._config.topic(name)].topic_id for name in self._topics}
        await self._ends.start()
        self._stack.push_async_callback(self._ends.stop)
        await self._versions.start()
        self._stack.push_async_callback(self._versions.stop)
        self._claims = Claims(self._config, ids, self._ends, self._versions)
        writer = Writer(self._config)
        self._stack.push_async_callback(writer.stop)
        admin = await self._stack.enter_async_context(admin_client(self._config))
        upstream = Upstream(self._config, self._topology, self._ends, admin)
        waker = Waker(self._config, self._clock, upstream, writer, lambda: list(self._owned.values()))
        self._watch.start()
        self._stack.callback(self._watch.stop)
        for doing in (waker.run(), self._watch_commits(), self._watch_topics(admin, ids)):
            task = asyncio.create_task(self._guarded(doing))
            self._stack.push_async_callback(_cancel, task)
        await self._start_app()

    async def stop(self) -> None:
        """Finish what is under way, commit, leave the group. Bounded: under 10 s."""
        self._stopping = True
        if self._app is not None:
            try:
                await asyncio.wait_for(self._app.stop(), STOP_WITHIN)
            except TimeoutError:
                log.warning("Leaving the group took too long; what was under way is rolled back by the next owner.")
        await self._stack.aclose()

    def listen(
        self,
        node: str,
        changed: Callable[[Part, Mapping[RowKey, Row | None]], None],
        owned: Callable[[OwnedPart, bool], None],
    ) -> None:
        """Tell of a node's rows.

        Args:
            node: its name.
            changed: called with every committed change of a partition that is caught up.
            owned: called with a partition and True once it is caught up, and with False when it is given up.
        """

        def only_caught_up(part: Part, changes: Mapping[RowKey, Row | None]) -> None:
            if isinstance(part, OwnedPart) and part.caught_up:
                changed(part, changes)

        self.folding.listen(node, only_caught_up)
        self._rows_listeners[node] = owned

    def look(self) -> None:
        """End the process where it stood still for longer than its session; ask before anything goes outside."""
        self._watch.look()

    def parts(self) -> list[OwnedPart]:
        """Return the partitions that are owned and restored."""
        return list(self._owned.values())

    def standing(self) -> dict[str, object]:
        """Return whether the worker is ready, and why not."""
        why = self._why_not()
        return {"ready": not why, "why_not": why}

    def lags(self) -> dict[tuple[str, int], int]:
        """Return by node and partition how many offsets wait to be folded."""
        consumer = self._app.consumer if self._app is not None else None
        if not isinstance(consumer, delivery.Consumer):
            return {}
        return {(self._nodes[place.topic].name, place.partition): lag for place, lag in consumer.lags().items()}

    def _why_not(self) -> str:
        if self._stopping:
            return "stopping"
        if self._assigned is None:
            return "waiting for the group to assign partitions"
        missing = len(self._assigned - self._owned.keys())
        if missing:
            under_way = list(self._claims.restoring.values()) if self._claims is not None else []
            return restoring(missing, len(self._assigned), under_way)
        behind = sum(not part.caught_up for part in self.parts())  # a copy: probes ask from other threads
        return f"folding what waited in {behind} of {len(self._assigned)} partitions" if behind else ""

    def _parts_standing(self) -> Standing:
        """Return how the assigned partitions stand; copies, since metrics are asked for from other threads."""
        restoring = dict(self._claims.restoring) if self._claims is not None else {}
        lags, owned, now = self.lags(), dict(self._owned), time.monotonic()
        standing: Standing = {}
        for place in self._assigned or ():
            at = (self._nodes[place.topic].name, place.partition)
            part, progress, lag = owned.get(place), restoring.get(place, Progress()), lags.get(at, 0)
            standing[at] = PartStanding(
                owned=part is not None,
                ready=part is not None and part.caught_up,
                lag=lag,
                commit_age=now - part.written if part is not None and lag else 0.0,
                restore_read=progress.read,
                restore_total=progress.total,
                restore_seconds=part.restore_seconds if part is not None else 0.0,
            )
        return standing

    # -- for the consumer ---------------------------------------------------------------------------------------------

    def knows(self, place: Place) -> bool:
        """Return whether a partition is of a node's inbox."""
        return place.topic in self._nodes

    async def claim(self, place: Place, kept: OwnedPart | None) -> OwnedPart:
        """Claim a partition; it is owned once `own` says so."""
        if self._claims is None:
            raise FailStop(Stop.DEFECT, f"{place} is claimed before the worker has started")
        return await self._claims.claim(self._nodes[place.topic], place.partition, kept)

    def own(self, place: Place, part: OwnedPart) -> None:
        """Own a claimed partition from now on."""
        self._owned[place] = part
        self._note_moved()

    async def take(self, part: OwnedPart, records: Sequence[Record]) -> None:
        """Hand a micro-batch to the node's agent, and wait until it is committed."""
        batch = MicroBatch(self.folding, part, records)
        await self._agents[part.node.name].send(value=batch)
        await batch.done

    async def renew(self, part: OwnedPart, offset: int) -> None:
        """Move the position of an idle partition over what cannot be folded."""
        await self.folding.renew(part, offset)

    def limit(self, part: OwnedPart) -> int:
        """Return how many records the next micro-batch may have."""
        return self.folding.limit(part)

    def release(self, part: OwnedPart) -> None:
        """Own a partition no longer."""
        place = Place(self._config.topic(part.node.inbox.name), part.partition)
        if self._owned.get(place) is part:
            del self._owned[place]
        if part.caught_up:
            part.caught_up = False
            if (listener := self._rows_listeners.get(part.node.name)) is not None:
                listener(part, False)

    def note_caught_up(self, part: OwnedPart) -> None:
        """Note that everything is folded that waited when the partition was claimed."""
        part.caught_up = True
        if (listener := self._rows_listeners.get(part.node.name)) is not None:
            listener(part, True)

    def shown(self, part: OwnedPart) -> Shown:
        """Return what others may know of a partition."""
        return Shown(part.position.now, len(part.rows), part.caught_up, self.name)

    def note_revoked(self) -> None:
        """Note that partitions are given up, for a rebalance."""
        self._moving = self._moving or time.monotonic()

    def note_assigned(self, places: Iterable[Place]) -> None:
        """Note what the group assigned."""
        self._assigned = {place for place in places if self.knows(place)}
        self.metrics.rebalances.inc()
        self._moving = self._moving or time.monotonic()
        self._note_moved()

    def _note_moved(self) -> None:
        """Note the end of a rebalance, once everything that is assigned is owned."""
        if self._moving is not None and self._assigned is not None and self._assigned <= self._owned.keys():
            self.metrics.rebalance_seconds.observe(time.monotonic() - self._moving)
            self._moving = None

    # -- the app ------------------------------------------------------------------------------------------------------

    async def _start_app(self) -> None:
        self._app = build_app(self._config, self, self._topology)
        for node in self._topology:
            self._agents[node.name] = add_agent(self._app, node)
            self._app.topics.add(self._app.topic(self._config.topic(node.inbox.name), value_serializer="raw"))
        await self._app.start()
        task = asyncio.create_task(self._watch_app(self._app))
        self._stack.push_async_callback(_cancel, task)

    async def _watch_app(self, app: App) -> None:
        await app._crashed.wait()  # noqa: SLF001  there is no other way to hear of it
        self.leave(FailStop(Stop.DEFECT, f"Faust has stopped: {app.crash_reason!r}"))

    async def _watch_commits(self) -> None:
        while True:
            await asyncio.sleep(ALARM_EVERY)
            for part in self.parts():
                if (alarm := self.folding.stuck(part)) is not None:
                    self.leave(alarm)

    async def _watch_topics(self, admin: AIOKafkaAdminClient, ids: Mapping[str, str]) -> None:
        """Notice an inbox that is made anew while it is folded; fetches go by names and offsets, which may fit."""
        inboxes = {self._config.topic(node.inbox.name): ids[node.inbox.name] for node in self._topology}
        while True:
            await asyncio.sleep(TOPICS_EVERY)
            try:
                found = await topic_ids(admin, inboxes)
            except KafkaError as error:
                log.warning("The topics cannot be looked at now.", error=repr(error))
                continue
            for name, topic_id in found.items():
                if topic_id != inboxes[name]:
                    self.leave(FailStop(Stop.TOPIC, f"{name} was made anew while it was folded; see docs/kafka.md"))

    async def _guarded(self, doing: Any) -> None:
        try:
            await doing
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.leave(FailStop(Stop.DEFECT, repr(error)))
            raise


def restoring(missing: int, assigned: int, under_way: Iterable[Progress]) -> str:
    """Return how far restoring is; the records of those partitions whose turn has not come yet are not counted."""
    read, total = 0, 0
    for progress in under_way:
        read, total = read + progress.read, total + progress.total
    records = f" ({read:,} of {total:,} records)" if total else ""
    return f"restoring {missing} of {assigned} partitions{records}"


def name_of(config: Config) -> str:
    """Return who this worker is, for people; it is kept over restarts only where `kafka.instance` is set."""
    return config.instance or f"{config.client_id}@{socket.gethostname()}/{os.getpid()}"


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
