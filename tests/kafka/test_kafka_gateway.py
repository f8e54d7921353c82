"""A gateway and a worker in one process on a real broker (`run --kafka`), looked at and told things by the commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import Result

from streamproc import settings as configuration
from streamproc.distributed import apply_topics, both, taking_in
from streamproc.emulator.emulator import Emulator
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.topology import TOPICS, TOPOLOGY
from tests.cli.playing import call
from tests.embedded.pipelines import body
from tests.kafka.broker import Broker, config_for
from tests.service.standing import now_alert, pagerduty

WITHIN = 90.0


@pytest.fixture
def told(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[Result]]:
    """Call a command on the pipeline of this test, in a thread of its own as another process would."""
    for name in ("PAGERDUTY_EVENTS_URL", "PAGERDUTY_ROUTING_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", ",".join(config.bootstrap))
    monkeypatch.chdir(tmp_path)

    async def tell(*arguments: str) -> Result:
        return await asyncio.to_thread(call, *arguments, "--kafka", "--config", str(tmp_path / "streamproc.yaml"))

    return tell


@asynccontextmanager
async def pipeline(config: Config, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Emulator]]:
    async with pagerduty() as (emulator, url):
        kafka = {"prefix": config.prefix, "replication": 1, "production": False, "session_timeout": 6}
        destinations = {"default": {"routing_key": "R" * 32}}
        file = folder / "streamproc.yaml"
        given = {
            "kafka": kafka,
            "gateway": {"port": 0},
            "pagerduty": {"api": {"base_url": url}, "destinations": destinations},
        }
        file.write_text(yaml.safe_dump(given))
        settings = configuration.load(file)
        await apply_topics(settings)
        async with both(settings, armed=False) as running, httpx.AsyncClient(base_url=running.url) as http:
            await until(lambda: answers(http, "/ready", lambda _: True))
            yield http, emulator


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN):
        while not await holds():  # noqa: ASYNC110  what it waits for happens at a broker
            await asyncio.sleep(0.1)


async def answers(http: httpx.AsyncClient, path: str, holds: Callable[[Any], bool]) -> bool:
    answer = await http.get(path)
    return answer.status_code == 200 and holds(answer.json())


async def test_a_life_on_kafka_by_the_commands(
    config: Config, tmp_path: Path, told: Callable[..., Awaitable[Result]]
) -> None:
    async with pipeline(config, tmp_path) as (http, emulator):
        answer = await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down", "db")))
        assert answer.status_code == 202
        await until(lambda: answers(http, "/v1/incidents", lambda found: len(found["incidents"]) == 1))
        status = await told("status")
        assert "no: dry run, nothing pages" in status.output
        assert "Down" in status.output
        assert "1 would page" in status.output
        assert not emulator.requests

        armed = await told("arm", "--yes", "--page-open", "--author", "kim")
        assert armed.output == "Armed (by kim). The running pipeline has it.\n"
        await until(lambda: answers(http, "/v1/status", lambda status: status["armed"]))
        assert "Armed already, by kim" in (await told("arm", "--yes")).output
        await http.post("/v1/ingest/alertmanager", content=body(now_alert("Slow", "db")))
        await until(lambda: _paged(emulator))
        (paged,) = emulator.account.alerts.values()
        await until(lambda: answers(http, f"/v1/incidents/{paged.dedup_key}", lambda view: bool(view["pages"])))
        story = await told("explain", paged.dedup_key)
        assert "trigger delivered" in story.output

        silenced = await told("silence", "add", "-m", "service=web", "--for", "2h", "--comment", "known")
        name = silenced.output.split()[0]
        await until(lambda: _shown(told, "silence", "list", has=name))
        assert (await told("silence", "expire", name)).output.startswith(f"{name} is expired.")

        catalogue = tmp_path / "services.yaml"
        catalogue.write_text(yaml.safe_dump({"services": {"db": {"team": "storage", "tier": 1}}}))
        assert (await told("services", "apply", str(catalogue))).output.count("The running pipeline has it.") == 1
        await until(lambda: _shown(told, "services", "show", "db", has="storage"))

        ended = await http.post(
            "/v1/ingest/alertmanager",
            content=body(now_alert("Down", "db", status="resolved"), now_alert("Slow", "db", status="resolved")),
        )
        assert ended.status_code == 202
        assert (await told("disarm", "--yes")).output.startswith("Disarmed")
        machine = json.loads((await told("status", "--json")).output)
        assert machine["running"] is True
        assert [worker["partitions"] for worker in machine["workers"]] == [
            sum(node.inbox.partitions for node in TOPOLOGY)
        ]


async def test_a_dead_letter_goes_back_to_the_partition_that_refused_it(
    config: Config, tmp_path: Path, told: Callable[..., Awaitable[Result]]
) -> None:
    async with pipeline(config, tmp_path) as (http, _):
        inlet = KafkaInlet(config, TOPICS, SystemClock())
        await inlet.append([Entry("alerts", b"a key", b"{", {"type": b"alert.v1"})])
        await inlet.stop()
        await until(lambda: answers(http, "/v1/dead-letters", lambda found: len(found["dead_letters"]) == 1))
        listed = json.loads((await told("dead-letters", "list", "--json")).output)
        assert [(letter["node"], letter["topic"]) for letter in listed] == [("deduplicate", "alerts")]
        shown = json.loads((await told("dead-letters", "show", listed[0]["letter_id"], "--json")).output)
        put_back = await told("dead-letters", "retry", listed[0]["letter_id"])
        assert put_back.output == "1 dead letter put back. The running pipeline has it.\n"
        await until(lambda: answers(http, "/v1/dead-letters", lambda found: len(found["dead_letters"]) == 2))
        again = json.loads((await told("dead-letters", "list", "--json")).output)[0]
        assert (again["partition"], again["topic"]) == (shown["partition"], "alerts")
        assert again["offset"] > shown["offset"]


async def test_a_gateway_without_its_broker_is_not_ready_and_takes_nothing(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    broker = Broker(tmp_path_factory.mktemp("away"))
    broker.start()
    try:
        config = config_for(broker)
        file = tmp_path / "streamproc.yaml"
        kafka = {"bootstrap": broker.bootstrap, "prefix": config.prefix, "replication": 1, "production": False}
        file.write_text(yaml.safe_dump({"kafka": kafka, "gateway": {"port": 0, "append_timeout": 2}}))
        settings = configuration.load(file)
        await apply_topics(settings)
        async with taking_in(settings, tmp_path / "copy") as running, httpx.AsyncClient(base_url=running.url) as http:
            assert await answers(http, "/ready", lambda said: said == {"ready": True, "why_not": ""})
            broker.pause()
            refused = await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down", "db")), timeout=30)
            assert refused.status_code == 503
            assert float(refused.headers["retry-after"]) > 0
            await until(lambda: _unready(http, "the broker does not answer"))
            broker.go_on()
            await until(lambda: _taken(http))
            await until(lambda: answers(http, "/ready", lambda _: True))
    finally:
        broker.go_on()
        broker.stop()


async def _paged(emulator: Emulator) -> bool:
    return bool(emulator.account.alerts)


async def _shown(told: Callable[..., Awaitable[Result]], *arguments: str, has: str) -> bool:
    return has in (await told(*arguments)).output


async def _taken(http: httpx.AsyncClient) -> bool:
    answer = await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down", "db")), timeout=30)
    return answer.status_code == 202


async def _unready(http: httpx.AsyncClient, why_not: str) -> bool:
    answer = await http.get("/ready")
    return (answer.status_code, answer.json()["why_not"]) == (503, why_not)
