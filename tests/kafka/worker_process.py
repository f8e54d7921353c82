"""A worker as a process of its own, for tests that kill it: reads its settings as JSON from the first argument."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.worker import Worker
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.support import toy

WORLDS = {"real": (TOPOLOGY, TOPICS, LETTERS), "toy": (toy.TOY, toy.TOPICS, toy.LETTERS)}


async def main(told: dict[str, str]) -> None:
    topology, topics, letters = WORLDS[told.pop("world")]
    worker = Worker(Config.model_validate(told), topology, topics, letters, SystemClock())
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await worker.start()
    print("started", flush=True)  # noqa: T201  the test waits for it
    said = ""
    while not asked.is_set():
        standing = worker.standing()
        word = "ready" if standing["ready"] else str(standing["why_not"])
        if word != said:
            said = word
            print(word, flush=True)  # noqa: T201  the test waits for it
        try:
            await asyncio.wait_for(asked.wait(), 0.1)
        except TimeoutError:
            continue
    await worker.stop()
    print("stopped", flush=True)  # noqa: T201  the test waits for it


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
