"""Processes that a supervisor keeps alive, and a load of the toy pipeline through the inlet."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from streamproc.emulator.emulator import Emulator
from streamproc.ports import Entry, Overloaded
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from tests.kafka.broker import ROOT, Broker

SCRIPT = Path(__file__).with_name("worker_process.py")
READY_WITHIN = 240.0
STOPPED_WITHIN = 60.0


@dataclass
class Process:
    """One process with its supervisor. It is ready once its log's last word is so, or where it answers at `url`."""

    name: str
    command: Sequence[str]
    folder: Path
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    wanted: bool = True
    codes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.folder / f"{self.name}.log"
        self.start()

    def start(self) -> None:
        self.mark = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("a") as out:
            self.process = subprocess.Popen(  # noqa: S603  our own program
                self.command, stdout=out, stderr=out, cwd=ROOT, env={**os.environ, **self.environment}
            )

    def supervise(self) -> None:
        if (code := self.process.poll()) is not None and self.wanted:
            self.codes.append(code)
            self.start()

    async def ready(self) -> bool:
        if self.process.poll() is not None:
            return False
        if self.url:
            try:
                async with httpx.AsyncClient(timeout=2.0) as http:
                    return (await http.get(f"{self.url}/ready")).status_code == 200
            except httpx.HTTPError:
                return False
        said = self.log.read_bytes()[self.mark :].decode(errors="replace").splitlines()
        words = [line for line in said if line in ("ready", "stopped") or line.startswith(("restoring", "folding"))]
        return bool(words) and words[-1] == "ready"

    def send(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    async def dismiss(self) -> int:
        """Let it stop; return its exit code."""
        self.wanted = False
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOPPED_WITHIN)


class Fleet:
    """Processes of one installation, supervised while the context is open.

    Args:
        broker: what faults meet.
        config: where, and the session's time.
        hire: starts a worker of this name.
        count: so many workers.
        gateways: others.
    """

    def __init__(
        self,
        broker: Broker,
        config: Config,
        hire: Callable[[str], Process],
        count: int,
        gateways: Sequence[Process] = (),
    ) -> None:
        self.broker, self.config = broker, config
        self._hire = hire
        self.workers = [hire(f"w{at}") for at in range(count)]
        self.gateways = list(gateways)
        self.pagerduty: Emulator | None = None
        self.seconds: dict[str, list[float]] = {}
        """By name of what befell: how long something took."""
        self._task: asyncio.Task[None] | None = None

    @property
    def all(self) -> list[Process]:
        return [*self.workers, *self.gateways]

    def hire(self, name: str) -> Process:
        self.workers.append(self._hire(name))
        return self.workers[-1]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        for each in self.all:
            each.wanted = False
            each.send(signal.SIGCONT)
            each.send(signal.SIGTERM)
        until = time.monotonic() + 15
        for each in self.all:
            try:
                await asyncio.to_thread(each.process.wait, max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()

    async def _supervise(self) -> None:
        while True:
            for each in self.all:
                each.supervise()
            await asyncio.sleep(0.1)

    async def ready(self) -> None:
        async with asyncio.timeout(READY_WITHIN):
            for each in self.all:
                while each.wanted and not await each.ready():  # noqa: ASYNC110  other processes tell nobody
                    await asyncio.sleep(0.1)

    def note(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, []).append(round(seconds, 2))

    def said(self) -> str:
        return "\n".join(f"--- {each.name} {each.codes}\n{each.log.read_text()}" for each in self.all)


def toy_worker(config: Config, folder: Path, script: Path = SCRIPT) -> Callable[[str], Process]:
    """Return what starts a worker of the toy pipeline."""
    told = {**config.model_dump(mode="json"), "world": "toy"}
    return lambda name: Process(name, [sys.executable, str(script), json.dumps(told)], folder)


@dataclass
class Load:
    """Entries at a rate, each appended once; what was not answered is in doubt."""

    inlet: KafkaInlet
    make: Callable[[int, random.Random], Entry]
    seed: int
    acknowledged: list[Entry] = field(default_factory=list)
    doubtful: list[Entry] = field(default_factory=list)

    async def run(self, rate: int, seconds: float) -> None:
        chance, begun, at = random.Random(self.seed), time.monotonic(), 0  # noqa: S311  a schedule, no secret
        tasks: set[asyncio.Task[None]] = set()
        while at < rate * seconds:
            due = int((time.monotonic() - begun) * rate)
            while at < min(due, rate * seconds):
                some = [self.make(at + more, chance) for more in range(10)]
                at += len(some)
                task = asyncio.create_task(self._append(some))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.01)
        if tasks:
            await asyncio.wait(tasks, timeout=180)

    async def _append(self, entries: list[Entry]) -> None:
        try:
            await self.inlet.append(entries)
        except Overloaded as refusal:
            if "does not take it" in str(refusal):
                self.doubtful.extend(entries)
        else:
            self.acknowledged.extend(entries)
