"""One worker of the pipeline on Kafka, put together: the Faust runtime, the sender of its partitions, and probes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import structlog
from fastapi import FastAPI

from streamproc.core.errors import StreamprocError, Transient
from streamproc.events.feedback import ARM
from streamproc.gateway.operations import Ready, health
from streamproc.gateway.server import serve
from streamproc.runtime.clock import Clock, SystemClock
from streamproc.runtime.faust import topics
from streamproc.runtime.faust.client import KafkaError
from streamproc.runtime.faust.described import Standing as TopicStanding
from streamproc.runtime.faust.described import Wanted
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.sending import offer_to
from streamproc.runtime.faust.standing import read_standing
from streamproc.runtime.faust.topics import Finding
from streamproc.runtime.faust.worker import Worker
from streamproc.runtime.metrics import Metrics
from streamproc.runtime.sender import Sender
from streamproc.runtime.tally import Tally
from streamproc.service import (
    REQUESTS_END_WITHIN,
    at_start,
    channels,
    end_sending,
    process_registry,
    read_catalogue,
    sender_config,
    sender_ended,
    warm_up,
)
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.client import EventsClient
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.views import NodeStatus

log = structlog.get_logger(__name__)


@dataclass
class WorkerRunning:
    """A worker that runs."""

    url: str
    """Where its probes answer, empty where they do not."""
    stopped: asyncio.Future[StreamprocError] = field(repr=False)
    """Done when its sender has broken. What the runtime cannot promise ends the process at once, see docs/kafka.md."""


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


@asynccontextmanager
async def working(
    settings: Settings, *, armed: bool, host: str = "127.0.0.1", port: int | None = None, clock: Clock | None = None
) -> AsyncIterator[WorkerRunning]:
    """Run one worker while the context is open. Leaving it ends sending first, then the fold, then the way in.

    Args:
        settings: everything that can be set.
        armed: page from the first moment; nothing is adopted.
        host: address of the probes.
        port: their port; 0 takes a free one, None answers none.
        clock: the machine's by default.

    Raises:
        StreamprocError: it cannot start; the message says why, and the mend.
    """
    clock = clock or SystemClock()
    stopped: asyncio.Future[StreamprocError] = asyncio.get_running_loop().create_future()

    def stop(error: StreamprocError) -> None:
        if not stopped.done():
            stopped.set_result(error)

    registry = process_registry()
    metrics = Metrics(TOPOLOGY, registry)
    tally = Tally(metrics)
    await topics.require(settings.kafka, wanted(settings))
    async with AsyncExitStack() as stack:
        inlet = KafkaInlet(settings.kafka, TOPICS, clock)
        stack.push_async_callback(inlet.stop)
        await _begin(settings, inlet, clock, armed=armed)
        worker = Worker(settings.kafka, TOPOLOGY, TOPICS, LETTERS, clock, tally)
        client = await stack.enter_async_context(EventsClient(settings.pagerduty.api))
        sender = Sender(sender_config(settings), client, inlet, clock, channels(settings, clock), registry)
        offer_to(worker, sender.offer, sender.offer_pages, tally.take_nowhere)
        await worker.start()
        stack.push_async_callback(worker.stop)
        sending = asyncio.create_task(sender.run(), name="streamproc-sender")
        sending.add_done_callback(lambda task: sender_ended(task, stop))
        stack.push_async_callback(end_sending, sender, sending)
        probes = Probes(worker)
        metrics.watch(probes.nodes, clock.now)
        url = ""
        if port is not None:
            app = FastAPI(title="streamproc worker", docs_url=None, redoc_url=None, openapi_url=None)
            app.include_router(health(probes, registry))
            served = serve(app, host, port, stop_within=REQUESTS_END_WITHIN)
            url = (await stack.enter_async_context(served)).url
        threading.Thread(target=warm_up, name="streamproc-warm-up", daemon=True).start()
        log.info("The worker has joined the group.", group=settings.kafka.group_id, probes=url or None)
        yield WorkerRunning(url, stopped)


async def _begin(settings: Settings, inlet: KafkaInlet, clock: Clock, *, armed: bool) -> None:
    """Make the settings, the catalogue and the arming those that all workers decide with, where others stand."""
    try:
        standing = await read_standing(settings.kafka)
    except KafkaError as error:
        raise Transient(f"what is active cannot be read from Kafka: {error!r}; start again") from error
    entries = at_start(
        settings,
        read_catalogue(settings),
        standing.active,
        standing.policies.get(ARM),
        armed=armed,
        now=clock.now(),
        author="worker --armed",
    )
    if entries:
        await inlet.append(entries)
        log.info("What this start was told counts from now on, for every worker.", records=len(entries))


# -- topics ----------------------------------------------------------------------------------------------------------


def wanted(settings: Settings) -> list[Wanted]:
    """Return every topic that the pipeline needs at the broker."""
    return topics.wanted(TOPICS, TOPOLOGY, settings.kafka)


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
