"""What PagerDuty lost is mended by a gateway on Kafka, from its copy of the state topics, through the topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import yaml

from streamproc import settings as configuration
from streamproc.distributed import apply_topics, both
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.reconciling import destinations_of
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.reconciler import Reconciler
from streamproc.sinks.pagerduty.rest import RestClient
from streamproc.topology import TOPICS
from tests.embedded.pipelines import body
from tests.service.standing import now_alert, pagerduty

WITHIN = 90.0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110  what it waits for happens at a broker
            await asyncio.sleep(0.1)


async def until_mended(reconciler: Reconciler, kind: str) -> None:
    async with asyncio.timeout(WITHIN):
        while (await reconciler.look(at_once=True)).repaired != {kind: 1}:  # noqa: ASYNC110  the copy follows a broker
            await asyncio.sleep(0.1)


async def test_what_pagerduty_lost_is_mended_by_a_gateway(config: Config, tmp_path: Path) -> None:
    async with pagerduty() as (emulator, url):
        file = tmp_path / "streamproc.yaml"
        given = {
            "kafka": {"prefix": config.prefix, "replication": 1, "production": False, "session_timeout": 6},
            "gateway": {"port": 0},
            "pagerduty": {
                "api": {"base_url": url},
                "rest": {"base_url": url, "api_key": "key"},
                "destinations": {"default": {"routing_key": "R" * 32}},
            },
        }
        file.write_text(yaml.safe_dump(given))
        loaded = configuration.load(file)
        kafka = loaded.kafka.model_copy(update={"bootstrap": config.bootstrap})
        settings = loaded.model_copy(update={"kafka": kafka})
        await apply_topics(settings)
        emulator.faults.add(Fault(kind=FaultKind.SWALLOW, action="trigger", count=1))
        async with both(settings, armed=True) as running, httpx.AsyncClient(base_url=running.url) as http:
            desk = running.desk
            assert desk is not None
            await until(lambda: desk.status().ready)
            fires = now_alert("Down", "checkout")
            assert (await http.post("/v1/ingest/alertmanager", content=body(fires))).status_code == 202

            def rests(state: str) -> bool:
                claims = list(desk.claims().values())
                return [claim.state for claim in claims] == [state] and not any(claim.pending for claim in claims)

            # Rows of decide and of deliver reach the copy side by side: what was asked of PagerDuty is the proof.
            await until(lambda: bool(emulator.requests) and rests("paged"))
            assert not emulator.account.alerts
            inlet = KafkaInlet(settings.kafka, TOPICS, SystemClock())
            async with RestClient(settings.pagerduty.rest) as rest:
                reconciler = Reconciler(
                    rest, desk, inlet, SystemClock(), destinations_of(settings), settle=timedelta(0)
                )
                await until_mended(reconciler, "missing")
                await until(lambda: len(emulator.account.alerts) == 1 and rests("paged"))

                emulator.faults.add(Fault(kind=FaultKind.SWALLOW, action="resolve", count=1))
                over = {**fires, "status": "resolved"}
                assert (await http.post("/v1/ingest/alertmanager", content=body(over))).status_code == 202
                await until(lambda: emulator.requests[-1].action == "resolve" and rests("closed"))
                await until_mended(reconciler, "stray")
                await until(lambda: [alert.status for alert in emulator.account.alerts.values()] == ["resolved"])
            await inlet.stop()
            told = (await http.get("/v1/reconciliation")).json()
            assert told["enabled"]
