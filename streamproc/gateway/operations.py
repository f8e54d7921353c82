"""Health, metrics and the operations API: what people and probes ask about the pipeline."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol, Self

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import AwareDatetime, BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from streamproc.core.event import DeadLetter
from streamproc.gateway.access import Gate
from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.durable import append
from streamproc.gateway.refusal import ErrorBody, Refusal
from streamproc.ports import Desk, Entry, Inlet
from streamproc.reconcile.report import ReconciliationStatus
from streamproc.views import IncidentSummary, IncidentView, PipelineStatus

PREVIEW = 200
"""Characters of a dead letter's value in a list."""

Limit = Annotated[int, Query(ge=1, le=500, description="At most this many.")]
Before = Annotated[str, Query(description="The list goes on after this one: `next` of the page before.")]


class Live(BaseModel):
    """The process answers."""

    live: Literal[True] = True


class Ready(BaseModel):
    """Whether events are processed."""

    ready: bool
    why_not: str


class Incidents(BaseModel):
    """A page of incidents, the latest change first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    incidents: list[IncidentSummary]
    next: str | None
    """Give this as `before` to go on; null at the end."""


class LetterSummary(BaseModel):
    """A dead letter without its bytes."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    letter_id: str
    reason: str
    detail: str
    node: str
    stage: str
    topic: str
    partition: int
    offset: int
    part: int
    now: AwareDatetime | None
    size: int
    """Bytes of the value."""
    preview: str
    """Beginning of the value as text."""

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """Return the summary of a dead letter."""
        return cls(
            **letter.model_dump(exclude={"value", "headers"}),
            letter_id=letter.letter_id,
            size=len(letter.value),
            preview=letter.value[: PREVIEW * 4].decode("utf-8", "replace")[:PREVIEW],
        )


class Letter(LetterSummary):
    """A dead letter with everything that was kept."""

    headers: dict[str, str]
    value: str
    """The value in base64, byte for byte."""
    text: str | None
    """The value as text, null where it is not UTF-8."""

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        """Return all of a dead letter."""
        try:
            text = letter.value.decode()
        except UnicodeDecodeError:
            text = None
        value = base64.b64encode(letter.value).decode()
        return cls(**LetterSummary.of(letter).model_dump(), headers=letter.headers, value=value, text=text)


class Letters(BaseModel):
    """A page of dead letters, the newest first."""

    dead_letters: list[LetterSummary]
    next: str | None


class Retried(BaseModel):
    """The dead letter's record stands in its inbox again."""

    retried: str


_ERROR: dict[str, Any] = {"model": ErrorBody}


class Readiness(Protocol):
    """Whether a process is ready, and why not."""

    @property
    def ready(self) -> bool:
        """Whether events are processed."""

    @property
    def why_not(self) -> str:
        """The reason where they are not."""


class Probed(Protocol):
    """What `/ready` asks: a desk, or less."""

    def status(self) -> Readiness:
        """Return how it stands; called in threads."""


def health(desk: Probed, registry: CollectorRegistry) -> APIRouter:
    """Return what probes ask; it needs no token."""
    routes = APIRouter(tags=["health"])

    @routes.get("/live")
    async def live() -> Live:
        """Answer while the process runs."""
        return Live()

    @routes.get("/ready", response_model=Ready, responses={503: {"model": Ready}})
    def ready() -> Response:
        """Answer 200 only while events are processed, else 503 and why."""
        status = desk.status()
        said = Ready(ready=status.ready, why_not=status.why_not)
        return JSONResponse(said.model_dump(), 200 if status.ready else 503)

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Return every metric in Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def not_reconciled() -> ReconciliationStatus:
    """Return how the reconciliation stands where there is none."""
    return ReconciliationStatus(enabled=False)


def router(
    config: GatewayConfig,
    inlet: Inlet,
    desk: Desk,
    gate: Gate,
    reconciliation: Callable[[], ReconciliationStatus] = not_reconciled,
) -> APIRouter:
    """Return the operations API."""
    routes = APIRouter(
        prefix="/v1",
        tags=["operations"],
        dependencies=[Depends(gate)],
        responses={401: _ERROR, 403: _ERROR, 422: _ERROR},
    )

    @routes.get("/status")
    def status() -> PipelineStatus:
        """Return how the pipeline stands."""
        return desk.status()

    @routes.get("/reconciliation")
    async def reconciled() -> ReconciliationStatus:
        """Return what the last look at PagerDuty found, and what was done about it."""
        return reconciliation()

    @routes.get("/incidents")
    def incidents(
        status: Literal["open", "resolved", "all"] = "open", limit: Limit = 100, before: Before = ""
    ) -> Incidents:
        """List incidents, the latest change first."""
        found = desk.incidents(status, limit, before)
        return Incidents(incidents=found, next=found[-1].incident_id if len(found) == limit else None)

    @routes.get("/incidents/{incident_id:path}", responses={404: _ERROR})
    def incident(incident_id: str, request: Request) -> IncidentView:
        """Return one incident: members, timeline, reason chain, pages."""
        return find_incident(desk, incident_id, request)

    @routes.get("/dead-letters")
    def dead_letters(limit: Limit = 100, before: Before = "") -> Letters:
        """List inputs that could not be used, the newest first."""
        found = desk.dead_letters(limit, before)
        following = found[-1].letter_id if len(found) == limit else None
        return Letters(dead_letters=[LetterSummary.of(letter) for letter in found], next=following)

    @routes.get("/dead-letters/{letter_id}", responses={404: _ERROR})
    def dead_letter(letter_id: str) -> Letter:
        """Return one dead letter with its bytes."""
        return Letter.of(_find_letter(desk, letter_id))

    @routes.post("/dead-letters/{letter_id}/retry", status_code=202, responses={404: _ERROR, 409: _ERROR, 503: _ERROR})
    async def retry(letter_id: str) -> Retried:
        """Put a dead letter's record into the inbox that refused it once more."""
        letter = await run_in_threadpool(_find_letter, desk, letter_id)
        if not letter.topic:
            message = f"The dead letter {letter_id!r} names no topic."
            raise Refusal(409, "not_retryable", message, "It did not come out of an inbox; mend its cause instead.")
        if not letter.retryable:
            message = f"The record of {letter_id!r} was too large for a dead letter."
            raise Refusal(409, "not_retryable", message, "Have its sender send it again, in smaller pieces.")
        await append(inlet, Entry.again(letter), config.append_timeout)
        return Retried(retried=letter.letter_id)

    return routes


def find_incident(desk: Desk, incident_id: str, request: Request) -> IncidentView:
    """Return an incident.

    Scopes quote odd characters with percent signs, which a client may or may not quote again in a path: both forms
    are tried.

    Raises:
        Refusal: 404 where there is none.
    """
    raw = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0].rpartition("/incidents/")[2]
    for asked in dict.fromkeys((incident_id, raw)):
        view = desk.incident(asked)
        if view is not None:
            return view
    message = f"No incident is called {incident_id!r}."
    raise Refusal(404, "not_found", message, "GET /v1/incidents?status=all lists them.")


def _find_letter(desk: Desk, letter_id: str) -> DeadLetter:
    letter = desk.dead_letter(letter_id)
    if letter is None:
        message = f"No dead letter is called {letter_id!r}."
        raise Refusal(404, "not_found", message, "GET /v1/dead-letters lists them.")
    return letter
