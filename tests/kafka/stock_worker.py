"""A worker on Faust's own consumer, broken as its name says: it goes on where Faust's offsets stand, not where rows do.

Everything else is right: each record is folded and committed with its rows in one transaction of its partition.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import faust

from streamproc.core.fold import Lookups, fold
from streamproc.core.record import Position
from streamproc.core.step import Node
from streamproc.core.table import encode_rows
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import Place
from streamproc.runtime.faust.codec import record_of
from streamproc.runtime.faust.commit import Router, commit, state_lines
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.ends import Ends
from streamproc.runtime.faust.part import Claims, OwnedPart
from streamproc.runtime.faust.versions import Versions
from tests.support import toy


class Stock:
    """Parts by topic partition, and what it takes to fold for them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ends = Ends(config)
        self.versions = Versions(config, self.ends)
        self.router = Router(config, toy.TOPICS)
        self.lookups = Lookups(self.versions.find)
        self.claims: Claims | None = None
        self.parts: dict[Place, OwnedPart] = {}

    async def start(self) -> None:
        standing = await catalogue.describe(self.config, catalogue.wanted(toy.TOPICS, toy.TOY, self.config))
        ids = {name: standing[self.config.topic(name)].topic_id for name in toy.TOPICS}
        await self.ends.start()
        await self.versions.start()
        self.claims = Claims(self.config, ids, self.ends, self.versions)

    async def take(self, node: Node, message: Any) -> None:
        """Fold what Faust brings; its word counts for where we are."""
        assert self.claims is not None
        place = Place(message.topic, message.partition)
        if place not in self.parts:
            self.parts[place] = await self.claims.claim(node, message.partition)
        part = self.parts[place]
        await self.versions.catch_up()
        told = record_of(message, node.inbox.name)
        folded = fold(node, [told], part.rows, part.position, self.lookups, toy.LETTERS)
        written = encode_rows(folded.changes)
        batches = self.router.route(folded.emits)
        position = Position(told.offset + 1, folded.position.now, folded.position.topic_id)
        batches[Place(self.config.state_topic(node.name), part.partition)] = state_lines(written, position)
        await commit(part.producer, batches)
        part.rows.install(folded.changes, written)
        part.position = position


def app_of(config: Config, stock: Stock) -> Any:
    app = faust.App(
        config.group_id,
        broker=[f"kafka://{address}" for address in config.bootstrap],
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=config.session_timeout,
        broker_heartbeat_interval=1.0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=2,
        datadir=tempfile.mkdtemp(),
    )
    for node in toy.TOY:
        _add_agent(app, stock, node)

    async def revoked(*_: Any, **__: Any) -> None:
        parts, stock.parts = stock.parts, {}
        for part in parts.values():
            await part.producer.stop()

    app.on_partitions_revoked.connect(revoked, weak=False)
    return app


def _add_agent(app: Any, stock: Stock, node: Node) -> None:
    async def fold_each(stream: Any) -> None:
        async for event in stream.events():
            await stock.take(node, event.message)

    inbox = app.topic(stock.config.topic(node.inbox.name), value_serializer="raw", key_serializer="raw")
    app.agent(inbox, name=node.name)(fold_each)


async def main(told: dict[str, str]) -> None:
    told.pop("world")
    config = Config.model_validate(told)
    stock = Stock(config)
    await stock.start()
    app = app_of(config, stock)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await app.start()
    print("ready", flush=True)  # noqa: T201  the test waits for it
    await asked.wait()
    await asyncio.wait_for(app.stop(), 10)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
