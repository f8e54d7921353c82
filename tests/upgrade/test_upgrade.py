"""A version goes on from what an older one left behind, and refuses what a newer one did."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streamproc.core.errors import Unusable
from streamproc.core.event import DeadLetter
from streamproc.core.table import RowStore, Table
from streamproc.events.escalation import Escalation, PageAction
from streamproc.runtime.embedded.journal import FILE
from streamproc.runtime.faust.codec import POSITION, address_of, position_of
from streamproc.state import PAGE, TABLES
from streamproc.topology import TOPOLOGY
from tests.embedded.pipelines import T0, alert, raw, started
from tests.upgrade.write_sample import LATER, Story, another

HERE = Path(__file__).parent
SAMPLES = sorted(path for path in (HERE / "samples").iterdir() if path.is_dir())
SHAPES: dict[str, dict[str, str]] = json.loads((HERE / "shapes.json").read_text(encoding="utf-8"))
NODES = {node.name: node for node in TOPOLOGY}

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)


@pytest.fixture
def folder(sample: Path, tmp_path: Path) -> Path:
    (tmp_path / FILE).write_bytes(gzip.decompress((sample / f"{FILE}.gz").read_bytes()))
    return tmp_path


@pytest.fixture
def story(folder: Path) -> Iterator[Story]:
    """The pipeline of this version, over what the older one left behind."""
    story = Story(folder, minutes=3)
    try:
        yield story
    finally:
        story.journal.close()


def state_records(sample: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield node, key and value of what its state topics held."""
    for line in gzip.decompress((sample / "state.jsonl.gz").read_bytes()).splitlines():
        told = json.loads(line)
        yield told["node"], base64.b64decode(told["key"]), told["value"].encode()


def said(story: Story) -> list[tuple[PageAction, str]]:
    """Return everything that was ever to be said: what, and of which kind of alert."""
    found = []
    for record in story.journal.read("escalations", 0, 0, 10_000):
        if record.headers["type"] == Escalation.TYPE.encode():
            wanted = Escalation.decode(record.value, record.headers)
            found.append((wanted.action, wanted.text.summary.split()[0] if wanted.text else ""))
    return found


# -- a data directory ------------------------------------------------------------------------------------------------


@every_sample
def test_nothing_is_said_anew_over_an_older_data_directory(story: Story) -> None:
    before = said(story)
    assert Counter(action for action, _ in before) == {PageAction.TRIGGER: 4, PageAction.RESOLVE: 1}
    story.tell()
    firing = [alert("DiskFull", "mail"), alert("BatchLate", "batch-1"), alert("Slow", "checkout")]
    story.tell(raw(*firing, another("Slow", "checkout", pod="2")))
    assert said(story) == before
    story.tell(raw(alert("BatchLate", "batch-2")))
    assert said(story) == before, "the silence stands"


@every_sample
def test_open_incidents_of_an_older_version_resolve(story: Story) -> None:
    story.answer("Slow")
    done = [("Slow", "checkout", T0), ("Errors", "checkout", T0), ("DiskFull", "mail", T0), ("Down", "mail2", LATER)]
    over = [alert(name, service, status="resolved", since=since) for name, service, since in done]
    story.tell(raw(*over, {**another("Slow", "checkout", pod="2"), **{k: over[0][k] for k in ("status", "endsAt")}}))
    assert [action for action, _ in said(story)].count(PageAction.RESOLVE) == 4
    rows = {row.incident.root.name: row for _, row in story.engine.part("decide").rows.scan(PAGE)}
    assert {name: rows[name].state for name in ("Slow", "DiskFull", "Down")} == dict.fromkeys(
        ("Slow", "DiskFull", "Down"), "closed"
    )
    assert {rows[name].v for name in ("Slow", "DiskFull", "Down")} == {PAGE.version}


@every_sample
async def test_what_waits_to_be_sent_is_handed_to_the_sender(folder: Path) -> None:
    async with started(folder) as pipeline:
        waiting = {row.title: [one.action for one in row.pending] for row in pipeline.intents.values() if row.pending}
        fatal = pipeline.fatal
    assert ([title.split()[0] for title in waiting], list(waiting.values())) == (["Slow"], [[PageAction.TRIGGER]])
    assert not fatal


@every_sample
def test_dead_letters_of_an_older_version_are_read(story: Story) -> None:
    (record,) = story.journal.read("dead-letters", 0, 0, 100)
    letter = DeadLetter.decode(record.value, record.headers)
    assert (letter.reason, letter.retryable) == ("wrong_shape", True)


# -- state topics ----------------------------------------------------------------------------------------------------


@every_sample
def test_rows_of_older_state_topics_are_read(sample: Path) -> None:
    stores = {name: RowStore(node.tables) for name, node in NODES.items()}
    positions = {}
    for node, key, value in state_records(sample):
        if key == POSITION:
            positions[node] = position_of(value)
        else:
            stores[node].restore(address_of(key), value)
    rows = {address: store.get(address) for store in stores.values() for address in store.raw()}
    assert {address.table for address in rows} == {table.name for table in TABLES}, "a sample has every kind of row"
    versions = {table.name: table.version for table in TABLES}
    assert all(row is not None and row.v == versions[address.table] for address, row in rows.items())
    assert positions.keys() == NODES.keys()
    assert all(position.next_offset and position.topic_id for position in positions.values())


@every_sample
def test_the_sample_lacks_what_was_added_since(sample: Path) -> None:
    """Else it would show nothing: fields that rows have gained are filled in where they are missing."""
    held = {key: json.loads(value) for _, key, value in state_records(sample) if key != POSITION}
    pages = [row for key, row in held.items() if address_of(key).table == PAGE.name]
    assert pages
    assert not any({"resolved_by", "pending_bytes"} & row.keys() for row in pages)
    assert any(row["pending_joined"] for row in pages)


# -- versions of rows ------------------------------------------------------------------------------------------------


def bare(schema: Any) -> Any:
    """Return a schema without what is only said about it."""
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {field: bare(one) for field, one in shape.items()} if name in ("properties", "$defs") else bare(shape)
        for name, shape in schema.items()
        if name not in ("title", "description", "default")
    }


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_that_changes_has_another_version(table: Table[Any]) -> None:
    shape = hashlib.sha256(json.dumps(bare(table.row.model_json_schema()), sort_keys=True).encode()).hexdigest()[:16]
    assert SHAPES[table.name].get(str(table.version)) == shape, (
        f"{table.row.__name__}, or what it holds, has changed. Where `v` {table.version} was shipped, raise it and"
        f" add the line; else change the line of tests/upgrade/shapes.json: {shape}"
    )


# -- the way back ----------------------------------------------------------------------------------------------------


@every_sample
async def test_a_data_directory_with_newer_rows_is_refused(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        (key, value) = db.execute("SELECT key, value FROM rows WHERE tbl='page' LIMIT 1").fetchone()
        newer = json.dumps({**json.loads(value), "v": PAGE.version + 1, "moon": "full"}).encode()
        db.execute("UPDATE rows SET value=? WHERE key=? AND tbl='page'", (newer, key))
    with pytest.raises(Unusable, match=f"row page/{key} was written by a newer streamproc.*Upgrade"):
        async with started(folder):
            pass
    with closing(sqlite3.connect(folder / FILE)) as db:
        assert db.execute("SELECT value FROM rows WHERE key=? AND tbl='page'", (key,)).fetchone() == (newer,)
