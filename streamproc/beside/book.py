"""What is kept beside: pages of the existing route, when streamproc ran, and what was reported. One SQLite file.

Its own file, not the log: what PagerDuty told is no input of any decision, and may be thrown away at any time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from streamproc.beside.theirs import TheirPage
from streamproc.core.errors import Unusable

FILE = "beside.db"
SCHEMA = 1
BUSY = 10.0
"""Seconds that one process waits for another that writes."""
PAUSE = timedelta(minutes=10)
"""Two signs of life further apart are a time in which streamproc did not run."""
Fact = Literal["began", "read", "heard", "error", "reported"]
_DDL = """
CREATE TABLE IF NOT EXISTS pages(
  id TEXT PRIMARY KEY, created TEXT NOT NULL, final INTEGER NOT NULL, value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_time ON pages(created);
CREATE INDEX IF NOT EXISTS unread ON pages(created) WHERE final=0;
CREATE TABLE IF NOT EXISTS runs(began TEXT PRIMARY KEY, seen TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Book:
    """The book of one pipeline. Every call opens the file anew: calls come from threads, and from commands beside.

    Args:
        folder: where it stands; made if absent, readable by its owner alone (it holds texts of incidents).

    Raises:
        Unusable: it cannot be read or written, or a newer streamproc wrote it; here, and from every method.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.touch(mode=0o600)
        except OSError as error:
            raise Unusable(f"{self.path} cannot be written: {error.strerror}") from error
        with self._open() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                raise Unusable(f"{self.path} was written by a newer streamproc (schema {version})")
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(_DDL)
            db.execute(f"PRAGMA user_version={SCHEMA}")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None, timeout=BUSY)) as db:
                yield db
        except sqlite3.Error as error:
            raise Unusable(
                f"{self.path} cannot be used: {error}; delete it, and what PagerDuty has is read anew"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    # -- pages -------------------------------------------------------------------------------------------------------

    def put(self, pages: Iterable[TheirPage], now: datetime) -> None:
        """Keep pages as they are now."""
        with self._writing() as db:
            for page in pages:
                _put(db, page, now)

    def update(self, incident_id: str, change: Callable[[TheirPage | None], TheirPage | None], now: datetime) -> None:
        """Change one page; nothing is kept where the change returns None."""
        with self._writing() as db:
            found = db.execute("SELECT value FROM pages WHERE id=?", (incident_id,)).fetchone()
            page = change(None if found is None else TheirPage.model_validate_json(found[0]))
            if page is not None:
                _put(db, page, now)

    def page(self, incident_id: str) -> TheirPage | None:
        """Return one page, or None."""
        with self._open() as db:
            found = db.execute("SELECT value FROM pages WHERE id=?", (incident_id,)).fetchone()
        return None if found is None else TheirPage.model_validate_json(found[0])

    def pages(self, since: datetime, until: datetime) -> list[TheirPage]:
        """Return the pages of a time, in order."""
        with self._open() as db:
            found = db.execute(
                "SELECT value FROM pages WHERE created BETWEEN ? AND ? ORDER BY created, id",
                (_text(since), _text(until)),
            ).fetchall()
        return [TheirPage.model_validate_json(value) for (value,) in found]

    def unread(self) -> list[TheirPage]:
        """Return the pages of which more may be read, the oldest first."""
        with self._open() as db:
            found = db.execute("SELECT value FROM pages WHERE final=0 ORDER BY created, id").fetchall()
        return [TheirPage.model_validate_json(value) for (value,) in found]

    def close_page(self, incident_id: str) -> None:
        """Read no more of a page: PagerDuty does not have it any more."""
        with self._writing() as db:
            db.execute("UPDATE pages SET final=1 WHERE id=?", (incident_id,))

    def forget(self, before: datetime) -> None:
        """Forget what is older."""
        with self._writing() as db:
            db.execute("DELETE FROM pages WHERE created<?", (_text(before),))
            db.execute("DELETE FROM runs WHERE seen<?", (_text(before),))

    # -- facts -------------------------------------------------------------------------------------------------------

    def set(self, name: Fact, value: str) -> None:
        """Note a fact; empty forgets it."""
        with self._writing() as db:
            if value:
                db.execute("INSERT OR REPLACE INTO facts VALUES(?, ?)", (name, value))
            else:
                db.execute("DELETE FROM facts WHERE name=?", (name,))

    def fact(self, name: Fact) -> str:
        """Return a fact, empty where there is none."""
        with self._open() as db:
            found = db.execute("SELECT value FROM facts WHERE name=?", (name,)).fetchone()
        return "" if found is None else str(found[0])

    def mark(self, name: Fact, at: datetime) -> None:
        """Note a moment."""
        self.set(name, _text(at))

    def moment(self, name: Fact) -> datetime | None:
        """Return a moment, None where there is none."""
        text = self.fact(name)
        return datetime.fromisoformat(text) if text else None

    def begin(self, now: datetime) -> None:
        """Note that streamproc runs beside from now on."""
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO facts VALUES('began', ?)", (_text(now),))
        self.live(now)

    def live(self, now: datetime) -> None:
        """Note that streamproc runs now."""
        with self._writing() as db:
            last = db.execute("SELECT began, seen FROM runs ORDER BY began DESC LIMIT 1").fetchone()
            goes_on = last is not None and now - datetime.fromisoformat(last[1]) <= PAUSE
            db.execute("INSERT OR REPLACE INTO runs VALUES(?, ?)", (last[0] if goes_on else _text(now), _text(now)))

    def away(self, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
        """Return when streamproc did not run."""
        with self._open() as db:
            runs = db.execute("SELECT began, seen FROM runs WHERE seen>=? ORDER BY began", (_text(since),)).fetchall()
        at, gaps = since, []
        for began, seen in ((datetime.fromisoformat(one), datetime.fromisoformat(two)) for one, two in runs):
            if began - at > PAUSE:
                gaps.append((at, min(began, until)))
            at = max(at, seen)
        if until - at > PAUSE:
            gaps.append((at, until))
        return gaps


def _put(db: sqlite3.Connection, page: TheirPage, now: datetime) -> None:
    value = page.model_dump_json().encode()
    db.execute(
        "INSERT OR REPLACE INTO pages VALUES(?, ?, ?, ?)",
        (page.incident_id, _text(page.created_at), page.final(now), value),
    )


def _text(at: datetime) -> str:
    """Return a moment as text that sorts by time."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
