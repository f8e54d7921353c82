"""The pipeline on one machine, put together: embedded runtime, sender and gateway. The composition root."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from streamproc.beginning import BESIDE, arming, read_catalogue, settings_of
from streamproc.core.errors import Defect, StreamprocError, Unusable
from streamproc.core.step import ACTIVE, ActiveRow
from streamproc.events.feedback import ARM, Policy
from streamproc.gateway.access import Keys
from streamproc.gateway.app import build
from streamproc.gateway.config import check_binding
from streamproc.gateway.pagerduty import Foreign
from streamproc.gateway.server import serve
from streamproc.learning.model import Learner, Lesson, learn
from streamproc.ports import Entry, Inlet, Traces
from streamproc.reconciling import begin_reconciling, standing_of
from streamproc.runtime import heartbeat
from streamproc.runtime.allowance import Allowance, OwnAllowance
from streamproc.runtime.clock import Clock, SystemClock
from streamproc.runtime.embedded.runtime import Embedded, LiveDesk
from streamproc.runtime.engine import Engine, Sensor
from streamproc.runtime.latency import NodeLatency
from streamproc.runtime.metrics import Metrics
from streamproc.runtime.process import this_process
from streamproc.runtime.sender import Config as SenderConfig
from streamproc.runtime.sender import Sender
from streamproc.runtime.sensors import Sensors
from streamproc.runtime.standing_metrics import StandingMetrics
from streamproc.runtime.traces.exporting import exporting
from streamproc.runtime.traces.folding import SpanSensor
from streamproc.services import Catalogue
from streamproc.settings import Settings
from streamproc.sinks.heartbeat import Pinger
from streamproc.sinks.notify.channels import Channels
from streamproc.sinks.notify.fallback import Fallback
from streamproc.sinks.pagerduty.client import EventsClient
from streamproc.stages.escalate import DEFAULT
from streamproc.state import POLICY
from streamproc.topology import TOPICS, TOPOLOGY
from streamproc.versions import CHANGED, FILE, activation, as_replaced, checksum_of, file_body, switched

if TYPE_CHECKING:
    from streamproc.runtime.redis.connection import Connection

log = structlog.get_logger(__name__)

REQUESTS_END_WITHIN = 2
"""Seconds that requests under way may take at the end; with the next one and the runtime's own bound under 10."""
SENDING_ENDS_WITHIN = 2.5


