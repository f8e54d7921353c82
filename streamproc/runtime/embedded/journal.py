"""A journal in one SQLite file, in WAL mode. Everything of a transaction becomes durable together, or not at all."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Literal

import orjson

from streamproc.core.errors import StreamprocError, Unusable
from streamproc.core.identity import digest
from streamproc.core.record import Position, Record
from streamproc.core.step import ACTIVE
from streamproc.core.table import RowKey
from streamproc.core.topic import Topic
from streamproc.ports import Entry
from streamproc.runtime.journal import Append
from streamproc.state import INCIDENT

FILE = "streamproc.db"
SCHEMA = 2
"""2: rows say the version of their table, and one that is too new is refused; what knows only 1 would not see that."""
FOUND_BY_KEY = ("incidents.enriched", "pages", "dead-letters")
"""Topics whose records are looked up by key: what the operations API and `explain` read."""
TRIMMED = 5000
"""So many records go at once when old ones are removed, so that a trim never holds up the pipeline for long."""
KEPT_VERSIONS = 20
"""So many old versions of each large thing stay, beside those that are active."""
LOCK_WITHIN, LOCK_POLL = 1.0, 0.02
"""Seconds: a command that looks whether a process works here holds the lock for a moment."""
PAGE = 16_384
"""Bytes: with SQLite's 4,096 a record over 1 KB spills into a page of its own (bench embedded: 159 against 99 MB)."""
CACHE = 65_536
"""KiB of pages in memory: with SQLite's 2,000 a large round writes pages twice."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
WRITABLE = "make the data directory writable for this user"


class StorageFailure(StreamprocError):
    """The disk is full, the file is damaged, or it cannot be written: the pipeline stops rather than lose anything."""


class SqliteJournal:
    """The durable journal of one machine. One thread owns it; readers open connections of their own.

    Args:
        folder: the data directory; made if absent, readable by its owner alone (it holds routing keys).
        topics: the catalogue; every topic has one partition here.
        synchronous: SQLite's pragma: "full" survives loss of power, "normal" only the death of the process.

    Raises:
        Unusable: another process uses the directory, or a newer streamproc wrote it.
        StorageFailure: the file cannot be opened, or is damaged.
    """

    def __init__(
        self, folder: Path, topics: Mapping[str, Topic], synchronous: Literal["full", "normal"] = "full"
    ) -> None:
        self._topics = topics
        self._path = folder / FILE
        with ExitStack() as undo:
            self._lock = undo.enter_context(_lock(folder))
            with _guarded(self._path):
                self._db = sqlite3.connect(
                    self._path, isolation_level=None, cached_statements=256, check_same_thread=False
                )
                undo.callback(self._db.close)
                self._path.chmod(0o600)
                self._db.execute(f"PRAGMA page_size={PAGE}")
                self._db.execute(f"PRAGMA cache_size={-CACHE}")
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute(f"PRAGMA synchronous={synchronous}")
                self._db.execute("PRAGMA busy_timeout=5000")
                self._check()
                self._numbers, self._ids = self._open_topics()
                self._ends = {name: self._end(name) for name in self._numbers}
            undo.pop_all()
        self._before: dict[str, int] = {}

    def _check(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise Unusable(
                f"{self._path} was written by a newer streamproc (schema {version}, this one knows {SCHEMA})"
            )
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StorageFailure(f"{self._path}: is damaged ({' '.join(verdict.split())}); {_DAMAGED}")
        if version < SCHEMA:
            self._db.executescript(_DDL)
            self._db.execute(f"PRAGMA user_version={SCHEMA}")

    def _open_topics(self) -> tuple[dict[str, int], dict[str, str]]:
        for name in self._topics:
            made = digest(name, datetime.now(UTC).isoformat(), str(os.getpid()))[:16]
            self._db.execute("INSERT OR IGNORE INTO topics(name, topic_id) VALUES(?, ?)", (name, made))
        found = self._db.execute("SELECT number, name, topic_id FROM topics").fetchall()
        numbers = {name: number for number, name, _ in found}
        for number in (numbers[name] for name in FOUND_BY_KEY if name in numbers):
            # One for each topic: SQLite does not see that `topic=5` lies within `topic IN (5, 6)`.
            self._db.execute(f"CREATE INDEX IF NOT EXISTS by_key_{number} ON log(key) WHERE topic={number}")
        return numbers, {name: topic_id for _, name, topic_id in found}

    def _end(self, topic: str) -> int:
        found = self._db.execute("SELECT max(off) FROM log WHERE topic=?", (self._numbers[topic],)).fetchone()[0]
        return 0 if found is None else int(found) + 1

    def close(self) -> None:
        """Close the file and let others have the directory."""
        with suppress(sqlite3.Error):
            self._db.close()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything written inside becomes visible and durable together, or not at all."""
        self._before = dict(self._ends)
        with _guarded(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._ends = self._before
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def partitions(self, topic: str) -> int:  # noqa: ARG002  one machine, one partition
        """Return 1: one thread folds everything."""
        return 1

    def topic_id(self, topic: str) -> str:
        """Return the identity that the topic got when it was made."""
        return self._ids[topic]

    def end(self, topic: str, partition: int) -> int:  # noqa: ARG002
        """Return the offset that the next record will get."""
        return self._ends[topic]

    def start(self, topic: str, partition: int) -> int:  # noqa: ARG002
        """Return the offset of the oldest record that is kept."""
        with _guarded(self._path):
            row = self._db.execute("SELECT min(off) FROM log WHERE topic=?", (self._numbers[topic],)).fetchone()
        return 0 if row[0] is None else int(row[0])

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on."""
        if offset >= self._ends[topic]:
            return []
        with _guarded(self._path):
            found = self._db.execute(
                "SELECT off, stamp, key, value, headers FROM log WHERE topic=? AND off>=? ORDER BY off LIMIT ?",
                (self._numbers[topic], offset, limit),
            ).fetchall()
        return [
            Record(topic, partition, off, value, moment_of(stamp), key, unpack_headers(packed))
            for off, stamp, key, value, packed in found
        ]

    def append(self, appends: Sequence[Append], stamp: datetime) -> None:
        """Append records, in order."""
        moment = _micros(stamp)
        rows = []
        for append in appends:
            offset = self._ends[append.topic]
            self._ends[append.topic] = offset + 1
            packed = pack_headers(append.headers)
            rows.append((self._numbers[append.topic], offset, moment, append.key, append.value, packed))
        self._db.executemany("INSERT INTO log(topic, off, stamp, key, value, headers) VALUES(?,?,?,?,?,?)", rows)

    def save(self, node: str, partition: int, rows: Mapping[RowKey, bytes | None], position: Position) -> None:  # noqa: ARG002
        """Write changed rows and the position of a node."""
        gone = [(node, address.table, address.key) for address, raw in rows.items() if raw is None]
        kept = [(node, address.table, address.key, raw) for address, raw in rows.items() if raw is not None]
        if gone:
            self._db.executemany("DELETE FROM rows WHERE node=? AND tbl=? AND key=?", gone)
        if kept:
            self._db.executemany("INSERT OR REPLACE INTO rows(node, tbl, key, value) VALUES(?,?,?,?)", kept)
        self._db.execute(
            "INSERT OR REPLACE INTO positions(node, off, now, topic_id) VALUES(?,?,?,?)",
            (node, position.next_offset, _micros(position.now), position.topic_id),
        )

    def load(self, node: str, partition: int) -> tuple[Iterable[tuple[RowKey, bytes]], Position | None]:  # noqa: ARG002
        """Return the rows and the position of a node."""
        with _guarded(self._path):
            found = self._db.execute("SELECT off, now, topic_id FROM positions WHERE node=?", (node,)).fetchone()
            rows = self._db.execute(
                "SELECT tbl, key, value FROM rows WHERE node=? ORDER BY tbl, key", (node,)
            ).fetchall()
        position = None if found is None else Position(found[0], moment_of(found[1]), found[2])
        return ((RowKey(table, key), raw) for table, key, raw in rows), position

    def positions(self) -> dict[str, Position]:
        """Return every position that is kept, by node."""
        with _guarded(self._path):
            found = self._db.execute("SELECT node, off, now, topic_id FROM positions").fetchall()
        return {node: Position(off, moment_of(now), topic_id) for node, off, now, topic_id in found}

    def take_spool(self) -> list[Entry]:
        """Take out what commands of other processes left; inside a transaction."""
        found = self._db.execute("DELETE FROM spool RETURNING id, topic, key, value, headers").fetchall()
        return [Entry(topic, key, value, unpack_headers(packed)) for _, topic, key, value, packed in sorted(found)]

    @property
    def spooled(self) -> bool:
        """True where commands of other processes left something."""
        with _guarded(self._path):
            return self._db.execute("SELECT 1 FROM spool LIMIT 1").fetchone() is not None

    def trim(self, now: datetime, folded: Mapping[str, int]) -> bool:
        """Remove records past their topic's retention, a bounded number of each; inside a transaction.

        Args:
            now: the moment from which age counts.
            folded: by inbox topic, the offset up to which its node has folded; younger records stay whatever their age.

        Returns:
            True where a topic may hold more that is past its retention.
        """
        more = False
        for name, topic in self._topics.items():
            if topic.cleanup == "compact":
                self._trim_versions(name)
                continue
            cut = _micros(now - timedelta(hours=topic.retention_hours))
            top = min(folded.get(name, self._ends[name]), self._ends[name] - 1)  # the last record keeps the count
            number = self._numbers[name]
            last = self._db.execute(
                "SELECT max(off) FROM (SELECT off, stamp FROM log WHERE topic=? AND off<? ORDER BY off LIMIT ?)"
                " WHERE stamp<?",
                (number, top, TRIMMED, cut),
            ).fetchone()[0]
            if last is not None:
                gone = self._db.execute("DELETE FROM log WHERE topic=? AND off<=?", (number, last)).rowcount
                more = more or gone == TRIMMED
        return more

    def _trim_versions(self, topic: str) -> None:
        """Keep the active versions, those that incidents were opened with, and the newest few of every kind."""
        number = self._numbers[topic]
        standing = self._db.execute(
            "SELECT r.value FROM positions p JOIN rows r ON r.node=p.node AND r.tbl=?", (ACTIVE.name,)
        )
        active = {orjson.loads(raw)["checksum"] for (raw,) in standing}
        pinned = self._db.execute(
            "SELECT DISTINCT json_extract(pin.value, '$.checksum') FROM rows r,"
            " json_each(CAST(r.value AS TEXT), '$.pinned') pin WHERE r.node='decide' AND r.tbl=?",
            (INCIDENT.name,),
        )
        active.update(checksum for (checksum,) in pinned)
        seen: dict[bytes, int] = {}
        gone = []
        found = self._db.execute("SELECT off, key FROM log WHERE topic=? ORDER BY off DESC", (number,)).fetchall()
        for off, key in found[1:]:
            kind, checksum = key.partition(b"/")[0], key.rpartition(b"/")[2]
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] > KEPT_VERSIONS and checksum.decode() not in active:
                gone.append((number, off))
        self._db.executemany("DELETE FROM log WHERE topic=? AND off=?", gone)


_DDL = """
CREATE TABLE IF NOT EXISTS topics(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, topic_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS log(
  topic INTEGER NOT NULL, off INTEGER NOT NULL, stamp INTEGER NOT NULL,
  key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL,
  PRIMARY KEY(topic, off)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows(
  node TEXT NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY(node, tbl, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions(
  node TEXT PRIMARY KEY, off INTEGER NOT NULL, now INTEGER NOT NULL, topic_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spool(
  id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
  key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL);
"""


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def moment_of(micros: int) -> datetime:
    """Return the moment that a column holds: microseconds since 1970, UTC."""
    return EPOCH + micros * MICROSECOND


def pack_headers(headers: Mapping[str, bytes]) -> bytes:
    """Return headers as the column holds them; any bytes come back as they were."""
    return orjson.dumps({name: value.decode("latin-1") for name, value in headers.items()})


def unpack_headers(packed: bytes) -> dict[str, bytes]:
    """Return headers as they were."""
    return {name: value.encode("latin-1") for name, value in orjson.loads(packed).items()}


def _lock(folder: Path, pause: Callable[[float], None] = time.sleep) -> IO[bytes]:
    """Take the directory for this process alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = (folder / "lock").open("wb")
    except OSError as error:
        raise StorageFailure(f"{folder} cannot be written: {error.strerror}; {WRITABLE}") from None
    until = time.monotonic() + LOCK_WITHIN
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                held.close()
                raise Unusable(f"another streamproc works in {folder}; stop it, or give another --data-dir") from None
            pause(LOCK_POLL)
        else:
            return held


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the disk or the file into one clear stop."""
    try:
        yield
    except sqlite3.Error as error:
        words = str(error)
        raise StorageFailure(f"{path}: {words}; {_MENDS.get(words, _READ_ON)}") from error


_READ_ON = "see docs/operations.md, 'Storage failures'"
_DAMAGED = "see docs/operations.md, 'A damaged data directory'"
_MENDS = {
    "database or disk is full": "free some disk, then start again: nothing that was acknowledged is lost",
    "attempt to write a readonly database": WRITABLE,
    "unable to open database file": WRITABLE,
    "file is not a database": _DAMAGED,
    "database disk image is malformed": _DAMAGED,
}
