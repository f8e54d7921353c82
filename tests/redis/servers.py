"""A real Redis of a test's own, that can be stopped, frozen and emptied."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from streamproc.runtime.redis.config import Config
from streamproc.runtime.redis.connection import Connection
from tests.service.standing import free_port

BINARY = "redis-server"
WITHIN = 30.0
PATIENT = 5.0
"""Seconds that an answer may take where a test wants it, however slow the machine is."""


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(WITHIN):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.02)


@dataclass
class Server:
    """A Redis without persistence, on a port that it keeps over its lives."""

    binary: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def config(self, *, timeout: float = PATIENT) -> Config:
        return Config(url=SecretStr(self.url), timeout=timeout)

    def connection(
        self, registry: CollectorRegistry | None = None, *, timeout: float = PATIENT, left_alone: float = 0.05
    ) -> Connection:
        return Connection(
            self.config(timeout=timeout),
            registry or CollectorRegistry(),
            left_alone=left_alone,
            watch_every=0.05,
        )

    async def start(self) -> None:
        """Start it, empty."""
        self._launch()
        await until(self.answers)

    async def answers(self) -> bool:
        async with Redis(host="127.0.0.1", port=self.port, socket_timeout=WITHIN) as client:
            try:
                return bool(await client.ping())
            except (RedisError, OSError):
                return False

    async def flush(self) -> None:
        async with Redis(host="127.0.0.1", port=self.port, socket_timeout=WITHIN) as client:
            await client.flushall()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it; what it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=WITHIN)
            self.process = None

    def _launch(self) -> None:
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self.process = subprocess.Popen(  # noqa: S603  the binary that was found, options of our own
            [self.binary, *options, "--dir", str(self.folder), "--loglevel", "warning"],
            stdout=subprocess.DEVNULL,
        )

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """Return a server that is not started yet. Where there is none to start, the test skips; in CI it fails."""
    binary = shutil.which(BINARY)
    if binary is None:
        why = f"{BINARY} is not installed (Debian: apt-get install redis-server)"
        if os.environ.get("CI"):
            pytest.fail(f"{why}; CI must have it")
        pytest.skip(why)
    server = Server(binary, folder, free_port())
    try:
        yield server
    finally:
        server.stop()
