"""The rows of a node partition, read from its state topic: committed records only, to their end, kept as bytes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from streamproc.core.record import Position
from streamproc.core.step import Node
from streamproc.core.table import RowStore
from streamproc.runtime.faust.client import Place, TopicPartition, reader
from streamproc.runtime.faust.codec import POSITION, address_of, position_of
from streamproc.runtime.faust.config import Config
from streamproc.runtime.timers import Timers

CHUNK = 5000
WAIT_MS = 200
RESTORED_AT_ONCE = 2000
"""Rows that are decoded before others get a turn."""


@dataclass
class Restored:
    """What a state topic holds for one partition."""

    rows: RowStore
    timers: Timers = field(default_factory=Timers)
    position: Position | None = None
    read: int = 0
    """Records that were read."""


@dataclass
class Progress:
    """How far a state topic has been read, in offsets: those that compaction has removed count too."""

    read: int = 0
    total: int = 0


async def read_state(config: Config, node: Node, partition: int, progress: Progress | None = None) -> Restored:
    """Read the rows and the position of a node partition. Call it after the claim: then nobody writes any more.

    Args:
        config: where.
        node: the node.
        partition: of its inbox.
        progress: told how far that is.

    Raises:
        KafkaError: the broker does not answer.
        Unusable: a newer version wrote a row.
    """
    raw, position, read = await read_raw(config, node.name, partition, progress)
    restored = Restored(RowStore(node.tables), position=position, read=read)
    for at, (key, value) in enumerate(raw.items()):
        address = address_of(key)
        if (wake := restored.rows.restore(address, value)) is not None:
            restored.timers.add(address, wake.due)
        if at % RESTORED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return restored


async def read_raw(
    config: Config, node: str, partition: int, progress: Progress | None = None
) -> tuple[dict[bytes, bytes], Position | None, int]:
    """Return the rows as they stand in the state topic, the position, and how many records that took."""
    place = TopicPartition(config.state_topic(node), partition)
    rows: dict[bytes, bytes] = {}
    position: Position | None = None
    read = 0
    progress = progress or Progress()
    async with reader(config, [Place(*place)]) as consumer:
        end = (await consumer.end_offsets([place]))[place]
        begin = at = await consumer.position(place)
        progress.total = end - begin
        while at < end:
            for messages in (await consumer.getmany(place, timeout_ms=WAIT_MS, max_records=CHUNK)).values():
                read += len(messages)
                for message in messages:
                    if message.key == POSITION:
                        position = position_of(message.value)
                    elif message.value is None:
                        rows.pop(message.key, None)
                    else:
                        rows[message.key] = message.value
            at = await consumer.position(place)
            progress.read = at - begin
            await asyncio.sleep(0)
    return rows, position, read
