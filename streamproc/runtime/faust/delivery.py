"""Delivery of our own, in place of Faust's: its extension point is a Transport with a Consumer.

Whole fetches of a partition go to one ordered task. A bounded queue pauses the partition, so a slow node blocks only
itself. A partition is fetched only after it was claimed and sought, and a fetch begun before is thrown away. On revoke
the batch under way is finished within a bound, or discarded with its rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streamproc.runtime.faust.client import (
    KafkaError,
    OffsetOutOfRangeError,
    Place,
    close_producer,
)
from streamproc.runtime.faust.codec import record_of
from streamproc.runtime.faust.commit import RECORD
from streamproc.runtime.faust.guards import FailStop, Stop
from streamproc.runtime.faust.shown import Shown, shown_text
from streamproc.runtime.faust.thread import ConsumerThread

if TYPE_CHECKING:
    from streamproc.runtime.faust.part import OwnedPart
    from streamproc.runtime.faust.worker import Worker

log = structlog.get_logger(__name__)

PENDING = 1024 * 1024
"""Bytes that wait for one partition before it is paused; what is fetched then may come on top."""
FINISH_WITHIN = 3.0
"""Seconds in which a batch under way must end on revoke; with a commit it stays below the rebalance timeout."""
NOTE_WITHIN = 1.0
STEP_BACK = 3.0
"""Seconds before a partition is claimed again that someone else has claimed: in them a worker that was replaced hears
of it, and does not shut out its successor. Three heartbeats."""
TRY_AGAIN = 1.0
SURVEY_EVERY = 0.1
RENEW_AFTER = 600.0
"""Seconds after which the position of an idle partition is moved over what cannot be folded (markers)."""
FETCH_WAIT = 0.2
FETCH_WAIT_PAUSED = 0.02


class _Work:
    """One owned partition at work."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.queue: asyncio.Queue[Sequence[Any] | int | None] = asyncio.Queue()
        self.stop = asyncio.Event()
        self.part: OwnedPart | None = None
        self.ready = False
        self.busy = False
        self.next = 0
        self.waiting = 0
        """Bytes that wait."""
        self.task: asyncio.Task[None] | None = None

    def put(self, messages: Sequence[Any]) -> None:
        """Let messages wait."""
        self.waiting += sum(RECORD + max(0, message.serialized_value_size) for message in messages)
        self.queue.put_nowait(messages)

    def rest(self) -> list[Any]:
        """Return all messages that wait: one transaction for what came in many fetches while the last one ran."""
        found: list[Any] = []
        self.waiting = 0
        while not self.queue.empty():
            some = self.queue.get_nowait()
            if some is None or isinstance(some, int):
                break
            found.extend(some)
        return found


