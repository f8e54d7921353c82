"""Where logs end: the offset after everything that was ever written, open transactions and markers included."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from streamproc.runtime.faust.client import AIOKafkaConsumer, Place, TopicPartition, options
from streamproc.runtime.faust.config import Config


class Ends:
    """Asks for the ends of logs, one question at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._consumer: AIOKafkaConsumer = None
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: no broker answers.
        """
        self._consumer = AIOKafkaConsumer(**options(self._config), group_id=None, enable_auto_commit=False)
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def of(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the end of each log.

        Raises:
            KafkaError: the broker does not answer.
        """
        async with self._asking:
            found = await self._consumer.end_offsets([TopicPartition(*place) for place in places])
        return {Place(*place): offset for place, offset in found.items()}

    async def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the oldest offset that each log still has.

        Raises:
            KafkaError: the broker does not answer.
        """
        async with self._asking:
            found = await self._consumer.beginning_offsets([TopicPartition(*place) for place in places])
        return {Place(*place): offset for place, offset in found.items()}
