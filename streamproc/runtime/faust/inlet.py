"""The way into the log on Kafka: for the gateway, commands, and what the sender reports."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from itertools import groupby

from streamproc.core.event import iso
from streamproc.core.topic import Topic
from streamproc.ports import Entry, Overloaded
from streamproc.runtime.clock import Clock
from streamproc.runtime.faust.client import KafkaError
from streamproc.runtime.faust.codec import partition_of
from streamproc.runtime.faust.commit import Line
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.writer import Writer

SILENT_AFTER = 3.0
"""Seconds without an answer to what was written after which the broker counts as away."""
RETRY_AFTER = 2.0
LINGER_MS = 2


class KafkaInlet:
    """An inlet with an idempotent producer; what it acknowledged is on every replica in sync.

    Args:
        config: where.
        topics: the catalogue.
        clock: stamps `now`.
    """

    def __init__(self, config: Config, topics: Mapping[str, Topic], clock: Clock) -> None:
        self._config = config
        self._topics = topics
        self._clock = clock
        self._writer = Writer(config, LINGER_MS)
        self._bytes = 0
        self._waiting: dict[asyncio.Task[None], float] = {}

    async def append(self, entries: Sequence[Entry]) -> None:
        """Append entries; durable when this returns. Those for one topic come before the next topic's are begun.

        Kafka takes a record or not; across partitions nothing is atomic here. So what names another entry comes after
        it, and what is appended twice must be made one by identity, as every entry of ours is.

        Raises:
            Overloaded: too much waits, or the broker is away. If it was away meanwhile some may have been taken.
        """
        size = sum(len(entry.value) + len(entry.key) for entry in entries)
        if self._bytes + size > self._config.queue_bytes and self._bytes:
            raise Overloaded("more arrives than the broker takes", retry_after=RETRY_AFTER)
        if self.silent:
            raise Overloaded("the broker does not answer", retry_after=RETRY_AFTER)
        # A task of its own: whoever gives up waiting must not break off what is on its way, and it counts until then.
        task = asyncio.create_task(self._append(entries))
        self._waiting[task] = time.monotonic()
        self._bytes += size
        task.add_done_callback(lambda done: self._ended(done, size))
        try:
            await asyncio.shield(task)
        except KafkaError as error:
            raise Overloaded(f"the broker does not take it: {error!r}", retry_after=RETRY_AFTER) from error

    @property
    def silent(self) -> bool:
        """True while the broker has not answered for some seconds."""
        return bool(self._waiting) and time.monotonic() - min(self._waiting.values()) > SILENT_AFTER

    async def stop(self, grace: float = 3.0) -> None:
        """Finish what is on its way within a bound, then close."""
        if self._waiting:
            await asyncio.wait(list(self._waiting), timeout=grace)
        for task in list(self._waiting):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KafkaError):
                await task
        await self._writer.stop()

    async def _append(self, entries: Sequence[Entry]) -> None:
        now = iso(self._clock.now())
        for topic, group in groupby(entries, key=lambda entry: entry.topic):
            count = self._topics[topic].partitions
            lines: dict[int, list[Line]] = {}
            for entry in group:
                headers = {"now": now, **entry.headers}
                lines.setdefault(_place(entry, count), []).append((entry.key, entry.value, list(headers.items())))
            writes = [
                self._writer.write(self._config.topic(topic), partition, some) for partition, some in lines.items()
            ]
            # One record is the rule, and a task for it alone costs a tenth of what taking it does.
            await (writes[0] if len(writes) == 1 else asyncio.gather(*writes))

    def _ended(self, task: asyncio.Task[None], size: int) -> None:
        del self._waiting[task]
        self._bytes -= size
        if not task.cancelled():
            task.exception()  # whoever waited was told; a task that nobody waits for any more must not complain


def _place(entry: Entry, count: int) -> int:
    if entry.partition is not None and entry.partition < count:
        return entry.partition
    # Without a key nothing needs to stay together, as with Kafka's own clients.
    return partition_of(entry.key, count) if entry.key else random.randrange(count)  # noqa: S311  no secret
