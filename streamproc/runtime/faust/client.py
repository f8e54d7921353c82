"""aiokafka, as the rest of this runtime uses it: the one place that imports it, with our settings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.abc import AbstractTokenProvider  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaConnectionError,
    KafkaError,
    OffsetOutOfRangeError,
)
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from streamproc.core.errors import Transient
from streamproc.runtime.faust.config import Config

__all__ = [
    "LARGEST",
    "AIOKafkaAdminClient",
    "AIOKafkaConsumer",
    "AIOKafkaProducer",
    "KafkaError",
    "OffsetAndMetadata",
    "OffsetOutOfRangeError",
    "Place",
    "TopicPartition",
    "admin_client",
    "close_producer",
    "murmur2",
    "options",
    "reader",
    "transactional_producer",
    "writer",
]

LARGEST = 8 * 1024 * 1024
"""Bytes of the largest record batch that any topic takes."""
QUICK_WAIT_MS = 20
"""Long polls end so soon: one fetch is in flight per broker, and an idle partition must not hold up a busy one."""
REQUEST_MS = 15_000
BACKOFF_MS = 50
CLOSE_WITHIN = 3.0


class Place(NamedTuple):
    """A partition of a topic, by the topic's name at the broker."""

    topic: str
    partition: int


class _Tokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, config: Config) -> None:
        self._config = config

    async def token(self) -> str:
        return await asyncio.to_thread(self._config.read_token)


def options(config: Config) -> dict[str, Any]:
    """Return what every client is told: where the brokers are, and how to log in."""
    told: dict[str, Any] = {
        "bootstrap_servers": list(config.bootstrap),
        "client_id": config.client_id,
        "security_protocol": config.protocol,
        "ssl_context": config.ssl_context(),
        "request_timeout_ms": REQUEST_MS,
        "retry_backoff_ms": BACKOFF_MS,
    }
    if config.sasl == "OAUTHBEARER":
        told |= {"sasl_mechanism": config.sasl, "sasl_oauth_token_provider": _Tokens(config)}
    elif config.sasl is not None:
        told |= config.plain()
    return told


async def transactional_producer(config: Config, transactional_id: str) -> AIOKafkaProducer:
    """Open the producer of a node partition: InitProducerId aborts what a predecessor left open, and shuts it out.

    Returns when that is complete.
    """
    producer = AIOKafkaProducer(
        **options(config),
        acks="all",
        linger_ms=0,
        max_batch_size=LARGEST,
        max_request_size=LARGEST,
        transactional_id=transactional_id,
        transaction_timeout_ms=int(config.transaction_timeout * 1000),
    )
    return await _started(producer)


async def writer(config: Config, linger_ms: int = 0) -> AIOKafkaProducer:
    """Open an idempotent producer outside of transactions."""
    producer = AIOKafkaProducer(
        **options(config),
        acks="all",
        enable_idempotence=True,
        linger_ms=linger_ms,
        max_batch_size=1024 * 1024,
        max_request_size=LARGEST,
    )
    return await _started(producer)


async def _started(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    try:
        await producer.start()
    except BaseException:
        await asyncio.shield(close_producer(producer))
        raise
    return producer


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Close a producer within a bound; what it had not delivered is given up."""
    with contextlib.suppress(TimeoutError, KafkaError, asyncio.CancelledError):
        await asyncio.wait_for(producer.stop(), CLOSE_WITHIN)
    with contextlib.suppress(KafkaError, OSError):
        await producer.client.close()


@asynccontextmanager
async def reader(config: Config, places: Iterable[Place], *, committed: bool = True) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer of fixed partitions that belongs to no group, at their beginning.

    Args:
        config: where.
        places: what to read.
        committed: read committed records only; ends are then those of committed data.
    """
    told = options(config)
    told["request_timeout_ms"] = REQUEST_MS
    consumer = AIOKafkaConsumer(
        **told,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=False,
        isolation_level="read_committed" if committed else "read_uncommitted",
        max_partition_fetch_bytes=LARGEST,
        fetch_max_wait_ms=QUICK_WAIT_MS,
    )
    try:
        await consumer.start()
        partitions = [TopicPartition(*place) for place in places]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        yield consumer
    finally:
        await asyncio.shield(consumer.stop())


@asynccontextmanager
async def admin_client(config: Config) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client.

    Raises:
        Transient: no broker answers.
    """
    client = AIOKafkaAdminClient(**options(config))
    try:
        await client.start()
    except KafkaConnectionError as error:
        await client.close()
        raise Transient(f"no Kafka broker answers at {', '.join(config.bootstrap)}: {error}") from error
    try:
        yield client
    finally:
        await client.close()
