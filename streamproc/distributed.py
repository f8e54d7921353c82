"""The pipeline on Kafka, put together: workers (the Faust runtime, the sender of their partitions), and gateways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI

from streamproc.beginning import read_catalogue
from streamproc.core.errors import StreamprocError, Transient, Unusable
from streamproc.gateway.access import Keys
from streamproc.gateway.app import build
from streamproc.gateway.config import check_binding
from streamproc.gateway.operations import Ready, health
from streamproc.gateway.pagerduty import Foreign
from streamproc.gateway.server import serve
from streamproc.lastwords import TELL_WITHIN, Words, say_last
from streamproc.ports import Desk, Entry, Traces
from streamproc.reconciling import begin_reconciling, standing_of
from streamproc.runtime.clock import Clock, SystemClock
from streamproc.runtime.faust import rights, topics
from streamproc.runtime.faust.client import KafkaError
from streamproc.runtime.faust.described import Standing as TopicStanding
from streamproc.runtime.faust.described import Wanted
from streamproc.runtime.faust.desk import KafkaDesk
from streamproc.runtime.faust.guards import FailStop, fail_stop
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.mirror import Mirror, look
from streamproc.runtime.faust.sending import offer_to
from streamproc.runtime.faust.standing import read_standing
from streamproc.runtime.faust.topics import Finding
from streamproc.runtime.faust.versions import Bodies
from streamproc.runtime.faust.worker import Worker, name_of
from streamproc.runtime.metrics import Metrics
from streamproc.runtime.sender import Sender
from streamproc.runtime.standing_metrics import StandingMetrics
from streamproc.runtime.tally import Tally
from streamproc.runtime.traces.exporting import exporting
from streamproc.runtime.worker_metrics import WorkerMetrics
from streamproc.service import (
    REQUESTS_END_WITHIN,
    account_of,
    at_start,
    begin_heartbeat,
    begin_sending,
    channels,
    process_registry,
    redis_of,
    renew_keys,
    sender_config,
    sensors,
    warm_up,
)
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.client import EventsClient
from streamproc.state import PageRow
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.views import NodeStatus

if TYPE_CHECKING:
    from streamproc.runtime.redis.connection import Connection

log = structlog.get_logger(__name__)
TAKEN_IN = ("alerts.raw", "feedback")
"""Topics that every gateway writes to."""
HEADERS = 100_000
"""Bytes of a record beside a body, generously."""


@dataclass
class Running:
    """A worker, a gateway, or both, that runs."""

    url: str
    """Where it answers HTTP, empty where it does not."""
    stopped: asyncio.Future[StreamprocError] = field(repr=False)
    """Done when it has broken. What the runtime cannot promise ends the process at once, see docs/kafka.md."""
    desk: KafkaDesk | None = None
    """What people look at, where there is a gateway."""


class Probes:
    """What probes and metrics ask of a worker; from threads, so only copies are walked over."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def status(self) -> Ready:
        """Return whether the worker is ready, and why not."""
        return Ready.model_validate(self._worker.standing())

    def nodes(self) -> Sequence[NodeStatus]:
        """Return how each owned partition of a node stands."""
        lags = self._worker.lags()
        return [
            NodeStatus(
                node=part.node.name,
                partition=part.partition,
                lag=lags.get((part.node.name, part.partition), 0),
                rows=len(part.rows),
                now=part.position.now if part.position.next_offset else None,
            )
            for part in self._worker.parts()
        ]


class Intake:
    """What probes ask of a gateway: whether it can take alerts, and whether a worker in its process is ready.

    What it shows to people may still catch up.
    """

    def __init__(self, inlet: KafkaInlet, worker: Probes | None) -> None:
        self._inlet = inlet
        self._worker = worker

    def status(self) -> Ready:
        """Return whether it is ready, and why not."""
        if self._inlet.silent:
            return Ready(ready=False, why_not="the broker does not answer")
        return Ready(ready=True, why_not="") if self._worker is None else self._worker.status()


@asynccontextmanager
async def working(
    settings: Settings,
    *,
    armed: bool,
    host: str = "127.0.0.1",
    port: int | None = None,
    clock: Clock | None = None,
    beside: bool = False,
) -> AsyncIterator[Running]:
    """Run one worker while the context is open. Leaving it ends sending first, then the fold, then the way in.

    Args:
        settings: everything that can be set.
        armed: page from the first moment; nothing is adopted.
        host: address of the probes.
        port: their port; 0 takes a free one, None answers none.
        clock: the machine's by default.
        beside: run next to another route to PagerDuty: there is no sender, so nothing is delivered, armed or not.

    Raises:
        StreamprocError: it cannot start; the message says why, and the mend.
    """
    async with AsyncExitStack() as stack:
        process = await _Process.open(settings, clock or SystemClock(), stack, works=True)
        probes = await process.work(armed=armed, beside=beside)
        url = ""
        if port is not None:
            app = FastAPI(title="streamproc worker", docs_url=None, redoc_url=None, openapi_url=None)
            app.include_router(health(probes, process.registry))
            served = serve(app, host, port, stop_within=REQUESTS_END_WITHIN)
            url = (await stack.enter_async_context(served)).url
        log.info("The worker has joined the group.", group=settings.kafka.group_id, probes=url or None)
        yield Running(url, process.stopped)


