"""Refusals: the one shape in which the gateway says no, `{"error": {"reason", "message", "mend"}}`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from streamproc.core.errors import Rejected, Transient
from streamproc.core.record import EMPTY

NO_HEADERS: Mapping[str, str] = {}
FAULTS_TOLD, MESSAGE_LIMIT = 5, 1000


class ErrorDetail(BaseModel):
    """What is wrong with a request and how to mend it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    reason: str
    """A short stable word, for programs."""
    message: str
    """What is wrong, for people."""
    mend: str
    """What to do about it."""


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(frozen=True)

    error: ErrorDetail


class Refusal(Rejected):
    """A request that is answered with `status`; `mend` says what the sender can do."""

    def __init__(
        self, status: int, reason: str, message: str, mend: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        super().__init__(reason, message)
        self.status = status
        self.mend = mend
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it goes over the wire."""

    status: int
    body: bytes
    headers: Mapping[str, bytes] = field(default_factory=lambda: EMPTY)

    @classmethod
    def of(cls, refusal: Refusal) -> Reply:
        """Return the answer to a refused request."""
        detail = ErrorDetail(reason=refusal.reason, message=str(refusal), mend=refusal.mend)
        headers = {name: text.encode("latin-1", "replace") for name, text in refusal.headers.items()}
        return cls(refusal.status, ErrorBody(error=detail).model_dump_json().encode(), headers)

    def response(self) -> Response:
        """Return it as FastAPI wants it."""
        headers = {name: text.decode("latin-1") for name, text in self.headers.items()}
        return Response(self.body, self.status, headers, media_type="application/json")


def overloaded(error: Transient, retry_after: int) -> Refusal:
    """Return the refusal for a log that takes nothing now: 503, because senders drop what gets a 4xx.

    Args:
        error: what the log said; its `retry_after` counts where it names one.
        retry_after: seconds, where it names none.
    """
    seconds = retry_after if error.retry_after is None else max(1, math.ceil(error.retry_after))
    mend = "Nothing was taken. Send the same request again after the seconds in Retry-After."
    return Refusal(503, "overloaded", str(error), mend, {"retry-after": str(seconds)})


DEFECT = Reply.of(
    Refusal(500, "internal", "streamproc failed on this request.", "Its log has the traceback; sending again is safe.")
)
_GENERAL = {
    404: ("not_found", "GET /openapi.json lists every path."),
    405: ("method_not_allowed", "The header Allow names the methods of this path."),
}


def install(app: FastAPI, retry_after: int) -> None:
    """Give every error of `app` the one shape."""

    async def refused(_: Request, error: Refusal) -> Response:
        return Reply.of(error).response()

    async def failed(_: Request, error: Transient) -> Response:
        return Reply.of(overloaded(error, retry_after)).response()

    async def routed(_: Request, error: HTTPException) -> Response:
        reason, mend = _GENERAL.get(error.status_code, ("refused", "GET /openapi.json describes every path."))
        return Reply.of(Refusal(error.status_code, reason, error.detail, mend, error.headers or NO_HEADERS)).response()

    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return Reply.of(unprocessable(error.errors())).response()

    async def defective(_: Request, __: Exception) -> Response:
        return DEFECT.response()

    handlers: dict[Any, Any] = {
        Refusal: refused,
        Transient: failed,
        HTTPException: routed,
        RequestValidationError: invalid,
        Exception: defective,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def unprocessable(errors: Sequence[Any]) -> Refusal:
    """Return the refusal for what pydantic found: 422, the first places and what is wrong there."""
    told = (f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in errors[:FAULTS_TOLD])
    message = "; ".join(told)[:MESSAGE_LIMIT]
    return Refusal(422, "invalid", message, "GET /openapi.json describes what is expected.")
