"""How far everything upstream of a node has been folded, by all workers: what wakes wait for.

Each worker shows its positions as group offsets, with the clamp of `now` in the words beside them. They are shown after
the commit, so they lag behind the truth and never run ahead of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from streamproc.core.step import Node, Topology
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust.client import AIOKafkaAdminClient, Place
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends
from streamproc.runtime.faust.shown import read_shown


class Upstream:
    """Asks for ends and shown positions.

    Args:
        config: where.
        topology: what feeds what.
        ends: tells where logs end.
        admin: reads the group's offsets.
    """

    def __init__(self, config: Config, topology: Topology, ends: Ends, admin: AIOKafkaAdminClient) -> None:
        self._config = config
        self._ends = ends
        self._admin = admin
        self._levels = {node.name: levels(topology, node) for node in topology}

    async def folded(self, node: str, now: datetime) -> datetime:
        """Return the moment up to which everything upstream has been folded for good, `now` at most.

        The farthest nodes are asked first: what they emitted before is then in the inboxes of the next ones, whose ends
        are read only afterwards.

        Raises:
            KafkaError: the broker does not answer.
        """
        horizon = now
        for level in self._levels[node]:
            ends = await self._ends.of(self._places(level))
            shown = await self._shown()
            for place, end in ends.items():
                offset, stamp = shown.get(place, (0, BEGINNING))
                if offset < end:
                    # A record with the stamp of the position may still wait: what is folded for good ends before it.
                    horizon = min(horizon, max(BEGINNING, stamp - datetime.resolution))
        return horizon

    async def _shown(self) -> dict[Place, tuple[int, datetime]]:
        found = await self._admin.list_consumer_group_offsets(self._config.group_id)
        return {Place(*place): (noted.offset, read_shown(noted.metadata or "").now) for place, noted in found.items()}

    def _places(self, level: Iterable[Node]) -> list[Place]:
        return [
            Place(self._config.topic(node.inbox.name), partition)
            for node in level
            for partition in range(node.inbox.partitions)
        ]


def levels(topology: Topology, node: Node) -> tuple[tuple[Node, ...], ...]:
    """Return the nodes whose emits may reach the inbox of `node`, itself left out: the farthest first."""
    found: list[tuple[Node, ...]] = []
    seen, inboxes = {node.name}, {node.inbox.name}
    while True:
        more = tuple(
            other
            for other in topology
            if other.name not in seen
            and any(topic.name in inboxes for routes in other.routes.values() for topic, _ in routes)
        )
        if not more:
            return tuple(reversed(found))
        found.append(more)
        seen |= {other.name for other in more}
        inboxes = {other.inbox.name for other in more}
