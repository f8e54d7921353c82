"""The thread in which aiokafka's consumer lives: Faust's, and everything here runs in its own event loop."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from faust.transport.drivers import aiokafka as driver

from streamproc.runtime.faust.client import QUICK_WAIT_MS, KafkaError, OffsetAndMetadata, Place, TopicPartition
from streamproc.runtime.faust.spread import SpreadAssignor

log = structlog.get_logger(__name__)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's thread with our settings, and with what delivery asks of it."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # aiokafka takes these only in its constructor, and Faust has that in its code.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        consumer._fetch_max_wait_ms = QUICK_WAIT_MS  # noqa: SLF001
        consumer._partition_assignment_strategy = (SpreadAssignor(),)  # noqa: SLF001
        return consumer

    async def seek_now(self, place: Place, offset: int) -> None:
        """Seek, in the consumer's own thread; what it had fetched is forgotten."""

        async def seek() -> None:
            self._ensure_consumer().seek(TopicPartition(*place), offset)

        await self.call_thread(seek)

    async def reached(self, places: Sequence[Place]) -> dict[Place, tuple[int, int]]:
        """Return the offset to be handed over next, and the end as the last fetch told it, where they are known."""

        async def look() -> dict[Place, tuple[int, int]]:
            assigned = self._ensure_consumer()._subscription.subscription.assignment  # noqa: SLF001  as above
            found: dict[Place, tuple[int, int]] = {}
            for place in places:
                with contextlib.suppress(KeyError):
                    state = assigned.state_value(TopicPartition(*place))
                    if state is not None and state.has_valid_position:
                        found[place] = (state.position, state.highwater or 0)
            return found

        return await self.call_thread(look)  # type: ignore[no-any-return]

    async def note(self, offsets: Mapping[Place, tuple[int, str]]) -> bool:
        """Commit offsets and words to the group, for others to see."""

        async def commit() -> bool:
            consumer = self._ensure_consumer()
            assigned = consumer.assignment()
            told = {
                partition: OffsetAndMetadata(offset, words)
                for place, (offset, words) in offsets.items()
                if (partition := TopicPartition(*place)) in assigned
            }
            try:
                await consumer.commit(told)
            except (KafkaError, ValueError) as error:  # a rebalance, mostly: the next time tells it
                log.debug("Positions could not be shown.", error=str(error))
                return False
            return True

        return bool(await self.call_thread(commit))
