"""`streamproc run`: the pipeline for real, on one machine, until it is told to stop or must."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import structlog
import typer

from streamproc import settings as configuration
from streamproc.commands.common import DEFAULT_DATA, ConfigFile, DataDir, Host, Port, gateway_at
from streamproc.commands.site import OnKafka
from streamproc.core.errors import StreamprocError, Unusable
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.collector import tune
from streamproc.runtime.logs import configure
from streamproc.service import Running, channels, running
from streamproc.settings import Settings

log = structlog.get_logger(__name__)

STOP_WITHIN = 9.5
"""Seconds after which a stop is broken off: a message to people on its way may take longer. The log stays whole."""
Armed = Annotated[bool, typer.Option("--armed", help="Page from the first moment: no dry run, nothing is adopted.")]
Beside = Annotated[
    bool,
    typer.Option("--beside", help="Next to another route to PagerDuty: deliver nothing ever, compare, report weekly."),
]


class Working(Protocol):
    """A pipeline, or a part of one, that runs."""

    @property
    def stopped(self) -> asyncio.Future[StreamprocError]:
        """Done when it has stopped by itself, with the reason."""


def run(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    port: Port = None,
    host: Host = None,
    armed: Armed = False,
    beside: Beside = False,
) -> None:
    """Run the pipeline: gateway, decisions, and pages to PagerDuty.

    Durable: kill it at any moment and start it again, it goes on where it was. Until `streamproc arm` (or --armed)
    nothing pages: everything is decided and shown, and nothing is sent. With --kafka the log and the rows are
    topics, and this is one gateway and one worker in one process. With --beside it delivers nothing, armed or not,
    reads what another route made PagerDuty page, and reports once a week how the two differ.
    """
    refuse_both(armed=armed, beside=beside)
    settings = gateway_at(configuration.load(config), host, port)
    configure(settings.logs.level, settings.logs.form)
    renew = partial(configuration.load, config)
    pipeline: Callable[..., AbstractAsyncContextManager[Any]]
    if kafka:
        from streamproc.distributed import both  # noqa: PLC0415  loads Faust

        pipeline = partial(both, settings, armed=armed, renew=renew)
    else:
        pipeline = partial(running, settings, data_dir, armed=armed, renew=renew)
    if beside:
        from streamproc.commands.beside import beside_of  # noqa: PLC0415  only who runs beside needs it

        pipeline = beside_of(settings, data_dir, pipeline)
    elif not kafka:
        pipeline = partial(_with_candidate, pipeline, data_dir, config)
    serve(settings, pipeline)


@asynccontextmanager
async def _with_candidate(
    start: Callable[[], AbstractAsyncContextManager[Any]], folder: Path, config: Path | None
) -> AsyncIterator[Running]:
    """Run a pipeline, and beside it a process that follows the candidate, while there is one."""
    from streamproc.shadow.supervising import Supervisor, supervised  # noqa: PLC0415  loads what backtests are made of

    given = ("--data-dir", str(folder), *(() if config is None else ("--config", str(config))))
    command = (sys.executable, "-m", "streamproc", "shadow", "follow", "--supervised", str(os.getpid()), *given)
    async with start() as working:
        supervisor = Supervisor(folder, command, working.registry, SystemClock())
        async with supervised(supervisor):
            yield working


def refuse_both(*, armed: bool, beside: bool) -> None:
    """Refuse to be armed and beside another route at once.

    Raises:
        Unusable: it is asked for.
    """
    if armed and beside:
        raise Unusable("--armed and --beside exclude each other: beside another route nothing is delivered")


def serve(
    settings: Settings,
    pipeline: Callable[[], AbstractAsyncContextManager[Working]],
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run a pipeline, or a part of one, as this process, until it is told to stop or must.

    Args:
        settings: name the ways to people.
        pipeline: starts it.
        loop: makes the event loop; asyncio's own by default.

    Raises:
        StreamprocError: as `serve_until_stopped`.
    """
    tune()
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(serve_until_stopped(settings, pipeline, bound_the_stop))


def bound_the_stop() -> None:
    """End the process in `STOP_WITHIN` seconds, whatever still holds it up."""
    late = threading.Timer(STOP_WITHIN, os._exit, [0])
    late.daemon = True
    late.start()


async def serve_until_stopped(
    settings: Settings, pipeline: Callable[[], AbstractAsyncContextManager[Working]], on_stop: Callable[[], None]
) -> None:
    """Run until SIGINT or SIGTERM, or until the pipeline must stop.

    Args:
        settings: name the ways to people.
        pipeline: starts it.
        on_stop: called when a signal asks to stop.

    Raises:
        StreamprocError: the pipeline cannot start, or stopped by itself; then people were told by the channels, if any.
    """
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    serving = asyncio.create_task(_serve(pipeline))
    asking = asyncio.create_task(asked.wait())
    await asyncio.wait({serving, asking}, return_when=asyncio.FIRST_COMPLETED)
    if asked.is_set():
        log.info("The pipeline is told to stop; it finishes what it has begun.")
        on_stop()
    asking.cancel()
    serving.cancel()
    await asyncio.wait({serving})
    if serving.cancelled():
        return
    error = serving.result()
    await tell_of_own_failure(settings, error)
    raise error


async def _serve(pipeline: Callable[[], AbstractAsyncContextManager[Working]]) -> StreamprocError:
    """Run until cancelled; return why the pipeline stopped by itself, once all of it is down."""
    async with pipeline() as working:
        return await asyncio.shield(working.stopped)


async def tell_of_own_failure(settings: Settings, error: StreamprocError) -> None:
    """Tell people directly that the pipeline itself has stopped: no alert of it can go through the pipeline."""
    way = channels(settings, SystemClock())
    if way is None:
        log.error("Nobody could be told that the pipeline stopped: pagerduty.notifications.channels is empty.")
        return
    await way.tell("streamproc has stopped", f"{error}\nNothing that it acknowledged is lost. It needs a person.")
