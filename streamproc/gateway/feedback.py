"""POST /v1/feedback/pagerduty and POST /v1/feedback: what people did, into the topic `feedback`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Self

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool

from streamproc.core.identity import digest
from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.gateway.access import Gate, Keys
from streamproc.gateway.body import Hold, read_body, read_json
from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.durable import append
from streamproc.gateway.pagerduty import Foreign, foreign, read, signed
from streamproc.gateway.refusal import ErrorBody, Refusal, unprocessable
from streamproc.gateway.room import Room
from streamproc.gateway.telemetry import Telemetry
from streamproc.ports import Desk, Entry, Inlet

TOPIC = "feedback"
WEBHOOK_RETRY = 300
"""Seconds that PagerDuty is asked to wait where no secret is configured yet."""

log = structlog.get_logger(__name__)


class WebhookTaken(BaseModel):
    """What a webhook came to."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    accepted: int
    """1 where it became feedback, else 0."""
    outcome: str
    """Kind of the feedback; else `ignored`, `unjoined`, `foreign` or `unreadable`."""


class FeedbackGiven(BaseModel):
    """What somebody says about an incident."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    incident_id: str = Field(min_length=1, max_length=255)
    """The incident, `in:v1:...`."""
    kind: FeedbackKind
    """What was done; `label` with `page` says whether the page was worth it."""
    by: str = Field(default="", max_length=200)
    """Who."""
    value: str = Field(default="", max_length=500)
    """More about it, for example the new priority."""
    page: bool | None = None
    """For `label`: whether the incident was worth a page."""
    at: AwareDatetime | None = None
    """When; the moment of the request where absent."""
    feedback_id: str = Field(default="", max_length=200)
    """The sender's own id: the same feedback sent twice with it counts once. Without it every request counts."""

    @field_validator("at")
    @classmethod
    def _within_the_calendar(cls, given: datetime | None) -> datetime | None:
        try:
            return None if given is None else given.astimezone(UTC)
        except OverflowError:
            message = "is outside the calendar in UTC"
            raise ValueError(message) from None

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if (self.kind is FeedbackKind.LABEL) != (self.page is not None):
            raise ValueError("`page` goes with the kind `label`, and only with it")
        return self

    def event(self, now: datetime) -> Feedback:
        """Return it as it goes into the log; its id comes from the given one and the content."""
        at = self.at or now
        named = self.feedback_id or at.isoformat()
        content = (self.incident_id, self.kind, self.by, self.value, str(self.page))
        return Feedback(
            feedback_id=f"api:{digest(named, *content)[:32]}",
            incident_id=self.incident_id,
            kind=self.kind,
            by=self.by,
            value=self.value,
            page=self.page,
            at=at,
        )


class FeedbackTaken(BaseModel):
    """The feedback is in the log."""

    feedback_id: str


SCHEMAS: dict[str, Any] = models_json_schema(
    [(FeedbackGiven, "validation")], ref_template="#/components/schemas/{model}"
)[1]["$defs"]
"""What `_GIVEN` names, for the components of OpenAPI."""
_GIVEN = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/FeedbackGiven"}}},
    }
}
_SIGNED = {
    "parameters": [
        {
            "name": "X-PagerDuty-Signature",
            "in": "header",
            "required": True,
            "description": "Comma-separated `v1=<hex HMAC-SHA256 of the body>`.",
            "schema": {"type": "string"},
        }
    ],
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": says}
    for status, says in {
        400: "The body was cut short, or is broken gzip.",
        401: "The signature or token is missing or wrong.",
        403: "A web page of another site sent it.",
        413: "The body is larger than the limit.",
        503: "The log takes nothing now: send the same request again after `Retry-After` seconds.",
    }.items()
}


