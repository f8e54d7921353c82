"""One run under faults: load, misfortune by a seed, rest, and the check from outside.

As a program, against a broker of `kafka-dev`: `python -m tests.kafka.campaign FOLDER PORT FAULT[,FAULT...] SEED`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust import chatter
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from tests.kafka.broker import Broker, config_for
from tests.kafka.exact import check, left_by, rest
from tests.kafka.faults import FAULTS, Fault
from tests.kafka.fleet import SCRIPT, Fleet, Load, toy_worker
from tests.support import toy

WORDS = ("ape", "ant", "bee", "bat", "cat", "cow", "dog", "eel", "fox", "?", "#oh")
REST_WITHIN = 120.0


def line(at: int, chance: random.Random) -> Entry:
    """Return a line of words, each time another: what is doubled shows."""
    words = [chance.choice(WORDS) for _ in range(chance.randrange(1, 5))]
    number = chance.randrange(300)
    words.append(f"{chr(97 + number % 26)}{number}")
    sender = f"s{chance.randrange(40)}"
    if chance.random() < 0.01:
        words.append("!")
    return Entry.of("lines", toy.Line(sender=f"{sender}-{at}", text=" ".join(words)), sender)


async def run(
    broker: Broker,
    config: Config,
    faults: Sequence[Fault],
    seed: int,
    *,
    workers: int = 2,
    rate: int = 600,
    seconds: float = 10.0,
    script: Path = SCRIPT,
) -> dict[str, Any]:
    """Play one run and check it; raises AssertionError, with what the workers said, where a promise is broken."""
    chatter.bound()
    chance = random.Random(seed)  # noqa: S311  a schedule, no secret
    await catalogue.apply(config, catalogue.wanted(toy.TOPICS, toy.TOY, config))
    inlet = KafkaInlet(config, toy.TOPICS, SystemClock())
    load = Load(inlet, line, seed)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(inlet.stop)
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        async with Fleet(broker, config, toy_worker(config, Path(folder), script), workers) as fleet:
            try:
                await fleet.ready()
                loading = asyncio.create_task(load.run(rate, seconds))
                await asyncio.sleep(1 + chance.random() * 2)
                for fault in faults:
                    await fault(fleet, chance)
                    await asyncio.sleep(chance.random() * 2)
                await loading
                ended = time.monotonic()
                await rest(config, toy.TOY, REST_WITHIN)
                rested = time.monotonic() - ended
                figures = check(
                    await left_by(config, toy.TOY, toy.TOPICS), toy.TOY, toy.LETTERS, load.acknowledged, load.doubtful
                )
                shut_out = fleet.said().count("A partition is claimed anew")
                befell = faults or any(each.codes for each in fleet.workers)
                assert befell or not shut_out, f"nothing befell, and partitions were shut out {shut_out} times"
            except BaseException as error:
                error.add_note(f"seed {seed}; the workers said:\n{fleet.said()[-20000:]}")
                raise
            if kept := os.environ.get("KEEP"):
                await asyncio.to_thread(Path(kept).write_text, fleet.said())
            codes = [worker.codes for worker in fleet.workers]
            figures |= {"restored": fleet.said().count("A partition is restored")}
    return {**figures, "doubtful": len(load.doubtful), "rested": round(rested, 1), "codes": codes}


async def main(folder: str, port: str, faults: str, seed: str, workers: str = "2", script: str = "") -> None:
    broker = Broker(Path(folder), 3 if await asyncio.to_thread(Path(folder, "node-3").exists) else 1, int(port))
    chosen = [FAULTS[name] for name in faults.split(",") if name]
    config = config_for(broker)
    told = Path(script) if script else SCRIPT
    print(faults, seed, await run(broker, config, chosen, int(seed), workers=int(workers), script=told))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
