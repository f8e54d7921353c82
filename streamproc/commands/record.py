"""`streamproc record`: raw traffic into compressed files that backtest reads, redacted on the way."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client import CollectorRegistry

from streamproc.backtest.inputs import duration
from streamproc.backtest.recorded import EmbeddedInboxes, Inboxes
from streamproc.commands.common import DEFAULT_DATA, ConfigFile, DataDir
from streamproc.commands.console import count_of
from streamproc.commands.redacting import Keep, Key, KeyFile, Redact, redactor
from streamproc.commands.site import OnKafka
from streamproc.commands.spans import moment, span
from streamproc.core.errors import Unusable
from streamproc.gateway.config import GatewayConfig, check_binding
from streamproc.gateway.ingest import PREFIX
from streamproc.gateway.server import serve
from streamproc.recording.capturing import Recorder, begin_at, capture, endpoint, follow
from streamproc.recording.writing import Files
from streamproc.runtime.clock import SystemClock
from streamproc.sources import SOURCES

STOP_WITHIN = 5
"""Seconds that requests under way may take at the end."""
EVERY = 2.0
"""Seconds between looks at a log that is followed."""


def record(
    output: Annotated[Path, typer.Option("--output", help="Folder of the files.", file_okay=False)],
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Take webhooks at this address, without a pipeline: /v1/ingest/alertmanager, /datadog, /generic.",
            show_default=False,
        ),
    ] = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    since: Annotated[
        str,
        typer.Option(
            help="From here of the log on: ISO 8601, how long ago, as 7d, or `start`. From now on without it."
        ),
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Stop at the end of the log; do not follow it.")] = False,
    redact: Redact = None,
    keep: Keep = None,
    key_file: KeyFile = None,
    key: Key = "",
    max_size: Annotated[int, typer.Option(min=1, help="Megabytes after which another file is begun.")] = 64,
    max_age: Annotated[str, typer.Option(help="Time after which another file is begun.")] = "1d",
    config: ConfigFile = None,
) -> None:
    """Capture raw traffic into compressed files, redacted.

    Follows the log of a pipeline (--data-dir, --kafka) without touching it, or listens by itself. The files are what
    `streamproc backtest --input` reads. Ctrl-C ends it; a kill at any moment leaves whole files.
    """
    if listen and (kafka or since or once):
        raise Unusable("--listen takes what comes in; leave --kafka, --since and --once out")
    redacting = redactor(redact, keep, key_file, key)
    with Files(output, max_size * 1_000_000, span(max_age)) as files:
        recorder = Recorder(files, redacting, SystemClock())
        if listen:
            _listen(listen, recorder, config)
        else:
            with _opened(data_dir, config, kafka=kafka) as inboxes:
                _read(inboxes, recorder, since, once=once)
    if recorder.refused:
        typer.echo(f"{count_of(recorder.refused, 'request')} could not be redacted and say nothing now.", err=True)
    shown = ", ".join(map(str, files.written[-3:])) or "no file"
    typer.echo(f"{count_of(recorder.count, 'request')} in {count_of(len(files.written), 'file')}: {shown}")


def _opened(data_dir: Path, config: ConfigFile, *, kafka: bool) -> AbstractContextManager[Inboxes]:
    if not kafka:
        return EmbeddedInboxes(data_dir)
    from streamproc import settings as configuration  # noqa: PLC0415  a data directory needs none
    from streamproc.runtime.faust.inboxes import KafkaInboxes  # noqa: PLC0415  loads aiokafka

    return KafkaInboxes(configuration.load(config).kafka)


def _read(inboxes: Inboxes, recorder: Recorder, since: str, *, once: bool) -> None:
    reached = {} if since == "start" else begin_at(inboxes, _moment(since) if since else None)
    if once:
        if not since:
            raise Unusable("--once needs --since: from now on there is nothing yet; --since start takes all there is")
        capture(inboxes, recorder, reached)
        return
    with asked_to_stop() as wait:
        follow(inboxes, recorder, reached, wait)


def _moment(text: str) -> datetime:
    try:
        return SystemClock().now() - duration(text)
    except Unusable:
        return moment(text)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield what waits for a moment, and returns whether Ctrl-C or SIGTERM came."""
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked.wait(EVERY)
    finally:
        for number, known in before.items():
            signal.signal(number, known)


def _listen(address: str, recorder: Recorder, config: ConfigFile) -> None:
    from streamproc import settings as configuration  # noqa: PLC0415  only this way of recording needs them

    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise Unusable(f"{address!r} is no address to listen on; write for example 127.0.0.1:8080")
    gateway = configuration.load(config).listening()
    listening = gateway.model_copy(update={"host": host.strip("[]"), "port": int(port)})
    check_binding(listening)
    asyncio.run(_serve(listening, recorder))


async def _serve(gateway: GatewayConfig, recorder: Recorder) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = endpoint(gateway, recorder, CollectorRegistry())
    async with serve(app, gateway.host, gateway.port, stop_within=STOP_WITHIN) as address:
        sources = " ".join(f"{address.url}{PREFIX}{source}" for source in SOURCES)
        typer.echo(f"Recording what is posted to {sources}  (Ctrl-C stops it)", err=True)
        await stop.wait()