@dataclass
class Running:
    """A pipeline that runs."""

    url: str
    """Where the gateway listens."""
    runtime: Embedded
    desk: LiveDesk
    stopped: asyncio.Future[StreamprocError] = field(repr=False)
    """Done when the pipeline has stopped by itself, with the reason."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry, repr=False)
    """Where its metrics are kept."""


@asynccontextmanager
async def running(
    settings: Settings,
    folder: Path,
    *,
    armed: bool,
    clock: Clock | None = None,
    renew: Callable[[], Settings] | None = None,
    beside: bool = False,
    hear_foreign: Callable[[Foreign], Awaitable[None]] | None = None,
) -> AsyncIterator[Running]:
    """Run the pipeline on one machine while the context is open; leaving it stops everything within 10 s.

    Args:
        settings: everything that can be set.
        folder: the data directory.
        armed: page from the first moment; nothing is adopted.
        clock: the machine's by default.
        renew: reads the settings again, every `pagerduty.security.token_rotation` seconds: newer tokens and signing
            secrets count from then on, and nothing else of them. None where they stay as they are.
        beside: run next to another route to PagerDuty: there is no sender, so nothing is delivered, armed or not.
        hear_foreign: told of incidents of PagerDuty that are not ours.

    Raises:
        StreamprocError: it cannot start; the message says why, and the mend.
    """
    listening = settings.listening()
    check_binding(listening)
    clock = clock or SystemClock()
    stopped: asyncio.Future[StreamprocError] = asyncio.get_running_loop().create_future()
    registry = process_registry()
    metrics = Metrics(TOPOLOGY, registry)

    def stop(error: StreamprocError) -> None:
        if not stopped.done():
            stopped.set_result(error)

    catalogue = read_catalogue(settings)
    notifier = channels(settings, clock)
    keys = Keys(listening)
    async with AsyncExitStack() as stack:
        traces = await stack.enter_async_context(exporting(settings.traces, registry))
        sensor = sensors(metrics, traces, registry, clock)
        runtime = Embedded(folder, TOPOLOGY, TOPICS, clock, settings.embedded, sensor, stop)
        stack.push_async_callback(runtime.stop)
        intents = await runtime.start(
            lambda engine: beginning(settings, catalogue, engine, armed=armed, beside=beside, now=clock.now())
        )
        redis = await redis_of(settings, registry, stack)
        sender: Sender | None = None
        if not beside:
            client = await stack.enter_async_context(EventsClient(settings.pagerduty.api))
            account = await account_of(settings, redis, stack)
            config = sender_config(settings)
            sender = Sender(config, client, runtime, clock, notifier, registry, account=account, traces=traces)
            sender.offer(intents)
            runtime.offer_to(sender.offer, sender.offer_pages)
            begin_sending(sender, stop, stack)
        desk = LiveDesk(folder, runtime)
        metrics.watch(runtime.nodes, clock.now)
        StandingMetrics(runtime.parts, registry)
        reconciler = None
        if sender is not None:
            reconciler = await begin_reconciling(settings, desk, runtime, clock, registry, redis, stack)
        if sender is not None and reconciler is not None:
            sender.listen(reconciler.look_soon)
        compared = partial(standing_of, reconciler)
        app = build(
            listening,
            runtime,
            desk,
            registry,
            keys=keys,
            traces=traces,
            reconciliation=compared,
            hear_foreign=hear_foreign,
        )
        address = await stack.enter_async_context(
            serve(app, listening.host, listening.port, stop_within=REQUESTS_END_WITHIN)
        )
        if renew is not None:
            stack.callback(renew_keys(keys, renew, settings).cancel)
        await begin_heartbeat(settings, this_process(), runtime, desk, clock, registry, stack)
        threading.Thread(target=warm_up, name="streamproc-warm-up", daemon=True).start()
        standing = desk.status().armed
        log.info("The pipeline runs.", url=address.url, data_dir=str(folder), armed=standing, beside=beside)
        yield Running(address.url, runtime, desk, stopped, registry)


def sensors(metrics: Metrics, traces: Traces | None, registry: CollectorRegistry, clock: Clock) -> Sensor:
    """Return what is told of every commit: the metrics, the latency budget, and the spans where some are made."""
    latency = NodeLatency(TOPOLOGY, registry, clock)
    return Sensors(metrics, latency) if traces is None else Sensors(metrics, latency, SpanSensor(traces, clock))


async def begin_heartbeat(
    settings: Settings,
    process: str,
    inlet: Inlet,
    desk: heartbeat.Desk,
    clock: Clock,
    registry: CollectorRegistry,
    stack: AsyncExitStack,
) -> None:
    """Begin canaries and heartbeats, where they are set; they end with `stack`.

    Args:
        settings: everything that can be set.
        process: who sends canaries; no other process may have the name.
        inlet: the way into the log.
        desk: what shows the canary at the other end.
        clock: moments.
        registry: where metrics are kept.
        stack: ends what was begun.
    """
    url = settings.heartbeat.url
    if url is None:
        return
    watcher = await stack.enter_async_context(Pinger(url.get_secret_value()))
    patience = timedelta(seconds=settings.pagerduty.notifications.fallback_after)
    heart = heartbeat.Heart(process, settings.heartbeat, patience, inlet, desk, watcher, clock, registry)
    beating = asyncio.create_task(heart.run(), name="streamproc-heartbeat")
    beating.add_done_callback(_heart_ended)

    async def still() -> None:
        beating.cancel()
        await asyncio.wait({beating})

    stack.push_async_callback(still)


def _heart_ended(task: asyncio.Task[None]) -> None:
    """Say so where no heart beats any more: the pipeline goes on, and the watcher outside raises the alarm."""
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("The heartbeat has stopped; start the process again.", error=repr(failure))


def begin_sending(sender: Sender, stop: Callable[[StreamprocError], None], stack: AsyncExitStack) -> None:
    """Let a sender work until the stack is left; `stop` is called where it breaks."""
    sending = asyncio.create_task(sender.run(), name="streamproc-sender")
    sending.add_done_callback(lambda task: _sender_ended(task, stop))
    stack.push_async_callback(_end_sending, sender, sending)


def _sender_ended(sending: asyncio.Task[None], stop: Callable[[StreamprocError], None]) -> None:
    """Stop everything where the sender breaks: a pipeline that takes alerts and pages nobody is worse than none."""
    if not sending.cancelled() and (failure := sending.exception()) is not None:
        stop(Defect(f"the sender has stopped: {type(failure).__name__}: {failure}"))


async def _end_sending(sender: Sender, sending: asyncio.Task[None]) -> None:
    """Send what is begun, within `SENDING_ENDS_WITHIN` seconds."""
    await sender.stop(SENDING_ENDS_WITHIN)
    await asyncio.wait({sending})


def renew_keys(keys: Keys, read: Callable[[], Settings], settings: Settings) -> asyncio.Task[None]:
    """Begin to take over tokens and signing secrets of the settings file, again and again; cancel it to end.

    Args:
        keys: those of the gateway.
        read: reads the settings again.
        settings: those at the start; what else the file says by then waits for the next one.
    """
    return asyncio.create_task(_renew(keys, read, settings), name="streamproc-renew")


async def _renew(keys: Keys, read: Callable[[], Settings], settings: Settings) -> None:
    while True:
        await asyncio.sleep(settings.pagerduty.security.token_rotation)
        try:
            newer = (await asyncio.to_thread(read)).listening()
            check_binding(newer.model_copy(update={"host": settings.gateway.host}))
        except Unusable as error:
            log.warning("Newer tokens and secrets cannot be used; those that stand go on.", error=str(error))
            continue
        if keys.renew(newer):
            log.info("Newer tokens and secrets count from now on.")


def warm_up() -> None:
    """Load the learner's library: it takes two seconds, and in the fold of the first label everything would wait."""
    learn(Learner(), Lesson({}, page=True), ())


