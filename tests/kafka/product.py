"""The whole product under faults: HTTP > gateways > Kafka > armed workers > a PagerDuty that keeps a record.

As a program, with brokers of its own: `python -m tests.kafka.product SEED[,SEED...] [FAULT[,FAULT...]|drawn] [1|3]`;
where nothing else is said the seed draws the faults. Each run prints its figures as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import yaml

from streamproc.emulator.account import Effect
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.server import serve
from streamproc.ports import Entry
from streamproc.runtime.faust import chatter
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.guards import Stop
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.kafka.broker import Broker, config_for
from tests.kafka.exact import Left, check, left_by, rest, waiting
from tests.kafka.faults import FAULTS, Fault, kill, kill_gateway
from tests.kafka.fleet import Fleet, Process
from tests.kafka.load import SERVICES, HttpLoad, Story
from tests.kafka.paged import check_paged, outcomes

REST_WITHIN = 300.0
QUIET_FOR = 2.0
GATEWAY_SCRIPT = Path(__file__).with_name("dying_gateway.py")
NO_BROKER = 5
ALLOWED = {0, -9, int(Stop.STALLED), NO_BROKER, 137}
"""Ends that a fault explains: told to stop, killed, a zombie that ends itself, a start without a broker, a death at a
chosen line."""


class Site:
    """Folder, settings and ports of one installation."""

    def __init__(self, folder: Path, config: Config, pagerduty: str) -> None:
        self.folder = folder
        self.settings = folder / "streamproc.yaml"
        destinations = {name: {"routing_key": name[0].upper() * 32} for name in (*SERVICES, "default")}
        services = {"services": {name: {"tier": 1, "destination": name} for name in SERVICES}}
        (folder / "services.yaml").write_text(yaml.safe_dump(services))
        told = {
            "kafka": {
                "bootstrap": list(config.bootstrap),
                "prefix": config.prefix,
                "replication": config.replication,
                "production": False,
                "session_timeout": config.session_timeout,
            },
            "services": "services.yaml",
            "pagerduty": {
                "api": {"base_url": pagerduty, "retry_config": {"max_attempts": 3}},
                "destinations": destinations,
                "requests_per_minute": 6000,
                "incidents": {"auto_resolve_threshold": 2, "ai_classification": False},
            },
            "logs": {"form": "json"},
        }
        self.settings.write_text(yaml.safe_dump(told))

    def worker(self, name: str) -> Process:
        """Start a worker."""
        port = _free_port()
        return self._process(name, ["worker", "--armed", "--port", str(port)], port)

    def gateway(self, name: str, script: Path | None = None) -> Process:
        """Start a gateway; `script` stands in for the command."""
        port = _free_port()
        return self._process(name, ["gateway", "--port", str(port)], port, script)

    def _process(self, name: str, arguments: Sequence[str], port: int, script: Path | None = None) -> Process:
        program = ["-m", "streamproc"] if script is None else [str(script)]
        command = [sys.executable, *program, *arguments, "--config", str(self.settings)]
        environment = {"CRASHED": str(self.folder / "crashed")}
        return Process(name, command, self.folder, f"http://127.0.0.1:{port}", environment)


async def run(
    broker: Broker,
    config: Config,
    faults: Sequence[Fault],
    seed: int,
    *,
    workers: int = 2,
    gateways: int = 2,
    rate: float = 6.0,
    seconds: float = 12.0,
    dying_gateway: bool = False,
) -> dict[str, Any]:
    """Play one run and check it; raises AssertionError, with what the processes said, where a promise is broken.

    Args:
        broker: what runs.
        config: topics of this run alone.
        faults: played one after the other, with random pauses.
        seed: of load and schedule.
        workers: so many.
        gateways: so many.
        rate: groups of alerts that begin in a second.
        seconds: for so long at least; the load goes on until the last fault is over.
        dying_gateway: one gateway dies between append and answer.
    """
    chatter.bound()
    config = config.model_copy(update={"session_timeout": Config().session_timeout})  # as in production
    chance = random.Random(seed)  # noqa: S311  a schedule, no secret
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pagerduty = await serve(EmulatorConfig())
        stack.push_async_callback(pagerduty.stop)
        site = Site(folder, config, pagerduty.url)
        doors = [site.gateway(f"g{at}", GATEWAY_SCRIPT if dying_gateway and not at else None) for at in range(gateways)]
        fleet = await stack.enter_async_context(Fleet(broker, config, site.worker, workers, doors))
        fleet.pagerduty = pagerduty.emulator
        load = HttpLoad([door.url for door in doors], seed)
        try:
            await fleet.ready()
            befell = await _play(fleet, load, faults, chance, rate, seconds)
            rested = await _rest(fleet, config, pagerduty.emulator)
            codes = await _stop(fleet)
            left = await left_by(config, TOPOLOGY, TOPICS)
            figures = check(
                left, TOPOLOGY, LETTERS, [*load.acknowledged, *_begun(left), *outcomes(left)], load.doubtful
            )
            figures |= check_paged(left, pagerduty.emulator, load.stories)
            assert codes <= ALLOWED, f"a process ended with a code that no fault explains: {codes}"
        except BaseException as error:
            error.add_note(f"seed {seed}; the processes said:\n{fleet.said()[-30000:]}")
            await asyncio.to_thread(_keep, fleet)
            raise
        said = fleet.said()
    pages = _latencies(pagerduty.emulator, load.stories)
    return {
        **figures,
        "stories": len(load.stories),
        "posts": load.posts,
        "unanswered": len(load.doubtful),
        "rested": round(rested, 1),
        "page_p50": round(statistics.median(pages), 2),
        "page_max": round(max(pages), 2),
        "seconds": fleet.seconds,
        "befell": befell,
        "codes": [each.codes for each in fleet.all],
        "restored": said.count("A partition is restored"),
    }


async def _play(
    fleet: Fleet, load: HttpLoad, faults: Sequence[Fault], chance: random.Random, rate: float, seconds: float
) -> int:
    """Load and misfortune; return how many faults there were."""
    loading = asyncio.create_task(load.run(rate, seconds))
    await asyncio.sleep(2 + chance.random() * 2)
    for fault in faults:
        begun = time.monotonic()
        await fault(fleet, chance)
        if fault in (kill, kill_gateway):
            await asyncio.sleep(0.3)  # the supervisor looks ten times a second
            await fleet.ready()
            fleet.note(f"all ready after {fault.__name__}", time.monotonic() - begun)
        await asyncio.sleep(chance.random() * 2)
    await loading
    return len(faults)


async def _rest(fleet: Fleet, config: Config, emulator: Emulator) -> float:
    """Wait until nothing moves any more; return the seconds that took."""
    begun, quiet = time.monotonic(), False
    while not quiet:
        await fleet.ready()
        before = len(emulator.requests)
        await rest(config, TOPOLOGY, REST_WITHIN)
        await asyncio.sleep(QUIET_FOR)
        quiet = before == len(emulator.requests) and not await waiting(config, TOPOLOGY)
        assert time.monotonic() - begun < REST_WITHIN, "it never comes to rest"
    return time.monotonic() - begun


async def _stop(fleet: Fleet) -> set[int]:
    """Stop everything, so that no timer writes while we read; return every exit code of the run."""
    ends = await asyncio.gather(*(each.dismiss() for each in fleet.all))
    assert set(ends) <= ALLOWED, f"told to stop, they ended with {ends}"
    return {*ends, *(code for each in fleet.all for code in each.codes)}


def _begun(left: Left) -> list[Entry]:
    """Return what starts of workers wrote: settings, catalogue, arming. No alert, and known by its topic."""
    return [
        Entry(record.topic, record.key, record.value)
        for (topic, _), log in left.logs.items()
        if topic in ("policies", "versions")
        for record in log
    ]


def _latencies(emulator: Emulator, stories: Sequence[Story]) -> list[float]:
    """Return seconds from the beginning of a story to the page that it opened, for those that opened one."""
    begun = {story.number: story.begun for story in stories}
    opened = [taken for taken in emulator.requests if taken.effect is Effect.OPENED]
    named = [(taken.at, re.search(r"story (\d+)", taken.event["payload"]["summary"])) for taken in opened]
    return [(at - begun[int(found[1])]).total_seconds() for at, found in named if found] or [0.0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _keep(fleet: Fleet) -> None:
    if kept := os.environ.get("KEEP"):
        Path(kept).write_text(fleet.said())


def drawn(seed: int) -> list[str]:
    """Return the faults that a seed draws: two to four, alone and combined."""
    chance = random.Random(f"faults {seed}")  # noqa: S311  a schedule, no secret
    names = [name for name in FAULTS if name != "long"]
    return [chance.choice(names) for _ in range(chance.randrange(2, 5))]


async def main(seeds: str, faults: str = "drawn", nodes: str = "1") -> None:
    """Play a run for each seed on a broker of its own, and print what came of each."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder), int(nodes))
        await asyncio.to_thread(broker.start)
        try:
            for seed in seeds.split(","):
                names = drawn(int(seed)) if faults == "drawn" else faults.split(",")
                told: dict[str, Any] = {"seed": int(seed), "faults": names, "nodes": broker.nodes}
                try:
                    told |= await run(broker, config_for(broker), [FAULTS[name] for name in names], int(seed))
                except (AssertionError, TimeoutError, ExceptionGroup) as error:
                    failed += 1
                    told |= {"violation": f"{error!r}"[:4000]}
                    print("\n".join(getattr(error, "__notes__", [])), file=sys.stderr)  # noqa: T201
                print(json.dumps(told), flush=True)  # noqa: T201
        finally:
            await asyncio.to_thread(broker.stop)
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
