"""Metrics of the gateway: what came in over HTTP, how fast it was answered and why it was refused."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamproc.events.feedback import FeedbackKind
from streamproc.gateway.wire import DROPPED
from streamproc.sources import SOURCES, Refused

INGEST_ROUTE = "/v1/ingest/{source}"
REASONS = (
    "body_too_slow",
    "broken_gzip",
    "content_encoding",
    "content_type",
    "cross_site",
    "cut_short",
    "internal",
    "method_not_allowed",
    "over_share",
    "overloaded",
    "public_host",
    "too_large",
    "too_many_in_flight",
    "unauthorized",
    "unknown_source",
)
"""Why ingest refuses a request before it looks at the body's envelope."""
ENVELOPE_REASONS = (Refused.NOT_JSON, Refused.WRONG_SHAPE, Refused.TOO_MANY_ALERTS, Refused.TOO_DEEP)
STATUSES = (202, 400, 401, 403, 404, 405, 413, 415, 422, 500, 503)
UNUSED = ("foreign", "ignored", "unjoined", "unreadable")
"""What becomes of webhook events that are no feedback for us."""
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SAFE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Telemetry:
    """The gateway's metrics, all closed label sets from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "streamproc_http_requests_total", "Requests answered.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "streamproc_http_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.rejected = Counter(
            "streamproc_http_rejected_total",
            "Ingest requests that were not taken, and why.",
            ("source", "reason"),
            registry=registry,
        )
        self.alerts = Counter(
            "streamproc_ingest_alerts_total", "Alerts in taken requests.", ("source",), registry=registry
        )
        self.feedback = Counter(
            "streamproc_feedback_total",
            "What people did, and webhook events that were of no use.",
            ("kind",),
            registry=registry,
        )
        self.dropped = dropped(registry)
        for source in SOURCES:
            self.alerts.labels(source)
        for source in (*SOURCES, "unknown"):
            for reason in (*REASONS, *ENVELOPE_REASONS):
                self.rejected.labels(source, str(reason))
        for kind in (*FeedbackKind, *UNUSED):
            self.feedback.labels(str(kind))
        for status in STATUSES:
            self.requests.labels(INGEST_ROUTE, str(status))
        self.seconds.labels(INGEST_ROUTE)
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}  # bounded by routes and statuses

    def answered(self, route: str, status: int, started: float) -> None:
        """Count an answer; `started` is of `perf_counter`."""
        answered = self._answered.get((route, status))
        if answered is None:  # looking a series up costs more than counting in it
            answered = self.requests.labels(route, str(status)), self.seconds.labels(route)
            self._answered[route, status] = answered
        requests, seconds = answered
        requests.inc()
        seconds.observe(perf_counter() - started)


def dropped(registry: CollectorRegistry) -> Counter:
    """Return the counter of connections that the server closes."""
    counter = Counter(
        "streamproc_http_dropped_total",
        "Connections closed against their client's will, and why.",
        ("reason",),
        registry=registry,
    )
    for reason in DROPPED:
        counter.labels(reason)
    return counter


class Observed:
    """ASGI middleware: counts every answer by its route, and forbids guessing its type and storing it."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_SAFE]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._telemetry.answered(_route(scope), status, started)


def _route(scope: Mapping[str, object]) -> str:
    """Return the pattern of the route that answered, so that paths of strangers make no label."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"
