"""The heartbeat on a real broker: a gateway's canary goes through workers and comes back to its desk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streamproc.distributed import both
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.config import Config
from streamproc.settings import Settings
from streamproc.topology import TOPICS, TOPOLOGY
from tests.service.standing import pagerduty
from tests.service.test_service_heartbeat import watcher

WITHIN = 120.0


async def test_a_canary_comes_back_to_the_gateway(config: Config, tmp_path: Path) -> None:
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))
    async with watcher() as (heard, url), pagerduty() as (emulator, events):
        settings = Settings.model_validate(
            {
                "kafka": config.model_dump(),
                "gateway": {"port": 0},
                "pagerduty": {"api": {"base_url": events}, "destinations": {"default": {"routing_key": "R" * 32}}},
                "heartbeat": {"url": url, "every": 0.5, "within": 60},
            }
        )
        async with both(settings, tmp_path, armed=True) as running:
            async with asyncio.timeout(WITHIN):
                while len(heard.heard) < 3:  # noqa: ASYNC110  it comes over a socket
                    await asyncio.sleep(0.1)
            desk = running.desk
            assert desk is not None
            status = await asyncio.to_thread(desk.status)
            assert (status.ready, status.open_incidents) == (True, 0)
            assert await asyncio.to_thread(desk.incidents, "all") == []
            assert await asyncio.to_thread(desk.matching, "in:v1:streamproc:") != []
            assert not running.stopped.done()
        assert not emulator.requests
