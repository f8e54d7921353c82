"""One Kafka transaction for each micro-batch: emits, changed rows and the position, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from streamproc.core.errors import Defect
from streamproc.core.record import Outgoing, Position
from streamproc.core.table import RowKey
from streamproc.core.topic import Topic
from streamproc.runtime.faust.client import AIOKafkaProducer, KafkaError, Place, TopicPartition
from streamproc.runtime.faust.codec import POSITION, partition_of, position_bytes, row_key
from streamproc.runtime.faust.config import Config

Line: TypeAlias = tuple[bytes, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers of a record; no value forgets a row."""
RECORD = 64
"""Bytes of a record beside its key, value and headers, generously."""
AT_ONCE = 1024 * 1024
"""Bytes after which a record batch is closed and another begun."""


class Router:
    """Says where emits go: the catalogue's names to partitions at the broker."""

    def __init__(self, config: Config, topics: Mapping[str, Topic]) -> None:
        self._counts = {name: topic.partitions for name, topic in topics.items()}
        self._names = {name: config.topic(name) for name in topics}

    def route(self, emits: Iterable[Outgoing]) -> dict[Place, list[Line]]:
        """Return the records for each partition, in order."""
        routed: dict[Place, list[Line]] = {}
        for emit in emits:
            count = self._counts[emit.topic]
            line = (emit.key, emit.value, list(emit.headers.items()))
            for partition in range(count) if emit.everywhere else (partition_of(emit.key, count),):
                routed.setdefault(Place(self._names[emit.topic], partition), []).append(line)
        return routed


def state_lines(written: Mapping[RowKey, bytes | None], position: Position) -> list[Line]:
    """Return what the state topic is told: changed rows, and the position last."""
    lines: list[Line] = [(row_key(address), raw, []) for address, raw in written.items()]
    return [*lines, (POSITION, position_bytes(position), [])]


async def commit(producer: AIOKafkaProducer, batches: Mapping[Place, Sequence[Line]]) -> None:
    """Write everything in one transaction.

    Raises:
        KafkaError: it is not known to be committed; the producer must be thrown away, and the partition claimed anew.
        Defect: a record is larger than any topic takes.
    """
    await producer.begin_transaction()
    for place in batches:  # one request for all of them, instead of one whenever the sender finds another
        producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(*place))  # noqa: SLF001  there is no other way
    deliveries: list[asyncio.Future[object]] = []
    for place, lines in batches.items():
        deliveries.extend(await _send(producer, place, lines))
    # Each of them before the commit: aiokafka commits a transaction in which a batch has failed.
    await asyncio.gather(*deliveries)
    try:
        await producer.commit_transaction()
    except AssertionError as error:  # its way to say that the transaction has failed in the meantime
        raise KafkaError(str(error)) from error


async def _send(producer: AIOKafkaProducer, place: Place, lines: Sequence[Line]) -> list[asyncio.Future[object]]:
    """Send records to one partition in order, as few batches as may be; return their deliveries."""
    deliveries: list[asyncio.Future[object]] = []
    batch, size = producer.create_batch(), 0
    for key, value, headers in lines:
        length = RECORD + len(key) + len(value or b"") + sum(len(name) + len(text) for name, text in headers)
        if size and size + length > AT_ONCE:
            batch.close()
            deliveries.append(await producer.send_batch(batch, place.topic, partition=place.partition))
            batch, size = producer.create_batch(), 0
        if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            raise Defect(f"a record of {length} bytes for {place.topic} is larger than any topic takes")
        size += length
    batch.close()
    deliveries.append(await producer.send_batch(batch, place.topic, partition=place.partition))
    return deliveries
