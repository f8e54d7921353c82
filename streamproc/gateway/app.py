"""The gateway as one application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter
from starlette.types import Receive, Scope, Send

from streamproc import __version__
from streamproc.gateway import console, feedback, ingest, operations, refusal
from streamproc.gateway.access import Gate, Keys
from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.pagerduty import Foreign
from streamproc.gateway.room import Room
from streamproc.gateway.telemetry import INGEST_ROUTE, Observed, Telemetry
from streamproc.gateway.tracing import Tracing
from streamproc.ports import Desk, Inlet, Traces
from streamproc.reconcile.report import ReconciliationStatus


def utc_now() -> datetime:
    """Return the moment, for what people give without one and for ages on the status page."""
    return datetime.now(UTC)


class Gateway(FastAPI):
    """FastAPI, with the ingest path taken out before the router, and put back into OpenAPI."""

    def __init__(self, taking: ingest.Ingest, dropped: Counter) -> None:
        super().__init__(
            title="streamproc",
            version=__version__,
            summary="Alerts and webhooks in; incidents, decisions and dead letters out.",
            docs_url=None,  # they load their scripts from elsewhere
            redoc_url=None,
            telemetry={"auto_configure": False},
        )
        self._taking = taking
        self.dropped = dropped
        """Counts connections that the server closes, by reason."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"].startswith(ingest.PREFIX):
            await self._taking(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the description of every path."""
        described = super().openapi()
        described["paths"].setdefault(INGEST_ROUTE, ingest.DESCRIPTION)
        described["components"]["schemas"].update(feedback.SCHEMAS)
        return described


def build(
    config: GatewayConfig,
    inlet: Inlet,
    desk: Desk,
    registry: CollectorRegistry,
    clock: Callable[[], datetime] = utc_now,
    keys: Keys | None = None,
    probed: operations.Probed | None = None,
    traces: Traces | None = None,
    reconciliation: Callable[[], ReconciliationStatus] = operations.not_reconciled,
    hear_foreign: Callable[[Foreign], Awaitable[None]] | None = None,
) -> FastAPI:
    """Return the gateway.

    Args:
        config: its settings; `check_binding` is the caller's, before it listens.
        inlet: where records go.
        desk: what is looked at; its methods are called in threads, several at a time.
        registry: where metrics are kept and shown from.
        clock: the moment (UTC).
        keys: tokens and signing secrets, where they may change while it runs; those of `config` by default.
        probed: what `/ready` asks, where that is not the desk: alerts may be taken before what is shown has caught up.
        traces: where spans of ingest requests go; None where none are made.
        reconciliation: how the comparison with PagerDuty stands; called on the event loop.
        hear_foreign: told of incidents of PagerDuty that are not ours, where somebody wants that.
    """
    telemetry = Telemetry(registry)
    keys = keys or Keys(config)
    gate = Gate(keys)
    room = Room(config)
    app = Gateway(ingest.Ingest(config, inlet, gate, telemetry, room, Tracing(traces, clock)), telemetry.dropped)
    refusal.install(app, config.retry_after)
    app.add_middleware(Observed, telemetry=telemetry)
    app.include_router(operations.health(probed or desk, registry))
    app.include_router(feedback.router(config, inlet, desk, gate, keys, telemetry, room, clock, hear_foreign))
    app.include_router(operations.router(config, inlet, desk, gate, reconciliation))
    app.include_router(console.router(desk, gate, clock))
    return app
