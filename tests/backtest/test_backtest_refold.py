"""From recorded inboxes every live decision and page comes out again, byte for byte."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from streamproc.backtest.recorded import EmbeddedInboxes
from streamproc.backtest.refold import Refold
from streamproc.core.errors import Unusable
from streamproc.core.event import Activated
from streamproc.runtime.embedded.journal import FILE, SqliteJournal
from streamproc.state import POLICY
from streamproc.topology import TOPICS, TOPOLOGY
from tests.backtest.living import OnEmbedded, check, held, live
from tests.support.play import T0, Play, alert

NODES = {node.name: node for node in TOPOLOGY}
NEEDED = {
    ("deduplicate", "reopened"),
    ("correlate", "reopened"),
    ("escalate", "acknowledged"),
    ("escalate", "muted"),
    ("escalate", "reopened"),
    ("fold", "rejected"),
    ("learn", "labelled"),
    ("suppress", "unmuted"),
}
"""What the story must bring about, else it shows little."""


@dataclass(frozen=True)
class Lived:
    folder: Path
    runtime: OnEmbedded


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """A data directory in which a pipeline has lived."""
    folder = tmp_path_factory.mktemp("lived")
    runtime = OnEmbedded(folder)
    with runtime.running():
        live(runtime)
    return Lived(folder, runtime)


def test_recorded_inboxes_come_to_what_the_log_holds(lived: Lived) -> None:
    with EmbeddedInboxes(lived.folder) as inboxes:
        assert check(inboxes, lived.runtime.appended, lambda key, count: 0) > 80
        assert len(held(inboxes, "pages", 0)) > 6


def test_the_story_has_what_moves_decisions(lived: Lived) -> None:
    with EmbeddedInboxes(lived.folder) as inboxes:
        folds = (folded for node in TOPOLOGY for _, folded in Refold(node, 0, inboxes).run())
        found = {(seen.stage, seen.reason) for folded in folds for seen in folded.observations}
        switched = [each for each in held(inboxes, "episodes", 0) if each.headers["type"] == Activated.TYPE.encode()]
        assert len(switched) == 4
    assert found >= NEEDED


def test_rows_and_positions_are_those_that_stand(lived: Lived) -> None:
    with EmbeddedInboxes(lived.folder) as inboxes:
        refolds = {node.name: Refold(node, 0, inboxes) for node in TOPOLOGY}
        for refold in refolds.values():
            assert [record.offset for record, _ in refold.run()] == list(range(refold.position.next_offset))
    with closing(SqliteJournal(lived.folder, TOPICS)) as journal:
        for name, refold in refolds.items():
            kept, position = journal.load(name, 0)
            assert dict(kept) == dict(refold.rows.raw())
            assert position is None or position.next_offset == refold.position.next_offset
            assert position is None or position.now == refold.position.now


def test_it_stops_before_an_offset_and_goes_on_from_there(lived: Lived) -> None:
    with EmbeddedInboxes(lived.folder) as inboxes:
        whole = [folded.emits for _, folded in Refold(NODES["decide"], 0, inboxes).run()]
        refold = Refold(NODES["decide"], 0, inboxes)
        first = [folded.emits for _, folded in refold.run(until=7)]
        assert (len(first), refold.position.next_offset) == (7, 7)
        assert [*first, *(folded.emits for _, folded in refold.run())] == whole


@pytest.fixture
def trimmed(tmp_path: Path) -> Iterator[EmbeddedInboxes]:
    """A log of which the first twenty minutes are gone, but for what is kept longer."""
    runtime = OnEmbedded(tmp_path)
    with runtime.running():
        play = Play(runtime).silence("early", until="2h", service="web")
        play.at("10m").push(alert("old", "old"))
        play.at("30m").silence("late", until="2h", service="db").push(alert("web down", "web"), alert("new", "new"))
        play.at("31m")
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        cut = (T0 + timedelta(minutes=20)).timestamp() * 1_000_000
        kept = "SELECT number FROM topics WHERE name IN ('policies', 'versions')"
        db.execute(f"DELETE FROM log WHERE stamp<? AND topic NOT IN ({kept})", (cut,))  # noqa: S608  a constant
        db.commit()
    with EmbeddedInboxes(tmp_path) as inboxes:
        yield inboxes


def test_of_a_trimmed_log_the_wishes_are_known_and_the_older_rows_are_not(trimmed: EmbeddedInboxes) -> None:
    refold = Refold(NODES["decide"], 0, trimmed)
    assert (refold.whole, refold.start) == (False, trimmed.start("episodes", 0))
    emits = [emit for _, folded in refold.run() for emit in folded.emits]
    # Live the first one to be told was the older incident, which the late silence made it look at again.
    logged = held(trimmed, "incidents.enriched", 0)[1:]
    assert [emit.value for emit in emits if emit.topic == "incidents.enriched"] == [one.value for one in logged]
    assert len(logged) == 2
    assert {key for key, _ in refold.rows.scan(POLICY)} == {"arm", "early", "late"}
    assert refold.rows.get(POLICY.at("early")) is not None


def test_a_node_that_has_not_been_trimmed_is_whole(trimmed: EmbeddedInboxes) -> None:
    assert Refold(NODES["relay-policies"], 0, trimmed).whole


def test_a_version_that_is_gone_is_said(trimmed: EmbeddedInboxes, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("DELETE FROM log WHERE topic=(SELECT number FROM topics WHERE name='versions')")
        db.commit()
    with pytest.raises(Unusable, match=r"cannot be folded again by decide: version \w+ of config"):
        list(Refold(NODES["decide"], 0, trimmed).run())
