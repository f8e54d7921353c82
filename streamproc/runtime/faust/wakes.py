"""Wakes: rows that want to be looked at again get a record in their own inbox, once everything upstream came so far.

They are produced outside of transactions, so they may double or come late; the fold drops what no longer counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import structlog

from streamproc.core.event import Wake, iso
from streamproc.core.table import RowKey
from streamproc.runtime.clock import Clock
from streamproc.runtime.engine import PATIENCE, WAKES
from streamproc.runtime.faust.client import KafkaError
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.part import OwnedPart
from streamproc.runtime.faust.upstream import Upstream
from streamproc.runtime.faust.writer import Writer

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.25
"""Seconds between looks at what is due."""
DELIVER_WITHIN = 30.0


class Waker:
    """Produces the wakes of owned partitions.

    Args:
        config: where.
        clock: moments.
        upstream: tells how far everything before a node is.
        writer: produces.
        parts: the partitions that are owned and ready now.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        upstream: Upstream,
        writer: Writer,
        parts: Callable[[], Iterable[OwnedPart]],
    ) -> None:
        self._config = config
        self._clock = clock
        self._upstream = upstream
        self._writer = writer
        self._parts = parts

    async def run(self) -> None:
        """Produce what is due, for ever."""
        while True:
            try:
                await self.fire()
            except (KafkaError, TimeoutError) as error:
                log.warning("Wakes cannot be produced now; it is tried again.", error=repr(error))
            await asyncio.sleep(LOOK_EVERY)

    async def fire(self) -> int:
        """Produce the wakes that are due and may fire; return how many.

        Raises:
            KafkaError: the broker does not answer; what was due stays so.
            TimeoutError: likewise.
        """
        now, fired = self._clock.now(), 0
        nodes: dict[str, list[OwnedPart]] = {}
        for part in self._parts():
            due = part.timers.next_due
            if due is not None and due <= now:
                nodes.setdefault(part.node.name, []).append(part)
        for node, parts in nodes.items():
            folded = await self._upstream.folded(node, now)
            for part in parts:
                wakes = [
                    wake if wake.due <= folded else wake.model_copy(update={"forced": True})
                    for wake in part.timers.take(max(folded, now - PATIENCE), WAKES)
                ]
                await self._produce(part, wakes, now)
                fired += len(wakes)
        return fired

    async def _produce(self, part: OwnedPart, wakes: Sequence[Wake], now: datetime) -> None:
        topic = self._config.topic(part.node.inbox.name)
        lines = [
            (
                b"",
                wake.model_copy(update={"fired": now}).encode(),
                [("type", wake.TYPE.encode()), ("now", iso(wake.due))],
            )
            for wake in wakes
        ]
        if not lines:
            return
        try:
            async with asyncio.timeout(DELIVER_WITHIN):
                await self._writer.write(topic, part.partition, lines)
        except BaseException:
            for wake in wakes:
                part.timers.add(RowKey(wake.table, wake.key), wake.due)
            raise
