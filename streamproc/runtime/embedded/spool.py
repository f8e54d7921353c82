"""How commands reach the pipeline of a data directory: what they want waits in the file until its process takes it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from streamproc.core.errors import Unusable
from streamproc.ports import Entry
from streamproc.runtime.embedded.journal import FILE, pack_headers

POLL = 0.05


def submit(folder: Path, entries: Sequence[Entry], wait: float = 5.0) -> bool:
    """Leave entries for the pipeline; durable when this returns.

    Args:
        folder: the data directory.
        entries: what to append.
        wait: seconds to wait for the process to take them.

    Returns:
        True once a running process has taken them; False where none did in time: the next start will.

    Raises:
        Unusable: the directory holds no data, cannot be written, or was made by a version without one of the topics.
    """
    path = folder / FILE
    if not path.is_file():
        raise Unusable(f"{folder} holds no data yet; start `streamproc run --data-dir {folder}` first")
    try:
        db = sqlite3.connect(path, timeout=10)
        try:
            with db:
                _check(db, folder, entries)
                last = 0
                for entry in entries:
                    row = (entry.topic, entry.key, entry.value, pack_headers(entry.headers))
                    inserted = db.execute("INSERT INTO spool(topic, key, value, headers) VALUES(?,?,?,?)", row)
                    last = inserted.lastrowid or 0
            return _taken(db, last, time.monotonic() + wait)
        finally:
            db.close()
    except sqlite3.Error as error:
        raise Unusable(f"{path} cannot be written: {error}") from error


def _check(db: sqlite3.Connection, folder: Path, entries: Sequence[Entry]) -> None:
    """Refuse what the pipeline could not take: it would stop at it."""
    known = {name for (name,) in db.execute("SELECT name FROM topics")}
    unknown = sorted({entry.topic for entry in entries} - known)
    if unknown:
        raise Unusable(f"{folder} has no topic {', '.join(unknown)}; start the pipeline of this version on it first")


def _taken(db: sqlite3.Connection, last: int, until: float) -> bool:
    while db.execute("SELECT 1 FROM spool WHERE id<=? LIMIT 1", (last,)).fetchone() is not None:
        if time.monotonic() > until:
            return False
        time.sleep(POLL)
    return True
