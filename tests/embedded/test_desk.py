"""The desk of a data directory: what people see of it, while a pipeline runs on it and after."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from streamproc.core.errors import Unusable
from streamproc.events.canary import NAME, canary, canary_id
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.journal import FILE, SqliteJournal
from streamproc.runtime.embedded.runtime import LiveDesk
from streamproc.runtime.embedded.spool import submit
from streamproc.topology import TOPICS, TOPOLOGY
from streamproc.views import IncidentSummary, Vitals
from tests.embedded.pipelines import (
    T0,
    Pipeline,
    alert,
    configured,
    kept,
    leave_unfolded,
    outcome_of,
    paging,
    policy,
    raw,
    started,
)

MINUTE = timedelta(minutes=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def fill(pipeline: Pipeline, clock: ManualClock) -> None:
    """Open incidents of a, b, c and d, a minute apart; then b and c resolve, and a gets worse."""
    for name in "abcd":
        clock.advance(MINUTE)
        await pipeline.put(alert(name, severity="error", since=clock.now()))
    for name in "bc":
        clock.advance(MINUTE)
        await pipeline.put(alert(name, severity="error", since=clock.now(), status="resolved"))
    clock.advance(MINUTE)
    await pipeline.put(alert("a2", "a", since=clock.now()))


def names(found: list[IncidentSummary]) -> list[str]:
    return [summary.service for summary in found]


@pytest.mark.parametrize(
    ("status", "listed"),
    [
        pytest.param("open", "ad", id="open"),
        pytest.param("resolved", "cb", id="resolved"),
        pytest.param("all", "acbd", id="all"),
    ],
)
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
async def test_lists_of_incidents_by_page(
    folder: Path, status: Literal["open", "resolved", "all"], listed: str, *, running: bool
) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=paging()) as pipeline:
        await fill(pipeline, clock)
        if not running:
            await pipeline.runtime.stop()
        desk = LiveDesk(folder, pipeline.runtime) if running else SqliteDesk(folder)
        for size in (1, 2, 3, 100):
            told: list[str] = []
            before = ""
            while page := desk.incidents(status, size, before):
                assert len(page) <= size
                told += names(page)
                before = page[-1].incident_id
            assert "".join(told) == listed, f"in pages of {size}"
        assert desk.incidents(status, 10, "in:v1:never") == []


async def test_a_page_after_an_incident_that_closed_meanwhile_goes_on(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=paging()) as pipeline:
        await fill(pipeline, clock)
        desk = SqliteDesk(folder)
        (first,) = desk.incidents("open", 1, "")
        await pipeline.put(alert("a", severity="error", status="resolved"), alert("a2", "a", status="resolved"))
        following = desk.incidents("open", 10, first.incident_id)
        assert names(following) == ["d"]
        assert names(desk.incidents("open", 10, following[-1].incident_id)) == []


async def test_an_incident_with_its_members_chain_and_pages(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=paging()) as pipeline:
        offered: list[Any] = []
        pipeline.runtime.offer_to(lambda changes: offered.extend(changes.values()), lambda _: None)
        await fill(pipeline, clock)
        desk = SqliteDesk(folder)
        incident_id = desk.incidents("open", 1, "")[0].incident_id
        said = next(row.pending[-1] for row in offered if row.last.incident_id == incident_id)
        await pipeline.runtime.append([outcome_of(said)])
        view = desk.incident(incident_id)
        assert view is not None
        assert [(one.member.name, one.firing) for one in view.members] == [("a", True), ("a2", True)]
        assert [why.stage for why in view.chain][:3] == ["normalise", "deduplicate", "correlate"]
        assert [page.verdict for page in view.pages] == ["delivered"]
        assert "trigger delivered" in [entry.what for entry in view.timeline]
        assert desk.incident("in:v1:never") is None
        assert desk.incident("") is None


async def test_incidents_are_found_by_the_beginning_of_their_id_or_hash(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=paging()) as pipeline:
        await fill(pipeline, clock)
        desk = SqliteDesk(folder)
        ids = sorted(one.incident_id for one in desk.incidents("all", 10, ""))
        assert sorted(desk.matching("in:v1:")) == ids
        assert len(desk.matching("in:v1:", limit=2)) == 2
        for one in ids:
            assert desk.matching(one.rpartition(":")[2][:10]) == [one]
            assert desk.matching(one) == [one]
        assert desk.matching("%") == []


async def test_dead_letters_by_page(folder: Path) -> None:
    async with started(folder) as pipeline:
        for number in range(5):
            await pipeline.runtime.append([raw(value=b"broken %d" % number)])
        desk = SqliteDesk(folder)
        for size in (1, 2, 5, 100):
            told: list[bytes] = []
            before = ""
            while page := desk.dead_letters(size, before):
                told += [letter.value for letter in page]
                before = page[-1].letter_id
            assert told == [b"broken %d" % number for number in (4, 3, 2, 1, 0)]
        newest = desk.dead_letters(1)[0]
        assert desk.dead_letter(newest.letter_id) == newest
        assert desk.dead_letter("alerts.raw:0:99:0") is None
        assert desk.dead_letters(10, "alerts.raw:0:99:0") == []


async def test_how_the_pipeline_stands(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=configured()) as pipeline:
        live = LiveDesk(folder, pipeline.runtime)
        assert (live.status().armed, live.status().open_incidents) == (False, 0)
        await pipeline.runtime.append([policy(), raw(value=b"broken")])
        await fill(pipeline, clock)
        running, stored = live.status(), SqliteDesk(folder).status()
        assert (running.ready, running.why_not) == (True, "")
        assert (stored.ready, stored.why_not) == (False, "no process of streamproc runs on this data directory")
        for stands in (running, stored):
            assert (stands.armed, stands.open_incidents, stands.paged_incidents) == (True, 2, 2)
            assert (stands.waiting_to_send, stands.dead_letters) == (4, 1)
        assert running.decisions["correlate/opened"] == 4
        assert stored.decisions == {}
        known = {node.node: node for node in stored.nodes}
        assert [node.node for node in running.nodes] == [node.name for node in TOPOLOGY]
        for node in running.nodes:
            if node.now is None:
                assert (node.lag, node.rows) == (0, 0)
            else:
                assert known[node.node] == node
        await pipeline.runtime.append([policy(2, withdrawn=True)])
        assert live.status().armed is False


async def test_a_canary_is_shown_to_those_only_who_ask_for_it(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=paging()) as pipeline:
        desk = SqliteDesk(folder)
        named = canary_id("gate/1", T0)
        assert desk.vitals(named) == Vitals(canary=None, waits_since=None)
        await pipeline.runtime.append([Entry.of("alerts.raw", canary("gate/1", T0))])
        assert (desk.vitals(named).canary, desk.vitals(canary_id("gate/11", T0)).canary) == ("open", None)
        clock.advance(MINUTE)
        await pipeline.put(alert("a", severity="error", since=clock.now()))
        assert desk.vitals(named).waits_since == T0 + MINUTE
        assert (desk.status().open_incidents, names(desk.incidents("open", 10, ""))) == (1, ["a"])
        await pipeline.runtime.append([Entry.of("alerts.raw", canary("gate/1", T0, clock.now()))])
        assert desk.vitals(named).canary == "resolved"
        assert names(desk.incidents("all", 10, "")) == ["a"]
        (found,) = desk.matching("in:v1:streamproc:")
        view = desk.incident(found)
        assert view is not None
        assert view.root.name == NAME


async def test_what_waits_in_the_log_is_lag(folder: Path) -> None:
    async with started(folder) as pipeline:
        await pipeline.put(alert("a"))
    leave_unfolded(folder, [raw(alert("b"))] * 7)
    stands = {node.node: node.lag for node in SqliteDesk(folder).status().nodes}
    assert stands["normalise"] == 7
    assert stands["deduplicate"] == 0


async def test_whether_a_process_works_here(folder: Path) -> None:
    async with started(folder):
        desk = SqliteDesk(folder)
        assert desk.attended() is True
    assert desk.attended() is False
    (folder / "lock").unlink()
    assert desk.attended() is False


async def test_policies_and_versions_count_from_the_moment_they_are_wished(folder: Path) -> None:
    async with started(folder, first=paging()):
        pass
    desk = SqliteDesk(folder)
    assert [(one.policy_id, one.version) for one in desk.policies()] == [("arm", 1)]
    before = desk.active("config")
    assert before is not None
    assert desk.body(before) is not None
    submit(folder, [policy(2), *configured()[:1]], wait=0)
    assert [(one.policy_id, one.version) for one in desk.policies()] == [("arm", 2)]
    assert desk.active("catalogue") is None
    assert desk.body(before.model_copy(update={"checksum": "0" * 64})) is None


async def test_many_look_while_it_works(folder: Path) -> None:
    async with started(folder, first=paging()) as pipeline:
        desk = LiveDesk(folder, pipeline.runtime)

        async def look() -> None:
            for _ in range(10):
                await asyncio.to_thread(desk.status)
                await asyncio.to_thread(desk.incidents, "all", 10, "")

        posts = [pipeline.put(alert(f"a{number}")) for number in range(50)]
        await asyncio.gather(*posts, *[look() for _ in range(4)])
        assert pipeline.fatal == []
        assert desk.status().open_incidents == 50
    assert len(kept(folder, "incidents.enriched")) == 50


async def test_what_a_killed_process_left_can_be_read(folder: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    async with started(folder, first=paging()) as pipeline:
        await pipeline.put(alert("a"))
        for part in (FILE, f"{FILE}-wal"):
            left.mkdir(exist_ok=True)
            (left / part).write_bytes((folder / part).read_bytes())
    desk = SqliteDesk(left)
    assert desk.status().open_incidents == 1
    assert names(desk.incidents("all")) == ["a"]
    async with started(left) as pipeline:
        assert len(pipeline.intents) == 1


def test_a_directory_of_another_version_is_said(folder: Path) -> None:
    SqliteJournal(folder, {"alerts": TOPICS["alerts"]}).close()
    with pytest.raises(Unusable, match="has no topic dead-letters; start the pipeline of this version on it first"):
        SqliteDesk(folder).status()


def test_a_directory_without_data_is_said(folder: Path) -> None:
    with pytest.raises(Unusable, match="holds no data yet; start `streamproc run --data-dir"):
        SqliteDesk(folder)


@pytest.mark.parametrize(
    "content", [pytest.param(b"", id="empty"), pytest.param(b"no database" * 100, id="something else")]
)
def test_what_cannot_be_read_is_said_in_one_line(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / FILE).write_bytes(content)
    with pytest.raises(Unusable, match="cannot be read: ") as failure:
        SqliteDesk(folder).status()
    assert "\n" not in str(failure.value)
