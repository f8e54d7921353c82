"""Folds a recorded inbox again, exactly as it was folded live: the same records in the same order by the same fold.

Whatever moved the node is a record of its inbox: wakes, feedback, policies, switches of versions, outcomes. So nothing
is made up here, and what the fold emits is only looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamproc.backtest.recorded import Inboxes
from streamproc.core.errors import Defect, Unusable
from streamproc.core.fold import Folded, Lookups, fold
from streamproc.core.record import Position, Record
from streamproc.core.step import Node
from streamproc.core.table import RowStore
from streamproc.runtime.engine import BEGINNING
from streamproc.topology import LETTERS, TOPOLOGY

RELAY = next(node for node in TOPOLOGY if node.inbox.name == "policies")


class Refold:
    """One node over one recorded inbox partition, in memory.

    A log that no longer begins at offset 0 was trimmed by retention: then what stood in the rows before its first
    record is unknown, so that what belongs to older alerts may come out otherwise than it did live. Settings, catalogue
    and policies are looked up in the topic `policies`, which is kept for a year: what was wished before the first
    record that is held counts from the beginning.

    Args:
        node: which node.
        partition: of its inbox.
        inboxes: what was recorded.
    """

    def __init__(self, node: Node, partition: int, inboxes: Inboxes) -> None:
        self.node = node
        self.partition = partition
        self.rows = RowStore(node.tables)
        """As they stand after the last record that was yielded."""
        self.start = inboxes.start(node.inbox.name, partition)
        self.whole = self.start == 0
        """False where older records are gone: see above."""
        self.position = Position(0, BEGINNING)
        self._inboxes = inboxes
        self._lookups = Lookups(inboxes.version)

    def run(self, until: int | None = None) -> Iterator[tuple[Record, Folded]]:
        """Fold on from the position; yield every record with what it came to, once the rows hold it.

        Args:
            until: the first offset that is not folded; None for the end of the log.

        Raises:
            Unusable: the log lacks something that it needs, a version of the settings for example.
        """
        for record in self.records():
            if until is not None and record.offset >= until:
                return
            yield record, self.take(record)

    def records(self) -> Iterator[Record]:
        """Return the records from the position on, to be taken in their order."""
        if not self.whole and self.position.next_offset == 0:
            self._begin()
        return self._inboxes.records(self.node.inbox.name, self.partition, self.position.next_offset)

    def _begin(self) -> None:
        """Take in what was wished before the first record that is held; what that emits was emitted long ago."""
        first = next(self._inboxes.records(self.node.inbox.name, self.partition, self.start), None)
        if first is not None and self.node.name != RELAY.name:
            offset = -self._inboxes.end(RELAY.inbox.name, 0)
            self.position = Position(offset, BEGINNING)
            for wish, relayed in Refold(RELAY, 0, self._inboxes).run():
                if wish.stamp >= first.stamp:
                    break
                for emit in relayed.emits:
                    if emit.topic == first.topic:
                        told = emit.value, wish.stamp, emit.key, emit.headers
                        self.take(Record(first.topic, self.partition, offset, *told))
                        offset += 1
        self.position = Position(self.start, self.position.now)

    def take(self, record: Record) -> Folded:
        """Fold the record that stands at the position.

        Raises:
            Unusable: as for `run`.
        """
        try:
            folded = fold(self.node, [record], self.rows, self.position, self._lookups, LETTERS)
        except Defect as error:
            raise Unusable(f"{record.origin} cannot be folded again by {self.node.name}: {error}") from error
        self.rows.install(folded.changes, folded.written)
        self.position = folded.position
        return folded