@asynccontextmanager
async def taking_in(
    settings: Settings,
    folder: Path | None = None,
    *,
    clock: Clock | None = None,
    renew: Callable[[], Settings] | None = None,
    beside: bool = False,
    hear_foreign: Callable[[Foreign], Awaitable[None]] | None = None,
) -> AsyncIterator[Running]:
    """Run one gateway while the context is open: alerts and webhooks in; incidents, pages and dead letters to look at.

    Args:
        settings: everything that can be set.
        folder: where it keeps a copy of what people look at, so that a restart has it at once; by default a temporary
            one, made anew from the topics at each start.
        clock: the machine's by default.
        renew: as for `streamproc.service.running`.
        beside: run next to another route: what PagerDuty holds of ours is not looked at.
        hear_foreign: as for `streamproc.service.running`.

    Raises:
        StreamprocError: it cannot start; the message says why, and the mend.
    """
    async with AsyncExitStack() as stack:
        process = await _Process.open(settings, clock or SystemClock(), stack, works=False)
        url, desk = await process.take_in(folder, renew, None, beside=beside, hear_foreign=hear_foreign)
        log.info("The gateway takes alerts.", url=url, kafka=settings.kafka.bootstrap)
        yield Running(url, process.stopped, desk)


@asynccontextmanager
async def both(
    settings: Settings,
    folder: Path | None = None,
    *,
    armed: bool,
    clock: Clock | None = None,
    renew: Callable[[], Settings] | None = None,
    beside: bool = False,
    hear_foreign: Callable[[Foreign], Awaitable[None]] | None = None,
) -> AsyncIterator[Running]:
    """Run a gateway and a worker in one process while the context is open; arguments as for each of them.

    Raises:
        StreamprocError: it cannot start; the message says why, and the mend.
    """
    async with AsyncExitStack() as stack:
        process = await _Process.open(settings, clock or SystemClock(), stack, works=True)
        probes = await process.work(armed=armed, beside=beside)
        url, desk = await process.take_in(folder, renew, probes, beside=beside, hear_foreign=hear_foreign)
        log.info("The pipeline runs on Kafka.", url=url, group=settings.kafka.group_id)
        yield Running(url, process.stopped, desk)


@dataclass(frozen=True)
class _Copy:
    """A gateway's own copy of the topics, for who writes it to Redis."""

    mirror: Mirror
    desk: KafkaDesk

    @property
    def caught_up(self) -> bool:
        return self.mirror.caught_up

    def pages(self) -> Sequence[PageRow]:
        return self.desk.pages()


def _check_bodies(settings: Settings) -> None:
    """Refuse a limit of bodies that the log does not keep: the sender would be told to try again for ever.

    Raises:
        Unusable: it does not.
    """
    limit, most = settings.gateway.body_limit, topics.LARGEST_IN - HEADERS
    if limit > most:
        raise Unusable(f"gateway.body_limit: on Kafka a body of {most:,} bytes fits at most, not one of {limit:,}")


