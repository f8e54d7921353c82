"""The file of a mirror: the embedded runtime's tables, filled with what was read from Kafka. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import structlog

from streamproc.core.record import Position, Record
from streamproc.core.step import ACTIVE
from streamproc.core.table import RowKey
from streamproc.core.topic import Topic
from streamproc.runtime.embedded.journal import FILE, SqliteJournal, StorageFailure
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust.client import Place
from streamproc.runtime.faust.codec import POSITION, address_of
from streamproc.runtime.journal import Append
from streamproc.state import INTENT, PAGE, POLICY

log = structlog.get_logger(__name__)

FOLDER = "kafka-mirror"
"""Within the folder that is given: a copy is thrown away at need, and must never be taken for a pipeline's own log."""
TABLES = {"decide": frozenset({PAGE.name, POLICY.name, ACTIVE.name}), "deliver": frozenset({INTENT.name})}
"""Rows that are copied, by node."""
EVERYWHERE = frozenset({POLICY.name, ACTIVE.name})
"""Tables of which every partition of the node holds a copy, perhaps not of the same version."""


@dataclass
class Chunk:
    """What becomes visible together."""

    records: list[Record] = field(default_factory=list)
    """Of the logs, in order; their topics by the names of the catalogue."""
    rows: list[tuple[str, Place, bytes, bytes | None]] = field(default_factory=list)
    """Of the state topics, in order: node, partition, key, value (None forgets)."""
    reached: dict[Place, Position] = field(default_factory=dict)
    """Up to where each partition is read then."""


class MirrorFile:
    """The file, and what is known of it.

    Args:
        folder: the folder that was given.
        topics: the catalogue.
    """

    def __init__(self, folder: Path, topics: Mapping[str, Topic]) -> None:
        self._folder = folder / FOLDER
        self._topics = topics
        self._journal: SqliteJournal | None = None
        self.positions: dict[Place, Position] = {}
        """Up to where each partition is read: all of it is in the file."""
        self._copies: dict[tuple[str, RowKey], dict[Place, bytes]] = {}

    def open(self) -> None:
        """Open the file, or make it; a damaged one is thrown away.

        Raises:
            Unusable: another process uses the folder, or a newer streamproc wrote the file.
            StorageFailure: the disk takes no file.
        """
        try:
            self._open()
        except StorageFailure as error:
            log.warning("The copy of the topics cannot be used; it is made anew.", error=str(error))
            self._remove()
            self._open()

    def discard(self) -> None:
        """Throw away what was copied, and begin anew."""
        self.close()
        self._remove()
        self._open()

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def write(self, chunk: Chunk) -> None:
        """Write a chunk, all or nothing.

        Raises:
            StorageFailure: it cannot be written.
        """
        journal = self._opened
        with journal.transaction():
            for stamp, some in groupby(chunk.records, key=lambda record: record.stamp):
                journal.append([Append(each.topic, 0, each.key, each.value, each.headers) for each in some], stamp)
            kept, own = self._sorted(chunk)
            for node, rows in kept.items():
                journal.save(node, 0, rows, Position(0, BEGINNING))
            for place, position in chunk.reached.items():
                journal.save(name_of(place), 0, own.get(place, {}), position)
        self.positions.update(chunk.reached)

    def trim(self, now: datetime) -> bool:
        """Remove records past their retention; return whether there may be more of them."""
        with self._opened.transaction():
            return self._opened.trim(now, {})

    def confirm(self, now: datetime) -> None:
        """Note that the positions are those of `now` too: nothing more was there to read."""
        self.write(Chunk(reached={place: position._replace(now=now) for place, position in self.positions.items()}))

    @property
    def _opened(self) -> SqliteJournal:
        if self._journal is None:
            raise StorageFailure(f"{self._folder}: is not open")
        return self._journal

    def _open(self) -> None:
        self._journal = SqliteJournal(self._folder, self._topics, "normal")
        self.positions, self._copies = {}, {}
        for name, position in self._journal.positions().items():
            topic, _, partition = name.rpartition("/")
            if topic:
                self.positions[Place(topic, int(partition))] = position
        for place in self.positions:
            for address, raw in self._journal.load(name_of(place), 0)[0]:
                # The name of the topic ends with that of the node, whatever stands before it.
                self._copies.setdefault((place.topic.rpartition("state-")[2], address), {})[place] = raw

    def _remove(self) -> None:
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
            (self._folder / name).unlink(missing_ok=True)

    def _sorted(
        self, chunk: Chunk
    ) -> tuple[dict[str, dict[RowKey, bytes | None]], dict[Place, dict[RowKey, bytes | None]]]:
        """Return what changes in the rows that are shown, by node, and in each partition's own copies."""
        kept: dict[str, dict[RowKey, bytes | None]] = {}
        own: dict[Place, dict[RowKey, bytes | None]] = {}
        for node, place, key, value in chunk.rows:
            if key == POSITION or key.partition(b"\0")[0].decode() not in TABLES[node]:
                continue
            address = address_of(key)
            if address.table in EVERYWHERE:
                own.setdefault(place, {})[address] = value
                kept.setdefault(node, {})[address] = self._newest(node, address, place, value)
            else:
                kept.setdefault(node, {})[address] = value
        return kept, own

    def _newest(self, node: str, address: RowKey, place: Place, value: bytes | None) -> bytes | None:
        """Return the newest version that any partition holds, None where none holds the row any more."""
        copies = self._copies.setdefault((node, address), {})
        if value is None:
            copies.pop(place, None)
        else:
            copies[place] = value
        return max(copies.values(), key=lambda raw: _version(address.table, raw), default=None)


def name_of(place: Place) -> str:
    """Return the name under which a partition's position stands in the file."""
    return f"{place.topic}/{place.partition}"


def _version(table: str, raw: bytes) -> int:
    told: Any = orjson.loads(raw)
    return int((told["policy"] if table == POLICY.name else told)["version"])
