"""The whole pipeline in this process, with PagerDuty's emulator beside it, spoken to over real HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from streamproc.core.errors import StreamprocError
from streamproc.emulator.account import Alert, Deed, Incident
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.server import serve as serve_emulator
from streamproc.service import Running, running
from streamproc.settings import Settings
from tests.embedded.pipelines import PATIENCE, alert, body

KEYS = {name: name.ljust(32, "0") for name in ("default", "second")}
SECRET = "whsec"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def now_alert(name: str, service: str = "", **more: Any) -> dict[str, Any]:
    """Return an alert that began just now."""
    return alert(name, service, since=datetime.now(UTC), **more)


@dataclass
class Standing:
    """A pipeline that runs, and its PagerDuty."""

    pipeline: Running
    emulator: Emulator
    http: httpx.AsyncClient

    async def post(self, *alerts: Mapping[str, Any]) -> httpx.Response:
        """Post alerts as Alertmanager does."""
        answer = await self.http.post("/v1/ingest/alertmanager", content=body(*alerts))
        assert answer.status_code == 202, answer.text
        return answer

    async def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of an answer."""
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        await until(holds)

    @property
    def alerts(self) -> list[Alert]:
        """What PagerDuty has."""
        return list(self.emulator.account.alerts.values())

    @property
    def statuses(self) -> list[str]:
        """How the alerts at PagerDuty stand, in order of their opening."""
        return [one.status for one in self.alerts]

    def act(self, deed: Deed, incident: Incident | None = None, by: str = "Dana Ruiz") -> None:
        """Do what a person does in PagerDuty, to the first incident by default."""
        chosen = incident or next(iter(self.emulator.account.incidents.values()))
        self.emulator.act(chosen, deed, by, "")


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  what it waits for happens on the other side of a socket
            await asyncio.sleep(0.005)


async def until_told(asks: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something that must be asked for holds."""
    async with asyncio.timeout(PATIENCE):
        while not await asks():  # noqa: ASYNC110  what it waits for happens in another process
            await asyncio.sleep(0.05)


@asynccontextmanager
async def pagerduty(port: int = 0, webhook_url: str = "") -> AsyncIterator[tuple[Emulator, str]]:
    """Run an emulator; yield it and its address."""
    config = EmulatorConfig(webhook_url=webhook_url, webhook_secret=SECRET, webhook_backoff=0.05)
    served = await serve_emulator(config, port=port)
    try:
        yield served.emulator, served.url
    finally:
        await served.stop()


def settings_of(events_url: str, folder: Path, port: int = 0, **sections: Any) -> Settings:
    """Return settings for a test, `sections` over them; `services` becomes a catalogue."""
    services = sections.pop("services", None)
    pagerduty = {
        "api": {"base_url": events_url, "retry_config": {"max_attempts": 1}},
        "destinations": {name: {"routing_key": key} for name, key in KEYS.items()},
    }
    given: dict[str, Any] = {
        "gateway": {"port": port, "webhook_secrets": [SECRET], **sections.pop("gateway", {})},
        "pagerduty": {**pagerduty, **sections.pop("pagerduty", {})},
        "embedded": {"synchronous": "normal"},
        **sections,
    }
    if services is not None:
        catalogue = folder.parent / "services.yaml"
        catalogue.write_text(yaml.safe_dump({"services": services}))
        given["services"] = catalogue
    return Settings.model_validate(given)


@asynccontextmanager
async def standing(folder: Path, *, armed: bool = True, **sections: Any) -> AsyncIterator[Standing]:
    """Run everything."""
    port = free_port()
    async with pagerduty(webhook_url=f"http://127.0.0.1:{port}/v1/feedback/pagerduty") as (emulator, url):
        settings = settings_of(url, folder, port, **sections)
        async with working(settings, folder, emulator, armed=armed) as stand:
            yield stand


@asynccontextmanager
async def working(settings: Settings, folder: Path, emulator: Emulator, **how: Any) -> AsyncIterator[Standing]:
    """Run the pipeline beside an emulator that runs already."""
    async with (
        running(settings, folder, **how) as pipeline,
        httpx.AsyncClient(base_url=pipeline.url, timeout=PATIENCE) as http,
    ):
        yield Standing(pipeline, emulator, http)
        assert not pipeline.stopped.done(), stopped_by(pipeline)


def stopped_by(pipeline: Running) -> StreamprocError | None:
    """Return why a pipeline stopped by itself, None where it did not."""
    return pipeline.stopped.result() if pipeline.stopped.done() else None


def effects(emulator: Emulator, action: str) -> list[str]:
    """Return what requests of an action did, in order."""
    return [str(taken.effect) for taken in emulator.requests if taken.action == action]


def samples(text: str) -> dict[str, float]:
    """Return the samples of a metrics page by name with labels."""
    lines: Iterable[str] = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
