"""The demo from its start to its end: emulator, pipeline, scenario, screen, verdict."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console, RenderableType
from rich.text import Text

from streamproc.demo.chapters import CHAPTERS
from streamproc.demo.company import told
from streamproc.demo.crew import free_port
from streamproc.demo.player import Player
from streamproc.demo.scenario import Chapter, write
from streamproc.demo.screen import LiveScreen, PlainScreen
from streamproc.demo.stage import Stage, alone
from streamproc.demo.summary import explaining, posting, reasons, summary
from streamproc.demo.telling import Line, Verb
from streamproc.demo.verdict import Verdict, judge
from streamproc.demo.watch import LISTED, Watcher
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.server import Served, serve
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.config import Config as KafkaConfig

HOST = "127.0.0.1"
LOOK_EVERY = 0.25
"""Seconds between looks."""
RATE_LIMIT = 120
"""Requests a minute that the emulator takes for a routing key, as PagerDuty does."""
AFTER = 1.0
"""Seconds of scenario after the last webhook, for the look of it."""


Say = Callable[[RenderableType], None]


class Interrupted(Exception):
    """Somebody stopped the demo before its end; nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for."""

    folder: Path
    """Data directory, without data."""
    port: int = 0
    """Of the gateway, 0 for a free one."""
    speed: float = 1.0
    storm: int = 2000
    live: bool = True
    """Whether the console carries the live screen."""
    stay: bool = False
    """Whether everything goes on running after the scenario."""
    kept: bool = False
    """Whether what was decided can be looked at when the demo is over."""
    kafka: KafkaConfig | None = None
    """Where it is played through Kafka; on one machine without."""
    command: str = "streamproc"
    """How the user calls streamproc."""
    chapters: Sequence[Chapter] = CHAPTERS
    """What happens."""
    settles_within: float = 30.0
    """Seconds after the last webhook within which everything must be closed."""


async def perform(wanted: Wanted, console: Console, say: Say, asked: asyncio.Event) -> bool:
    """Play the demo; return whether every promise held.

    Args:
        wanted: what the user asked for.
        console: where it is shown while it runs.
        say: writes what stands at the end.
        asked: set when the user wants to stop.

    Raises:
        Interrupted: `asked` was set before the verdict.
        StreamprocError: something could not be started, or stopped by itself.
    """
    async with AsyncExitStack() as stack:
        house = await _raise_curtain(wanted, stack, console, asked)
        show = _Show(wanted, console, say, house, asked)
        verdict = await show.play()
        await show.tell(verdict)
        if wanted.stay:
            await show.stay()
        return verdict.kept


@dataclass(frozen=True, slots=True)
class _House:
    """What runs."""

    pagerduty: Served
    stage: Stage
    player: Player


async def _raise_curtain(wanted: Wanted, stack: AsyncExitStack, console: Console, asked: asyncio.Event) -> _House:
    """Start the emulator, the pipeline and the player."""
    _reach_loopback_directly()
    port, secret = wanted.port or free_port(), secrets.token_hex(16)  # PagerDuty must know where the gateway will be
    config = EmulatorConfig(
        rate_limit=RATE_LIMIT,
        record=wanted.folder / "pagerduty.jsonl",
        webhook_url=f"http://{HOST}:{port}/v1/feedback/pagerduty",
        webhook_secret=secret,
    )
    pagerduty = await serve(config, HOST)
    stack.push_async_callback(pagerduty.stop)
    chosen = told(wanted.folder, pagerduty.url, port, secret)
    if wanted.kafka is None:
        stage: Stage = await stack.enter_async_context(alone(chosen, wanted.folder))
    else:
        stage = await _reach_kafka(wanted, wanted.kafka, chosen, stack, console, asked)
    gateway = await stack.enter_async_context(httpx.AsyncClient(base_url=stage.url, timeout=30.0))
    people = await stack.enter_async_context(httpx.AsyncClient(base_url=pagerduty.url))
    return _House(pagerduty, stage, Player(gateway, people, wanted.speed, stage.patience))


async def _reach_kafka(
    wanted: Wanted,
    kafka: KafkaConfig,
    chosen: dict[str, Any],
    stack: AsyncExitStack,
    console: Console,
    asked: asyncio.Event,
) -> Stage:
    """Start the pipeline on Kafka, which takes a while; whoever waits may stop it."""
    from streamproc.demo.cluster import on_kafka  # noqa: PLC0415  loads Faust

    where = ", ".join(kafka.bootstrap)
    console.print(f"On Kafka at {where}: a gateway and two workers start, which takes a while ...", soft_wrap=True)
    opening = on_kafka(chosen, kafka, wanted.folder, keep=wanted.stay)
    starting = asyncio.create_task(stack.enter_async_context(opening))
    wishing = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({starting, wishing}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            raise Interrupted
        return starting.result()
    finally:
        for task in (wishing, starting):
            task.cancel()
        await asyncio.gather(wishing, starting, return_exceptions=True)


class _Show:
    """One performance."""

    def __init__(self, wanted: Wanted, console: Console, say: Say, house: _House, asked: asyncio.Event) -> None:
        self._wanted = wanted
        self._say = say
        self._console = console
        self._house = house
        self._stage = house.stage
        self._asked = asked
        self._calm_since: float | None = None
        clock = SystemClock()
        self._start, started = asyncio.get_running_loop().time(), clock.now()
        self._scenario = write(started, wanted.chapters, storm=wanted.storm, speed=wanted.speed)
        self._watcher = Watcher(house.stage, house.pagerduty.emulator, started, clock.now)
        self._scenes = [Line(scene.at / wanted.speed, Verb.SCENE, "", scene.words) for scene in self._scenario.scenes]

    async def play(self) -> Verdict:
        """Play the scenario to its end and judge it."""
        with self._screen() as screen:
            playing = asyncio.create_task(self._play_all())
            try:
                await self._watch(screen, playing.done)
                await playing
                await self._watch(screen, self._settled, self._wanted.settles_within)
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
        counted = await self._stage.count()
        self._figures = replace(self._watcher.figures, alerts=counted.alerts, again=counted.again)
        return judge(
            self._scenario,
            self._house.player.alerts,
            [*self._house.player.failures, *self._stage.failures()],
            self._figures,
            self._stage.desk.incidents("all", LISTED, ""),
            self._house.pagerduty.emulator.requests,
            died=self._stage.outlived is not None,
        )

    async def _play_all(self) -> None:
        """Play the scenario, with the mishap in its middle."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._house.player.play(self._scenario, self._start, self._decided))
            if self._scenario.mishap is not None:
                group.create_task(self._suffer(self._scenario.mishap))

    def _decided(self) -> bool:
        return not self._watcher.figures.unfolded

    async def _suffer(self, at: float) -> None:
        await asyncio.sleep(self._start + at / self._wanted.speed - asyncio.get_running_loop().time())
        await self._stage.suffer()

    async def tell(self, verdict: Verdict) -> None:
        """Say what came of it, and how to look further."""
        self._say(summary(self._figures, verdict, self._house.player.webhooks, self._stage.outlived))
        first = next((told.incidents[0] for told in verdict.stories if told.incidents), None)
        view = None if first is None else self._stage.desk.incident(first)
        if view is not None:
            self._say(reasons(view))
        self._heading("Look further")
        if not self._wanted.kept:
            self._lines([f"{self._wanted.command} demo{self._stage.again} --keep"])
            return
        self._lines(explaining(verdict.stories, self._wanted.command, self._stage.site))

    async def stay(self) -> None:
        """Go on until the user wants to stop, and write what is decided."""
        gateway, pagerduty = self._stage.url, self._house.pagerduty.url
        self._heading("It goes on running; Ctrl-C stops it")
        self._lines([f"status page   {gateway}/", f"PagerDuty     {pagerduty}/"])
        self._heading('Post an alert of your own; "resolved" ends it')
        self._lines(posting(gateway))
        self._console.print()
        with suppress(Interrupted):
            await self._watch(PlainScreen(self._console), lambda: False)
        self._console.print("Stopped: nothing of it runs any more.")

    def _heading(self, words: str) -> None:
        self._console.print()
        self._console.print(Text(words, "bold cyan"))

    def _lines(self, lines: Iterable[str]) -> None:
        """Write what is to be copied: never wrapped or cut by us."""
        for line in lines:
            self._console.print(Text(f"   {line}"), soft_wrap=True)

    def _screen(self) -> LiveScreen | PlainScreen:
        if not self._wanted.live:
            return PlainScreen(self._console)
        return LiveScreen(self._console, self._seconds)

    @property
    def _seconds(self) -> float:
        return (self._scenario.posts[-1].at + AFTER) / self._wanted.speed

    def _settled(self) -> bool:
        """Return whether everything is closed, and has been for longer than what is seen may be behind."""
        figures, now = self._watcher.figures, asyncio.get_running_loop().time()
        busy = figures.unfolded or figures.open_incidents or figures.open_alerts or figures.waiting
        if busy or figures.elapsed < self._seconds:
            self._calm_since = None
            return False
        self._calm_since = self._calm_since or now
        return now - self._calm_since >= self._stage.stale

    async def _watch(
        self, screen: LiveScreen | PlainScreen, over: Callable[[], bool], within: float = math.inf
    ) -> None:
        """Show what happens until `over`, or until so many seconds have passed."""
        until = asyncio.get_running_loop().time() + within
        while True:
            lines = self._watcher.follow(await asyncio.to_thread(self._watcher.read))
            figures = self._watcher.figures
            lines += [scene for scene in self._scenes if scene.at <= figures.elapsed]
            self._scenes = [scene for scene in self._scenes if scene.at > figures.elapsed]
            screen.show(figures, sorted(lines, key=lambda line: line.at))
            if self._asked.is_set():
                raise Interrupted
            if (reason := self._stage.stopped()) is not None:
                raise reason
            if over() or asyncio.get_running_loop().time() > until:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._asked.wait()


def _reach_loopback_directly() -> None:
    """Keep a proxy of the environment out of what stays on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST)))
