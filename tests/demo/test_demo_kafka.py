"""The demo through a real broker, one of its workers killed; and what it says where there is none."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console, RenderableType

from streamproc.demo.chapters import switch
from streamproc.demo.show import Wanted, perform
from streamproc.runtime.faust.client import admin_client
from tests.kafka.broker import Broker, config_for


async def test_a_worker_is_killed_in_the_storm_and_nothing_is_lost_or_doubled(broker: Broker, tmp_path: Path) -> None:
    kafka = config_for(broker).model_copy(update={"session_timeout": 4.0})
    held = io.StringIO()
    console = Console(file=held, width=120, color_system=None)

    def say(shown: RenderableType) -> None:
        console.print(shown)

    wanted = Wanted(
        tmp_path, speed=8.0, storm=60, live=False, chapters=(switch,), kafka=kafka, settles_within=60.0, command="it"
    )
    kept = await perform(wanted, console, say, asyncio.Event())
    told = held.getvalue()
    assert kept, told
    for words in (
        r"worker  worker-1    is killed \(kill -9\): its \d+ partitions go to worker-2\n",
        r"worker  worker-2    has taken over: all \d+ partitions, [\d,]+ records had waited\n",
        r"worker  worker-1    is back, with \d+ of \d+ partitions\n",
        r"from kill -9 of worker-1 until worker-2 had taken over everything: [\d,]+ records waited, 0 pages doubled",
        r" 240  alerts received",
        r"Storm of 60 alerts +60 +1 +1\n",
        r"it demo --kafka --keep",
    ):
        assert re.search(words, told), (words, told)
    async with admin_client(kafka) as client:
        assert not [topic for topic in await client.list_topics() if topic.startswith(kafka.prefix)]
    assert all("The pipeline is told to stop" in (tmp_path / f"worker-{at}.log").read_text() for at in (1, 2))


def test_without_a_broker_it_says_how_to_have_one(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "KAFKA_BOOTSTRAP": "127.0.0.1:9"}
    called = [sys.executable, "-m", "streamproc", "demo", "--plain", "--kafka"]
    done = subprocess.run(  # noqa: S603  this interpreter, with arguments of this file
        called, env=environment, text=True, capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, list(tmp_path.iterdir())) == (5, [])
    assert done.stderr.startswith("streamproc: no Kafka broker answers at 127.0.0.1:9: `make demo KAFKA=1` starts")
    assert done.stderr.count("\n") == 1
