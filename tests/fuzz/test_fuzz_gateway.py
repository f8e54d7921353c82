"""The gateway against its own OpenAPI: whatever is asked, it answers as described, and never 500."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any, Literal

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from streamproc.core.event import DeadLetter
from streamproc.views import IncidentSummary
from tests.fuzz.mutation import payload, sentence
from tests.fuzz.parsers import FEEDBACK, SEEDS, WEBHOOKS
from tests.gateway.gateway_fakes import OPEN_ID, FakeDesk, Stand, reason_of

load_all_checks()
CHECKS: list[Any] = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES = list(schemathesis.GenerationMode)


class Tolerant(FakeDesk):
    """A desk that is asked to go on after what it does not have, as the real ones are."""

    def incidents(self, status: Literal["open", "resolved", "all"], limit: int, before: str) -> list[IncidentSummary]:
        known = any(one.incident_id == before for one in self.shown)
        return super().incidents(status, limit, before if known else "")

    def dead_letters(self, limit: int, before: str) -> list[DeadLetter]:
        return super().dead_letters(limit, before if any(one.letter_id == before for one in self.letters) else "")


class TolerantStand(Stand):
    """The gateway under attack; PagerDuty's webhooks need no signature here, so that their parser is reached."""

    desk_type = Tolerant


STAND = TolerantStand(webhook_validation=False)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", STAND.app)
OPERATIONS: list[Any] = [result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok)]
HEADERS = {"host": "localhost"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_answers_are_as_described(operation: Any) -> None:
    @given(st.one_of([operation.as_strategy(generation_mode=mode) for mode in MODES]))
    def ask(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(checks=CHECKS, headers=HEADERS)

    ask()


def test_every_path_is_described() -> None:
    """But for the pages for people."""
    served = {getattr(route, "path", "") for route in STAND.app.routes}
    assert {operation.path for operation in OPERATIONS} >= {path for path in served if path.startswith("/v1/")}


POSTS = (
    *((f"/v1/ingest/{source}", seeds) for source, seeds in SEEDS.items()),
    ("/v1/feedback/pagerduty", WEBHOOKS),
    (
        "/v1/feedback",
        ({**FEEDBACK, "feedback_id": "x", "incident_id": OPEN_ID}, {"incident_id": OPEN_ID, "kind": "label"}),
    ),
)


@pytest.mark.parametrize(("path", "seeds"), [pytest.param(*post, id=post[0]) for post in POSTS])
def test_hostile_bodies_are_taken_or_refused(path: str, seeds: tuple[Any, ...]) -> None:
    """What is sent is almost right, which a schema of `object` never brings forth."""

    @given(st.randoms(use_true_random=False))
    def post(rng: Random) -> None:
        answer = asyncio.run(STAND.post(path, payload(rng, seeds), content_type="application/json"))
        assert answer.status_code in {202, 400, 404, 413, 422}
        if answer.status_code != 202:
            reason_of(answer)

    post()


PATHS = (
    "/v1/incidents/in:v1:prod:eu-1:00",
    "/v1/dead-letters/alerts.raw:0:3:1",
    "/v1/ingest/generic",
    "/incidents/x",
    "/",
)


@given(
    st.randoms(use_true_random=False),
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"]),
)
def test_hostile_paths_are_refused(rng: Random, method: str) -> None:
    path = sentence(rng, PATHS).encode("utf-8", "replace").decode()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": [], "root_path": "",
        "query_string": sentence(rng, ("limit=5&before=x", "status=all&limit=-1")).encode("utf-8", "replace"),
    }  # fmt: skip
    asyncio.run(STAND.app(scope, receive, send))
    assert sent[0]["status"] < 500 or path == "/ready"


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
async def test_feedback_outside_the_calendar_is_refused(at: str) -> None:
    """Found by fuzzing: it was answered 500."""
    body = json.dumps({"incident_id": OPEN_ID, "kind": "resolved", "at": at}).encode()
    answer = await STAND.post("/v1/feedback", body)
    assert (answer.status_code, reason_of(answer)) == (422, "invalid")


async def test_feedback_about_nothing_is_refused() -> None:
    """Found by fuzzing: only the desk, which knows no such incident, stood before a defect."""
    answer = await STAND.post("/v1/feedback", b'{"incident_id": "", "kind": "resolved"}')
    assert (answer.status_code, reason_of(answer)) == (422, "invalid")
