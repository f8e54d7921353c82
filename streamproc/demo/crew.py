"""Workers of the demo as processes of their own: started, killed, stopped, and asked how they are."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import httpx
from prometheus_client.parser import text_string_to_metric_families

from streamproc.listening import listen
from streamproc.settings import PLACES

ASKED_EVERY = 0.25
"""Seconds between two questions to a worker."""
ANSWERS_WITHIN = 2.0
STOPS_WITHIN = 10.0
DECISIONS = "streamproc_decisions_total"
GUARDS = range(70, 76)
"""Exit codes of a worker that ended itself to keep a promise; its supervisor starts it again."""


class Hand:
    """One worker with its supervisor.

    Args:
        name: what it is called.
        config: its settings file.
        log: where it writes what it says.
        port: of its probes and metrics.
        client: asks it.
        say: told of what it does without being asked to, in words.
    """

    def __init__(
        self, name: str, config: Path, log: Path, port: int, client: httpx.AsyncClient, say: Callable[[str, str], None]
    ) -> None:
        self.name = name
        self.log = log
        self._config = config
        self._port = port
        self._client = client
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = False
        self._before: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self.ready_since: float | None = None
        """Time of the event loop since which everything that it owns is restored and caught up; None while not."""

    @property
    def standing(self) -> Literal["ready", "not ready", "dead"]:
        """How it stands."""
        if self._process is None or self._process.returncode is not None:
            return "dead"
        return "not ready" if self.ready_since is None else "ready"

    @property
    def gone(self) -> int | None:
        """Its exit code where it has ended for good though it should run, else None."""
        code = None if self._process is None else self._process.returncode
        return code if self._wanted and code not in GUARDS else None

    @property
    def decisions(self) -> Counter[str]:
        """How often each `stage/reason` was decided, as far as was heard; what died processes decided is kept."""
        return self._before + self._counts

    async def start(self) -> None:
        """Start it."""
        self._before += self._counts
        self._counts = Counter()
        command = (sys.executable, "-m", "streamproc", "worker", "--armed", "--config", str(self._config))
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *("--port", str(self._port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the demo, which stops its workers in order
            )
        self._wanted = True  # not before: until then the process is the former one, which may have been killed

    async def kill(self) -> None:
        """End it at once, whatever it does: kill -9."""
        self._wanted = False
        self.ready_since = None
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Have it finish and leave; end it where that takes too long."""
        self._wanted = False
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), STOPS_WITHIN)
        await self.kill()

    async def keep(self) -> None:
        """Ask it how it is, and start it again where it has ended itself; until cancelled."""
        while True:
            await self._ask()
            process = self._process
            if self._wanted and process is not None and process.returncode in GUARDS:
                self._say(self.name, f"ended itself (code {process.returncode}), and is started again")
                await self.start()
            await asyncio.sleep(ASKED_EVERY)

    async def _ask(self) -> None:
        url = f"http://127.0.0.1:{self._port}"
        process = self._process
        try:
            ready = (await self._client.get(f"{url}/ready")).status_code == HTTPStatus.OK
            counts = decisions_in((await self._client.get(f"{url}/metrics")).text)
        except httpx.HTTPError:
            self.ready_since = None
            return
        if process is self._process and self.standing != "dead":  # else it is the answer of one that is gone
            self._counts = counts
            now = asyncio.get_running_loop().time()
            self.ready_since = (self.ready_since or now) if ready else None


def decisions_in(metrics: str) -> Counter[str]:
    """Return how often each `stage/reason` was decided, from what a worker answers at /metrics."""
    lines = (line for line in metrics.splitlines() if line.startswith(f"{DECISIONS}{{"))
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            counts[f"{sample.labels['stage']}/{sample.labels['reason']}"] += int(sample.value)
    return +counts


def free_port() -> int:
    """Return a port that is free now: others must know it before anything listens there."""
    with listen("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


def environment() -> dict[str, str]:
    """Return the environment for a worker, without what stands over its settings file: a demo pages nobody real."""
    return {name: value for name, value in os.environ.items() if name.lower() not in PLACES}
