"""Records of several partitions in the order of their times, though each partition is read at its own speed. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable
from datetime import datetime

from streamproc.core.record import Record
from streamproc.runtime.faust.client import Place


class Merge:
    """Holds back what a partition that is still behind may precede; the order within a partition is never changed."""

    def __init__(self) -> None:
        self._waiting: dict[Place, deque[tuple[datetime, Record]]] = {}
        self._held: dict[Place, int] = {}

    def add(self, place: Place, records: Iterable[Record]) -> None:
        """Add the next records of a partition."""
        waiting = self._waiting.setdefault(place, deque())
        for record in records:
            # A broker's clock may step back; a partition's own order counts more, so its time never does.
            stamp = max(record.stamp, waiting[-1][0]) if waiting else record.stamp
            waiting.append((stamp, record))
            self._held[place] = self._held.get(place, 0) + len(record.value)

    def held(self, place: Place) -> int:
        """Return how many bytes of a partition wait."""
        return self._held.get(place, 0)

    def first(self, place: Place) -> int | None:
        """Return the offset of the first record of a partition that waits, None where none does."""
        waiting = self._waiting.get(place)
        return waiting[0][1].offset if waiting else None

    def take(self, behind: Collection[Place]) -> list[Record]:
        """Return what nothing can precede any more, in the order of time.

        Args:
            behind: partitions of which more is to come; those that are not named are complete.
        """
        if not all(self._waiting.get(place) for place in behind):
            return []
        horizon = min((self._waiting[place][-1][0] for place in behind), default=None)
        ready = [self._until(place, horizon) for place in self._waiting]
        return [record for _, record in heapq.merge(*ready, key=lambda each: each[0])]

    def _until(self, place: Place, horizon: datetime | None) -> list[tuple[datetime, Record]]:
        waiting, taken = self._waiting[place], []
        while waiting and (horizon is None or waiting[0][0] <= horizon):
            taken.append(waiting.popleft())
            self._held[place] -= len(taken[-1][1].value)
        return taken
