"""What a pipeline has recorded: the inboxes of its nodes, read without touching it.

Two implementations: `EmbeddedInboxes` of a data directory, `runtime.faust.inboxes.KafkaInboxes` of topics, which is
imported only where it is needed, since Faust and aiokafka take a second to load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from streamproc.core.record import Record
from streamproc.runtime.embedded.inboxes import EmbeddedInboxes

__all__ = ["EmbeddedInboxes", "Inboxes"]


class Inboxes(Protocol):
    """The log of a pipeline, as far as it is still held; committed records only."""

    def partitions(self, topic: str) -> Sequence[int]:
        """Return the partitions of a topic."""

    def start(self, topic: str, partition: int) -> int:
        """Return the first offset that is still held; the end where nothing is."""

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last committed record."""

    def at(self, topic: str, partition: int, moment: datetime) -> int:
        """Return the first offset that was appended at `moment` or later; the end where none was."""

    def records(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        """Yield the records from `offset` on, in order, up to the end as it is when this is called."""

    def version(self, checksum: str) -> str | None:
        """Return the body of an artifact, None where the topic `versions` does not hold it."""
