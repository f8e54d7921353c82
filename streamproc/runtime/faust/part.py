"""A node partition that this worker owns: how it is claimed, and what is known of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import structlog

from streamproc.core.errors import Unusable
from streamproc.core.fold import CONFIG, LATER
from streamproc.core.record import Position
from streamproc.core.step import ACTIVE, ActiveRow, Node
from streamproc.runtime.engine import BEGINNING, Part
from streamproc.runtime.faust.client import AIOKafkaProducer, Place, close_producer, transactional_producer
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends
from streamproc.runtime.faust.guards import FailStop, Stop
from streamproc.runtime.faust.state import Progress, read_state
from streamproc.runtime.faust.versions import Versions
from streamproc.state import INCIDENT

log = structlog.get_logger(__name__)

CLAIMS_AT_ONCE = 8


@dataclass(eq=False)
class OwnedPart(Part):
    """A node partition with the producer that alone may commit for it."""

    producer: AIOKafkaProducer = None
    head: int = 0
    """End of the inbox when it was claimed; the sender waits until that is reached."""
    reached: int = 0
    """Offset up to which there is nothing left to fold: markers and aborted records behind the position included."""
    caught_up: bool = False
    begun: float | None = None
    """Monotonic time at which the transaction under way was begun, None while there is none."""
    written: float = field(default_factory=time.monotonic)
    """Monotonic time of the last commit."""
    seconds: float = 0.0
    """Seconds of processor time that folding a record takes lately."""
    restore_seconds: float = 0.0
    """Seconds that reading its rows took."""

    @property
    def identity(self) -> tuple[int, int]:
        """Producer id and epoch: the broker's word for who has claimed it, and how often that changed."""
        found: Any = self.producer._txn_manager._pid_and_epoch  # noqa: SLF001  there is no other way
        return found.pid, found.epoch

    @property
    def done(self) -> int:
        """Offset up to which the inbox is folded for good."""
        return max(self.position.next_offset, self.reached)


class Claims:
    """Claims node partitions.

    Args:
        config: where.
        ids: id of each inbox topic, by its name in the catalogue.
        ends: tells where logs begin and end.
        versions: bodies that rows may name.
    """

    def __init__(self, config: Config, ids: dict[str, str], ends: Ends, versions: Versions) -> None:
        self._config = config
        self._ids = ids
        self._ends = ends
        self._versions = versions
        self._turns = asyncio.Semaphore(CLAIMS_AT_ONCE)
        self.restoring: dict[Place, Progress] = {}
        """How far the restores under way are."""

    async def claim(self, node: Node, partition: int, kept: OwnedPart | None = None) -> OwnedPart:
        """Shut every predecessor out, then read what is committed.

        Args:
            node: the node.
            partition: of its inbox.
            kept: what this worker had when it last gave the partition up, all of it committed. It still holds where
                nobody has claimed the partition since, which the broker's epoch tells.

        Raises:
            KafkaError: the broker does not answer; nothing is claimed.
            FailStop: the inbox is not the one that was folded, or a newer version has folded it.
        """
        async with self._turns:
            producer = await transactional_producer(self._config, self._config.transactional_id(node.name, partition))
            try:
                holds = kept is not None and _unclaimed_since(kept, producer)
                if kept is not None:
                    await close_producer(kept.producer)
                if kept is not None and holds:
                    kept.producer, part = producer, kept
                else:
                    part = await self._restore(node, partition, producer)
                await self._check(part)
                await self._versions.need(_named(part))
            except BaseException:
                await asyncio.shield(close_producer(producer))
                raise
            return part

    async def _restore(self, node: Node, partition: int, producer: AIOKafkaProducer) -> OwnedPart:
        begun, place = time.monotonic(), self.place(node, partition)
        self.restoring[place] = Progress()
        try:
            restored = await read_state(self._config, node, partition, self.restoring[place])
        except Unusable as error:
            raise FailStop(Stop.VERSION, f"{node.name}/{partition}: {error}") from error
        finally:
            del self.restoring[place]
        seconds = round(time.monotonic() - begun, 3)
        log.info(
            "A partition is restored.",
            node=node.name,
            partition=partition,
            rows=len(restored.rows),
            records=restored.read,
            seconds=seconds,
        )
        position = restored.position or Position(0, BEGINNING, self._ids[node.inbox.name])
        return OwnedPart(node, partition, restored.rows, position, restored.timers, producer, restore_seconds=seconds)

    async def _check(self, part: OwnedPart) -> None:
        """See that the inbox is the one that was folded, and still holds what is to be folded next."""
        name, place = part.node.inbox.name, self.place(part.node, part.partition)
        start = (await self._ends.starts([place]))[place]
        part.head = (await self._ends.of([place]))[place]
        part.caught_up, part.reached = False, 0
        inbox, at = f"{name}/{part.partition}", part.position.next_offset
        if part.position.topic_id != self._ids[name]:
            raise FailStop(
                Stop.TOPIC, f"{inbox} was made anew: {part.node.name} has folded another log; see docs/kafka.md"
            )
        if at == 0 and part.position.now == BEGINNING:
            part.position = Position(start, BEGINNING, part.position.topic_id)
        elif not start <= at <= part.head:
            raise FailStop(
                Stop.TOPIC,
                f"{inbox} holds offsets {start} to {part.head}, but {part.node.name} stands at {at}: "
                "the log was cut or restored; see docs/kafka.md",
            )

    def place(self, node: Node, partition: int) -> Place:
        """Return the partition of a node's inbox."""
        return Place(self._config.topic(node.inbox.name), partition)


def _unclaimed_since(kept: OwnedPart, producer: AIOKafkaProducer) -> bool:
    producer_id, epoch = kept.identity
    found: Any = producer._txn_manager._pid_and_epoch  # noqa: SLF001  there is no other way
    return bool((producer_id, epoch + 1) == (found.pid, found.epoch))


def _named(part: OwnedPart) -> list[str]:
    """Return the checksums of all versions that the node's stages work with, also for incidents that opened before."""
    kinds = (CONFIG, *part.node.artifacts)
    rows = [part.rows.get(ACTIVE.at(kind + end)) for kind in kinds for end in ("", LATER)]
    active = [row.checksum for row in rows if isinstance(row, ActiveRow)]
    pinned = {pin.checksum for _, row in part.rows.scan(INCIDENT) for pin in row.pinned.values()}
    return [*active, *sorted(pinned.difference(active))]
