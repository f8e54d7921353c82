"""The demo from its start to its end: emulator, pipeline, scenario, screen, verdict."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console, RenderableType
from rich.text import Text

from streamproc.demo.chapters import CHAPTERS
from streamproc.demo.company import settings
from streamproc.demo.player import Player
from streamproc.demo.scenario import Chapter, write
from streamproc.demo.screen import LiveScreen, PlainScreen
from streamproc.demo.summary import explaining, posting, reasons, summary
from streamproc.demo.telling import Line, Verb
from streamproc.demo.verdict import Verdict, judge
from streamproc.demo.watch import LISTED, Watcher
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.server import Served, serve
from streamproc.listening import listen
from streamproc.runtime.clock import SystemClock
from streamproc.service import Running, running

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
    """Whether the data directory stays when the demo is over."""
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
        stage = await _raise_curtain(wanted, stack)
        show = _Show(wanted, console, say, stage, asked)
        verdict = await show.play()
        await show.tell(verdict)
        if wanted.stay:
            await show.stay()
        return verdict.kept


@dataclass(frozen=True, slots=True)
class _Stage:
    """What runs."""

    pagerduty: Served
    pipeline: Running
    player: Player


async def _raise_curtain(wanted: Wanted, stack: AsyncExitStack) -> _Stage:
    """Start the emulator, the pipeline and the player."""
    _reach_loopback_directly()
    port, secret = wanted.port or _free_port(), secrets.token_hex(16)
    config = EmulatorConfig(
        rate_limit=RATE_LIMIT,
        record=wanted.folder / "pagerduty.jsonl",
        webhook_url=f"http://{HOST}:{port}/v1/feedback/pagerduty",
        webhook_secret=secret,
    )
    pagerduty = await serve(config, HOST)
    stack.push_async_callback(pagerduty.stop)
    chosen = settings(wanted.folder, pagerduty.url, port, secret)
    pipeline = await stack.enter_async_context(running(chosen, wanted.folder, armed=True))
    gateway = await stack.enter_async_context(httpx.AsyncClient(base_url=pipeline.url, timeout=30.0))
    people = await stack.enter_async_context(httpx.AsyncClient(base_url=pagerduty.url))
    return _Stage(pagerduty, pipeline, Player(gateway, people, wanted.speed))


class _Show:
    """One performance."""

    def __init__(self, wanted: Wanted, console: Console, say: Say, stage: _Stage, asked: asyncio.Event) -> None:
        self._wanted = wanted
        self._say = say
        self._console = console
        self._stage = stage
        self._asked = asked
        clock = SystemClock()
        self._start, started = asyncio.get_running_loop().time(), clock.now()
        self._scenario = write(started, wanted.chapters, storm=wanted.storm, speed=wanted.speed)
        self._watcher = Watcher(stage.pipeline.desk, stage.pagerduty.emulator, started, clock.now)
        self._scenes = [Line(scene.at / wanted.speed, Verb.SCENE, "", scene.words) for scene in self._scenario.scenes]

    async def play(self) -> Verdict:
        """Play the scenario to its end and judge it."""
        with self._screen() as screen:
            playing = asyncio.create_task(self._stage.player.play(self._scenario, self._start))
            try:
                await self._watch(screen, playing.done)
                await playing
                await self._watch(screen, self._settled, self._wanted.settles_within)
            finally:
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
        return judge(
            self._scenario,
            self._stage.player.alerts,
            self._stage.player.failures,
            self._watcher.figures,
            self._stage.pipeline.desk.incidents("all", LISTED, ""),
            self._stage.pagerduty.emulator.requests,
        )

    async def tell(self, verdict: Verdict) -> None:
        """Say what came of it, and how to look further."""
        self._say(summary(self._watcher.figures, verdict, self._stage.player.webhooks))
        first = next((told.incidents[0] for told in verdict.stories if told.incidents), None)
        view = None if first is None else self._stage.pipeline.desk.incident(first)
        if view is not None:
            self._say(reasons(view))
        self._heading("Look further")
        if not self._wanted.kept:
            self._lines([f"{self._wanted.command} demo --keep"])
            return
        self._lines(explaining(verdict.stories, self._wanted.command, self._wanted.folder))

    async def stay(self) -> None:
        """Go on until the user wants to stop, and write what is decided."""
        gateway, pagerduty = self._stage.pipeline.url, self._stage.pagerduty.url
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
        figures = self._watcher.figures
        decided = figures.alerts + figures.letters >= self._stage.player.alerts
        closed = not (figures.open_incidents or figures.open_alerts or figures.waiting)
        return decided and closed and figures.elapsed >= self._seconds

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
            if self._stage.pipeline.stopped.done():
                raise self._stage.pipeline.stopped.result()
            if over() or asyncio.get_running_loop().time() > until:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._asked.wait()


def _free_port() -> int:
    """Return a port that is free now: PagerDuty must know where the gateway will be before it is there."""
    with listen(HOST, 0) as listener:
        return int(listener.getsockname()[1])


def _reach_loopback_directly() -> None:
    """Keep a proxy of the environment out of what stays on this machine."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST)))
