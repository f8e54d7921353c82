"""A copy of what people look at, kept in one SQLite file beside the topics, so that both runtimes share one desk.

The copy may be thrown away at any time: it is built anew from the topics. Positions stand in the same transaction as
what was read, so a restart goes on where it was, without doubles.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from streamproc.core.errors import Transient
from streamproc.core.record import Position
from streamproc.core.topic import Topic
from streamproc.runtime.clock import Clock, SystemClock
from streamproc.runtime.faust import chatter
from streamproc.runtime.faust.client import (
    AIOKafkaAdminClient,
    AIOKafkaConsumer,
    KafkaError,
    OffsetOutOfRangeError,
    Place,
    TopicPartition,
    admin_client,
    options,
)
from streamproc.runtime.faust.codec import POSITION, address_of, record_of
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.desk import KafkaDesk
from streamproc.runtime.faust.group import Group
from streamproc.runtime.faust.identity import topic_ids
from streamproc.runtime.faust.merge import Merge
from streamproc.runtime.faust.mirrorfile import TABLES, Chunk, MirrorFile, name_of
from streamproc.state import PAGE, PageRow
from streamproc.topology import TOPOLOGY

log = structlog.get_logger(__name__)

LOGS = ("incidents.enriched", "pages", "dead-letters", "policies", "versions")
"""Topics whose every record is copied. Of the state topics, `state-NODE`, the rows are."""
FETCH = 1024 * 1024
"""Bytes that are fetched of a partition at once, and that wait for others before it is paused."""
FETCH_WAIT_MS = 100
CHUNK = 2000
"""Records that become visible together, at the least where more are to come."""
IDLE_MS = 500
WAIT_MS = 200
SILENT = 5.0
"""Seconds without a record, while there must be some, after which the broker is asked whether it is there."""
GROUP_EVERY = 2.0
TRIM_EVERY = 60.0
PAUSE = 1.0
SAY_EVERY = 30.0
TOMBSTONES = timedelta(hours=23)
"""A broker keeps the word that a row is gone for a day (delete.retention.ms); a copy that is older may miss some."""


class Mirror:
    """Follows the topics.

    Args:
        config: where.
        topics: the catalogue.
        folder: holds the copy, in a folder of its own; kept over restarts, a start need not read everything again.
        clock: tells how old the copy is.
    """

    def __init__(self, config: Config, topics: Mapping[str, Topic], folder: Path, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._file = MirrorFile(folder, topics)
        partitions = {name: topics[name].partitions for name in LOGS}
        self._nodes = {f"state-{node.name}": node.name for node in TOPOLOGY if node.name in TABLES}
        partitions |= {f"state-{node.name}": node.inbox.partitions for node in TOPOLOGY if node.name in TABLES}
        self._places = {Place(config.topic(name), p): name for name, count in partitions.items() for p in range(count)}
        self.group = Group(config)
        self._opened = AsyncExitStack()
        self._admin: AIOKafkaAdminClient = None
        self._consumer: AIOKafkaConsumer = None
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._joined: frozenset[Place] = frozenset()
        self._stale = False
        self._ids: dict[str, str] = {}
        self._merge = Merge()
        self._chunk = Chunk()
        self._said = 0.0
        self._listener: Callable[[Mapping[str, PageRow | None]], None] | None = None
        self.caught_up = False
        """True once everything is copied that stood when copying began."""

    def listen(self, listener: Callable[[Mapping[str, PageRow | None]], None]) -> None:
        """Tell `listener` of the rows of incidents that were copied, by incident id; None where a row is forgotten."""
        self._listener = listener

    async def start(self) -> None:
        """Open the file and connect. Call `stop` also where this fails.

        Raises:
            Transient: no broker answers.
            KafkaError: it refuses.
            Unusable: the folder is in use.
            StorageFailure: the disk takes no file.
        """
        chatter.bound()
        self._opened.callback(self._file.close)
        await _blocking(self._file.open)
        self._admin = await self._opened.enter_async_context(admin_client(self._config))
        self._opened.push_async_callback(self.group.stop)
        await self.group.start()
        self._consumer = AIOKafkaConsumer(
            **options(self._config),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            check_crcs=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        self._opened.push_async_callback(self._consumer.stop)
        await self._consumer.start()

    async def stop(self) -> None:
        """Follow no more, and close everything."""
        self._stopping.set()
        async with self._turn:
            await self._opened.aclose()

    async def catch_up(self, only: Collection[str] | None = None) -> None:
        """Return once everything is in the file that readers of committed data could see when this was called.

        Args:
            only: names of the topics that matter (`pages`, `state-decide`); None for all of them.

        Raises:
            KafkaError: the broker does not answer.
            Transient: a topic is not there.
            StorageFailure: the disk takes no more.
        """
        async with self._turn:
            await self._read(self._named(only), wait=False)

    async def run(self) -> None:
        """Follow until it is stopped; a broker that is away is waited for.

        Raises:
            StorageFailure: the disk takes no more.
        """
        tasks = [asyncio.create_task(doing) for doing in (self._follow(), self._watch())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- following ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        trimmed = time.monotonic()
        while not self._stopping.is_set():
            try:
                async with self._turn:
                    await self._read(frozenset(self._places), wait=self.caught_up)
                    self.caught_up = not self._stopping.is_set()
                    if time.monotonic() - trimmed > TRIM_EVERY:
                        await self._trim()
                        trimmed = time.monotonic()
            except (KafkaError, Transient) as error:
                self._complain(error)
                await self._pause(PAUSE)

    async def _watch(self) -> None:
        """See how the group stands, and that the topics are still those that were read."""
        while not self._stopping.is_set():
            await self.group.refresh()
            try:
                found = await topic_ids(self._admin, self._ids)
            except KafkaError as error:
                self._complain(error)
            else:
                self._stale = self._stale or found != self._ids
            await self._pause(GROUP_EVERY)

    async def _trim(self) -> None:
        if not self.group.standing.error:
            now = self._clock.now()
            await _blocking(lambda: self._file.confirm(now))
            while await _blocking(lambda: self._file.trim(now)) and not self._stopping.is_set():
                pass

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self._said > SAY_EVERY or not self._said:
            self._said = time.monotonic()
            log.warning("The topics cannot be followed now; it is tried again.", error=repr(error))

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    # -- reading ------------------------------------------------------------------------------------------------------

    def _named(self, only: Collection[str] | None) -> frozenset[Place]:
        return frozenset(place for place, name in self._places.items() if only is None or name in only)

    async def _read(self, places: frozenset[Place], *, wait: bool) -> None:
        """Read to the end; with `wait`, only where something comes within a moment."""
        while True:
            try:
                await self._join(places)
                if not (wait and self.caught_up) or await self._fetch(IDLE_MS):
                    await self._read_to(await self._consumer.end_offsets([TopicPartition(*place) for place in places]))
            except OffsetOutOfRangeError as error:
                await self._begin_anew(f"a topic was cut: {error}")
            except BaseException:
                self._stale = True
                raise
            else:
                return

    async def _read_to(self, ends: Mapping[Any, int]) -> None:
        heard = time.monotonic()
        while not self._stopping.is_set():
            at = {Place(*each): await self._consumer.position(each) for each in ends}
            behind = [place for place, offset in at.items() if offset < ends[TopicPartition(*place)]]
            self._chunk.records.extend(self._merge.take([place for place in behind if self._is_log(place)]))
            for place in at:
                full = self._merge.held(place) > FETCH
                (self._consumer.pause if full else self._consumer.resume)(TopicPartition(*place))
            if not behind or len(self._chunk.records) + len(self._chunk.rows) >= CHUNK:
                await self._write(at)
            if not behind:
                return
            if await self._fetch(WAIT_MS):
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENT:
                await self._consumer.end_offsets(list(ends))  # raises where the broker is away
                heard = time.monotonic()

    async def _fetch(self, wait_ms: int) -> bool:
        found = await self._consumer.getmany(timeout_ms=wait_ms, max_records=CHUNK)
        for partition, messages in found.items():
            place = Place(*partition)
            name = self._places[place]
            if self._is_log(place):
                self._merge.add(place, [record_of(message, name) for message in messages])
            else:
                rows = ((self._nodes[name], place, message.key, message.value) for message in messages)
                self._chunk.rows.extend(row for row in rows if row[2] is not None)
        return bool(found)

    def _is_log(self, place: Place) -> bool:
        return self._places[place] not in self._nodes

    async def _write(self, at: Mapping[Place, int]) -> None:
        now = self._clock.now()
        chunk, self._chunk = self._chunk, Chunk()
        for place, offset in at.items():
            waiting = self._merge.first(place)
            reached = Position(offset if waiting is None else waiting, now, self._ids[place.topic])
            known = self._file.positions.get(place)
            if known is None or known.next_offset != reached.next_offset:
                chunk.reached[place] = reached
        if chunk.reached:
            await _blocking(lambda: self._file.write(chunk))
        if self._listener is not None and (pages := _pages(chunk)):
            self._listener(pages)

    # -- what is read -------------------------------------------------------------------------------------------------

    async def _join(self, places: frozenset[Place]) -> None:
        """Read these partitions from now on, each from where the file ends; a file that does not fit is begun anew."""
        if places == self._joined and not self._stale:
            return
        partitions = [TopicPartition(*place) for place in places]
        names = {place.topic for place in places}
        self._ids = await topic_ids(self._admin, names)
        if missing := sorted(names - self._ids.keys()):
            raise Transient(f"{missing[0]}: does not exist; run `streamproc topics apply`")
        starts = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        for reason in self._misfits(starts, ends):
            await self._begin_anew(reason)
            break
        self._merge, self._chunk = Merge(), Chunk()
        self._consumer.assign(partitions)
        for partition in partitions:
            known = self._file.positions.get(Place(*partition))
            self._consumer.seek(partition, starts[partition] if known is None else known.next_offset)
        self._joined, self._stale = places, False

    def _misfits(self, starts: Mapping[Any, int], ends: Mapping[Any, int]) -> Iterator[str]:
        """Say what of the file is not of the topics as they are now."""
        oldest = self._clock.now() - TOMBSTONES
        for place, position in self._file.positions.items():
            where = TopicPartition(*place)
            if place not in self._places:
                yield f"it holds {name_of(place)}, of another installation or version"
            elif where not in starts:
                continue
            elif position.topic_id != self._ids[place.topic]:
                yield f"{place.topic} was made anew"
            elif not starts[where] <= position.next_offset <= ends[where]:
                yield f"{name_of(place)} holds {starts[where]} to {ends[where]}, the copy {position.next_offset}"
            elif not self._is_log(place) and position.now < oldest:
                yield f"{name_of(place)} was last read at {position.now}; rows that are gone since may be forgotten"

    async def _begin_anew(self, reason: str) -> None:
        log.warning("What is shown is built anew from the topics.", reason=reason)
        self._joined, self.caught_up = frozenset(), False
        await _blocking(self._file.discard)


def _pages(chunk: Chunk) -> dict[str, PageRow | None]:
    """Return the rows of incidents in a chunk, the newest of each."""
    found: dict[str, PageRow | None] = {}
    for _, _, key, value in chunk.rows:
        if key != POSITION and (address := address_of(key)).table == PAGE.name:
            with suppress(ValueError):  # of a newer version
                found[address.key] = None if value is None else PageRow.model_validate_json(value)
    return found


async def _blocking(call: Callable[[], Any]) -> Any:
    """Do something with the file in a thread, and to its end, also where the caller is cancelled meanwhile."""
    doing = asyncio.create_task(asyncio.to_thread(call))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


async def look(
    config: Config, topics: Mapping[str, Topic], folder: Path, only: Collection[str] | None = None
) -> KafkaDesk:
    """Return the desk of the pipeline as it stands now; nothing is followed afterwards.

    Args:
        config: where.
        topics: the catalogue.
        folder: for the copy; the desk reads it.
        only: names of the topics that matter; None for all of them.

    Raises:
        Transient: no broker answers, or a topic is not there.
        StreamprocError: the folder cannot be used.
    """
    mirror = Mirror(config, topics, folder)
    try:
        await mirror.start()
        await mirror.catch_up(only)
        await mirror.group.refresh()
    except KafkaError as error:
        raise Transient(f"Kafka at {', '.join(config.bootstrap)} does not answer: {error!r}") from error
    finally:
        await mirror.stop()
    return KafkaDesk(folder, mirror.group)
