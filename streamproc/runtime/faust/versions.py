"""Bodies of versions, from a cache or from their topic: those that rows name are known before anything is folded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol

import structlog
from pydantic import ValidationError

from streamproc.core.event import Artifact
from streamproc.runtime.engine import VERSIONS
from streamproc.runtime.faust.client import AIOKafkaConsumer, KafkaError, Place, TopicPartition, reader
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends

log = structlog.get_logger(__name__)

WAIT_MS = 200
PAUSE = 1.0


class Bodies(Protocol):
    """A cache of bodies. What it has is what the checksum says; it may have nothing."""

    async def get(self, checksum: str) -> str | None:
        """Return a body, None where it has none."""

    async def put(self, checksum: str, body: str) -> None:
        """Keep a body."""


class Versions:
    """Every body that the log holds, by checksum.

    Args:
        config: where.
        ends: tells where logs end.
        cache: bodies that need not be read from the log; without one the log is read to its end first.
    """

    def __init__(self, config: Config, ends: Ends, cache: Bodies | None = None) -> None:
        self._config = config
        self._cache = cache
        self._ends = ends
        self._place = Place(config.topic(VERSIONS), 0)
        self._bodies: dict[str, str] = {}
        self._read_to = 0
        self._moved = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def find(self, checksum: str) -> str | None:
        """Return a body, None where the log has not shown it."""
        return self._bodies.get(checksum)

    async def start(self) -> None:
        """Follow; without a cache, once everything is read."""
        self._task = asyncio.create_task(self._follow(), name="streamproc-versions")
        if self._cache is None:
            await self.catch_up()

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def catch_up(self) -> None:
        """Return once everything is read that the topic holds now, what a transaction under way writes included.

        An activation may be seen before the version that it names: they are in different topics, and each becomes
        visible by itself.
        """
        end = (await self._ends.of([self._place]))[self._place]
        while self._read_to < end:
            self._moved.clear()
            await self._moved.wait()

    async def need(self, checksums: Iterable[str]) -> None:
        """Return once these bodies are known, as far as the log holds them.

        With a cache the log is waited for only where the cache lacks one.

        A body is what its checksum says, wherever it comes from, so a fold never depends on the cache.
        """
        if self._cache is None:
            await self.catch_up()
            return
        async with self._turn:  # partitions want the same ones at the same time
            await self._need(self._cache, checksums)

    async def _need(self, cache: Bodies, checksums: Iterable[str]) -> None:
        missing = []
        for checksum in checksums:
            body = await cache.get(checksum)
            if body is None:
                missing.append(checksum)
            else:
                self._bodies[checksum] = body
        if any(checksum not in self._bodies for checksum in missing):
            await self.catch_up()
        for checksum in missing:
            if (body := self._bodies.get(checksum)) is not None:
                await cache.put(checksum, body)

    async def _follow(self) -> None:
        while True:
            try:
                async with reader(self._config, [self._place]) as consumer:
                    await self._read(consumer)
            except KafkaError as error:
                log.warning("The versions cannot be followed; it is tried again.", error=str(error))
                await asyncio.sleep(PAUSE)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        partition = TopicPartition(*self._place)
        while True:
            for messages in (await consumer.getmany(partition, timeout_ms=WAIT_MS)).values():
                for message in messages:
                    self._know(message.value)
            self._read_to = await consumer.position(partition)
            self._moved.set()

    def _know(self, value: bytes | None) -> None:
        try:
            artifact = Artifact.model_validate_json(value or b"")
        except ValidationError as error:
            log.warning("A record of the topic of versions is none.", error=str(error))
            return
        self._bodies[artifact.checksum] = artifact.body
