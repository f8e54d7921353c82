"""What a runtime on one machine keeps: the log, the rows, the positions; and how it commits them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from streamproc.core.event import Event
from streamproc.core.record import Position, Record
from streamproc.core.table import RowKey


class Append(NamedTuple):
    """A record on its way into the log."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    event: Event | None = None
    """What `value` holds. A journal that keeps its records in memory may hand it on, so that it need not be decoded."""


class Journal(Protocol):
    """Storage of the `memory` and `embedded` runtimes."""

    def transaction(self) -> AbstractContextManager[None]:
        """Everything written inside becomes visible and durable together, or not at all."""

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""

    def topic_id(self, topic: str) -> str:
        """Return the identity that the topic got when it was made."""

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the oldest record that is kept."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on."""

    def append(self, appends: Sequence[Append], stamp: datetime) -> None:
        """Append records, in order."""

    def save(self, node: str, partition: int, rows: Mapping[RowKey, bytes | None], position: Position) -> None:
        """Write changed rows and the position of a node partition."""

    def load(self, node: str, partition: int) -> tuple[Iterable[tuple[RowKey, bytes]], Position | None]:
        """Return the rows and the position of a node partition."""
