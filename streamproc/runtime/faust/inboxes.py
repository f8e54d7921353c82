"""The log of a pipeline on Kafka, for whoever reads it once and in order: without a group, and without a trace."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from streamproc.core.errors import StreamprocError, Transient, Unusable
from streamproc.core.record import Record
from streamproc.runtime.embedded.inboxes import bodies_of
from streamproc.runtime.engine import VERSIONS
from streamproc.runtime.faust import chatter
from streamproc.runtime.faust.client import (
    AIOKafkaConsumer,
    KafkaError,
    Place,
    TopicPartition,
    admin_client,
    options,
    reader,
)
from streamproc.runtime.faust.codec import EPOCH, record_of
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.identity import topic_ids

T = TypeVar("T")
WAIT_MS = 500
SILENT = 60
"""Fetches in a row that bring nothing although there must be more: a broker is away."""
MANY = 2000
MILLISECOND = timedelta(milliseconds=1)


class KafkaInboxes:
    """Committed records of Kafka's topics. To be used as a context; calls wait, on a thread of its own.

    Args:
        config: where.

    Raises:
        Transient: no broker answers; or, later, it is away.
        Unusable: it refuses.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="streamproc-inboxes", daemon=True)
        self._opened = AsyncExitStack()
        self._readers: set[AsyncExitStack] = set()
        self._asking: AIOKafkaConsumer = None
        self._partitions: dict[str, tuple[int, ...]] = {}
        self._bodies: dict[str, str] | None = None

    def __enter__(self) -> Self:
        chatter.bound()
        self._thread.start()
        try:
            self._call(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for stack in tuple(self._readers):  # of iterators that nobody has read to their end
                self._close(stack)
            self._call(self._opened.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _call(self, doing: Coroutine[Any, Any, T]) -> T:
        where = ", ".join(self._config.bootstrap)
        task = asyncio.run_coroutine_threadsafe(doing, self._loop)
        try:
            return task.result()
        except StreamprocError:
            raise
        except KafkaError as error:
            raise Transient(f"Kafka at {where} does not answer: {error!r}") from error
        except BaseException:  # Ctrl-C: what is under way must not outlive the context
            task.cancel()
            raise

    async def _start(self) -> None:
        self._asking = AIOKafkaConsumer(
            **options(self._config), group_id=None, enable_auto_commit=False, isolation_level="read_committed"
        )
        self._opened.push_async_callback(self._asking.stop)
        await self._asking.start()

    # -- what there is ----------------------------------------------------------------------------------------------

    def partitions(self, topic: str) -> Sequence[int]:
        """Return the partitions of a topic.

        Raises:
            Unusable: there is none of this name.
        """
        if topic not in self._partitions:
            self._partitions[topic] = self._call(self._described(self._config.topic(topic)))
        return self._partitions[topic]

    async def _described(self, name: str) -> tuple[int, ...]:
        async with admin_client(self._config) as client:
            if name not in await topic_ids(client, [name]):
                raise Unusable(f"Kafka at {', '.join(self._config.bootstrap)} has no topic {name}")
            (described,) = await client.describe_topics([name])
        return tuple(range(len(described["partitions"])))

    def start(self, topic: str, partition: int) -> int:
        """Return the first offset that is still held; the end where nothing is."""
        where = self._where(topic, partition)
        return int(self._call(self._asking.beginning_offsets([where]))[where])

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last committed record, markers of transactions included."""
        where = self._where(topic, partition)
        return int(self._call(self._asking.end_offsets([where]))[where])

    def at(self, topic: str, partition: int, moment: datetime) -> int:
        """Return the first offset that was appended at `moment` or later; the end where none was."""
        where = self._where(topic, partition)
        since = -((EPOCH - moment) // MILLISECOND)
        found = self._call(self._asking.offsets_for_times({where: max(0, since)}))[where]
        return self.end(topic, partition) if found is None else int(found.offset)

    def _where(self, topic: str, partition: int) -> Any:
        if partition not in self.partitions(topic):
            raise Unusable(f"{self._config.topic(topic)} has no partition {partition}")
        return TopicPartition(self._config.topic(topic), partition)

    # -- records ----------------------------------------------------------------------------------------------------

    def records(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        """Yield the records from `offset` on, in order, up to the end as it is when this is called."""
        return self._records(topic, self._where(topic, partition), offset, self.end(topic, partition))

    def _records(self, topic: str, where: Any, offset: int, end: int) -> Iterator[Record]:
        if offset >= end:
            return
        stack = AsyncExitStack()
        self._readers.add(stack)
        consumer = self._call(stack.enter_async_context(reader(self._config, [Place(*where)])))
        try:
            self._call(_seek(consumer, where, offset))
            silent = 0
            while offset < end:
                messages = self._call(self._fetch(consumer, where))
                for message in messages:
                    if message.offset < end:
                        yield record_of(message, topic)
                reached = self._call(consumer.position(where))
                silent = silent + 1 if reached == offset else 0
                if silent > SILENT:
                    raise Transient(f"{where.topic}/{where.partition}: nothing comes although it ends at {end}")
                offset = reached
        finally:
            self._close(stack)

    def _close(self, stack: AsyncExitStack) -> None:
        """Close a reader, unless that was done."""
        if stack in self._readers:
            self._readers.discard(stack)
            self._call(stack.aclose())

    async def _fetch(self, consumer: AIOKafkaConsumer, where: Any) -> list[Any]:
        found: dict[Any, list[Any]] = await consumer.getmany(where, timeout_ms=WAIT_MS, max_records=MANY)
        return found.get(where, [])

    def version(self, checksum: str) -> str | None:
        """Return the body of an artifact, None where the topic `versions` does not hold it."""
        if self._bodies is None or checksum not in self._bodies:
            self._bodies = bodies_of(self.records(VERSIONS, 0, self.start(VERSIONS, 0)))
        return self._bodies.get(checksum)


async def _seek(consumer: AIOKafkaConsumer, where: Any, offset: int) -> None:
    consumer.seek(where, offset)  # in the consumer's own thread
