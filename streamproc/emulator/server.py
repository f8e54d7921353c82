"""Run the emulator on a port, inside whichever event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streamproc.core.errors import Unusable
from streamproc.emulator.app import build
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.emulator import Connections, Emulator
from streamproc.listening import listen

_STOP_WITHIN = 2


@dataclass(frozen=True)
class Served:
    """An emulator that answers."""

    emulator: Emulator
    host: str
    port: int
    _server: uvicorn.Server
    _task: asyncio.Task[None]

    @property
    def url(self) -> str:
        """Base address, for example `http://127.0.0.1:8081`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def stop(self) -> None:
        """Stop listening, cut what still runs after 2 s, give up webhooks."""
        self._server.should_exit = True
        await self._task


async def serve(config: EmulatorConfig, host: str = "127.0.0.1", port: int = 0) -> Served:
    """Start an emulator and return once it answers. Signals are left to the caller.

    Args:
        config: how it behaves.
        host: address to listen on.
        port: port to listen on, 0 for any that is free.

    Raises:
        Unusable: the address cannot be listened on, or the record not be written.
    """
    app: FastAPI = build(config)
    emulator: Emulator = app.state.emulator
    try:
        listener = listen(host, port)
    except Unusable:
        await emulator.aclose()
        raise
    settings = uvicorn.Config(
        app,
        http=_remembering(emulator.connections),
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_STOP_WITHIN,
    )
    server = _Server(settings)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await server.answers.wait()
    return Served(emulator, host, listener.getsockname()[1], server, task)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _remembering(connections: Connections) -> type[asyncio.Protocol]:
    class Remembering(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            connections.add(self.client, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.remove(self.client)
            super().connection_lost(exc)

    return Remembering
