"""Timers: which rows want to be looked at again, and when. Rebuilt from rows; a doubled or late wake does no harm."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime

from streamproc.core.event import Wake
from streamproc.core.table import Row, RowKey


class Timers:
    """Wakes of one node partition, by due time. One entry a row, however often its wake is put off."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, RowKey]] = []
        self._due: dict[RowKey, datetime] = {}
        self._queued: dict[RowKey, datetime] = {}

    def __len__(self) -> int:
        return len(self._due)

    def follow(self, changes: Mapping[RowKey, Row | None]) -> None:
        """Take over the `wake_at` of changed rows."""
        for address, row in changes.items():
            if row is None or row.wake_at is None:
                self._due.pop(address, None)
            else:
                self.add(address, row.wake_at)

    def add(self, address: RowKey, due: datetime) -> None:
        """Note when a row wants to be looked at; replaces what was noted for it."""
        self._due[address] = due
        queued = self._queued.get(address)
        # A wake that is put off stays queued at its old time and is queued anew when that comes: else every repeat
        # of an alert would leave an entry behind until the alert could expire.
        if queued is None or due < queued:
            self._queued[address] = due
            heapq.heappush(self._heap, (due, address))

    @property
    def next_due(self) -> datetime | None:
        """When the next row may be due, None where no row waits. Never later than the truth."""
        return self._heap[0][0] if self._heap else None

    def take(self, now: datetime, limit: int) -> Iterator[Wake]:
        """Take out up to `limit` wakes that are due: overdue ones are paced by it."""
        while limit > 0 and self._heap and self._heap[0][0] <= now:
            queued, address = heapq.heappop(self._heap)
            if self._queued.get(address) != queued:
                continue
            del self._queued[address]
            due = self._due.get(address)
            if due is None:
                continue
            if due != queued:
                self.add(address, due)
                continue
            del self._due[address]
            limit -= 1
            yield Wake(table=address.table, key=address.key, due=due)
