"""How rows, positions and records stand in Kafka. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import orjson

from streamproc.core.record import EMPTY, Position, Record
from streamproc.core.table import RowKey
from streamproc.runtime.faust.client import murmur2

POSITION = b"\x00position"
"""Key of the position in a state topic; a row's key begins with the name of its table, which is never empty."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def row_key(address: RowKey) -> bytes:
    """Return the key of a row in the state topic: table, NUL, key."""
    return f"{address.table}\0{address.key}".encode()


def address_of(key: bytes) -> RowKey:
    """Return the address of a row from its key in the state topic."""
    table, _, name = key.decode().partition("\0")
    return RowKey(table, name)


def position_bytes(position: Position) -> bytes:
    """Return a position as the state topic keeps it."""
    now = position.now.isoformat(timespec="microseconds")
    return orjson.dumps({"next_offset": position.next_offset, "now": now, "topic_id": position.topic_id})


def position_of(raw: bytes) -> Position:
    """Return the position from its bytes."""
    kept = orjson.loads(raw)
    return Position(kept["next_offset"], datetime.fromisoformat(kept["now"]), kept["topic_id"])


def record_of(message: Any, topic: str) -> Record:
    """Return a record as the fold takes it.

    Args:
        message: aiokafka's ConsumerRecord.
        topic: the name of the topic in the catalogue.
    """
    headers = {name: value or b"" for name, value in message.headers} if message.headers else EMPTY
    stamp = EPOCH + timedelta(milliseconds=message.timestamp)
    return Record(topic, message.partition, message.offset, message.value or b"", stamp, message.key or b"", headers)


@lru_cache(maxsize=65_536)
def hash_of(key: bytes) -> int:
    """Return the hash by which Kafka's own clients choose a partition, not negative."""
    return murmur2(key) & 0x7FFFFFFF  # type: ignore[no-any-return]  # aiokafka has no types


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Kafka's own clients choose it."""
    return 0 if partitions == 1 else hash_of(key) % partitions
