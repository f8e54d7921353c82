"""The emulator as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.control import control
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.events import events
from streamproc.emulator.page import PAGE
from streamproc.emulator.rest import rest
from streamproc.emulator.rest_incidents import incidents


def build(
    config: EmulatorConfig,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    webhook_transport: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """Return the application; `app.state.emulator` is its `Emulator`.

    Faults that drop or stall a connection work only where `serve` runs it.
    """
    emulator = Emulator(config, clock, webhook_transport)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await emulator.aclose()

    app = FastAPI(title="PagerDuty emulator", lifespan=lifespan)
    app.state.emulator = emulator
    app.include_router(events(emulator))
    app.include_router(control(emulator))
    app.include_router(incidents(emulator))
    app.include_router(rest(emulator))

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE

    return app
