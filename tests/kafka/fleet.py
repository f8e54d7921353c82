"""Workers as processes that a supervisor keeps alive, a load through the inlet, and what may befall them."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from streamproc.core.event import Event
from streamproc.ports import Entry, Overloaded
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from tests.kafka.broker import ROOT, Broker

SCRIPT = Path(__file__).with_name("worker_process.py")
READY_WITHIN = 60.0


@dataclass
class WorkerProcess:
    """One worker with its supervisor."""

    name: str
    config: Config
    world: str
    folder: Path
    script: Path = SCRIPT
    wanted: bool = True
    codes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.folder / f"{self.name}.log"
        self.start()

    def start(self) -> None:
        told = {**self.config.model_dump(mode="json"), "world": self.world}
        self.mark = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("a") as out:
            self.process = subprocess.Popen(  # noqa: S603  our own script
                [sys.executable, str(self.script), json.dumps(told)], stdout=out, stderr=out, cwd=ROOT
            )

    def supervise(self) -> None:
        if (code := self.process.poll()) is not None and self.wanted:
            self.codes.append(code)
            self.start()

    @property
    def ready(self) -> bool:
        said = self.log.read_bytes()[self.mark :].decode(errors="replace").splitlines()
        words = [line for line in said if line in ("ready", "stopped") or line.startswith(("restoring", "folding"))]
        return self.process.poll() is None and bool(words) and words[-1] == "ready"

    def send(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def dismiss(self) -> None:
        self.wanted = False
        self.send(signal.SIGTERM)


class Fleet:
    """Workers of one group, supervised while the context is open."""

    def __init__(
        self, broker: Broker, config: Config, world: str, folder: Path, count: int, script: Path = SCRIPT
    ) -> None:
        self.broker, self.config, self.world, self.folder, self.script = broker, config, world, folder, script
        self.workers = [self._hire(f"w{at}") for at in range(count)]
        self._task: asyncio.Task[None] | None = None

    def _hire(self, name: str) -> WorkerProcess:
        return WorkerProcess(name, self.config, self.world, self.folder, self.script)

    def hire(self, name: str) -> WorkerProcess:
        self.workers.append(self._hire(name))
        return self.workers[-1]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        for worker in self.workers:
            worker.send(signal.SIGCONT)
            worker.dismiss()
        until = time.monotonic() + 15
        for worker in self.workers:
            try:
                await asyncio.to_thread(worker.process.wait, max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    async def _supervise(self) -> None:
        while True:
            for worker in self.workers:
                worker.supervise()
            await asyncio.sleep(0.1)

    async def ready(self) -> None:
        async with asyncio.timeout(READY_WITHIN):
            while not all(worker.ready for worker in self.workers if worker.wanted):  # noqa: ASYNC110  they write logs
                await asyncio.sleep(0.1)

    def said(self) -> str:
        return "\n".join(f"--- {worker.name} {worker.codes}\n{worker.log.read_text()}" for worker in self.workers)


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


def entry_of(topic: str, event: Event, key: str) -> Entry:
    return Entry.of(topic, event, key)


Fault = Callable[[Fleet, random.Random], Awaitable[None]]


async def kill(fleet: Fleet, chance: random.Random) -> None:
    """kill -9."""
    chance.choice(fleet.workers).send(signal.SIGKILL)


async def freeze(fleet: Fleet, chance: random.Random) -> None:
    """SIGSTOP for longer than the session, then SIGCONT: a zombie."""
    worker = chance.choice(fleet.workers)
    worker.send(signal.SIGSTOP)
    await asyncio.sleep(fleet.config.session_timeout + 3)
    worker.send(signal.SIGCONT)


async def terminate(fleet: Fleet, chance: random.Random) -> None:
    """SIGTERM: drained, and started again."""
    chance.choice(fleet.workers).send(signal.SIGTERM)


async def join_and_leave(fleet: Fleet, chance: random.Random) -> None:
    """One more worker for some seconds, twice."""
    for turn in range(2):
        worker = fleet.hire(f"x{turn}-{chance.randrange(1000)}")
        await asyncio.sleep(2 + chance.random() * 2)
        worker.dismiss()
        await asyncio.sleep(1)


async def restart_all(fleet: Fleet, chance: random.Random) -> None:
    """SIGTERM of one after the other."""
    for worker in list(fleet.workers):
        worker.send(signal.SIGTERM)
        await asyncio.sleep(1.5 + chance.random())


async def kill_broker(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 of a broker, and its return with the same data."""
    node = chance.randrange(fleet.broker.nodes) + 1
    await asyncio.to_thread(fleet.broker.kill, node)
    await asyncio.sleep(1 + chance.random() * 4)
    await asyncio.to_thread(fleet.broker.start, node)


def broker_away(seconds: float) -> Fault:
    """Return the fault of brokers that keep their connections and answer nothing for so long."""

    async def away(fleet: Fleet, chance: random.Random) -> None:
        fleet.broker.pause()
        await asyncio.sleep(seconds)
        fleet.broker.go_on()

    return away


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "freeze": freeze,
    "terminate": terminate,
    "join": join_and_leave,
    "rolling": restart_all,
    "broker": kill_broker,
    "away": broker_away(20),
    "long": broker_away(120),
}