class _Process:
    """What a worker and a gateway share in one process: the way in, metrics, and one end."""

    def __init__(self, settings: Settings, clock: Clock, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._clock = clock
        self._stack = stack
        self._inlet = KafkaInlet(settings.kafka, TOPICS, clock)
        self._redis: Connection | None = None
        self._sender: Sender | None = None
        self._traces: Traces | None = None
        self.registry = process_registry()
        self.stopped: asyncio.Future[StreamprocError] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, settings: Settings, clock: Clock, stack: AsyncExitStack, *, works: bool) -> _Process:
        _check_bodies(settings)
        await rights.require(settings.kafka, needed(settings, works=works), works=works)
        await topics.require(settings.kafka, wanted(settings))
        process = cls(settings, clock, stack)
        stack.push_async_callback(process._inlet.stop)
        process._redis = await redis_of(settings, process.registry, stack)
        exporter = exporting(settings.traces, process.registry, name_of(settings.kafka))
        process._traces = await stack.enter_async_context(exporter)
        return process

    async def work(self, *, armed: bool, beside: bool) -> Probes:
        """Start a worker, and its sender unless it runs beside another route."""
        settings, clock, stack = self._settings, self._clock, self._stack
        await _begin(settings, self._inlet, clock, armed=armed, beside=beside)
        metrics = Metrics(TOPOLOGY, self.registry)
        tally = Tally(sensors(metrics, self._traces, self.registry, clock))
        watched = WorkerMetrics(TOPOLOGY, self.registry)
        bodies = None if self._redis is None else cached_bodies(self._redis)
        leave = leaving(settings)
        worker = Worker(settings.kafka, TOPOLOGY, TOPICS, LETTERS, clock, tally, leave, watched, bodies)
        sender = None if beside else await self._sender_of(worker, tally)
        await worker.start()
        stack.push_async_callback(worker.stop)
        if sender is not None:
            begin_sending(sender, self._stop, stack)
        probes = Probes(worker)
        metrics.watch(probes.nodes, clock.now)
        StandingMetrics(worker.parts, self.registry)
        threading.Thread(target=warm_up, name="streamproc-warm-up", daemon=True).start()
        return probes

    async def _sender_of(self, worker: Worker, tally: Tally) -> Sender:
        """Return the sender of a worker that has not started yet."""
        settings, clock, stack = self._settings, self._clock, self._stack
        client = await stack.enter_async_context(EventsClient(settings.pagerduty.api, before=worker.look))
        notifier = channels(settings, clock)
        account = await account_of(settings, self._redis, stack)
        config = sender_config(settings)
        registry, traces = self.registry, self._traces
        sender = Sender(config, client, self._inlet, clock, notifier, registry, account=account, traces=traces)
        self._sender = sender
        offer_to(worker, sender.offer, sender.offer_pages, tally.take_nowhere)
        return sender

    async def take_in(
        self,
        folder: Path | None,
        renew: Callable[[], Settings] | None,
        worker: Probes | None,
        *,
        beside: bool,
        hear_foreign: Callable[[Foreign], Awaitable[None]] | None,
    ) -> tuple[str, KafkaDesk]:
        """Start a gateway; return where it listens, and its desk."""
        settings, stack = self._settings, self._stack
        listening = settings.listening()
        check_binding(listening)
        keys = Keys(listening)
        place = folder or Path(stack.enter_context(TemporaryDirectory(prefix="streamproc-")))
        mirror = Mirror(settings.kafka, TOPICS, place)
        await mirror.start()
        stack.push_async_callback(mirror.stop)
        desk = KafkaDesk(place, mirror.group)
        shown = desk if self._redis is None else await with_openings(self._redis, mirror, desk, stack)
        mirroring = asyncio.create_task(mirror.run(), name="streamproc-mirror")
        mirroring.add_done_callback(_mirror_ended)
        stack.callback(mirroring.cancel)
        probed = Intake(self._inlet, worker)
        registry, traces = self.registry, self._traces
        reconciler = None
        if not beside:
            reconciler = await begin_reconciling(settings, desk, self._inlet, self._clock, registry, self._redis, stack)
        if reconciler is not None and self._sender is not None:
            self._sender.listen(reconciler.look_soon)
        compared = partial(standing_of, reconciler)
        app = build(
            listening,
            self._inlet,
            shown,
            registry,
            keys=keys,
            probed=probed,
            traces=traces,
            reconciliation=compared,
            hear_foreign=hear_foreign,
        )
        served = serve(app, listening.host, listening.port, stop_within=REQUESTS_END_WITHIN)
        url = (await stack.enter_async_context(served)).url
        if renew is not None:
            stack.callback(renew_keys(keys, renew, settings).cancel)
        process = name_of(settings.kafka)
        await begin_heartbeat(settings, process, self._inlet, desk, self._clock, self.registry, stack)
        return url, desk

    def _stop(self, error: StreamprocError) -> None:
        if not self.stopped.done():
            self.stopped.set_result(error)


def cached_bodies(redis: Connection) -> Bodies:
    """Return the cache of versions' bodies."""
    from streamproc.runtime.redis.cache import BodyCache  # noqa: PLC0415  redis-py is loaded where it is used

    return BodyCache(redis)


async def with_openings(redis: Connection, mirror: Mirror, desk: KafkaDesk, stack: AsyncExitStack) -> Desk:
    """Return the desk that shows open incidents from Redis while the mirror, which has not begun yet, catches up."""
    from streamproc.runtime.redis.openings import Openings, OpeningsDesk  # noqa: PLC0415  as above

    openings = await stack.enter_async_context(Openings(redis, _Copy(mirror, desk)))
    mirror.listen(openings.note)
    return OpeningsDesk(desk, openings)


