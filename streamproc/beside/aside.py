"""A pipeline that runs beside another route, put together: the pipeline without a sender, the book, the watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from streamproc.beside.book import Book
from streamproc.beside.hearing import Hearer
from streamproc.beside.judging import Sentence
from streamproc.beside.making import Desk
from streamproc.beside.reading import Reader
from streamproc.beside.schedule import Schedule
from streamproc.beside.watch import FOLDER, Rhythm, Watch, require_way_in
from streamproc.gateway.pagerduty import Foreign
from streamproc.runtime.clock import Clock, SystemClock
from streamproc.service import channels
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.rest import RestClient

log = structlog.get_logger(__name__)


class Shown(Protocol):
    """A pipeline, or a part of one, that shows its incidents."""

    @property
    def desk(self) -> Desk | None:
        """What people look at."""


R = TypeVar("R", bound=Shown)
Hear = Callable[[Foreign], Awaitable[None]]


@asynccontextmanager
async def watching(
    settings: Settings,
    folder: Path,
    pipeline: Callable[[Hear | None], AbstractAsyncContextManager[R]],
    sentence: Sentence,
    clock: Clock | None = None,
) -> AsyncIterator[R]:
    """Run a pipeline beside another route while the context is open.

    Args:
        settings: everything that can be set.
        folder: where the book and the reports stand.
        pipeline: starts the pipeline, without a sender; what it is given hears of incidents that are not ours.
        sentence: what a reason means, for people.
        clock: the machine's by default.

    Raises:
        StreamprocError: it cannot start; the message says why, and the mend.
    """
    rest = settings.pagerduty.rest
    key = rest.api_key.get_secret_value()
    unsigned = not settings.pagerduty.security.webhook_validation
    require_way_in(key=bool(key), webhooks=bool(settings.gateway.webhook_secrets) or unsigned)
    clock = clock or SystemClock()
    book = Book(folder)
    hear = None if key else Hearer(book, clock.now)
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(pipeline(hear))
        desk = running.desk
        assert desk is not None  # noqa: S101  a worker alone has none, and is not watched
        book.begin(clock.now())
        client = await stack.enter_async_context(RestClient(rest)) if key else None
        reader = None if client is None else Reader(client, book, settings.beside.services)
        rhythm = Rhythm(
            Schedule.of(settings.beside.report_at),
            timedelta(seconds=settings.beside.read_every),
            timedelta(days=settings.beside.keep_days),
        )
        watch = Watch(book, desk, reader, channels(settings, clock), clock, rhythm, folder / FOLDER, sentence)
        task = asyncio.create_task(watch.run(), name="streamproc-beside")
        task.add_done_callback(_ended)
        stack.push_async_callback(_end, task)
        log.info("It runs beside another route, and delivers nothing.", reports=str(folder / FOLDER))
        yield running


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def _ended(task: asyncio.Task[None]) -> None:
    """Say so where it broke: alerts are taken and decided on without it."""
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("The existing route is no longer watched; start again.", error=repr(failure))