def beginning(
    settings: Settings, catalogue: str | None, engine: Engine, *, armed: bool, now: datetime, beside: bool = False
) -> Sequence[Entry]:
    """Return the records that make the settings, the catalogue and the arming those that the pipeline works with."""
    rows = engine.part("decide").rows
    found = {kind: row for kind in (*CHANGED, FILE) if isinstance(row := rows.get(ACTIVE.at(kind)), ActiveRow)}
    known = {key: row.policy for key, row in rows.scan(POLICY)}
    return at_start(settings, catalogue, found, known, armed=armed, now=now, author="run", beside=beside)


def at_start(
    settings: Settings,
    catalogue: str | None,
    active: Mapping[str, ActiveRow],
    policies: Mapping[str, Policy],
    *,
    armed: bool,
    now: datetime,
    author: str,
    beside: bool = False,
) -> list[Entry]:
    """Return the records that a start adds; none where everything stands already.

    The settings file does not undo what was promoted, or rolled back to, since the last start: it counts again once it
    says something else than it did then.

    Args:
        settings: everything that can be set.
        catalogue: the body of the service catalogue, None where none is set.
        active: what is active now, by kind.
        policies: the newest version of every policy that is known, by id.
        armed: page from the first moment; nothing is adopted.
        now: the moment.
        author: the command that arms.
        beside: run next to another route, which delivers nothing.

    Raises:
        Unusable: it shall run beside, and is armed.
    """
    told = file_body(_told(settings, catalogue), replaced=False)
    file = active.get(FILE)
    entries: list[Entry] = []
    if file is not None and file.checksum == checksum_of(as_replaced(told)):
        log.info(
            "What was promoted or rolled back to goes on; the settings file counts again once it is changed.",
            mend="put the promoted settings in the place of the settings file",
        )
    else:
        bodies = settings_of(settings, catalogue)
        entries += switched(bodies, active, policies.values(), now, "start", "settings at start")
        entries += activation(FILE, told, file, author="start", reason="settings at start")
    wish = arming_at_start(policies.get(ARM), now, author, armed=armed, beside=beside)
    if wish is not None:
        entries.append(Entry.of("policies", wish))
    return entries


