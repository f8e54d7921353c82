"""What people are shown of a candidate, and how its follower is kept alive."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamproc.commands.console import plain
from streamproc.commands.shadow import _dumped, _list, _standing, _story
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.shadow.candidate import TOPIC, begun, ended, everything, newest
from streamproc.shadow.metrics import ShadowMetrics
from streamproc.shadow.supervising import Supervisor, supervised
from streamproc.shadow.telling import Told, told
from tests.cli.playing import Pipeline
from tests.shadow.shadowing import Shadowed, candidate
from tests.support.play import T0, alert

SLOW = alert("db-1 slow", "db", "error")


def seen(beside: Shadowed) -> Told:
    found = told(beside.inboxes)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def beside() -> Shadowed:
    """A candidate that misses one page, sends one elsewhere and pages once more."""
    played = Shadowed()
    catalogue = {"search": {"destination": "database"}}
    played.begin(candidate(catalogue, escalate={"page": ["critical", "warning"], "ticket": []}))
    played.at("1m").push(SLOW)
    played.at("2m").push(alert("search down", "search"))
    played.at("3m").push(alert("disk filling", "web", "warning"))
    played.at("65m")
    return played


def test_how_a_candidate_stands(beside: Shadowed) -> None:
    text = plain(_standing(seen(beside), beside.play.now))
    assert text.startswith("CANDIDATE 1  b.yaml  for 1 h 5 min\nsince 2026-03-01 12:00:00 UTC · ann · fewer nights\n")
    assert "pages         2 now, 2 by the candidate" in text
    assert "1 only_a, 1 only_b, 1 same; 0 pages alike" in text
    assert "1 with alerts that nobody would be paged for" in text
    assert _dumped(seen(beside))["candidate"] == "b.yaml"


def test_differences_are_listed_in_order_of_their_pages(beside: Shadowed) -> None:
    lines = plain(_list(seen(beside).differences)).splitlines()
    assert ["no page any more" in lines[1], "other destination" in lines[2], "a page more" in lines[3]] == [True] * 3
    assert "error to default" in lines[1]
    assert "no page" in lines[3]


def test_one_difference_is_told_with_both_chains(beside: Shadowed) -> None:
    text = plain(_story(seen(beside).differences[0]))
    assert "missed: " in text
    assert "Its severity asks for it." in text
    assert "Its severity asks for nothing." in text
    assert "NOW" in text
    text = plain(_story(seen(beside).differences[2]))
    assert "only the candidate's: " in text


def test_a_candidate_that_nobody_follows_and_that_is_over() -> None:
    beside = Shadowed()
    assert told(beside.inboxes) is None
    beside.begin(candidate())
    assert "no follower has come so far" in plain(_standing(seen(beside), T0))
    beside.at("1m")
    beside.memory.append(ended(newest(everything(beside.inboxes)), "ann", ""))
    beside.memory.append([Entry(TOPIC, b"", b"{", {"type": b"difference.v1"})])
    assert "ended 2026-03-01 12:01:00 UTC" in plain(_standing(seen(beside), T0 + timedelta(minutes=2)))


def test_a_candidate_whose_body_is_gone_is_not_followed() -> None:
    beside = Shadowed()
    beside.begin(candidate())
    beside.memory.journal.logs["versions", 0].clear()
    with capture_logs() as logs:
        beside.follower.step()
    assert not beside.follower.follows
    assert "start it again" in logs[0]["error"]
    assert seen(beside).candidate is None


def test_metrics_are_told_by_the_follower() -> None:
    beside = Shadowed()
    registry, clock = CollectorRegistry(), beside.memory.clock
    beside.follower = type(beside.follower)(
        beside.inboxes, beside.memory.append, clock, timedelta(seconds=30), ShadowMetrics(registry, clock)
    )
    assert registry.get_sample_value("streamproc_shadow_behind_seconds") == 0
    beside.begin(candidate(escalate={"page": ["critical"]}))
    beside.at("1m").push(SLOW)
    beside.at("62m")
    assert registry.get_sample_value("streamproc_shadow_behind_seconds") == 30
    assert registry.get_sample_value("streamproc_shadow_pages", {"side": "current"}) == 1
    assert registry.get_sample_value("streamproc_shadow_differences", {"relation": "only_a"}) == 1
    assert registry.get_sample_value("streamproc_shadow_missed") == 1


async def test_a_follower_that_ends_is_started_again(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    mark = tmp_path / "starts"
    code = f"import sys; open({str(mark)!r}, 'a').write('x'); sys.exit(3)"
    supervisor = Supervisor(
        tmp_path,
        (sys.executable, "-c", code),
        CollectorRegistry(),
        ManualClock(T0),
        look_every=0.01,
        again_after=(0.0, 0.0),
    )
    async with supervised(supervisor):
        pipeline.append(begun(candidate(), None, "ann", ""))
        async with asyncio.timeout(60):
            while not (mark.exists() and len(mark.read_text()) > 1):  # noqa: ASYNC110  another process
                await asyncio.sleep(0.01)
        pipeline.append(ended(newest(pipeline.journal.read(TOPIC, 0, 0, 10)), "ann", ""))
    pipeline.journal.close()
