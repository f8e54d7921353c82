"""The heartbeat of a whole pipeline on one machine, heard over real HTTP: while it is well, and not when it is not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

from streamproc.runtime.clock import SystemClock
from streamproc.service import running
from tests.embedded.pipelines import PATIENCE, body, kept
from tests.service.standing import (
    free_port,
    now_alert,
    pagerduty,
    samples,
    settings_of,
    standing,
    until,
    until_told,
)

OFTEN = {"every": 0.05, "within": 30}
WITHHELD, SENT = (f'streamproc_heartbeat_total{{outcome="{outcome}"}}' for outcome in ("withheld", "sent"))


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


class Watcher:
    """Stands for healthchecks.io."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heard.append(head.partition(b"\r\n")[0].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def watcher() -> AsyncIterator[tuple[Watcher, str]]:
    """Run a watcher; yield it and its address."""
    listens = Watcher()
    server = await asyncio.start_server(listens.answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield listens, f"http://127.0.0.1:{port}/ping/secret"


async def metric(http: httpx.AsyncClient, name: str) -> float:
    return samples((await http.get("/metrics")).text)[name]


async def test_it_is_heard_and_its_canaries_trouble_nobody(folder: Path) -> None:
    async with watcher() as (heard, url), standing(folder, heartbeat={"url": url, **OFTEN}) as stand:
        await stand.until(lambda: len(heard.heard) >= 4)
        assert set(heard.heard) == {"GET /ping/secret HTTP/1.1"}
        assert await metric(stand.http, "streamproc_canary_seconds") > 0
        await stand.post(now_alert("Down", "checkout"))
        await stand.until(lambda: stand.statuses == ["triggered"])
        status = await stand.get("/v1/status")
        assert (status["open_incidents"], status["paged_incidents"], status["dead_letters"]) == (1, 1, 0)
        for listed in ("open", "resolved", "all"):
            found = (await stand.get("/v1/incidents", status=listed))["incidents"]
            assert [one["service"] for one in found] == ([] if listed == "resolved" else ["checkout"])
        assert len(stand.emulator.requests) == 1
    told = [json.loads(value) for value in kept(folder, "incidents.enriched")]
    canaries = {one["incident_id"]: one for one in told if one["canary"]}
    assert len(canaries) >= 2
    assert {one["decision"]["reason"] for one in canaries.values()} <= {"canary", "resolved"}
    assert {one["decision"]["action"] for one in canaries.values()} == {"none"}
    (sample,) = [one for one in map(json.loads, kept(folder, "training")) if "sample_id" in one]
    assert sample["sample_id"] not in canaries


async def test_it_is_withheld_while_pages_wait_too_long(folder: Path) -> None:
    port = free_port()
    async with watcher() as (_, url):
        sections: dict[str, Any] = {
            "heartbeat": {"url": url, **OFTEN},
            "pagerduty": {"notifications": {"fallback_after": 1}},
        }
        settings = settings_of(f"http://127.0.0.1:{port}", folder, **sections)
        async with (
            running(settings, folder, armed=True) as pipeline,
            httpx.AsyncClient(base_url=pipeline.url, timeout=PATIENCE) as http,
        ):
            await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down", "checkout")))

            async def withheld() -> bool:
                return await metric(http, WITHHELD) > 0

            async def sent_again() -> bool:
                return await metric(http, SENT) > before

            await until_told(withheld)
            before = await metric(http, SENT)
            async with pagerduty(port) as (emulator, _):
                await until(lambda: len(emulator.account.alerts) == 1)
                await until_told(sent_again)


class StuckClock(SystemClock):
    """Holds the engine's thread on demand."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()

    def now(self) -> datetime:
        if threading.current_thread().name == "streamproc-engine":
            assert self.free.wait(PATIENCE)
        return super().now()


async def test_it_is_withheld_while_the_engine_is_stuck(folder: Path) -> None:
    clock = StuckClock()
    async with watcher() as (heard, url), pagerduty() as (_, events):
        settings = settings_of(events, folder, heartbeat={"url": url, "every": 0.05, "within": 0.5})
        async with (
            running(settings, folder, armed=True, clock=clock) as pipeline,
            httpx.AsyncClient(base_url=pipeline.url, timeout=PATIENCE) as http,
        ):
            await until(lambda: len(heard.heard) >= 1)
            clock.free.clear()
            try:
                before = await metric(http, WITHHELD)

                async def withheld() -> bool:
                    return await metric(http, WITHHELD) > before

                await until_told(withheld)
            finally:
                clock.free.set()
            count = len(heard.heard)
            await until(lambda: len(heard.heard) > count)


async def test_without_an_address_nothing_sings(folder: Path) -> None:
    async with standing(folder) as stand:
        await stand.post(now_alert("Down", "checkout"))
        await stand.until(lambda: stand.statuses == ["triggered"])
        assert "streamproc_heartbeat_total" not in (await stand.http.get("/metrics")).text
    assert not [value for value in kept(folder, "alerts.raw") if b"streamproc_canary" in value]