def arming_at_start(arm: Policy | None, now: datetime, author: str, *, armed: bool, beside: bool) -> Policy | None:
    """Return the arming, or disarming, that a start adds; None where what stands may stand. Arguments as above.

    Raises:
        Unusable: it shall run beside, and is armed.
    """
    version = 1 if arm is None else arm.version + 1
    stands = arm is not None and not arm.withdrawn
    marked = arm is not None and arm.withdrawn and arm.reason == BESIDE
    if beside and (stands or armed):
        raise Unusable("armed, and --beside delivers nothing: `streamproc disarm` first, or start without --beside")
    if beside:
        said = None if marked else arming(version, now, author=f"{author} --beside", withdrawn=True, reason=BESIDE)
    elif armed:
        said = None if stands else arming(version, now, author=f"{author} --armed", adopt=False)
    else:
        said = arming(version, now, author=author, withdrawn=True) if marked else None
    return said


def _told(settings: Settings, catalogue: str | None) -> str:
    """Return what a start is told by files and the environment, the same in every version of streamproc."""
    services = "" if catalogue is None else Catalogue.of(catalogue).model_dump_json(exclude_defaults=True)
    return f"{settings.told()}\n{services}"


def process_registry() -> CollectorRegistry:
    """Return a registry that holds the metrics of the process itself."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def channels(settings: Settings, clock: Clock) -> Channels | None:
    """Return the way to people beside PagerDuty, None where none is set.

    Raises:
        Unusable: a channel is no apprise URL.
    """
    urls = [url.get_secret_value() for url in settings.pagerduty.notifications.channels]
    if not urls:
        return None
    return Channels(Fallback(urls), settings.pagerduty.notifications.rate_limit, clock.now)


def sender_config(settings: Settings) -> SenderConfig:
    """Return what the settings say of sending."""
    return SenderConfig(
        rate_limit=settings.pagerduty.requests_per_minute,
        fallback_after=timedelta(seconds=settings.pagerduty.notifications.fallback_after),
        destinations=tuple(sorted({DEFAULT, *settings.pagerduty.destinations})),
    )


async def redis_of(settings: Settings, registry: CollectorRegistry, stack: AsyncExitStack) -> Connection | None:
    """Return the connection to Redis, None where none is set. It need not answer.

    Raises:
        Unusable: its address cannot be used.
    """
    if settings.redis.url is None:
        return None
    from streamproc.runtime.redis.connection import Connection  # noqa: PLC0415  redis-py takes most of a second to load

    return await stack.enter_async_context(Connection(settings.redis, registry))


async def account_of(settings: Settings, redis: Connection | None, stack: AsyncExitStack) -> Allowance | None:
    """Return what all routing keys may send together, None where there is no bound of that kind."""
    limit = settings.pagerduty.account_requests_per_minute
    if limit is None:
        return None
    if redis is None:
        return OwnAllowance(limit)
    from streamproc.runtime.redis.budget import AccountBudget  # noqa: PLC0415  as above

    return await stack.enter_async_context(AccountBudget(redis, "events", limit, this_process()))
