"""Where traces begin, or are joined: the span of an ingest request, whose `traceparent` travels with the record."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from streamproc.core.trace import Attribute, Span, Trace, parse
from streamproc.gateway.telemetry import INGEST_ROUTE
from streamproc.ports import Traces

STRANGERS = frozenset({401, 403, 404, 405})
"""Answers to requests that were not let in: they make no spans, so strangers cannot fill the collector."""
FAILED = 500


@dataclass(slots=True)
class Request:
    """What is traced of one request."""

    began: datetime
    parent: Trace | None
    trace: Trace | None
    """The request's span; None where none is wanted."""

    @property
    def carried(self) -> bytes | None:
        """The `traceparent` that the record keeps, None where it belongs to no trace."""
        trace = self.trace or self.parent
        return None if trace is None else trace.header()


class Tracing:
    """Begins and ends the spans of ingest requests.

    Args:
        traces: where spans go; None where none are made: a `traceparent` is kept nevertheless.
        clock: the moment (UTC).
    """

    def __init__(self, traces: Traces | None, clock: Callable[[], datetime]) -> None:
        self._traces = traces
        self._clock = clock

    def begin(self, header: bytes | None) -> Request:
        """Begin with a request.

        Args:
            header: its `traceparent`; one that is none counts as absent.
        """
        parent = None if header is None else parse(header)
        return Request(self._clock(), parent, self._span(parent))

    def _span(self, parent: Trace | None) -> Trace | None:
        if self._traces is None:
            return None
        if parent is not None:
            return Trace(parent.trace_id, secrets.token_hex(8)) if parent.sampled else None
        trace_id = secrets.token_hex(16)
        return Trace(trace_id, secrets.token_hex(8)) if self._traces.samples(trace_id) else None

    def end(self, request: Request, source: str, status: int) -> None:
        """Tell of a request that is answered."""
        if self._traces is None or request.trace is None or status in STRANGERS:
            return
        attributes: dict[str, Attribute] = {
            "http.request.method": "POST",
            "http.route": INGEST_ROUTE,
            "http.response.status_code": status,
            "streamproc.source": source,
        }
        self._traces.add(
            Span(
                name=f"POST {INGEST_ROUTE}",
                kind="server",
                trace=request.trace,
                parent=request.parent,
                start=request.began,
                end=self._clock(),
                attributes=attributes,
                error=f"answered {status}" if status >= FAILED else "",
            )
        )
