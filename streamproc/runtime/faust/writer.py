"""An idempotent producer outside of transactions, opened when it is needed and replaced when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streamproc.runtime.faust.client import AIOKafkaProducer, KafkaError, close_producer, writer
from streamproc.runtime.faust.commit import Line
from streamproc.runtime.faust.config import Config


class Writer:
    """Writes records to partitions; acknowledged by all replicas in sync when a call returns.

    Args:
        config: where.
        linger_ms: milliseconds that a batch waits for more.
    """

    def __init__(self, config: Config, linger_ms: int = 0) -> None:
        self._config = config
        self._linger_ms = linger_ms
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def write(self, topic: str, partition: int, lines: Sequence[Line]) -> None:
        """Write records in order, and return once they are durable.

        Raises:
            KafkaError: it is not known whether they are in the log; the producer is replaced.
        """
        producer = await self._open()
        try:
            deliveries = [
                await producer.send(topic, value=value, key=key, partition=partition, headers=headers)
                for key, value, headers in lines
            ]
            shielded = [asyncio.shield(delivery) for delivery in deliveries]
            await (shielded[0] if len(shielded) == 1 else asyncio.gather(*shielded))
        except KafkaError:
            await self._drop(producer)
            raise

    async def stop(self) -> None:
        """Close."""
        if self._producer is not None:
            await self._drop(self._producer)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                self._producer = await writer(self._config, self._linger_ms)
            return self._producer

    async def _drop(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
            await close_producer(producer)
