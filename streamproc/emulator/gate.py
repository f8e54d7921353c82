"""What every request to the REST API v2 meets first: faults, the key, the rate limit, pages; and how it is refused.

Source: PagerDuty/developer-docs, `docs/rest-api-v2/{03-Authentication,05-Errors,06-Pagination,12-Rate-Limiting}.md`.
Two points are stricter than PagerDuty, on purpose: a `limit` over 100 is refused, not cut; and so is an unknown status.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from streamproc.emulator.emulator import Asked, Emulator
from streamproc.emulator.failing import STATUS, drop, fail, slow
from streamproc.emulator.faults import FaultKind

LAST = 10_000
"""`offset` and `limit` together may not be over it."""
MOST = 100
USUAL = 25
THROTTLED, INVALID, UNAUTHORISED, NOBODY, MISSING = 2020, 2001, 2006, 1008, 2100
"""Codes of PagerDuty's errors; those of 401 and 404 are not documented."""
_SCHEME = "Token token="


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, code: int, *errors: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = _error(message, code, *errors)


def invalid(*errors: str) -> Refused:
    """Return the refusal of a request that says something wrong."""
    return Refused(400, "Invalid Input Provided", INVALID, *errors)


def not_found() -> Refused:
    """Return the refusal of a request for something that there is not."""
    return Refused(404, "Not Found", MISSING)


class Gate(APIRoute):
    """A route of the REST API."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with what stands before it."""
        answer = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            return await _guard(request, answer)

        return guarded


def writer(emulator: Emulator, request: Request) -> str:
    """Return the name of the person that `From` names.

    Raises:
        Refused: there is no such header, or no such person.
    """
    email = request.headers.get("from", "")
    if not email:
        raise invalid("The 'From' header is required: the email address of a user of this account")
    found = (user.name for user in emulator.directory.users if user.email == email)
    name = next(found, None)
    if name is None:
        raise Refused(400, "Requester User Not Found", NOBODY)
    return name


def page(request: Request, name: str, found: Sequence[Any], show: Callable[[Any], Any]) -> dict[str, Any]:
    """Return one page of what was found, each shown by `show`.

    Raises:
        Refused: `limit` or `offset` are none, or beyond the bounds.
    """
    query = request.query_params
    try:
        limit, offset = int(query.get("limit", USUAL)), int(query.get("offset", 0))
    except ValueError:
        raise invalid("limit and offset must be whole numbers") from None
    if not 1 <= limit <= MOST or offset < 0:
        raise invalid(f"limit must be from 1 to {MOST}, offset not below 0")
    if offset + limit > LAST:
        raise invalid(f"Offset must be less than {LAST - limit + 1}")
    return {
        name: [show(one) for one in found[offset : offset + limit]],
        "limit": limit,
        "offset": offset,
        "more": offset + limit < len(found),
        "total": len(found) if query.get("total") == "true" else None,
    }


async def _guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    emulator: Emulator = request.app.state.emulator
    fault = await slow(emulator.faults.pick("", "rest"))
    if fault is not None and fault.kind is not FaultKind.DROP_AFTER:
        _note(emulator, request, STATUS.get(fault.kind), fault.kind)
        return await fail(emulator, request, fault, _FAULTS, {})
    response = await _answered(emulator, request, answer)
    if fault is not None:
        _note(emulator, request, None, fault.kind)
        return await drop(emulator, request)
    _note(emulator, request, response.status_code, None)
    return response


async def _answered(emulator: Emulator, request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    key = request.headers.get("authorization", "").removeprefix(_SCHEME)
    if not key or key == request.headers.get("authorization") or emulator.config.api_key not in ("", key):
        return JSONResponse(_error("Invalid Credentials", UNAUTHORISED), HTTPStatus.UNAUTHORIZED)
    left, reset = emulator.rest_left(key)
    headers = {
        "ratelimit-limit": str(emulator.rest_limit),
        "ratelimit-remaining": str(max(0, left)),
        "ratelimit-reset": str(reset),
    }
    if left < 0:
        return JSONResponse(_FAULTS[FaultKind.STATUS_429], HTTPStatus.TOO_MANY_REQUESTS, headers)
    try:
        response = await answer(request)
    except Refused as refused:
        response = JSONResponse(refused.body, refused.status)
    except RequestValidationError as error:
        errors = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()]
        response = JSONResponse(invalid(*errors).body, HTTPStatus.BAD_REQUEST)
    response.headers.update(headers)
    return response


def _note(emulator: Emulator, request: Request, status: int | None, fault: FaultKind | None) -> None:
    url = request.url
    asked = Asked(
        at=emulator.clock(), method=request.method, path=url.path, query=url.query, status=status, fault=fault
    )
    emulator.rest_requests.append(asked)


def _error(message: str, code: int, *errors: str) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "errors": list(errors)}}


_FAULTS = {
    FaultKind.STATUS_429: _error("Rate Limit Exceeded", THROTTLED),
    FaultKind.STATUS_500: _error("Internal Server Error", 2000),
}
