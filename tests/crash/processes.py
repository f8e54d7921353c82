"""`streamproc run` as a real process that can be killed, and senders that try again until they are answered."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.embedded.pipelines import PATIENCE
from tests.service.standing import KEYS, SECRET, free_port

ROOT = Path(__file__).parent.parent.parent
PAUSE = 0.05


@dataclass
class Killable:
    """A pipeline on a port of its own; killed and started again, it works on in the same directory."""

    folder: Path
    port: int
    log: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens while it runs."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start a process; returns before it is ready."""
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streamproc", "run", "--armed", "--port", str(self.port)),
                *("--data-dir", str(self.folder), "--config", str(self.folder.parent / "streamproc.yaml")),
                cwd=ROOT,
                stdout=out,
                stderr=out,
                env={name: value for name, value in os.environ.items() if not name.startswith("PAGERDUTY")},
            )

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; return the exit code, negative for a signal."""
        self.check()
        process, self.process = self.process, None  # from here on its end is no surprise
        assert process is not None
        process.send_signal(number)
        try:
            return await asyncio.wait_for(process.wait(), PATIENCE)
        finally:
            await kill(process)

    def check(self) -> None:
        """Assert that it has not ended by itself."""
        if self.process is not None and self.process.returncode is not None:
            told = self.log.read_text(errors="replace")[-4000:]
            raise AssertionError(f"it ended by itself with {self.process.returncode}:\n{told}")


async def kill(process: asyncio.subprocess.Process) -> None:
    """End a process for good, if it has not ended."""
    if process.returncode is None:
        process.kill()
        await process.wait()


@asynccontextmanager
async def killable(tmp_path: Path, events_url: str, port: int = 0, **sections: Any) -> AsyncIterator[Killable]:
    """Write settings for a pipeline, start it, and end whatever runs of it afterwards."""
    pipeline = Killable(tmp_path / "data", port or free_port(), tmp_path / "log.txt")
    settings: Mapping[str, Any] = {
        "gateway": {"webhook_secrets": [SECRET]},
        "pagerduty": {
            "api": {"base_url": events_url},
            "destinations": {name: {"routing_key": key} for name, key in KEYS.items()},
            "requests_per_minute": 1_000_000,
        },
        **sections,
    }
    (tmp_path / "streamproc.yaml").write_text(yaml.safe_dump(settings))
    await pipeline.start()
    try:
        yield pipeline
    finally:
        if pipeline.process is not None:
            await kill(pipeline.process)


class Senders:
    """Posts bodies until they are taken, as Alertmanager and Datadog do."""

    def __init__(self, pipeline: Killable, http: httpx.AsyncClient) -> None:
        self._pipeline = pipeline
        self._http = http
        self._progress = asyncio.Condition()
        self.taken = 0
        self.broken_off = 0
        """Requests that got no answer: the process died between request and answer, or was not there."""

    async def post(self, source: str, content: bytes) -> None:
        """Post until it is answered 202."""
        while not await self._try(source, content):
            self._pipeline.check()
            await asyncio.sleep(PAUSE)
        async with self._progress:
            self.taken += 1
            self._progress.notify_all()

    async def _try(self, source: str, content: bytes) -> bool:
        try:
            answer = await self._http.post(f"{self._pipeline.url}/v1/ingest/{source}", content=content)
        except httpx.TransportError:
            self.broken_off += 1
            return False
        assert answer.status_code in (202, 503), answer.text
        return answer.status_code == 202

    async def until(self, taken: int) -> None:
        """Wait until so many were taken."""
        async with asyncio.timeout(PATIENCE), self._progress:
            await self._progress.wait_for(lambda: self.taken >= taken)


async def ask(pipeline: Killable, http: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """Return the JSON of an answer, asked again until there is one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                answer = await http.get(f"{pipeline.url}{path}", params=query)
            except httpx.TransportError:
                pipeline.check()
                await asyncio.sleep(PAUSE)
                continue
            assert answer.status_code == 200, answer.text
            return answer.json()


async def every(pipeline: Killable, http: httpx.AsyncClient, path: str, key: str, **query: Any) -> list[Any]:
    """Return a whole list, page by page."""
    found: list[Any] = []
    before = ""
    while True:
        page = await ask(pipeline, http, path, limit=100, before=before, **query)
        found += page[key]
        if not (before := page["next"] or ""):
            return found
