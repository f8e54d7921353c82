"""The Events API v2: /v2/enqueue and /v2/change/enqueue."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from streamproc.emulator.contract import Checked, Kind, check
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.faults import Fault, FaultKind

_THROTTLED = {
    "status": "throttle exceeded",
    "message": "Requests for this service are arriving too quickly. Please retry later.",
}
_FAILED = {"status": "error", "message": "Internal Server Error"}
_SHOWN = 1000


def events(emulator: Emulator) -> APIRouter:
    """Return the routes that monitoring tools post to."""
    router = APIRouter()

    @router.post("/v2/enqueue")
    async def enqueue(request: Request) -> Response:
        return await _answer(emulator, "alert", request)

    @router.post("/v2/change/enqueue")
    async def change(request: Request) -> Response:
        return await _answer(emulator, "change", request)

    return router


async def _answer(emulator: Emulator, kind: Kind, request: Request) -> Response:
    body = await request.body()
    checked = check(kind, request.headers.get("content-type", ""), body)
    event, path = checked.event, request.url.path
    action = "change" if kind == "change" else str(event.get("event_action", ""))
    fault = emulator.faults.pick(str(event.get("routing_key", "")), action)
    if fault is not None and fault.kind is not FaultKind.DROP_AFTER:
        return await _fail(emulator, kind, request, checked, fault)
    if checked.errors:
        emulator.note(kind, path, event, status=400, errors=checked.errors, raw=_shown(checked, body))
        answer = {"status": "invalid event", "message": "Event object is invalid", "errors": list(checked.errors)}
        return JSONResponse(answer, 400)
    if emulator.limited(event["routing_key"]):
        emulator.note(kind, path, event, status=429)
        return JSONResponse(_THROTTLED, 429)
    if fault is not None:
        emulator.take(kind, path, event, None, fault.kind)
        return await _drop(emulator, request)
    taken = emulator.take(kind, path, event, 202, None)
    told = {"dedup_key": taken.dedup_key} if kind == "alert" else {}
    return JSONResponse({"status": "success", "message": "Event processed", **told}, 202)


async def _fail(emulator: Emulator, kind: Kind, request: Request, checked: Checked, fault: Fault) -> Response:
    status = {FaultKind.STATUS_500: 500, FaultKind.STATUS_429: 429}.get(fault.kind)
    emulator.note(kind, request.url.path, checked.event, status=status, fault=fault.kind)
    if status is not None:
        headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
        return JSONResponse(_THROTTLED if fault.kind is FaultKind.STATUS_429 else _FAILED, status, headers)
    if fault.kind is FaultKind.STALL:
        try:
            async with asyncio.timeout(fault.seconds):
                await _gone(request)
        except TimeoutError:
            return await _drop(emulator, request)
        return Response(status_code=500)
    return await _drop(emulator, request)


async def _drop(emulator: Emulator, request: Request) -> Response:
    emulator.connections.abort(request.scope["client"])
    await _gone(request)
    # Nobody hears this one: the connection is closed.
    return Response(status_code=500)


async def _gone(request: Request) -> None:
    kind = ""
    while kind != "http.disconnect":
        kind = (await request.receive())["type"]


def _shown(checked: Checked, body: bytes) -> str:
    return "" if checked.event else body[:_SHOWN].decode("utf-8", "replace")
