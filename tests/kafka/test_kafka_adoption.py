"""Arming on Kafka adopts what is open in every partition: nothing of it pages, and what begins after that does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry

from streamproc.beginning import arming
from streamproc.core.fold import CONFIG
from streamproc.core.identity import scope
from streamproc.events.escalation import Page, PageAction, Verdict
from streamproc.events.incident import Incident
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.codec import partition_of
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.guards import FailStop
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.sending import offer_to
from streamproc.runtime.faust.worker import Worker
from streamproc.runtime.sender import Config as SenderConfig
from streamproc.runtime.sender import Sender
from streamproc.settings import Settings
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.versions import activation
from tests.kafka.exact import Left, at_rest, check, left_by
from tests.kafka.test_kafka_pipeline import PAYLOAD, SETTINGS, WITHIN, PagerDuty, nowhere

CLUSTERS = [f"c-{at}" for at in range(6)]
NEW = "c-new"


def payload(clusters: Iterable[str], began: str) -> bytes:
    """Return a webhook with one critical alert of each cluster, each of them another scope."""
    told = json.loads(PAYLOAD.read_text())
    alert = told["alerts"][0] | {"status": "firing", "endsAt": "0001-01-01T00:00:00Z", "startsAt": began}
    told["alerts"] = [
        alert | {"labels": alert["labels"] | {"cluster": cluster}, "fingerprint": f"{at:016x}{cluster}"}
        for at, cluster in enumerate(clusters)
    ]
    return json.dumps(told).encode()


class Rig:
    def __init__(self, config: Config, inlet: KafkaInlet) -> None:
        self.config, self.inlet = config, inlet
        self.entries: list[Entry] = []

    async def put(self, *entries: Entry) -> Left:
        """Append, and return what stands once everything is folded."""
        await self.inlet.append(entries)
        self.entries.extend(entries)
        async with asyncio.timeout(WITHIN):
            while not await at_rest(self.config, TOPOLOGY):  # noqa: ASYNC110  it is outside
                await asyncio.sleep(0.2)
        return await left_by(self.config, TOPOLOGY, TOPICS)

    async def until(self, wanted: Callable[[Left], bool]) -> Left:
        async with asyncio.timeout(WITHIN):
            while True:
                left = await left_by(self.config, TOPOLOGY, TOPICS)
                if wanted(left):
                    return left


@asynccontextmanager
async def dry_run(config: Config, pagerduty: PagerDuty) -> AsyncIterator[Rig]:
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))
    stopped: list[FailStop] = []
    async with AsyncExitStack() as stack:
        inlet = KafkaInlet(config, TOPICS, SystemClock())
        stack.push_async_callback(inlet.stop)
        worker = Worker(config, TOPOLOGY, TOPICS, LETTERS, SystemClock(), leave=stopped.append)
        sender = Sender(SenderConfig(), pagerduty, inlet, SystemClock(), None, CollectorRegistry())
        offer_to(worker, sender.offer, sender.offer_pages, nowhere)
        await worker.start()
        stack.push_async_callback(worker.stop)
        sending = asyncio.create_task(sender.run())
        rig = Rig(config, inlet)
        await rig.put(*activation(CONFIG, Settings.model_validate(SETTINGS).stages(), None, author="t", reason="t"))
        yield rig
        await sender.stop()
        await sending
        assert not stopped


def records(left: Left, topic: str, type_: bytes) -> list[Any]:
    return [
        record
        for (name, _), log in left.logs.items()
        if name == topic
        for record in log
        if record.headers.get("type") == type_
    ]


def pages(left: Left) -> list[Page]:
    return [Page.decode(record.value, record.headers) for record in records(left, "pages", b"page.v1")]


def incidents(left: Left) -> list[Incident]:
    return [
        Incident.decode(record.value, record.headers)
        for record in records(left, "incidents.enriched", Incident.TYPE.encode())
    ]


async def test_arming_adopts_what_is_open_in_every_partition(config: Config) -> None:
    episodes = next(node.inbox.partitions for node in TOPOLOGY if node.name == "decide")
    places = {partition_of(scope("prod", cluster).encode(), episodes) for cluster in CLUSTERS}
    assert len(places) > 1, "the clusters are in several partitions"
    long_ago = payload(CLUSTERS, "2026-01-01T00:00:00Z")
    pagerduty = PagerDuty()
    async with dry_run(config, pagerduty) as rig:
        left = await rig.put(Entry("alerts.raw", b"", long_ago))
        opened = {incident.incident_id for incident in incidents(left)}
        assert len(opened) == len(CLUSTERS)
        assert all(incident.decision and incident.decision.dry_run for incident in incidents(left))
        assert not pages(left)
        await rig.put(Entry.of("policies", arming(1, datetime.now(UTC), author="test", adopt=True)))
        await rig.put(Entry("alerts.raw", b"", long_ago))  # Alertmanager tells what still fires again
        left = await rig.until(lambda left: len(pages(left)) >= len(places))
        assert {page.action for page in pages(left)} == {PageAction.CHANGE}
        now = datetime.now(UTC).isoformat()
        await rig.put(Entry("alerts.raw", b"", payload([NEW], now)))
        await rig.until(lambda left: any(page.action is PageAction.TRIGGER for page in pages(left)))
        left = await rig.put()
    told = [page for page in pages(left) if page.action is PageAction.CHANGE]
    adopted = [json.loads(page.body)["payload"]["custom_details"]["adopted"] for page in told if page.body]
    assert sum(adopted) == len(CLUSTERS), "each partition tells of its own, once"
    assert len(told) == len(places)
    (paged,) = (page for page in pages(left) if page.action is PageAction.TRIGGER)
    assert paged.verdict is Verdict.DELIVERED
    assert paged.incident_id not in opened
    assert len(pagerduty.requests) == len(places) + 1
    outcomes = [Entry(r.topic, r.key, r.value) for r in records(left, "escalations", b"outcome.v1")]
    check(left, TOPOLOGY, LETTERS, [*rig.entries, *outcomes])
