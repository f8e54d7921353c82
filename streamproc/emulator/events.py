"""The Events API v2: /v2/enqueue and /v2/change/enqueue."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from streamproc.emulator.contract import Checked, Kind, check
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.failing import STATUS, drop, fail, slow
from streamproc.emulator.faults import Fault, FaultKind

_THROTTLED = {
    "status": "throttle exceeded",
    "message": "Requests for this service are arriving too quickly. Please retry later.",
}
_FAILED = {"status": "error", "message": "Internal Server Error"}
_BODIES = {FaultKind.STATUS_429: _THROTTLED, FaultKind.STATUS_500: _FAILED}
_LATER = (FaultKind.DROP_AFTER, FaultKind.SWALLOW)
"""Faults that meet a request which is as it must be."""
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
    fault = await slow(emulator.faults.pick(str(event.get("routing_key", "")), action))
    if fault is not None and fault.kind not in _LATER:
        return await _fail(emulator, kind, request, checked, fault)
    if checked.errors:
        emulator.note(kind, path, event, status=400, errors=checked.errors, raw=_shown(checked, body))
        answer = {"status": "invalid event", "message": "Event object is invalid", "errors": list(checked.errors)}
        return JSONResponse(answer, 400)
    if emulator.limited(event["routing_key"]):
        emulator.note(kind, path, event, status=429)
        return JSONResponse(_THROTTLED, 429)
    if fault is not None and fault.kind is FaultKind.DROP_AFTER:
        emulator.take(kind, path, event, None, fault.kind)
        return await drop(emulator, request)
    if fault is not None:
        taken = emulator.note(kind, path, event, status=202, fault=fault.kind)
    else:
        taken = emulator.take(kind, path, event, 202, None)
    told = {"dedup_key": taken.dedup_key} if kind == "alert" else {}
    return JSONResponse({"status": "success", "message": "Event processed", **told}, 202)


async def _fail(emulator: Emulator, kind: Kind, request: Request, checked: Checked, fault: Fault) -> Response:
    emulator.note(kind, request.url.path, checked.event, status=STATUS.get(fault.kind), fault=fault.kind)
    return await fail(emulator, request, fault, _BODIES, {})


def _shown(checked: Checked, body: bytes) -> str:
    return "" if checked.event else body[:_SHOWN].decode("utf-8", "replace")
