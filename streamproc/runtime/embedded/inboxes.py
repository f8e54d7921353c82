"""The log of a data directory, for whoever reads it in order: without touching it, with or without its process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self
from urllib.parse import quote

from pydantic import ValidationError

from streamproc.core.errors import Unusable
from streamproc.core.event import Artifact
from streamproc.core.record import Record
from streamproc.runtime.embedded.journal import EPOCH, FILE, MICROSECOND, moment_of, unpack_headers
from streamproc.runtime.engine import VERSIONS

CHUNK = 1000
"""Records that are read at once."""


def bodies_of(records: Iterable[Record]) -> dict[str, str]:
    """Return the bodies of artifacts by checksum, as records of the topic `versions`; what is none is left out."""
    found: dict[str, str] = {}
    for record in records:
        try:
            artifact = Artifact.model_validate_json(record.value)
        except ValidationError:
            continue
        found[artifact.checksum] = artifact.body
    return found


class EmbeddedInboxes:
    """The log of a data directory, with or without a process that works on it.

    Args:
        folder: the data directory.

    Raises:
        Unusable: it holds no data of streamproc; or, later, it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        if not self._path.is_file():
            raise Unusable(f"{folder} holds no data of streamproc: there is no {FILE} in it")
        self._bodies: dict[str, str] | None = None
        with self._reading():
            address = f"file:{quote(str(self._path.absolute()))}?mode=ro"
            self._db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=5)
            try:
                found = self._db.execute("SELECT name, number FROM topics").fetchall()
            except sqlite3.Error:
                self._db.close()
                raise
        self._numbers: dict[str, int] = dict(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Unusable(f"{self._path} cannot be read: {error}") from error

    def _one(self, ask: str, *told: int) -> int | None:
        with self._reading():
            found: int | None = self._db.execute(ask, told).fetchone()[0]
        return found

    def _number(self, topic: str) -> int:
        """Return the number of a topic; of one that this data directory does not know, one that has no records."""
        return self._numbers.get(topic, -1)

    def partitions(self, topic: str) -> Sequence[int]:
        """Return the only one; none for a topic that an older version had not."""
        return (0,) if topic in self._numbers else ()

    def start(self, topic: str, partition: int) -> int:  # noqa: ARG002  one machine, one partition
        """Return the first offset that is still held."""
        return self._one("SELECT min(off) FROM log WHERE topic=?", self._number(topic)) or 0

    def end(self, topic: str, partition: int) -> int:  # noqa: ARG002
        """Return the offset after the last record."""
        last = self._one("SELECT max(off) FROM log WHERE topic=?", self._number(topic))
        return 0 if last is None else last + 1

    def at(self, topic: str, partition: int, moment: datetime) -> int:
        """Return the first offset that was appended at `moment` or later; the end where none was."""
        since = (moment - EPOCH) // MICROSECOND
        found = self._one("SELECT min(off) FROM log WHERE topic=? AND stamp>=?", self._number(topic), since)
        return self.end(topic, partition) if found is None else found

    def records(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        """Yield the records from `offset` on, up to the end as it is now."""
        return self._records(topic, partition, offset, self.end(topic, partition))

    def _records(self, topic: str, partition: int, offset: int, end: int) -> Iterator[Record]:
        while offset < end:
            with self._reading():
                found = self._db.execute(
                    "SELECT off, stamp, key, value, headers FROM log WHERE topic=? AND off>=? AND off<?"
                    " ORDER BY off LIMIT ?",
                    (self._number(topic), offset, end, CHUNK),
                ).fetchall()
            if not found:
                return
            for off, stamp, key, value, packed in found:
                yield Record(topic, partition, off, value, moment_of(stamp), key, unpack_headers(packed))
            offset = found[-1][0] + 1

    def version(self, checksum: str) -> str | None:
        """Return the body of an artifact, None where the log does not hold it."""
        if self._bodies is None or checksum not in self._bodies:
            self._bodies = bodies_of(self.records(VERSIONS, 0, self.start(VERSIONS, 0)))
        return self._bodies.get(checksum)
