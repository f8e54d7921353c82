"""How the group of workers stands, read from outside: who has joined, and how far every node partition is folded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment  # type: ignore[import-untyped]
from aiokafka.errors import GroupCoordinatorNotAvailableError  # type: ignore[import-untyped]

from streamproc.core.step import Topology
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust.client import (
    AIOKafkaAdminClient,
    AIOKafkaConsumer,
    KafkaError,
    Place,
    TopicPartition,
    admin_client,
    options,
    reader,
)
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.identity import topic_ids
from streamproc.runtime.faust.shown import Shown, read_shown
from streamproc.topology import TOPOLOGY
from streamproc.views import NodeStatus, WorkerStatus

STABLE = "Stable"
MOVING = ("PreparingRebalance", "CompletingRebalance")
LOOKS, PAUSE = 50, 0.1
"""The first question about any group makes the cluster create its list of groups."""
NEAR = 100
"""Offsets that wait, below which it is worth to look whether they are records at all."""
READS, WAIT_MS = 25, 200


@dataclass(frozen=True)
class GroupStanding:
    """How the group stands, as the broker told last."""

    state: str = ""
    """Kafka's word; empty before the first look."""
    workers: tuple[WorkerStatus, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    """Every partition of every node."""
    behind: int = 0
    """Records that wait in partitions whose worker still folds what it found."""
    error: str = ""
    """Why the last look failed; empty where it did not."""

    @property
    def why_not(self) -> str:
        """Why the pipeline is not at work; empty where it is."""
        if self.error or not self.state:
            return "the broker does not answer"
        if self.state in MOVING:
            return "the group moves partitions"
        if self.state != STABLE or not self.workers:
            return "no worker runs"
        return f"{self.behind} records wait" if self.behind else ""

    @property
    def ready(self) -> bool:
        """Whether the group is at work."""
        return not self.error and self.state == STABLE and bool(self.workers)


class Group:
    """Looks at the group.

    Args:
        config: where, and which group.
        topology: what its workers fold.
    """

    def __init__(self, config: Config, topology: Topology = TOPOLOGY) -> None:
        self._config = config
        self._nodes = {config.topic(node.inbox.name): node for node in topology}
        self._opened = AsyncExitStack()
        self._admin: AIOKafkaAdminClient = None
        self._consumer: AIOKafkaConsumer = None
        self._spans: dict[Place, tuple[int, int]] = {}
        self._counted: dict[tuple[Place, int, int], int] = {}
        self.standing = GroupStanding()
        """As of the last look; the moment it fails, what was seen before stays beside the error."""

    async def start(self) -> None:
        """Connect.

        Raises:
            Transient: no broker answers.
            KafkaError: the broker refuses.
        """
        self._admin = await self._opened.enter_async_context(admin_client(self._config))
        self._consumer = AIOKafkaConsumer(
            **options(self._config), group_id=None, enable_auto_commit=False, isolation_level="read_committed"
        )
        self._opened.push_async_callback(self._consumer.stop)
        await self._consumer.start()

    async def stop(self) -> None:
        """Disconnect; the last standing stays."""
        await self._opened.aclose()

    async def refresh(self) -> None:
        """Look anew."""
        try:
            self.standing = await self._read()
        except KafkaError as error:
            self.standing = replace(self.standing, error=repr(error))

    async def _read(self) -> GroupStanding:
        coordinator = await self._coordinator()
        (described,) = await self._admin.describe_consumer_groups([self._config.group_id], coordinator)
        state, members = described.groups[0][2], described.groups[0][5]
        noted = await self._admin.list_consumer_group_offsets(self._config.group_id, coordinator)
        shown = {Place(*place): (told.offset, read_shown(told.metadata or "")) for place, told in noted.items()}
        lags = await self._lags({place: offset for place, (offset, _) in shown.items()})
        return GroupStanding(
            state=state,
            workers=tuple(self._worker(member, shown) for member in members),
            nodes=tuple(self._node(place, lag, shown.get(place, (0, Shown()))[1]) for place, lag in lags.items()),
            behind=sum(lag for place, lag in lags.items() if place in shown and not shown[place][1].ready),
        )

    async def _coordinator(self) -> int:
        for _ in range(LOOKS):
            try:
                return int(await self._admin.find_coordinator(self._config.group_id))
            except GroupCoordinatorNotAvailableError:
                await asyncio.sleep(PAUSE)
        return int(await self._admin.find_coordinator(self._config.group_id))

    async def _lags(self, shown: dict[Place, int]) -> dict[Place, int]:
        """Return by inbox partition how much of what is committed is not folded.

        Workers show the offset up to which nothing is left to fold, behind transaction markers too; offsets tell then
        how many wait, a marker among them for each transaction. Where few do and none moves, they are counted. A
        partition that nobody has shown is taken from its beginning.
        """
        there = await topic_ids(self._admin, self._nodes)
        places = [
            Place(topic, partition)
            for topic, node in self._nodes.items()
            if topic in there
            for partition in range(node.inbox.partitions)
        ]
        fresh = [TopicPartition(*place) for place in places if place not in shown]
        starts = await self._consumer.beginning_offsets(fresh) if fresh else {}
        ends = await self._consumer.end_offsets([TopicPartition(*place) for place in places])
        at = {Place(*place): offset for place, offset in starts.items()} | shown
        spans = {place: (at[place], ends[TopicPartition(*place)]) for place in places}
        settled = {place: span for place, span in spans.items() if not self._spans or self._spans.get(place) == span}
        unsure = {place: span for place, span in settled.items() if 0 < span[1] - span[0] <= NEAR}
        self._spans = spans
        self._counted = {key: count for key, count in self._counted.items() if spans.get(key[0]) == key[1:]}
        await self._count({place: span for place, span in unsure.items() if (place, *span) not in self._counted})
        return {place: self._counted.get((place, *span), max(0, span[1] - span[0])) for place, span in spans.items()}

    async def _count(self, spans: dict[Place, tuple[int, int]]) -> None:
        """Count what waits by reading it: where workers have stopped, markers may stand behind what they showed."""
        if not spans:
            return
        found = dict.fromkeys(spans, 0)
        async with reader(self._config, spans) as consumer:
            for place, (offset, _) in spans.items():
                consumer.seek(TopicPartition(*place), offset)
            for _ in range(READS):
                for place, messages in (await consumer.getmany(timeout_ms=WAIT_MS)).items():
                    found[Place(*place)] += len(messages)
                reached = {place: await consumer.position(TopicPartition(*place)) for place in spans}
                if all(reached[place] >= end for place, (_, end) in spans.items()):
                    break
        for place, (offset, end) in spans.items():
            if reached[place] >= end:
                self._counted[place, offset, end] = found[place]

    def _node(self, place: Place, lag: int, shown: Shown) -> NodeStatus:
        return NodeStatus(
            node=self._nodes[place.topic].name,
            partition=place.partition,
            lag=lag,
            rows=shown.rows,
            now=None if shown.now == BEGINNING else shown.now,
        )

    def _worker(self, member: tuple[object, ...], shown: dict[Place, tuple[int, Shown]]) -> WorkerStatus:
        _, client_id, host, _, assignment = member
        told = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
        owned = [Place(*place) for place in told if place.topic in self._nodes]
        names = [shown[place][1].worker for place in owned if place in shown and shown[place][1].worker]
        # Just after a move the words beside an offset may be the former owner's: most of them are not.
        name = max(set(names), key=names.count) if names else str(client_id)
        return WorkerStatus(name=name, host=str(host).lstrip("/"), partitions=len(owned))
