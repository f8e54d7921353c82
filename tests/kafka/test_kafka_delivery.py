"""Delivery: how records that wait for a partition become micro-batches, and when a partition is fetched no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from streamproc.core.record import Position, Record
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust.client import Place
from streamproc.runtime.faust.delivery import PENDING, Consumer, _Work
from tests.support import toy

PLACE = Place("lines", 0)


class FoldsNothing:
    """A worker that notes what it is given."""

    def __init__(self, limit: int) -> None:
        self.most = limit
        self.taken: list[list[int]] = []

    def limit(self, part: Any) -> int:
        return self.most

    async def take(self, part: Any, records: Sequence[Record]) -> None:
        self.taken.append([record.offset for record in records])


def fetched(offsets: range, size: int = 10) -> list[Any]:
    rest = {"headers": (), "timestamp": 0, "value": b"", "key": b"", "partition": 0, "serialized_value_size": size}
    return [SimpleNamespace(offset=offset, **rest) for offset in offsets]


def at_work() -> _Work:
    work = _Work(PLACE)
    part: Any = SimpleNamespace(position=Position(0, BEGINNING), node=toy.TOY[1], partition=0)
    work.part, work.ready = part, True
    return work


def delivering(worker: FoldsNothing) -> Any:
    consumer: Any = Consumer.__new__(Consumer)
    consumer.worker, consumer._room = worker, asyncio.Event()
    return consumer


async def test_what_many_fetches_brought_is_one_transaction() -> None:
    worker, work = FoldsNothing(limit=100), at_work()
    for first in (0, 3, 6):
        work.put(fetched(range(first, first + 3)))
    await delivering(worker)._take(work)
    assert worker.taken == [list(range(9))]
    assert work.waiting == 0


async def test_a_micro_batch_keeps_to_its_limit() -> None:
    worker, work = FoldsNothing(limit=4), at_work()
    for first in (0, 3, 6):
        work.put(fetched(range(first, first + 3)))
    await delivering(worker)._take(work)
    assert worker.taken == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


async def test_a_stop_ends_what_is_taken_together() -> None:
    worker, work = FoldsNothing(limit=100), at_work()
    work.put(fetched(range(3)))
    work.queue.put_nowait(None)
    work.put(fetched(range(3, 6)))
    await delivering(worker)._take(work)
    assert worker.taken == [[0, 1, 2]]


async def test_a_partition_is_paused_by_bytes_and_goes_on_once_they_are_taken() -> None:
    worker, work = FoldsNothing(limit=100), at_work()
    work.put(fetched(range(2), size=PENDING // 2))
    assert work.waiting >= PENDING
    await delivering(worker)._take(work)
    assert work.waiting < PENDING


async def test_a_partition_that_was_given_up_while_it_was_claimed_is_not_owned() -> None:
    """Found by the campaign, brokers away for two minutes: a cancellation was swallowed, and `/ready` never said so."""
    part, work = object(), _Work(PLACE)
    closed: list[object] = []
    owned: list[object] = []

    class GivesUp(FoldsNothing):
        async def claim(self, place: Place, kept: Any) -> Any:
            work.stop.set()  # a rebalance
            return part

        def own(self, place: Place, part: Any) -> None:
            owned.append(part)

    consumer = delivering(GivesUp(limit=1))
    consumer._fetches, consumer._kept, consumer._close_later = 0, {}, closed.append
    assert not await consumer._claim(work)
    assert (owned, closed, work.part, work.ready) == ([], [part], None, False)
