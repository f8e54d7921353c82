"""What bridges produce straight to `alerts.raw`: the same comes of it as of what is posted to the gateway.

And the two programs of docs/kafka.md, as they stand there.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from streamproc.core.event import DeadLetter
from streamproc.distributed import apply_topics, working
from streamproc.emulator.emulator import Emulator
from streamproc.events.alert import Alert
from streamproc.events.incident import Incident
from streamproc.events.raw import RawAlert
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import (
    AIOKafkaProducer,
    Place,
    close_producer,
    options,
    reader,
    transactional_producer,
)
from streamproc.runtime.faust.codec import record_of
from streamproc.runtime.faust.config import Config
from streamproc.topology import TOPICS, TOPOLOGY
from tests.embedded.pipelines import body, kept
from tests.kafka.exact import Left, at_rest, left_by
from tests.service.standing import now_alert, pagerduty, settings_of, standing, until, until_told

ROOT = Path(__file__).parents[2]
PAYLOADS = ROOT / "tests" / "fixtures" / "payloads"
WITHIN = 60.0


class Body(NamedTuple):
    """What a sender sends; `source` is what it would post it as."""

    source: str
    value: bytes


def fixture(source: str, name: str) -> Body:
    return Body(source, (PAYLOADS / f"{name}.json").read_bytes())


DOWN, SLOW = now_alert("Down", "db"), now_alert("Slow", "db")
FIRING = (
    Body("alertmanager", body(DOWN, SLOW)),
    fixture("alertmanager", "grafana_webhook"),
    fixture("alertmanager", "google_webhook"),
    fixture("datadog", "datadog_triggered"),
    fixture("datadog", "datadog_default"),
    fixture("generic", "generic"),
)
ENDED = (
    Body("alertmanager", body(*({**one, "status": "resolved", "endsAt": one["startsAt"]} for one in (DOWN, SLOW)))),
    fixture("datadog", "datadog_recovered"),
)
HALF = Body("alertmanager", body(now_alert("Half", "half"), {"status": "firing", "labels": {}}))
GARBAGE = (b"", b"{", b"\xff\xfe", b'"alert"', b'{"a": 1}')
PAGED = Counter({"db": 1, "checkout": 1, "shop": 1, "orders-db": 1, "half": 1})
"""Alerts at PagerDuty by component, which is the service; two bodies are warnings, which page nobody."""
RESOLVED = Counter({"db": 1, "shop": 1})
AT_THE_DOOR = Counter({"not_json": 3, "wrong_shape": 2})
"""Why the gateway refuses what is no payload of Alertmanager."""
IN_THE_LOG = Counter({"not_json": 4, "unknown_shape": 2, "unknown_source": 1})
"""Why it becomes a dead letter where a bridge has produced it: a record without a value and one of a source that nobody
knows among them."""


def by_component(emulator: Emulator, status: str = "") -> Counter[str]:
    alerts = emulator.account.alerts.values()
    return Counter(one.event["payload"].get("component", "") for one in alerts if status in ("", one.status))


def told(alerts: Iterator[Alert]) -> Counter[tuple[str, str, str]]:
    return Counter((one.source, one.fingerprint, str(one.status)) for one in alerts)


async def posted(folder: Path) -> tuple[Counter[tuple[str, str, str]], Counter[str]]:
    """Post everything to the gateway of one machine, each body four times; return its alerts and dead letters."""
    async with standing(folder) as stand:

        async def post(source: str, value: bytes) -> str:
            answer = await stand.http.post(f"/v1/ingest/{source}", content=value)
            return "" if answer.status_code == 202 else str(answer.json()["error"]["reason"])

        async def idle() -> bool:
            return all(not node["lag"] for node in (await stand.get("/v1/status"))["nodes"])

        assert not any([await post(*one) for one in (*FIRING, HALF) for _ in range(4)])
        await stand.until(lambda: by_component(stand.emulator) == PAGED)
        assert not any([await post(*one) for one in ENDED for _ in range(4)])
        assert Counter([await post("alertmanager", value) for value in GARBAGE]) == AT_THE_DOOR
        await stand.until(lambda: by_component(stand.emulator, "resolved") == RESOLVED)
        await until_told(idle)
        assert by_component(stand.emulator) == PAGED
    letters = [DeadLetter.model_validate_json(value) for value in kept(folder, "dead-letters")]
    alerts = told(Alert.model_validate_json(value) for value in kept(folder, "alerts", Alert))
    return alerts, Counter(letter.reason for letter in letters)


@asynccontextmanager
async def bridge(config: Config) -> AsyncIterator[AIOKafkaProducer]:
    """A producer with nothing of ours."""
    producer = AIOKafkaProducer(**options(config))
    await producer.start()
    try:
        yield producer
    finally:
        await close_producer(producer)


async def produce(config: Config, producer: AIOKafkaProducer, bodies: Sequence[Body]) -> None:
    """Produce each body with and without a key, with and without the header."""
    for one in bodies:
        for key in (b"a group", None):
            for headers in ([("source", one.source.encode())], None):
                await producer.send_and_wait(config.topic("alerts.raw"), one.value, key, headers=headers)


async def produced(config: Config, folder: Path) -> Left:
    """Produce everything on Kafka, and wait until the same is paged; return what that left."""
    async with pagerduty() as (emulator, url), bridge(config) as producer:
        settings = settings_of(url, folder, kafka=config)
        await apply_topics(settings)
        async with working(settings, armed=True):
            await produce(config, producer, [*FIRING, HALF])
            await until(lambda: by_component(emulator) == PAGED)
            await until_told(lambda: at_rest(config, TOPOLOGY))
            await produce(config, producer, ENDED)
            raw = config.topic("alerts.raw")
            for value in (*GARBAGE, None):
                await producer.send_and_wait(raw, value, b"a group" if value is None else None)
            await producer.send_and_wait(raw, FIRING[0].value, headers=[("source", b"nagios")])
            await until(lambda: by_component(emulator, "resolved") == RESOLVED)
            await until_told(lambda: at_rest(config, TOPOLOGY))
        assert by_component(emulator) == PAGED
    return await left_by(config, TOPOLOGY, TOPICS)


async def test_what_is_produced_directly_comes_to_what_is_posted(config: Config, tmp_path: Path) -> None:
    alerts, letters = await posted(tmp_path / "data")
    assert letters == Counter({"no_labels": 4})
    left = await produced(config, tmp_path / "kafka")
    records = [(topic, record) for (topic, _), log in left.logs.items() for record in log]
    kind = Alert.TYPE.encode()
    assert alerts == told(
        Alert.decode(record.value, record.headers)
        for topic, record in records
        if topic == "alerts" and record.headers.get("type") == kind
    )
    assert letters + IN_THE_LOG == Counter(
        DeadLetter.model_validate_json(record.value).reason for topic, record in records if topic == "dead-letters"
    )


# -- docs/kafka.md ---------------------------------------------------------------------------------------------------


def shown(name: str, config: Config) -> str:
    """Return the program of docs/kafka.md with a class of aiokafka in it, told where this broker is."""
    text = (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")
    (found,) = (code for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if name in code)
    for topic in ("alerts.raw", "incidents.enriched"):
        found = found.replace(f'"{topic}"', f'"{config.topic(topic)}"')
    return str(found.replace("127.0.0.1:9092", config.bootstrap[0]))


@asynccontextmanager
async def program(code: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program; end it if it has not ended."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", code, cwd=folder, stdout=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
async def topics(config: Config) -> Config:
    """Settings for a broker that has the topics of the two programs."""
    names = {config.topic(name) for name in ("alerts.raw", "incidents.enriched")}
    await catalogue.apply(config, [one for one in catalogue.wanted(TOPICS, TOPOLOGY, config) if one.name in names])
    return config


async def test_the_consumer_of_the_document_reads_what_was_committed(topics: Config, tmp_path: Path) -> None:
    sample = (ROOT / "schemas" / "samples" / "incident.v1.json").read_bytes()
    incident = Incident.model_validate_json(sample)
    producer = await transactional_producer(topics, topics.transactional_id("decide", 0))
    for name in ("first", "aborted", "last"):
        said = incident.model_copy(update={"incident_id": name, "title": f"The {name}"})
        await producer.begin_transaction()
        await producer.send_and_wait(topics.topic("incidents.enriched"), said.encode(), partition=0)
        await (producer.abort_transaction() if name == "aborted" else producer.commit_transaction())
    await close_producer(producer)
    async with program(shown("AIOKafkaConsumer", topics), tmp_path) as process, asyncio.timeout(WITHIN):
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
    assert lines == [f"{name} {incident.status} The {name}\n" for name in ("first", "last")]


async def test_the_producer_of_the_document_writes_a_raw_alert(topics: Config, tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_bytes(FIRING[0].value)
    async with program(shown("AIOKafkaProducer", topics), tmp_path) as process, asyncio.timeout(WITHIN):
        assert await process.wait() == 0
    places = [Place(topics.topic("alerts.raw"), p) for p in range(TOPICS["alerts.raw"].partitions)]
    async with reader(topics, places) as consumer, asyncio.timeout(WITHIN):
        record = record_of(await consumer.getone(), "alerts.raw")
    assert RawAlert.decode(record.value, record.headers) == RawAlert(body=FIRING[0].value, source="alertmanager")
    assert "now" not in record.headers


def test_the_document_has_just_these_programs() -> None:
    text = (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(programs) == 2
    assert all(json.dumps(name) in "".join(programs) for name in ("alerts.raw", "incidents.enriched"))
