"""The Faust app of a worker: no web, no tables, no producer and no topics of its own; one agent for each node."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import faust
from faust.app.base import BootStrategy
from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials
from faust.types.auth import CredentialsT

from streamproc.core.record import Record
from streamproc.core.step import Node, Topology
from streamproc.runtime.faust import delivery
from streamproc.runtime.faust.client import options
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.folding import Folding
from streamproc.runtime.faust.part import OwnedPart

if TYPE_CHECKING:
    from streamproc.runtime.faust.worker import Worker

HEARTBEAT = 1.0
SHOW_EVERY = 0.5
"""Seconds between showing positions to others."""
FETCH = 1024 * 1024
FETCHED_AT_ONCE = 8000


class MicroBatch:
    """What an agent of a node receives: records of one partition, to be folded and committed together."""

    def __init__(self, folding: Folding, part: OwnedPart, records: Sequence[Record]) -> None:
        self._folding = folding
        self._part = part
        self._records = records
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Fold and commit; whoever handed it over hears what came of it through `done`."""
        try:
            await self._folding.take(self._part, self._records)
        except BaseException as error:
            if not self.done.done():
                self.done.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            if not self.done.done():
                self.done.set_result(None)


class _Boot(BootStrategy):
    enable_kafka_producer = False


class App(faust.App):
    """Faust's app with our transport."""

    BootStrategy = _Boot
    worker: Worker

    def _new_transport(self) -> Any:
        return delivery.Transport(self.conf.broker_consumer, self)

    async def on_first_start(self) -> None:
        """Keep Faust from making a directory: nothing of ours is on this machine's disk."""


def add_agent(app: App, node: Node) -> Any:
    """Give a node its agent; micro-batches of different partitions run side by side, those of one come one by one."""
    channel = app.channel()

    @app.agent(channel, name=f"streamproc.{node.name}", concurrency=node.inbox.partitions)
    async def fold_and_commit(batches: Any) -> None:
        async for batch in batches:
            await batch.run()

    return channel


def credentials(config: Config) -> CredentialsT | None:
    """Return how Faust's consumer logs in: as all other clients do, None where there is nothing to say."""
    context = config.ssl_context()
    if config.sasl == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=options(config)["sasl_oauth_token_provider"], ssl_context=context)
    if config.sasl is not None:
        password = config.password.get_secret_value()
        return SASLCredentials(username=config.username, password=password, ssl_context=context, mechanism=config.sasl)
    return None if context is None else SSLCredentials(context)


def build_app(config: Config, worker: Worker, topology: Topology) -> App:
    """Return the Faust app of a worker: no web, no tables, no topics of its own, no producer."""
    app = App(
        config.group_id,
        broker=[f"kafka://{address}" for address in config.bootstrap],
        broker_client_id=config.client_id,
        broker_credentials=credentials(config),
        consumer_group_instance_id=config.instance,
        consumer_auto_offset_reset="none",
        consumer_max_fetch_size=FETCH,
        broker_max_poll_records=FETCHED_AT_ONCE,
        broker_check_crcs=False,
        broker_session_timeout=config.session_timeout,
        broker_rebalance_timeout=config.session_timeout,
        broker_heartbeat_interval=min(HEARTBEAT, config.session_timeout / 3),
        broker_request_timeout=max(config.session_timeout + 1, 15.0),
        broker_commit_interval=SHOW_EVERY,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=max(node.inbox.partitions for node in topology),
        web_enabled=False,
        datadir=tempfile.gettempdir(),
        autodiscover=False,
    )
    app.worker = worker
    return app
