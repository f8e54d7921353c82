"""`streamproc demo`: the whole pipeline with a PagerDuty emulator and a scenario, live, and checked at the end."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from streamproc.commands.common import PROBLEMS
from streamproc.commands.console import show
from streamproc.core.errors import Unusable
from streamproc.demo.screen import fits
from streamproc.demo.show import Interrupted, Wanted, perform
from streamproc.runtime.embedded.journal import FILE
from streamproc.runtime.faust.config import Config as KafkaConfig
from streamproc.runtime.logs import configure
from streamproc.settings import Environment

LOG = "demo.log"
INTERRUPTED = 130
SETTLES_WITHIN, SETTLES_ON_KAFKA_WITHIN = 30.0, 60.0
"""Seconds: what several processes share takes longer to end, and to be known to have ended."""
SESSION = 5.0
"""Seconds of silence after which the partitions of a killed worker go to the other."""

Keep = Annotated[bool, typer.Option("--keep", help="Leave it running after the scenario, and keep its data.")]
Port = Annotated[int, typer.Option(help="Port of the gateway; 0 takes a free one.", min=0, max=65535)]
Speed = Annotated[float, typer.Option(help="How many times faster it is played.", min=0.1, max=20.0)]
Plain = Annotated[bool, typer.Option("--plain", help="Plain lines instead of the live screen.")]
Storm = Annotated[int, typer.Option(help="Alerts of the storm.", min=10, max=5000)]
Kafka = Annotated[
    bool, typer.Option("--kafka", help="Through Kafka (KAFKA_BOOTSTRAP) with two workers; one is killed in the storm.")
]
Folder = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Keep the data here; a folder without data of streamproc.", file_okay=False),
]


def demo(
    keep: Keep = False,
    port: Port = 0,
    speed: Speed = 1.0,
    plain: Plain = False,
    storm: Storm = 2000,
    data_dir: Folder = None,
    kafka: Kafka = False,
) -> None:
    """Watch alerts become pages: the real pipeline, a PagerDuty emulator, and half a minute of trouble.

    A bad deploy over four services, a flapping disk, a storm of 2,000 alerts, an Alertmanager pair that sends
    everything twice, Datadog out of order, an alert that cannot be read. It needs nothing but this machine, and leaves
    nothing on it; --kafka needs a broker. Ends with a check that nothing was lost, doubled or left open: exit code 1 if
    anything was.
    """
    folder = _empty(data_dir)
    console = Console(highlight=False)
    wanted = Wanted(
        folder=folder,
        port=port,
        speed=speed,
        storm=storm,
        live=not plain and fits(console),
        stay=keep,
        kept=keep or (data_dir is not None and not kafka),  # topics are kept only where it goes on running
        command=_called(),
        kafka=_kafka() if kafka else None,
        settles_within=SETTLES_ON_KAFKA_WITHIN if kafka else SETTLES_WITHIN,
    )
    removed = data_dir is None and not keep
    try:
        if not asyncio.run(_perform(wanted, console)):
            removed = False
            words = f"A promise is broken: please report it. Data, log and PagerDuty's record: {folder}"
            typer.secho(words, fg=typer.colors.RED, bold=True, err=True)
            raise typer.Exit(PROBLEMS)
    except (Interrupted, KeyboardInterrupt):
        typer.echo("Stopped before its end: nothing was checked.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if removed:
            shutil.rmtree(folder, ignore_errors=True)


async def _perform(wanted: Wanted, console: Console) -> bool:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)
    with (wanted.folder / LOG).open("w", encoding="utf-8") as log:
        configure("info", "json", log)
        return await perform(wanted, console, show, asked)


def _kafka() -> KafkaConfig:
    """Return where Kafka is, by the environment, with topics that nobody else has."""
    return KafkaConfig(
        **Environment().over({}).get("kafka", {}),
        prefix=f"demo-{secrets.token_hex(4)}.",
        replication=1,
        production=False,
        session_timeout=SESSION,
    )


def _empty(data_dir: Path | None) -> Path:
    """Return a directory without data of streamproc.

    Raises:
        Unusable: the one that is given has some, or cannot be made.
    """
    if data_dir is None:
        return Path(tempfile.mkdtemp(prefix="streamproc-demo-"))
    if (data_dir / FILE).exists():
        raise Unusable(f"{data_dir} holds data already, and the demo must begin with none: give another --data-dir")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"{data_dir} cannot be made: {error.strerror}") from error
    return data_dir


def _called() -> str:
    """Return how the user calls streamproc: by its path, unless that is what its name alone means."""
    called = Path(sys.argv[0])
    if called.name != "streamproc":
        return "streamproc"
    found = shutil.which("streamproc")
    return "streamproc" if found is not None and Path(found).resolve() == called.resolve() else str(called)
