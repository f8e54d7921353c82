"""`run`: until a signal asks to stop, or until the pipeline must; and what people are told then."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from apprise import decorators
from apprise.decorators.base import N_MGR
from structlog.testing import capture_logs

from streamproc.commands.run import serve_until_stopped
from streamproc.core.errors import Defect, StreamprocError, Unusable
from streamproc.service import Running
from streamproc.settings import Settings
from tests.embedded.pipelines import PATIENCE

# apprise's email plugin imports a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SCHEMA = "runtest"
NOT_LOOKED_AT: Any = None
told: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def channel() -> Iterator[None]:
    def take(body: str, title: str, *_: Any, **__: Any) -> bool:
        told.append((title, body))
        return True

    told.clear()
    register: Any = decorators.notify
    register(on=SCHEMA)(take)
    yield
    plugins: Any = N_MGR
    plugins.remove(SCHEMA)


def reaching(*channels: str) -> Settings:
    return Settings.model_validate({"pagerduty": {"notifications": {"channels": channels}}})


class Pipelines:
    """Stands for `running`: starts when it is let, and notes how it ends."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.let.set()
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.stopped: asyncio.Future[StreamprocError] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Running]:
        try:
            await self.let.wait()
            self.started.set()
            yield Running("http://127.0.0.1:1", NOT_LOOKED_AT, NOT_LOOKED_AT, self.stopped)
        finally:
            self.ended.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_in_order(number: int) -> None:
    pipelines, asked = Pipelines(), []
    serving = asyncio.create_task(serve_until_stopped(reaching(), pipelines, lambda: asked.append(1)))
    await pipelines.started.wait()
    os.kill(os.getpid(), number)
    await asyncio.wait_for(serving, PATIENCE)
    assert pipelines.ended.is_set()
    assert asked == [1]
    assert told == []


async def test_a_signal_while_it_starts_stops_it_too() -> None:
    pipelines = Pipelines()
    pipelines.let.clear()
    serving = asyncio.create_task(serve_until_stopped(reaching(), pipelines, lambda: None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(serving, PATIENCE)
    assert pipelines.ended.is_set()
    assert not pipelines.started.is_set()


async def test_a_pipeline_that_stops_by_itself_tells_people_and_raises() -> None:
    pipelines = Pipelines()
    serving = asyncio.create_task(serve_until_stopped(reaching(f"{SCHEMA}://"), pipelines, _never))
    await pipelines.started.wait()
    pipelines.stopped.set_result(Defect("a promise does not hold"))
    with pytest.raises(Defect, match="a promise does not hold"):
        await asyncio.wait_for(serving, PATIENCE)
    assert pipelines.ended.is_set()
    assert told == [
        (
            "streamproc has stopped",
            "a promise does not hold\nNothing that it acknowledged is lost. It needs a person.",
        )
    ]


async def test_without_a_channel_the_log_says_that_nobody_was_told() -> None:
    pipelines = Pipelines()
    pipelines.stopped.set_result(Defect("a promise does not hold"))
    with capture_logs() as logged, pytest.raises(Defect):
        await asyncio.wait_for(serve_until_stopped(reaching(), pipelines, _never), PATIENCE)
    assert [one["event"] for one in logged] == [
        "Nobody could be told that the pipeline stopped: pagerduty.notifications.channels is empty."
    ]


async def test_a_pipeline_that_cannot_start_says_why() -> None:
    @asynccontextmanager
    async def unusable() -> AsyncIterator[Running]:
        raise Unusable("the port is taken")
        yield

    with pytest.raises(Unusable, match="the port is taken"):
        await asyncio.wait_for(serve_until_stopped(reaching(f"{SCHEMA}://"), unusable, _never), PATIENCE)
    assert told == []


def _never() -> None:
    pytest.fail("nobody asked it to stop")
