"""The demo on Kafka: topics of its own, a gateway in this process, two workers, and the death of one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import yaml

from streamproc.core.errors import StreamprocError, Transient
from streamproc.demo.crew import ANSWERS_WITHIN, Hand, free_port
from streamproc.demo.figures import Process
from streamproc.demo.stage import Counted, Happened, Outlived
from streamproc.distributed import Running, apply_topics, taking_in, wanted
from streamproc.events.alert import Alert
from streamproc.runtime.clock import Clock, SystemClock
from streamproc.runtime.faust.client import Place, TopicPartition, admin_client, reader
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.desk import KafkaDesk
from streamproc.settings import Settings
from streamproc.topology import TOPICS, TOPOLOGY
from streamproc.views import PipelineStatus

WORKERS = ("worker-1", "worker-2")
READY_WITHIN = 120.0
RECOVERS_WITHIN = 60.0
LOOKED_EVERY = 0.5
WAIT_MS = 200
ALL = sum(node.inbox.partitions for node in TOPOLOGY)
"""Partitions that are shared out."""


class Cluster:
    """A pipeline on Kafka.

    Args:
        pipeline: the gateway.
        desk: its desk.
        settings: of all processes.
        site: options of commands that look at it.
        clock: moments.
    """

    runtime = "Apache Kafka"
    again = " --kafka"
    stale = 5.0
    patience = RECOVERS_WITHIN

    def __init__(self, pipeline: Running, desk: KafkaDesk, settings: Settings, site: str, clock: Clock) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._clock = clock
        self._news: list[Happened] = []
        self._failures: list[str] = []
        self.crew: tuple[Hand, ...] = ()
        self.desk = desk
        self.url = pipeline.url
        self.site = site
        self.outlived: Outlived | None = None

    def decisions(self, status: PipelineStatus) -> Mapping[str, int]:  # noqa: ARG002  on Kafka each worker has its own
        """Return how often each `stage/reason` was decided, as far as the workers were heard."""
        counts = self.crew[0].decisions
        for hand in self.crew[1:]:
            counts += hand.decisions
        return counts

    def workers(self, status: PipelineStatus) -> tuple[Process, ...]:
        """Return how each worker stands."""
        shares = _shares(status)
        return tuple(_process(hand, shares.get(hand.name, 0)) for hand in self.crew)

    def say(self, subject: str, words: str) -> None:
        """Note what happened to a worker."""
        self._news.append(Happened(self._clock.now(), subject, words))

    def news(self) -> list[Happened]:
        """Return what happened to the workers since the last call."""
        news, self._news = self._news, []
        return news

    def failures(self) -> Iterable[str]:
        """Return what the workers did not do as they should have."""
        return tuple(self._failures)

    def stopped(self) -> StreamprocError | None:
        """Return why it has stopped by itself, None while it runs."""
        if self._pipeline.stopped.done():
            return self._pipeline.stopped.result()
        for hand in self.crew:
            if (code := hand.gone) is not None:
                return Transient(f"{hand.name} has ended with code {code}; why stands in {hand.log}")
        return None

    async def suffer(self) -> None:
        """Kill a worker, see that the other one takes over, start it again, and see that it has its share."""
        victim, heir = self.crew
        status = await asyncio.to_thread(self.desk.status)
        share, died = _shares(status).get(victim.name, 0), asyncio.get_running_loop().time()
        await victim.kill()
        self.say(victim.name, f"is killed (kill -9): its {share} partitions go to {heir.name}")
        waited = 0

        def inherited(status: PipelineStatus) -> bool:
            nonlocal waited
            waited = max(waited, sum(node.lag for node in status.nodes))
            return _shares(status) == {heir.name: ALL} and heir.ready_since is not None

        if await self._until(inherited, f"{heir.name} did not take over"):
            since = heir.ready_since or 0.0
            seconds = (since if since > died else asyncio.get_running_loop().time()) - died
            self.outlived = Outlived(victim.name, heir.name, waited, seconds)
            self.say(heir.name, f"has taken over: all {ALL} partitions, {waited:,} records had waited")
        await victim.start()

        def back(status: PipelineStatus) -> bool:
            return set(_shares(status)) == set(WORKERS) and all(hand.ready_since is not None for hand in self.crew)

        if await self._until(back, f"{victim.name} did not come back"):
            share = _shares(await asyncio.to_thread(self.desk.status)).get(victim.name, 0)
            self.say(victim.name, f"is back, with {share} of {ALL} partitions")

    async def count(self) -> Counted:
        """Count the public topic `alerts` as every reader of committed data sees it: each alert is there once."""
        places = [Place(self._settings.kafka.topic("alerts"), part) for part in range(TOPICS["alerts"].partitions)]
        partitions = [TopicPartition(*place) for place in places]
        seen: set[tuple[str, str, str]] = set()
        count = 0
        async with reader(self._settings.kafka, places) as consumer:
            for partition, end in (await consumer.end_offsets(partitions)).items():
                while await consumer.position(partition) < end:
                    for message in (await consumer.getmany(partition, timeout_ms=WAIT_MS)).get(partition, ()):
                        if dict(message.headers).get("type") == Alert.TYPE.encode():
                            alert = Alert.model_validate_json(message.value)
                            seen.add((alert.trail[0].origin, alert.fingerprint, alert.alert_id))
                            count += 1
        return Counted(count, count - len(seen))

    async def until_ready(self) -> None:
        """Wait until both workers share the work.

        Raises:
            StreamprocError: they do not within `READY_WITHIN`, or have ended.
        """
        until = asyncio.get_running_loop().time() + READY_WITHIN
        while True:
            status = await asyncio.to_thread(self.desk.status)
            if set(_shares(status)) == set(WORKERS) and all(hand.ready_since is not None for hand in self.crew):
                return
            if (reason := self.stopped()) is not None:
                raise reason
            if asyncio.get_running_loop().time() > until:
                logs = " and ".join(str(hand.log) for hand in self.crew)
                raise Transient(f"the workers are not at work after {READY_WITHIN:.0f} s; see {logs}")
            await asyncio.sleep(LOOKED_EVERY)

    async def _until(self, over: Callable[[PipelineStatus], bool], words: str) -> bool:
        until = asyncio.get_running_loop().time() + RECOVERS_WITHIN
        while not over(await asyncio.to_thread(self.desk.status)):
            if asyncio.get_running_loop().time() > until:
                self._failures.append(f"{words} within {RECOVERS_WITHIN:.0f} s")
                return False
            await asyncio.sleep(LOOKED_EVERY)
        return True


@asynccontextmanager
async def on_kafka(told: Mapping[str, Any], kafka: Config, folder: Path, *, keep: bool) -> AsyncIterator[Cluster]:
    """Run the pipeline on Kafka while the context is open.

    Args:
        told: its settings, as a settings file says them, without Kafka's.
        kafka: where Kafka is, and under what names.
        folder: for settings and logs of the workers.
        keep: leave the topics.

    Raises:
        Transient: no broker answers, or a worker does not get ready.
        StreamprocError: it cannot start.
    """
    shared = {**told, "kafka": {**kafka.model_dump(mode="json", exclude_defaults=True)}, "logs": {"form": "json"}}
    settings = Settings.model_validate(shared)
    site = folder / "streamproc.yaml"
    site.write_text(yaml.safe_dump(shared, sort_keys=False))
    async with AsyncExitStack() as stack:
        await _create(settings)
        if not keep:
            stack.push_async_callback(_delete, settings)
        pipeline = await stack.enter_async_context(taking_in(settings))
        desk = cast("KafkaDesk", pipeline.desk)  # a gateway has one
        cluster = Cluster(pipeline, desk, settings, f"--kafka --config {site}", SystemClock())
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=ANSWERS_WITHIN))
        cluster.crew = tuple(_hire(name, shared, folder, client, cluster) for name in WORKERS)
        stack.push_async_callback(_dismiss, cluster.crew)
        for hand in cluster.crew:
            await hand.start()
        keeping = [asyncio.create_task(hand.keep(), name=f"streamproc-{hand.name}") for hand in cluster.crew]
        stack.push_async_callback(_end, keeping)
        await cluster.until_ready()
        yield cluster


def _hire(name: str, shared: Mapping[str, Any], folder: Path, client: httpx.AsyncClient, cluster: Cluster) -> Hand:
    config = folder / f"{name}.yaml"
    own = {**shared, "kafka": {**shared["kafka"], "instance": name, "client_id": name}}
    config.write_text(yaml.safe_dump(own, sort_keys=False))
    return Hand(name, config, folder / f"{name}.log", free_port(), client, cluster.say)


async def _create(settings: Settings) -> None:
    try:
        await apply_topics(settings)
    except Transient:
        where = ", ".join(settings.kafka.bootstrap)
        raise Transient(
            f"no Kafka broker answers at {where}: `make demo KAFKA=1` starts one of its own, `make kafka` one for "
            "development; KAFKA_BOOTSTRAP names another"
        ) from None


async def _delete(settings: Settings) -> None:
    with suppress(Transient):  # a broker that is gone took its topics along, or keeps them until it is back
        await _delete_at(settings)


async def _delete_at(settings: Settings) -> None:
    async with admin_client(settings.kafka) as client:
        await client.delete_topics([topic.name for topic in wanted(settings)])


async def _dismiss(crew: Iterable[Hand]) -> None:
    await asyncio.gather(*(hand.stop() for hand in crew))


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _shares(status: PipelineStatus) -> dict[str, int]:
    """Return how many partitions each worker has."""
    return {worker.name: worker.partitions for worker in status.workers if worker.partitions}


def _process(hand: Hand, share: int) -> Process:
    words = f"{share} partitions" if hand.standing == "ready" else hand.standing
    return Process(hand.name, words, well=hand.standing == "ready")