def router(
    config: GatewayConfig,
    inlet: Inlet,
    desk: Desk,
    gate: Gate,
    keys: Keys,
    telemetry: Telemetry,
    room: Room,
    clock: Callable[[], datetime],
    hear_foreign: Callable[[Foreign], Awaitable[None]] | None = None,
) -> APIRouter:
    """Return the routes; `hear_foreign` is told of incidents that are not ours, before their webhook is answered."""
    routes = APIRouter(tags=["feedback"])

    async def take(feedback: Feedback, seconds: float) -> None:
        await append(inlet, Entry.of(TOPIC, feedback, feedback.incident_id), seconds)
        telemetry.feedback.labels(str(feedback.kind)).inc()

    @routes.post(
        "/v1/feedback/pagerduty",
        status_code=202,
        responses=_ERRORS,
        openapi_extra=_SIGNED,
    )
    async def webhook(request: Request) -> WebhookTaken:
        """Take a webhook v3 of PagerDuty, signed with one of the configured secrets (`X-PagerDuty-Signature`).

        A signed webhook is always answered 202, or 503 for a while: after three other 4xx in a row PagerDuty would
        switch the whole subscription off.
        """
        with room.enter("pagerduty") as place:
            body = await _read_webhook(config, gate, keys, request, place.hold)
        webhook_id = request.headers.get("x-webhook-id", "")
        heard = read(body, webhook_id)
        if heard.feedback is not None:
            await take(heard.feedback, config.webhook_timeout)
            return WebhookTaken(accepted=1, outcome=heard.outcome)
        if heard.outcome == "unreadable":
            log.error("A signed PagerDuty webhook has an unknown shape and was dropped.", webhook_id=webhook_id)
        if hear_foreign is not None and heard.outcome in ("foreign", "unjoined"):
            told = foreign(body)
            if told is not None:
                await hear_foreign(told)
        telemetry.feedback.labels(heard.outcome).inc()
        return WebhookTaken(accepted=0, outcome=heard.outcome)

    @routes.post(
        "/v1/feedback",
        status_code=202,
        dependencies=[Depends(gate)],
        responses={**_ERRORS, 404: {"model": ErrorBody}, 415: {"model": ErrorBody}, 422: {"model": ErrorBody}},
        openapi_extra=_GIVEN,
    )
    async def give(request: Request) -> FeedbackTaken:
        """Take what a person or another tool says about an incident."""
        with room.enter("feedback") as place:
            body = await read_json(dict(request.scope["headers"]), request.receive, config, place.hold)
        try:
            given = FeedbackGiven.model_validate_json(body)
        except ValidationError as error:
            raise unprocessable(error.errors()) from None
        if await run_in_threadpool(desk.incident, given.incident_id) is None:
            message = f"No incident is called {given.incident_id!r}."
            raise Refusal(404, "not_found", message, "GET /v1/incidents?status=all lists them.")
        feedback = given.event(clock())
        await take(feedback, config.append_timeout)
        return FeedbackTaken(feedback_id=feedback.feedback_id)

    return routes


async def _read_webhook(config: GatewayConfig, gate: Gate, keys: Keys, request: Request, hold: Hold) -> bytes:
    """Return the body of a webhook that is signed, or that need not be and comes from this machine.

    Raises:
        Refusal: 503 without a secret, 401 for a wrong signature, 403 for a web page of another site; see `read_body`.
    """
    headers = dict(request.scope["headers"])
    if not config.webhook_validation:
        gate.admit_local("POST", headers)
        return await read_body(headers, request.receive, config, hold)
    if not keys.secrets:
        message = "No webhook secret is configured, so nothing can be told from a forgery."
        mend = "Put the subscription's secret into gateway.webhook_secrets (PAGERDUTY_WEBHOOK_SECRET)."
        raise Refusal(503, "webhooks_not_configured", message, mend, {"retry-after": str(WEBHOOK_RETRY)})
    body = await read_body(headers, request.receive, config, hold)
    if not signed(request.headers.get("x-pagerduty-signature", ""), body, keys.secrets):
        message = "No signature in X-PagerDuty-Signature fits the body and a configured secret."
        raise Refusal(401, "bad_signature", message, "Compare the subscription's secret with gateway.webhook_secrets.")
    return body
