"""What only the durable journal has: a file that others may hold, damage or fill, retention, and the spool."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamproc.core.errors import StreamprocError, Unusable
from streamproc.core.event import Artifact
from streamproc.core.record import Position
from streamproc.core.table import RowKey
from streamproc.core.topic import Topic
from streamproc.ports import Entry
from streamproc.runtime.embedded import journal as module
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.journal import (
    FILE,
    KEPT_VERSIONS,
    SCHEMA,
    TRIMMED,
    SqliteJournal,
    StorageFailure,
)
from streamproc.runtime.embedded.spool import submit
from streamproc.runtime.journal import Append
from tests.embedded.disks import small_disk
from tests.support.toy import TOPICS, topic

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
BIG = b"x" * 40_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def journal(folder: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(folder, TOPICS, "normal")
    yield opened
    opened.close()


def put(journal: SqliteJournal, *values: bytes, topic: str = "words", stamp: datetime = NOW) -> None:
    with journal.transaction():
        journal.append([Append(topic, 0, b"", value, {}) for value in values], stamp)


def values(journal: SqliteJournal, topic: str = "words") -> list[bytes]:
    return [record.value for record in journal.read(topic, 0, journal.start(topic, 0), 100_000)]


# -- the file --------------------------------------------------------------------------------------------------------


def test_only_the_owner_may_read_it(folder: Path, journal: SqliteJournal) -> None:
    put(journal, b"a")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {modes[name] for name in (FILE, f"{FILE}-wal", f"{FILE}-shm")} == {0o600}


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_how_hard_it_syncs_can_be_set(folder: Path, synchronous: Any) -> None:
    journal = SqliteJournal(folder, TOPICS, synchronous)
    try:
        assert journal._db.execute("PRAGMA synchronous").fetchone()[0] == {"full": 2, "normal": 1}[synchronous]
        assert journal._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    finally:
        journal.close()


def _hold(folder: Path, ready: Any, done: Any) -> None:
    journal = SqliteJournal(folder, TOPICS)
    ready.set()
    done.wait(60)
    journal.close()


def test_another_process_is_refused_in_one_clear_line(folder: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready, done = spawn.Event(), spawn.Event()
    other = spawn.Process(target=_hold, args=(folder, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(Unusable, match=r"another streamproc works in .*; stop it, or give another --data-dir"):
            SqliteJournal(folder, TOPICS)
    finally:
        done.set()
        other.join(60)
    SqliteJournal(folder, TOPICS).close()


def test_a_look_at_the_lock_does_not_keep_the_pipeline_out(folder: Path) -> None:
    SqliteJournal(folder, TOPICS).close()
    with module._lock(folder) as held:
        tries: list[float] = []

        def released_on_the_second_try(seconds: float) -> None:
            tries.append(seconds)
            if len(tries) > 1:
                held.close()

        module._lock(folder, released_on_the_second_try).close()
    assert len(tries) == 2


def test_a_failed_start_gives_the_directory_back(folder: Path) -> None:
    SqliteJournal(folder, TOPICS).close()
    with sqlite3.connect(folder / FILE) as db:
        db.execute(f"PRAGMA user_version={SCHEMA + 1}")
    db.close()
    for _ in range(2):
        with pytest.raises(Unusable, match=f"newer streamproc .schema {SCHEMA + 1}, this one knows {SCHEMA}"):
            SqliteJournal(folder, TOPICS)


def test_closing_twice_does_no_harm(journal: SqliteJournal) -> None:
    journal.close()
    journal.close()


def test_a_topic_that_left_the_catalogue_is_kept(folder: Path, journal: SqliteJournal) -> None:
    put(journal, b"a", topic="totals")
    journal.close()
    fewer = SqliteJournal(folder, {name: one for name, one in TOPICS.items() if name != "totals"})
    try:
        put(fewer, b"b", topic="totals")
        assert values(fewer, "totals") == [b"a", b"b"]
    finally:
        fewer.close()


# -- damage ----------------------------------------------------------------------------------------------------------


def _filled(folder: Path) -> Path:
    journal = SqliteJournal(folder, TOPICS, "normal")
    put(journal, *[b"%d " % n + BIG[:900] for n in range(400)])
    with journal.transaction():
        rows: Mapping[RowKey, bytes | None] = {RowKey("count", str(n)): BIG[:500] for n in range(400)}
        journal.save("tally", 0, rows, Position(400, NOW))
    journal.close()
    return folder / FILE


@pytest.mark.parametrize(
    ("at", "garbage", "says"),
    [
        pytest.param(0, b"not a database at all" * 10, "file is not a database", id="the header"),
        pytest.param(0.5, b"\xa5" * 4096, "damaged|malformed", id="a page in the middle"),
        pytest.param(0.9, b"\x00" * 8192, "damaged|malformed", id="pages of zeros near the end"),
    ],
)
def test_a_damaged_file_is_a_clear_stop(folder: Path, at: float, garbage: bytes, says: str) -> None:
    file = _filled(folder)
    pages = file.stat().st_size // 4096
    with file.open("r+b") as raw:
        raw.seek(int(pages * at) * 4096)
        raw.write(garbage)
    with pytest.raises(StorageFailure, match=says) as failure:
        SqliteJournal(folder, TOPICS)
    assert "docs/operations.md, 'A damaged data directory'" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_file_cut_short_is_a_clear_stop(folder: Path) -> None:
    file = _filled(folder)
    with file.open("r+b") as raw:
        raw.truncate(file.stat().st_size // 2)
    with pytest.raises(StorageFailure, match=r"docs/operations\.md"):
        SqliteJournal(folder, TOPICS)


def test_damage_that_shows_later_stops_too(folder: Path) -> None:
    file = _filled(folder)
    journal = SqliteJournal(folder, TOPICS, "normal")
    try:
        journal._db.execute("PRAGMA shrink_memory")
        pages = file.stat().st_size // 4096
        with file.open("r+b") as raw:
            for page in range(2, pages):
                raw.seek(page * 4096)
                raw.write(b"\xa5" * 4096)
        with pytest.raises(StorageFailure, match="database disk image is malformed"):
            journal.read("words", 0, 0, 400)
    finally:
        journal.close()


# -- a full or read-only disk ----------------------------------------------------------------------------------------


def _fill(journal: SqliteJournal) -> tuple[list[bytes], StorageFailure]:
    """Write until nothing more goes in; return what was acknowledged, and the failure."""
    taken: list[bytes] = []
    for number in range(10_000):
        value = b"%d " % number + BIG
        try:
            put(journal, value)
        except StorageFailure as failure:
            return taken, failure
        taken.append(value)
    pytest.fail("the disk never was full")


def test_a_full_file_loses_nothing_that_was_acknowledged(folder: Path, journal: SqliteJournal) -> None:
    journal._db.execute("PRAGMA max_page_count=200")
    taken, failure = _fill(journal)
    assert "database or disk is full; free some disk, then start again" in str(failure)
    assert taken
    assert journal.end("words", 0) == len(taken)
    assert values(journal) == taken
    journal.close()
    again = SqliteJournal(folder, TOPICS)
    try:
        assert values(again) == taken
        put(again, b"more")
        assert values(again) == [*taken, b"more"]
    finally:
        again.close()


def test_a_really_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with small_disk(tmp_path, "4m") as disk:
        ballast = disk.path / "ballast"
        ballast.write_bytes(bytes(1024 * 1024))
        journal = SqliteJournal(disk.path / "data", TOPICS)
        taken, failure = _fill(journal)
        journal.close()
        assert "database or disk is full; free some disk, then start again" in str(failure)
        assert taken
        ballast.unlink()
        again = SqliteJournal(disk.path / "data", TOPICS)
        try:
            assert values(again) == taken
            put(again, b"more")
            assert values(again) == [*taken, b"more"]
        finally:
            again.close()


@pytest.mark.parametrize("made_before", [pytest.param(True, id="with data"), pytest.param(False, id="empty")])
def test_a_read_only_directory_is_a_clear_stop(tmp_path: Path, *, made_before: bool) -> None:
    with small_disk(tmp_path, "4m") as disk:
        if made_before:
            journal = SqliteJournal(disk.path / "data", TOPICS)
            put(journal, b"a")
            journal.close()
        disk.make_read_only()
        with pytest.raises(StorageFailure, match="make the data directory writable for this user"):
            SqliteJournal(disk.path / "data", TOPICS)


def test_a_file_in_the_place_of_the_directory(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(StorageFailure, match="cannot be written: File exists"):
        SqliteJournal(folder, TOPICS)


# -- retention -------------------------------------------------------------------------------------------------------


def test_old_records_go_and_young_ones_stay(journal: SqliteJournal) -> None:
    put(journal, b"old", stamp=NOW - 169 * HOUR)
    put(journal, b"young", stamp=NOW - 167 * HOUR)
    put(journal, b"last")
    with journal.transaction():
        assert journal.trim(NOW, {}) is False
    assert values(journal) == [b"young", b"last"]
    assert (journal.start("words", 0), journal.end("words", 0)) == (1, 3)


def test_the_last_record_stays_so_that_offsets_go_on(folder: Path, journal: SqliteJournal) -> None:
    put(journal, b"a", b"b", b"c", stamp=NOW - 1000 * HOUR)
    with journal.transaction():
        journal.trim(NOW, {"words": 3})
    assert values(journal) == [b"c"]
    journal.close()
    again = SqliteJournal(folder, TOPICS)
    try:
        assert (again.start("words", 0), again.end("words", 0)) == (2, 3)
    finally:
        again.close()


def test_nothing_goes_that_is_not_folded(journal: SqliteJournal) -> None:
    put(journal, *[b"%d" % n for n in range(10)], stamp=NOW - 1000 * HOUR)
    with journal.transaction():
        journal.trim(NOW, {"words": 4})
    assert values(journal) == [b"%d" % n for n in range(4, 10)]


def test_a_trim_is_bounded_and_says_that_there_is_more(journal: SqliteJournal) -> None:
    put(journal, *[b""] * (2 * TRIMMED + 3), stamp=NOW - 1000 * HOUR)
    said, left = [], []
    for _ in range(4):
        with journal.transaction():
            said.append(journal.trim(NOW, {}))
        left.append(len(values(journal)))
    assert said == [True, True, False, False]
    assert left == [TRIMMED + 3, 3, 1, 1]


def test_a_trim_that_is_broken_off_removes_nothing(journal: SqliteJournal) -> None:
    put(journal, b"a", b"b", stamp=NOW - 1000 * HOUR)

    def break_off() -> None:
        with journal.transaction():
            journal.trim(NOW, {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert values(journal) == [b"a", b"b"]


def version(number: int, kind: str = "model") -> Artifact:
    return Artifact(kind=kind, version=number, checksum=f"{number:064x}", body="{}")


def test_active_versions_those_of_open_incidents_and_the_newest_of_each_kind_stay(folder: Path) -> None:
    versions = topic("versions", "artifact.v1", partitions=1).model_copy(update={"cleanup": "compact"})
    topics: Mapping[str, Topic] = {**TOPICS, "versions": versions}
    journal = SqliteJournal(folder, topics, "normal")
    try:
        models = [version(number) for number in range(3, 6 + KEPT_VERSIONS)]
        made = [version(1), version(2, "config"), *models]
        with journal.transaction():
            appends = [Append("versions", 0, one.artifact_id.encode(), one.encode(), {}) for one in made]
            journal.append(appends, NOW - 10_000 * HOUR)
            active: Mapping[RowKey, bytes | None] = {
                RowKey("active", "model"): json.dumps({"checksum": version(1).checksum}).encode(),
                RowKey("count", "x"): b"{}",
            }
            journal.save("tally", 0, active, Position(0, NOW))
            pinned = {"pinned": {"model": {"checksum": version(3).checksum}}}
            opened: Mapping[RowKey, bytes | None] = {
                RowKey("incident", "in:v1:a:1"): json.dumps(pinned).encode(),
                RowKey("incident", "in:v1:a:2"): b"{}",
            }
            journal.save("decide", 0, opened, Position(0, NOW))
        for _ in range(2):
            with journal.transaction():
                journal.trim(NOW, {})
            kept = [Artifact.model_validate_json(value).version for value in values(journal, "versions")]
            # The newest record counts beside the newest of its kind: its offset must not be given twice.
            assert kept == [1, 2, 3, *range(5, 6 + KEPT_VERSIONS)]
    finally:
        journal.close()


# -- the spool -------------------------------------------------------------------------------------------------------


def entry(value: bytes = b"{}", name: str = "switches") -> Entry:
    return Entry(name, b"\x00key", value, {"type": b"activated.v1", "any": bytes(range(256))})


def test_what_a_command_leaves_is_taken_once_and_in_order(folder: Path, journal: SqliteJournal) -> None:
    assert journal.spooled is False
    assert submit(folder, [entry(b"1"), entry(b"2", "words")], wait=0) is False
    assert submit(folder, [entry(b"3")], wait=0) is False
    assert journal.spooled is True
    with journal.transaction():
        assert journal.take_spool() == [entry(b"1"), entry(b"2", "words"), entry(b"3")]
    with journal.transaction():
        assert journal.take_spool() == []
    assert journal.spooled is False


def test_what_was_taken_in_vain_stays_in_the_spool(folder: Path, journal: SqliteJournal) -> None:
    submit(folder, [entry()], wait=0)

    def break_off() -> None:
        with journal.transaction():
            assert journal.take_spool() == [entry()]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert journal.spooled is True


def test_the_spool_waits_for_the_next_start(folder: Path, journal: SqliteJournal) -> None:
    journal.close()
    assert submit(folder, [entry()], wait=0) is False
    again = SqliteJournal(folder, TOPICS)
    try:
        assert again.spooled is True
    finally:
        again.close()


def _one_topic_only(folder: Path) -> None:
    SqliteJournal(folder, {"words": TOPICS["words"]}).close()


def _no_tables(folder: Path) -> None:
    folder.mkdir()
    sqlite3.connect(folder / FILE).close()


def _nothing(folder: Path) -> None:
    folder.mkdir()


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        pytest.param(_nothing, "holds no data yet; start `streamproc run --data-dir", id="no data"),
        pytest.param(_no_tables, "cannot be written: no such table", id="a file without tables"),
        pytest.param(_one_topic_only, "has no topic switches; start the pipeline of this version", id="unknown topic"),
    ],
)
def test_what_a_command_cannot_leave(folder: Path, prepare: Any, says: str) -> None:
    prepare(folder)
    with pytest.raises(Unusable, match=says):
        submit(folder, [entry()], wait=0)


# -- finding by key --------------------------------------------------------------------------------------------------


def test_incidents_and_letters_are_found_without_reading_the_whole_log(folder: Path) -> None:
    topics = {name: topic(name, "any.v1", partitions=1) for name in (*TOPICS, "incidents.enriched", "pages")}
    journal = SqliteJournal(folder, topics)
    asked: list[str] = []

    class Traced(SqliteDesk):
        @contextmanager
        def _reading(self) -> Iterator[sqlite3.Connection]:
            with super()._reading() as db:
                db.set_trace_callback(asked.append)
                yield db

    try:
        desk = Traced(folder)
        assert desk.incident("in:v1:a") is None
        assert desk.dead_letter("words:0:1:0") is None
        assert desk.incidents("all", 10, "in:v1:a") == []
        assert desk.matching("in:v1") == []
        looks = [sql for sql in asked if " log" in sql and "key" in sql]
        assert len(looks) == 5
        for sql in looks:
            plan = [step[3] for step in journal._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert [step for step in plan if "log" in step] == [step for step in plan if "by_key_" in step], sql
    finally:
        journal.close()


def test_every_failure_is_one_of_ours() -> None:
    assert issubclass(StorageFailure, StreamprocError)