def _mirror_ended(task: asyncio.Task[None]) -> None:
    """Say so where what people look at follows no more; taking alerts goes on, it matters more."""
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("What is shown here follows no more; start the gateway again.", error=repr(failure))


async def _begin(settings: Settings, inlet: KafkaInlet, clock: Clock, *, armed: bool, beside: bool) -> None:
    """Make the settings, the catalogue and the arming those that all workers decide with, where others stand."""
    try:
        standing = await read_standing(settings.kafka)
    except KafkaError as error:
        raise Transient(f"what is active cannot be read from Kafka: {error!r}; start again") from error
    entries = at_start(
        settings,
        read_catalogue(settings),
        standing.active,
        standing.policies,
        armed=armed,
        now=clock.now(),
        author="worker",
        beside=beside,
    )
    if entries:
        await inlet.append(entries)
        log.info("What this start was told counts from now on, for every worker.", records=len(entries))


# -- commands --------------------------------------------------------------------------------------------------------


async def look_at(settings: Settings, folder: Path, only: Collection[str]) -> KafkaDesk:
    """Return the desk of the pipeline on Kafka as it stands now.

    Args:
        settings: say where Kafka is.
        folder: an empty folder for the copy that the desk reads.
        only: topics that are needed.

    Raises:
        Transient: no broker answers.
        Unusable: it refuses, or there is no pipeline.
    """
    await topics.require(settings.kafka, wanted(settings))
    return await look(settings.kafka, TOPICS, folder, only)


async def append_to(settings: Settings, entries: Sequence[Entry]) -> None:
    """Append entries; durable when this returns.

    Raises:
        Transient: the broker does not take them.
    """
    inlet = KafkaInlet(settings.kafka, TOPICS, SystemClock())
    try:
        await inlet.append(entries)
    finally:
        await inlet.stop()


def leaving(settings: Settings, within: float = TELL_WITHIN) -> Callable[[FailStop], object]:
    """Return how a guard ends this worker: at once, and people hear of it by `pagerduty.notifications.channels`.

    Args:
        settings: name the channels.
        within: seconds that telling may take.
    """
    urls = tuple(url.get_secret_value() for url in settings.pagerduty.notifications.channels)
    if not urls:
        return fail_stop
    group, worker = settings.kafka.group_id, name_of(settings.kafka)

    def last_words(error: FailStop) -> None:
        guard = error.code.name.lower()
        body = (
            f"{error}\nGuard {guard} (code {error.code}), worker {worker}, group {group}. It ended before it could "
            "commit anything wrong; its supervisor should start it again. What to do: docs/kafka.md, When a worker "
            "ends itself."
        )
        title = f"streamproc: a worker has ended itself ({guard})"
        say_last(Words(urls, f"{group}-{int(error.code)}", int(error.code), title, body, within))

    return partial(fail_stop, last_words=last_words)


# -- topics ----------------------------------------------------------------------------------------------------------


def wanted(settings: Settings) -> list[Wanted]:
    """Return every topic that the pipeline needs at the broker."""
    return topics.wanted(TOPICS, TOPOLOGY, settings.kafka)


def needed(settings: Settings, *, works: bool) -> rights.Needs:
    """Return what must be allowed on each topic.

    Args:
        settings: say what topics are called.
        works: whether as a worker, else as a gateway: it reads what it shows, and writes what comes in.
    """
    names = [topic.name for topic in wanted(settings)]
    if works:
        return dict.fromkeys(names, (rights.READ, rights.WRITE, rights.DESCRIBE_CONFIGS))
    needs = dict.fromkeys(names, (rights.READ, rights.DESCRIBE_CONFIGS))
    taken = [settings.kafka.topic(name) for name in TAKEN_IN]
    return needs | dict.fromkeys(taken, (rights.READ, rights.WRITE, rights.DESCRIBE_CONFIGS))


async def apply_topics(settings: Settings) -> list[str]:
    """Create what is missing and set what differs; return what was done, a line each.

    Raises:
        Transient: no broker answers.
        Unusable: it refuses, or a topic has another number of partitions.
    """
    return await topics.apply(settings.kafka, wanted(settings))


async def check_topics(settings: Settings) -> list[Finding]:
    """Return what is not as it must be.

    Raises:
        Transient: no broker answers.
        Unusable: it refuses to say.
    """
    return await topics.check(settings.kafka, wanted(settings))


async def describe_topics(settings: Settings) -> dict[str, TopicStanding]:
    """Return those topics that there are, by name.

    Raises:
        Transient: no broker answers.
        Unusable: it refuses to say.
    """
    return await topics.describe(settings.kafka, wanted(settings))
