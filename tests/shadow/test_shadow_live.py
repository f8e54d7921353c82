"""A candidate beside a pipeline that runs: a follower as a process of its own, and the commands."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from streamproc.events.shadow import Progress
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.embedded.inboxes import EmbeddedInboxes
from streamproc.shadow.supervising import Supervisor, supervised
from streamproc.shadow.telling import Told, told
from tests.cli.playing import call
from tests.service.standing import KEYS, Standing, now_alert, pagerduty, settings_of, until_told, working

# apprise's email plugin imports a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

QUIET = {"escalate": {"page": ["critical"]}}


class Live:
    """A pipeline, its commands, and its supervisor."""

    def __init__(self, stand: Standing, folder: Path, registry: CollectorRegistry, supervisor: Supervisor) -> None:
        self.stand = stand
        self.folder = folder
        self.registry = registry
        self.supervisor = supervisor

    async def call(self, *words: str) -> str:
        """Call a command on the data directory."""
        answer = await asyncio.to_thread(call, *words, "--data-dir", str(self.folder))
        assert answer.exit_code == 0, answer.output
        return answer.output

    async def listed(self, *words: str) -> Any:
        """Return the JSON list of a command. What the pipeline in this process logs meanwhile stands beside it."""
        (line,) = [line for line in (await self.call(*words)).splitlines() if line.startswith("[{")]
        return json.loads(line)

    def known(self) -> Told | None:
        """Return what is told of the candidate."""
        with EmbeddedInboxes(self.folder) as inboxes:
            return told(inboxes)

    async def shows(self, holds: Callable[[Progress], bool]) -> bool:
        """Return whether something holds for what the follower told last."""
        found = self.known()
        return found is not None and found.progress is not None and holds(found.progress)


def follower_of(parent: int, folder: Path) -> tuple[str, ...]:
    """Return the command that follows the candidate for a process."""
    given = ("--supervised", str(parent), "--data-dir", str(folder))
    return (sys.executable, "-m", "streamproc", "shadow", "follow", *given)


@asynccontextmanager
async def live(folder: Path) -> AsyncIterator[Live]:
    async with pagerduty() as (emulator, url):
        settings = settings_of(url, folder)
        async with working(settings, folder, emulator, armed=True) as stand:
            registry = stand.pipeline.registry
            supervisor = Supervisor(folder, follower_of(os.getpid(), folder), registry, SystemClock())
            async with supervised(supervisor):
                yield Live(stand, folder, registry, supervisor)
        assert supervisor._child is None


def settings_file(folder: Path, **sections: Any) -> str:
    file = folder / "b.yaml"
    destinations = {name: {"routing_key": key} for name, key in KEYS.items()}
    file.write_text(yaml.safe_dump({"pagerduty": {"destinations": destinations}, **sections}))
    return str(file)


async def test_a_candidate_is_followed_promoted_and_rolled_back(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with live(folder) as run:
        assert run.known() is None
        said = await run.call("shadow", "start", settings_file(tmp_path, **QUIET), "--reason", "nights")
        assert "The running pipeline has it." in said
        assert "already" in await run.call("shadow", "start", settings_file(tmp_path, **QUIET))
        await run.stand.post(now_alert("Slow", "checkout", severity="error"))
        await until_told(lambda: run.shows(lambda told: (told.pages_current, told.pages_candidate) == (1, 0)))
        await run.stand.post(now_alert("Odd", "lonely", severity="error"))
        first = run.supervisor._child
        assert first is not None
        orphan = await asyncio.create_subprocess_exec(*follower_of(first.pid, folder))
        assert await orphan.wait() == 0  # its parent is another one than it was started for
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        await until_told(lambda: run.shows(lambda told: told.requests == 2 and told.pages_candidate == 0))
        assert run.registry.get_sample_value("streamproc_shadow_candidate") == 1
        text = await run.call("shadow", "status")
        assert "b.yaml" in text
        assert "nights" in text
        assert "No difference is settled" in await run.call("shadow", "diff")

        assert "b.yaml is promoted" in await run.call("shadow", "promote", "--reason", "better", "--author", "ann")
        found = run.known()
        assert found is not None
        assert found.ended is not None
        (newest, _) = await run.listed("history", "--json")
        assert (newest["author"], newest["reason"], newest["changed"]) == ("ann", "better", ["config"])
        assert "better" in await run.call("history")
        assert "Back to" in await run.call("rollback", "--reason", "worse")
        assert len(await run.listed("history", "--json")) == 3
        assert "There is no candidate" in await run.call("shadow", "stop")


def test_a_broken_candidate_is_refused_with_its_faults(tmp_path: Path) -> None:
    file = tmp_path / "b.yaml"
    file.write_text("escalate: {pages: [critical]}\ncorrelate: {window: never}\n")
    answer = call("shadow", "start", str(file), "--data-dir", str(tmp_path))
    assert answer.exit_code == 2
    assert "escalate.pages: there is no such setting; did you mean `page`?" in answer.output
    assert "correlate.window" in answer.output
    answer = call("shadow", "start", settings_file(tmp_path, pagerduty={}), "--data-dir", str(tmp_path))
    assert "no `default`" in answer.output
