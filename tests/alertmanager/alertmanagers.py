"""Real Alertmanagers on free ports of this machine, posting to a pipeline."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from tests.crash.processes import PAUSE, kill
from tests.embedded.pipelines import PATIENCE
from tests.service.standing import free_port

BINARY = "prometheus-alertmanager"
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Ringing:
    """One alert as Prometheus would post it."""

    name: str
    service: str
    began: datetime
    severity: str = "critical"

    def posted(self, ends: datetime) -> dict[str, object]:
        """Return it as Alertmanager's API takes it."""
        return {
            "labels": {
                "alertname": self.name,
                "service": self.service,
                "severity": self.severity,
                "environment": "prod",
            },
            "annotations": {"summary": f"{self.name} of {self.service}"},
            "startsAt": self.began.isoformat(),
            "endsAt": ends.isoformat(),
            "generatorURL": "http://prometheus.example.com/graph",
        }


@dataclass(frozen=True)
class Alertmanager:
    """One that runs."""

    url: str
    http: httpx.AsyncClient

    async def fire(self, *ringing: Ringing) -> None:
        """Post alerts that fire."""
        await self._post(one.posted(datetime.now(UTC) + HOUR) for one in ringing)

    async def resolve(self, *ringing: Ringing) -> None:
        """Post alerts that have ended."""
        await self._post(one.posted(datetime.now(UTC)) for one in ringing)

    async def _post(self, alerts: Iterable[object]) -> None:
        answer = await self.http.post(f"{self.url}/api/v2/alerts", json=list(alerts))
        assert answer.status_code == 200, answer.text

    async def count(self, metric: str) -> float:
        """Return the sum of a metric of the webhook integration."""
        text = (await self.http.get(f"{self.url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(metric) and 'integration="webhook"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@asynccontextmanager
async def alertmanager(folder: Path, webhook: str) -> AsyncIterator[Alertmanager]:
    """Run an Alertmanager that groups by service and posts to `webhook`; skip where there is none, but never in CI."""
    binary = shutil.which(BINARY)
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail(f"{BINARY} is not installed")
        pytest.skip(f"{BINARY} is not installed")
    config = _written(folder, webhook)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        binary,
        f"--config.file={config}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            running = Alertmanager(f"http://127.0.0.1:{port}", http)
            await _ready(running, process)
            yield running
    finally:
        await kill(process)


def _written(folder: Path, webhook: str) -> Path:
    folder.mkdir()
    config = folder / "alertmanager.yml"
    config.write_text(yaml.safe_dump(_config(webhook)))
    return config


def _config(webhook: str) -> dict[str, object]:
    receiver = {"name": "streamproc", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
    route = {
        "receiver": "streamproc",
        "group_by": ["service"],
        "group_wait": "1s",
        "group_interval": "1s",
        "repeat_interval": "1m",
    }
    return {"route": route, "receivers": [receiver]}


async def _ready(running: Alertmanager, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            assert process.returncode is None, "Alertmanager does not start"
            try:
                if (await running.http.get(f"{running.url}/-/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(PAUSE)
