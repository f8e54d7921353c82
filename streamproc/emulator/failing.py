"""How a request fails that a fault meets, the same for the Events API and the REST API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from streamproc.emulator.emulator import Emulator
from streamproc.emulator.faults import Fault, FaultKind

STATUS = {FaultKind.STATUS_500: 500, FaultKind.STATUS_429: 429}
"""HTTP status of the faults that answer."""


async def fail(
    emulator: Emulator, request: Request, fault: Fault, bodies: Mapping[FaultKind, Any], headers: Mapping[str, str]
) -> Response:
    """Let a request fail that is not taken.

    Args:
        emulator: whose connections are cut.
        request: the request.
        fault: how it fails.
        bodies: what the faults that answer say.
        headers: what goes with them, beside Retry-After.
    """
    status = STATUS.get(fault.kind)
    if status is not None:
        told = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
        return JSONResponse(bodies[fault.kind], status, {**headers, **told})
    if fault.kind is FaultKind.STALL:
        try:
            async with asyncio.timeout(fault.seconds):
                await _gone(request)
        except TimeoutError:
            return await drop(emulator, request)
        return Response(status_code=500)
    return await drop(emulator, request)


async def drop(emulator: Emulator, request: Request) -> Response:
    """Close the connection without an answer."""
    emulator.connections.abort(request.scope["client"])
    await _gone(request)
    # Nobody hears this one: the connection is closed.
    return Response(status_code=500)


async def slow(fault: Fault | None) -> Fault | None:
    """Wait where the fault is a slow answer; return the fault that is then left."""
    if fault is None or fault.kind is not FaultKind.SLOW:
        return fault
    await asyncio.sleep(fault.seconds)
    return None


async def _gone(request: Request) -> None:
    kind = ""
    while kind != "http.disconnect":
        kind = (await request.receive())["type"]
