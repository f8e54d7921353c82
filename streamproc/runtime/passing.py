"""A journal of the `memory` runtime for streams that are longer than memory: what was folded passes on and is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from streamproc.core.record import Record
from streamproc.core.topic import Topic
from streamproc.runtime.memory import MemoryJournal

Tap = Callable[[Record], None]


class PassingJournal(MemoryJournal):
    """Shows every record once, when it is committed, and keeps only those that wait to be folded; no rows.

    Nothing can be restored from it: the engine's own rows are the only ones. One partition a topic.

    Args:
        topics: all topics.
        inboxes: the inbox topic of every node, by the node's name. A topic has one node at most that reads it.
        tap: is shown every record, in the order of commits. It must only take notes.
    """

    def __init__(self, topics: Mapping[str, Topic], inboxes: Mapping[str, str], tap: Tap) -> None:
        super().__init__(topics)
        self._inboxes = inboxes
        self._read = frozenset(inboxes.values())
        self._tap = tap
        self._starts = dict.fromkeys(self.logs, 0)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record will get."""
        return self._starts[topic, partition] + len(self.logs[topic, partition])

    def start(self, topic: str, partition: int) -> int:
        """Return the offset of the oldest record that waits."""
        return self._starts[topic, partition]

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on."""
        at = offset - self._starts[topic, partition]
        return self.logs[topic, partition][at : at + limit]

    def _publish(self) -> None:
        for record in self._staged:
            place = (record.topic, record.partition)
            if record.topic in self._read:
                self.logs[place].append(record)
            else:
                self._starts[place] += 1
            self._tap(record)
        for (node, partition), _, position in self._saved:
            self.positions[node, partition] = position
            place = (self._inboxes[node], partition)
            del self.logs[place][: position.next_offset - self._starts[place]]
            self._starts[place] = position.next_offset