class Consumer(driver.Consumer):
    """Faust's consumer with delivery of our own."""

    _thread: ConsumerThread

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.worker: Worker = self.app.worker  # type: ignore[attr-defined]
        self._works: dict[Place, _Work] = {}
        self._kept: dict[Place, OwnedPart] = {}
        self._shown: dict[Place, tuple[int, Shown]] = {}
        self._room = asyncio.Event()
        self._generation = 0
        self._fetches = 0
        self._fetching = False
        self._fetched = asyncio.Event()
        self._surveyed = 0.0

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's own detector of hanging streams knows nothing of our tasks."""

    # -- fetching -----------------------------------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                if self.flow_active:
                    await self._fetch()
                else:
                    await self.wait_first(self.can_resume_flow.wait(), timeout=0.5)
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _fetch(self) -> None:
        generation = self._generation
        # Only what was claimed and sought before this fetch began: nothing from before a seek can slip in.
        open_ = {place for place, work in self._works.items() if work.ready and work.waiting < PENDING}
        self._room.clear()
        if not open_:
            await self.wait_first(self._room.wait(), self.suspend_flow.wait(), timeout=0.5)
            return
        wait = FETCH_WAIT_PAUSED if len(open_) < len(self._works) else FETCH_WAIT
        self._fetches += 1
        self._fetching = True
        self._fetched.clear()
        try:
            found = await self._getmany(active_partitions={TP(*place) for place in open_}, timeout=wait)
        except OffsetOutOfRangeError as error:
            self.worker.leave(FailStop(Stop.TOPIC, f"an inbox was cut or made anew while it was folded: {error}"))
            return
        finally:
            self._fetching = False
            self._fetched.set()
        await asyncio.sleep(0)
        if generation != self._generation or not self.flow_active:
            return  # a rebalance: every partition is claimed and sought anew
        for partition, messages in found.items():
            self._hand_over(Place(*partition), messages)
        if time.monotonic() - self._surveyed > SURVEY_EVERY:
            await self._survey(generation)

    def _hand_over(self, place: Place, messages: Sequence[Any]) -> None:
        work = self._works[place]
        if not work.ready:
            return  # shut out meanwhile: it is claimed and sought anew
        if messages[0].offset < work.next:
            self.worker.leave(
                FailStop(Stop.POSITION, f"{place} brought offset {messages[0].offset} where {work.next} was due")
            )
            return
        work.next = messages[-1].offset + 1
        work.put(messages)

    async def _survey(self, generation: int) -> None:
        """See how far idle partitions are: the fetcher also passes what is not handed over. No fetch is under way."""
        self._surveyed = time.monotonic()
        idle = [work for work in self._works.values() if work.ready and not work.busy and work.queue.empty()]
        found = await self._thread.reached([work.place for work in idle])
        if generation != self._generation:
            return
        for work in idle:
            part = work.part
            if part is None or not work.ready or work.place not in found:
                continue
            part.reached = found[work.place][0]
            if not part.caught_up and part.reached >= part.head:
                self.worker.note_caught_up(part)
            if part.reached > part.position.next_offset and self._surveyed - part.written > RENEW_AFTER:
                part.written = self._surveyed
                work.queue.put_nowait(part.reached)

    # -- one ordered task for each partition --------------------------------------------------------------------------

    async def _work(self, work: _Work) -> None:
        try:
            while not work.stop.is_set():
                if work.part is None and not await self._claim(work):
                    continue
                try:
                    await self._take(work)
                except KafkaError as error:
                    await self._lose(work, error)
        except FailStop as stop:
            self.worker.leave(stop)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.worker.leave(FailStop(Stop.DEFECT, f"{work.place}: {error!r}"))
            raise

    async def _claim(self, work: _Work) -> bool:
        begun = self._fetches
        try:
            part = await self.worker.claim(work.place, self._kept.pop(work.place, None))
        except KafkaError as error:
            log.warning("A partition cannot be claimed yet.", partition=str(work.place), error=str(error))
            await self._pause(work, TRY_AGAIN)
            return False
        if work.stop.is_set():  # given up meanwhile, and closing a producer has swallowed the cancellation
            self._close_later(part)
            return False
        self.worker.own(work.place, part)
        work.part = part
        if self._fetching and self._fetches <= begun:  # a fetch begun before the claim could hand over what is old
            await self._fetched.wait()
        await self._thread.seek_now(work.place, part.position.next_offset)
        while not work.queue.empty():
            work.rest()
        work.next, work.ready = part.position.next_offset, True
        self._room.set()
        return True

    async def _take(self, work: _Work) -> None:
        got = await work.queue.get()
        part = work.part
        if got is None or part is None:
            return
        work.busy = True
        try:
            if isinstance(got, int):
                await self.worker.renew(part, got)
                return
            got = [*got, *work.rest()]
            self._room.set()
            topic, at = part.node.inbox.name, 0
            while at < len(got) and not work.stop.is_set():
                some = got[at : at + self.worker.limit(part)]
                await self.worker.take(part, [record_of(message, topic) for message in some])
                at += len(some)
        finally:
            work.busy = False

    async def _lose(self, work: _Work, error: KafkaError) -> None:
        """Give up a producer that was shut out or failed; what it did is known only from the log."""
        log.warning("A partition is claimed anew.", partition=str(work.place), error=repr(error))
        work.ready = False
        part, work.part = work.part, None
        if part is not None:
            self.worker.metrics.reclaims.labels(part.node.name).inc()
            self.worker.release(part)
            await close_producer(part.producer)
        await self._pause(work, STEP_BACK)

    async def _pause(self, work: _Work, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(work.stop.wait(), seconds)

    # -- membership ---------------------------------------------------------------------------------------------------

    def _start_claims(self, partitions: Iterable[Any]) -> None:
        for partition in partitions:
            place = Place(partition.topic, partition.partition)
            if place not in self._works and self.worker.knows(place):
                work = self._works[place] = _Work(place)
                work.task = asyncio.create_task(self._work(work), name=f"streamproc-{place.topic}-{place.partition}")

    async def perform_seek(self) -> None:
        """Claim instead: each claim seeks its own partition to its position."""
        self._start_claims(self.assignment())

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Claim at once, also where there is nothing new to read."""
        mine = {Place(tp.topic, tp.partition) for tp in assigned}
        for place in [place for place in self._kept if place not in mine]:
            self._close_later(self._kept.pop(place))
        self._generation += 1
        self._start_claims(assigned)
        self.worker.note_assigned(mine)
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish what is under way before anyone else may begin."""
        self.worker.note_revoked()
        await self._quiesce()
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """Finish, then leave."""
        await self._quiesce()
        await super().on_stop()
        await asyncio.gather(*(close_producer(part.producer) for part in self._kept.values()))
        self._kept.clear()

    async def _quiesce(self) -> None:
        self._generation += 1
        self.stop_flow()
        works, self._works = self._works, {}
        for work in works.values():
            work.stop.set()
            work.queue.put_nowait(None)
            if work.part is not None:
                self.worker.release(work.part)
            if not work.ready and work.task is not None:
                work.task.cancel()
        tasks = [work.task for work in works.values() if work.task is not None]
        late = (await asyncio.wait(tasks, timeout=FINISH_WITHIN))[1] if tasks else set()
        for work in works.values():
            if work.task in late and work.task is not None:
                work.task.cancel()
                log.warning("A batch under way is discarded.", partition=str(work.place))
            elif work.part is not None and work.ready:
                self._kept[work.place] = work.part
                continue
            if work.part is not None:
                self._close_later(work.part)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._show(works.values()), NOTE_WITHIN)
        self._shown.clear()

    def _close_later(self, part: OwnedPart) -> None:
        self.add_future(close_producer(part.producer))

    # -- what others see ----------------------------------------------------------------------------------------------

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002  Faust's signature
        """Show positions: lag displays read them, and wakes of nodes downstream. Nothing is recovered from them."""
        return await self._show(self._works.values())

    async def _show(self, works: Iterable[_Work]) -> bool:
        offsets = {
            work.place: (part.done, self.worker.shown(part)) for work in works if (part := work.part) is not None
        }
        new = {place: told for place, told in offsets.items() if _differs(self._shown.get(place), told)}
        if not new or not await self._thread.note({place: (at, shown_text(told)) for place, (at, told) in new.items()}):
            return False
        self._shown.update(new)
        return True

    def lags(self) -> dict[Place, int]:
        """Return how many offsets of each owned inbox partition are ahead of what is folded, as the last fetch told."""
        found: dict[Place, int] = {}
        for work in list(self._works.values()):  # a copy: metrics are asked for from other threads
            if work.part is not None and work.ready:
                end = self.highwater(TP(*work.place)) or 0
                found[work.place] = max(0, end - work.part.done)
        return found


def _differs(before: tuple[int, Shown] | None, told: tuple[int, Shown]) -> bool:
    """Return whether it is worth a commit: a number of rows alone is not."""
    return before is None or before[0] != told[0] or replace(before[1], rows=told[1].rows) != told[1]


class Transport(driver.Transport):
    """Faust's transport with our consumer."""

    Consumer = Consumer
