"""The real topology on a real broker: a payload off the wire, delivered twice, pages once for each incident."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from streamproc.core.fold import CONFIG
from streamproc.events.escalation import Page, PageAction, Verdict
from streamproc.events.feedback import ARM, Policy, PolicyKind
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import writer
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.guards import FailStop
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.sending import offer_to
from streamproc.runtime.faust.standing import read_standing
from streamproc.runtime.faust.worker import Worker
from streamproc.runtime.sender import Config as SenderConfig
from streamproc.runtime.sender import Sender
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.encode import Encoded
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.versions import activation
from tests.kafka.exact import at_rest, check, left_by

PAYLOAD = Path(__file__).parents[1] / "fixtures" / "payloads" / "alertmanager_webhook.json"
WITHIN = 60.0
SETTINGS: dict[str, Any] = {"pagerduty": {"destinations": {"default": {"routing_key": "R" * 32}}}}


@dataclass
class Answer:
    verdict: Verdict = Verdict.DELIVERED
    status: int | None = 202
    message: str = "Event processed"
    attempts: int = 1
    retry_after: float | None = None


@dataclass
class PagerDuty:
    """Takes everything, and remembers it."""

    requests: list[Encoded] = field(default_factory=list)

    async def send(self, encoded: Encoded, /, wanted: Callable[[], bool]) -> Answer:
        assert wanted()
        self.requests.append(encoded)
        return Answer()


def nowhere() -> list[Page]:
    return []


async def begin(config: Config, inlet: KafkaInlet) -> list[Entry]:
    """Put settings and arming into the log, as a start does."""
    standing = await read_standing(config)
    body = Settings.model_validate(SETTINGS).stages()
    entries = activation(CONFIG, body, standing.active.get(CONFIG), author="test", reason="start")
    now = datetime.now(UTC) - timedelta(minutes=1)
    arm = Policy(policy_id=ARM, kind=PolicyKind.ARM, version=1, starts_at=now, author="test", adopt=False)
    entries.append(Entry.of("policies", arm))
    await inlet.append(entries)
    return entries


async def test_a_payload_produced_directly_pages_once(config: Config) -> None:
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))
    stopped: list[FailStop] = []
    pagerduty = PagerDuty()
    async with AsyncExitStack() as stack:
        inlet = KafkaInlet(config, TOPICS, SystemClock())
        stack.push_async_callback(inlet.stop)
        entries = await begin(config, inlet)
        worker = Worker(config, TOPOLOGY, TOPICS, LETTERS, SystemClock(), leave=stopped.append)
        sender = Sender(SenderConfig(), pagerduty, inlet, SystemClock(), None, CollectorRegistry())
        offer_to(worker, sender.offer, sender.offer_pages, nowhere)
        await worker.start()
        stack.push_async_callback(worker.stop)
        sending = asyncio.create_task(sender.run())
        async with asyncio.timeout(WITHIN):
            while not worker.standing()["ready"]:  # noqa: ASYNC110  it is asked, as /ready does
                await asyncio.sleep(0.1)
        payload = json.loads(PAYLOAD.read_text())
        for alert in payload["alerts"]:
            alert["status"], alert["endsAt"] = "firing", "0001-01-01T00:00:00Z"
        payload["status"] = "firing"
        body = json.dumps(payload).encode()
        producer = await writer(config)  # a bridge: no key, no headers, and it delivers twice
        for _ in range(2):
            await producer.send_and_wait(config.topic("alerts.raw"), value=body)
        await producer.stop()
        async with asyncio.timeout(WITHIN):
            while not pagerduty.requests or not await at_rest(config, TOPOLOGY):  # noqa: ASYNC110  it is outside
                await asyncio.sleep(0.2)
        await sender.stop()
        await sending
        assert not stopped
    left = await left_by(config, TOPOLOGY, TOPICS)
    pages = [
        Page.decode(record.value, record.headers)
        for (topic, _), log in left.logs.items()
        if topic == "pages"
        for record in log
    ]
    triggers = [page for page in pages if page.action is PageAction.TRIGGER]
    assert len({page.incident_id for page in triggers}) == len(triggers) == len(pagerduty.requests)
    assert all(page.verdict is Verdict.DELIVERED for page in triggers)
    outcomes = [
        Entry(record.topic, record.key, record.value)
        for (topic, _), log in left.logs.items()
        for record in log
        if topic == "escalations" and record.headers.get("type") == b"outcome.v1"
    ]
    raw = [Entry("alerts.raw", b"", body)] * 2
    figures = check(left, TOPOLOGY, LETTERS, [*entries, *raw, *outcomes])
    assert figures["emitted"] > 0
