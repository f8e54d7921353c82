"""uvicorn inside a loop that somebody else runs: no signal handlers, a known port, a bounded stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from streamproc.gateway.app import Gateway
from streamproc.gateway.telemetry import dropped
from streamproc.gateway.wire import Limits, Wire, fitting
from streamproc.listening import BACKLOG, listen

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than the pauses of senders, which reuse theirs."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address for a person or a client."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


@asynccontextmanager
async def serve(
    app: ASGIApp, host: str, port: int, *, stop_within: int = 5, limits: Limits | None = None
) -> AsyncIterator[Address]:
    """Serve `app` while the context is open.

    Args:
        app: what to serve.
        host: address or `localhost`; empty for every address.
        port: 0 takes a free one.
        stop_within: seconds that requests in flight may take to end; then they are cut off.
        limits: what connections may take; by default what fits this process.

    Raises:
        Unusable: the address cannot be listened on.
    """
    counter = app.dropped if isinstance(app, Gateway) else dropped(CollectorRegistry())
    wire = Wire(limits or fitting(), counter)
    with listen(host, port) as listener:
        config = uvicorn.Config(
            app,
            http=cast("Any", wire.connect),  # any maker of protocols will do; uvicorn's type asks for a class
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=stop_within,
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        ticking = asyncio.create_task(server.main_loop())
        bound: int = listener.getsockname()[1]
        try:
            yield Address(host or "localhost", bound)
        finally:
            server.should_exit = True
            await ticking
            await server.shutdown(sockets=[listener])
