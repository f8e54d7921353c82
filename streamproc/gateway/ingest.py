"""POST /v1/ingest/{source}: one raw record a request, answered 202 only when it is durable.

A plain ASGI application beside FastAPI's router, because every alert of the house comes through here: measured, a
FastAPI route costs four times as much. `DESCRIPTION` puts it into OpenAPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from starlette.types import Receive, Scope, Send

from streamproc.core.errors import Rejected, Transient
from streamproc.core.trace import TRACEPARENT
from streamproc.events.raw import RawAlert
from streamproc.gateway.access import SCHEME, Gate
from streamproc.gateway.body import read_json
from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.durable import append
from streamproc.gateway.refusal import DEFECT, Refusal, Reply, overloaded
from streamproc.gateway.room import Room
from streamproc.gateway.telemetry import INGEST_ROUTE, Telemetry
from streamproc.gateway.tracing import Tracing
from streamproc.ports import Entry, Inlet
from streamproc.sources import SOURCES, Refused, envelope

PREFIX = "/v1/ingest/"
TOPIC = "alerts.raw"
HEADERS: Mapping[str, Mapping[str, bytes]] = {
    source: {"type": RawAlert.TYPE.encode(), "source": source.encode()} for source in SOURCES
}
MENDS = {
    "alertmanager": "Send Alertmanager's webhook body, version 4, without a custom payload template.",
    "datadog": "Use the payload template of docs/sources.md in the Datadog webhook.",
    "generic": "Send the generic JSON of docs/sources.md.",
}


class Ingest:
    """The ASGI application behind `PREFIX`."""

    def __init__(
        self, config: GatewayConfig, inlet: Inlet, gate: Gate, telemetry: Telemetry, room: Room, tracing: Tracing
    ) -> None:
        self._config = config
        self._inlet = inlet
        self._gate = gate
        self._telemetry = telemetry
        self._room = room
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a defect is answered 500, which senders repeat, and goes on to the server's log."""
        started = perf_counter()
        source = scope["path"][len(PREFIX) :]
        headers = dict(scope["headers"])
        traced = self._tracing.begin(headers.get(TRACEPARENT.encode()))
        reply = DEFECT
        try:
            reply = await self._reply(source, scope, headers, receive, traced.carried)
        finally:
            if reply is DEFECT:
                self._telemetry.rejected.labels(_label(source), "internal").inc()
            await _answer(send, reply)
            self._telemetry.answered(INGEST_ROUTE, reply.status, started)
            self._tracing.end(traced, source, reply.status)

    async def _reply(
        self, source: str, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, trace: bytes | None
    ) -> Reply:
        try:
            count = await self._take(source, scope, headers, receive, trace)
        except Transient as error:
            refusal = overloaded(error, self._config.retry_after)
        except Refusal as error:
            refusal = error
        else:
            self._telemetry.alerts.labels(source).inc(count)
            return Reply(202, b'{"accepted":%d}' % count)
        self._telemetry.rejected.labels(_label(source), refusal.reason).inc()
        return Reply.of(refusal)

    async def _take(
        self, source: str, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, trace: bytes | None
    ) -> int:
        """Return how many alerts a request brought, once it is in the log."""
        if source not in HEADERS:
            message = f"No source is called {source[:40]!r}."
            raise Refusal(404, "unknown_source", message, f"Post to {PREFIX} and one of {', '.join(SOURCES)}.")
        if scope["method"] != "POST":
            raise Refusal(405, "method_not_allowed", "Alerts are posted.", "Use POST.", {"allow": "POST"})
        self._gate.admit("POST", headers)
        with self._room.enter(source) as place:
            body = await read_json(headers, receive, self._config, place.hold)
            return await self._append(source, body, trace)

    async def _append(self, source: str, body: bytes, trace: bytes | None) -> int:
        try:
            found = envelope(source, body)
        except Rejected as refusal:
            status = 400 if refusal.reason == Refused.NOT_JSON else 422
            raise Refusal(status, refusal.reason, f"{refusal}.", MENDS[source]) from None
        record_headers = HEADERS[source]
        if trace is not None:
            record_headers = {**record_headers, TRACEPARENT: trace}
        entry = Entry(TOPIC, found.group.encode("utf-8", "replace"), body, record_headers)
        await append(self._inlet, entry, self._config.append_timeout)
        return found.count


def _label(source: str) -> str:
    return source if source in HEADERS else "unknown"


async def _answer(send: Send, reply: Reply) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply.body))]
    headers.extend((name.encode(), text) for name, text in reply.headers.items())
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


_ERROR = {"$ref": "#/components/schemas/ErrorBody"}
_SAYS = {
    "400": "The body is not valid JSON, or broken gzip.",
    "401": "The token is missing or wrong.",
    "403": "A web page of another site sent it.",
    "404": "No such source.",
    "405": "Alerts are posted: the header `Allow` says so.",
    "413": "The body is larger than the limit.",
    "415": "The content type or encoding is not understood.",
    "422": "The body is JSON, but not of this source's shape.",
    "500": "A defect; sending again is safe.",
    "503": "The log takes nothing now, nothing was taken: send the same request again after `Retry-After` seconds.",
}


def _response(says: str) -> dict[str, Any]:
    return {"description": says, "content": {"application/json": {"schema": _ERROR}}}


DESCRIPTION: dict[str, Any] = {
    "post": {
        "tags": ["ingest"],
        "summary": "Take alerts of a monitoring system",
        "description": "Answers 202 only when the alerts are durable. Takes gzip; keeps a `traceparent` header.",
        "operationId": "ingest",
        "security": [{SCHEME: []}],
        "parameters": [
            {"name": "source", "in": "path", "required": True, "schema": {"type": "string", "enum": list(SOURCES)}}
        ],
        "requestBody": {
            "required": True,
            "description": "The webhook body of the source, as it comes.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "responses": {
            "202": {
                "description": "The alerts are in the log.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["accepted"],
                            "properties": {"accepted": {"type": "integer", "minimum": 0}},
                        }
                    }
                },
            },
            **{status: _response(says) for status, says in _SAYS.items()},
        },
    }
}
