"""PagerDuty's webhooks: signatures, what they say, and how they are answered."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.gateway.pagerduty import KINDS, read, signed
from streamproc.ports import Overloaded
from tests.gateway.gateway_fakes import OPEN_ID, Stand, reason_of

PATH = "/v1/feedback/pagerduty"
SECRET, OLDER = "whsec-new", "whsec-old"


def sign(body: bytes, *secrets: str) -> str:
    return ",".join(f"v1={hmac.new(s.encode(), body, hashlib.sha256).hexdigest()}" for s in secrets)


def webhook(event_type: str = "incident.acknowledged", data: dict[str, Any] | None = None, **event: Any) -> bytes:
    told = {
        "id": "01EVENT",
        "event_type": event_type,
        "resource_type": "incident",
        "occurred_at": "2026-11-22T10:00:00Z",
        "agent": {"id": "P1", "type": "user_reference", "summary": "Dana Ruiz"},
        "client": None,
        "data": {"id": "Q1", "type": "incident", "incident_key": OPEN_ID, **(data or {})},
        **event,
    }
    return json.dumps({"event": told}).encode()


@pytest.mark.parametrize(
    ("header", "fits"),
    [
        pytest.param(sign(b"body", SECRET), True, id="right"),
        pytest.param(sign(b"body", OLDER), True, id="the secret before the rotation"),
        pytest.param("v1=00, " + sign(b"body", SECRET), True, id="PagerDuty rotates"),
        pytest.param(sign(b"body", SECRET).replace("v1=", "v1=").upper().replace("V1=", "v1="), True, id="upper case"),
        pytest.param(sign(b"body!", SECRET), False, id="another body"),
        pytest.param(sign(b"body", "guessed"), False, id="another secret"),
        pytest.param(sign(b"body", SECRET).replace("v1=", "v2="), False, id="another version"),
        pytest.param(sign(b"body", SECRET)[:-1], False, id="cut"),
        pytest.param("v1=é", False, id="no ASCII"),
        pytest.param("", False, id="absent"),
    ],
)
def test_signatures(header: str, *, fits: bool) -> None:
    assert signed(header, b"body", (SECRET.encode(), OLDER.encode())) is fits


def test_nothing_fits_without_secrets() -> None:
    assert not signed(sign(b"body", SECRET), b"body", ())


def heard(body: bytes) -> Feedback:
    feedback = read(body, "hook-1").feedback
    assert feedback is not None
    return feedback


@pytest.mark.parametrize(
    ("event_type", "data", "kind", "value"),
    [
        pytest.param("incident.acknowledged", {}, FeedbackKind.ACKNOWLEDGED, "", id="acknowledged"),
        pytest.param("incident.unacknowledged", {}, FeedbackKind.UNACKNOWLEDGED, "", id="unacknowledged"),
        pytest.param("incident.resolved", {}, FeedbackKind.RESOLVED, "", id="resolved"),
        pytest.param(
            "incident.resolved",
            {"resolve_reason": {"type": "merge_resolve_reason", "incident": {"id": "Q1", "summary": "The bigger one"}}},
            FeedbackKind.MERGED,
            "The bigger one",
            id="resolved by a merge",
        ),
        pytest.param(
            "incident.resolved", {"resolve_reason": {"type": "other"}}, FeedbackKind.RESOLVED, "", id="another reason"
        ),
        pytest.param("incident.reopened", {}, FeedbackKind.REOPENED, "", id="reopened"),
        pytest.param("incident.triggered", {}, FeedbackKind.TRIGGERED, "", id="triggered"),
        pytest.param(
            "incident.reassigned",
            {"assignees": [{"summary": "Ann"}, {"summary": None}, 7, {"summary": "Bo"}]},
            FeedbackKind.REASSIGNED,
            "Ann, Bo",
            id="reassigned",
        ),
        pytest.param("incident.delegated", {"assignees": None}, FeedbackKind.REASSIGNED, "", id="delegated"),
        pytest.param("incident.escalated", {"assignees": []}, FeedbackKind.ESCALATED, "", id="escalated"),
        pytest.param(
            "incident.priority_updated", {"priority": {"summary": "P1"}}, FeedbackKind.PRIORITY, "P1", id="priority"
        ),
        pytest.param("incident.priority_updated", {"priority": None}, FeedbackKind.PRIORITY, "", id="no priority"),
        pytest.param("incident.urgency_updated", {"urgency": "low"}, FeedbackKind.URGENCY, "low", id="urgency"),
        pytest.param(
            "incident.annotated",
            {"incident_key": None, "incident": {"incident_key": OPEN_ID}, "content": "n" * 900},
            FeedbackKind.ANNOTATED,
            "n" * 500,
            id="a note that names its key",
        ),
    ],
)
def test_what_events_become(event_type: str, data: dict[str, Any], kind: FeedbackKind, value: str) -> None:
    feedback = heard(webhook(event_type, data))
    assert (feedback.kind, feedback.value, feedback.by) == (kind, value, "Dana Ruiz")
    assert (feedback.incident_id, feedback.feedback_id) == (OPEN_ID, "01EVENT")
    assert feedback.at.isoformat() == "2026-11-22T10:00:00+00:00"


def test_every_event_type_is_named_by_a_case() -> None:
    named = {*KINDS.values(), FeedbackKind.MERGED}
    assert named == set(FeedbackKind) - {FeedbackKind.LABEL, FeedbackKind.MISSING}


def test_the_second_destinations_key_is_the_same_incident() -> None:
    for suffix in ("/2", "/critical", "/error", "/warning"):
        assert heard(webhook(data={"incident_key": OPEN_ID + suffix})).incident_id == OPEN_ID


def test_an_event_without_an_agent_is_nobodys() -> None:
    assert heard(webhook(agent=None)).by == ""
    assert heard(webhook(agent={"summary": None})).by == ""


def test_the_webhook_id_stands_in_for_a_missing_event_id() -> None:
    assert heard(webhook(id="")).feedback_id == "hook-1"


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        pytest.param(webhook("pagey.ping"), "ignored", id="the test event"),
        pytest.param(webhook("service.updated"), "ignored", id="a service"),
        pytest.param(webhook("incident.workflow.started", occurred_at=None), "ignored", id="a type without use"),
        pytest.param(
            webhook("incident.annotated", {"incident_key": None, "incident": {"id": "Q1"}}), "unjoined", id="a note"
        ),
        pytest.param(webhook(data={"incident_key": None}), "unjoined", id="no key"),
        pytest.param(webhook(data={"incident_key": 7}), "unjoined", id="a key that is no text"),
        pytest.param(webhook(data={"incident_key": "nagios/db-1"}), "foreign", id="of somebody else"),
        pytest.param(webhook(occurred_at=None), "unreadable", id="no moment"),
        pytest.param(webhook(occurred_at="yesterday"), "unreadable", id="a moment that is none"),
        pytest.param(webhook(id="x" * 201), "unreadable", id="an id beyond measure"),
        pytest.param(b"{}", "unreadable", id="no event"),
        pytest.param(b"{", "unreadable", id="no JSON"),
    ],
)
async def test_what_is_no_feedback_is_accepted_and_counted(body: bytes, outcome: str) -> None:
    stand = Stand(webhook_secrets=(SECRET,))
    answer = await stand.post(PATH, body, x_pagerduty_signature=sign(body, SECRET))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "outcome": outcome})
    assert stand.count("streamproc_feedback_total", kind=outcome) == 1
    assert stand.inlet.entries == []


async def test_feedback_goes_into_the_log_under_its_incident() -> None:
    stand = Stand(webhook_secrets=(OLDER, SECRET))
    body = webhook()
    answer = await stand.post(PATH, body, x_pagerduty_signature=sign(body, SECRET), x_webhook_id="hook-1")
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "outcome": "acknowledged"})
    (entry,) = stand.inlet.entries
    assert (entry.topic, entry.key, entry.headers["type"]) == ("feedback", OPEN_ID.encode(), b"feedback.v1")
    assert Feedback.decode(entry.value, {}) == heard(body)
    assert stand.count("streamproc_feedback_total", kind="acknowledged") == 1
    assert stand.count("streamproc_http_requests_total", route=PATH, status="202") == 1


async def test_tokens_are_not_asked_of_pagerduty() -> None:
    stand = Stand(webhook_secrets=(SECRET,), ingest_tokens=("0" * 64,))
    body = webhook()
    assert (await stand.post(PATH, body, x_pagerduty_signature=sign(body, SECRET))).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no signature"),
        pytest.param({"x_pagerduty_signature": sign(webhook(), "guessed")}, id="wrong signature"),
    ],
)
async def test_a_forgery_is_401(headers: dict[str, str]) -> None:
    stand = Stand(webhook_secrets=(SECRET,))
    answer = await stand.post(PATH, webhook(), **headers)
    assert (answer.status_code, reason_of(answer)) == (401, "bad_signature")
    assert stand.inlet.entries == []


async def test_without_a_secret_pagerduty_is_asked_to_come_again() -> None:
    body = webhook()
    answer = await Stand().post(PATH, body, x_pagerduty_signature=sign(body, ""))
    assert (answer.status_code, reason_of(answer)) == (503, "webhooks_not_configured")
    assert int(answer.headers["retry-after"]) >= 1


async def test_where_signatures_are_not_asked_for_this_machine_may_come_without() -> None:
    stand = Stand(webhook_validation=False, ingest_tokens=("0" * 64,))
    assert (await stand.post(PATH, webhook())).status_code == 202
    assert len(stand.inlet.entries) == 1
    page = await stand.post(PATH, webhook(), sec_fetch_site="cross-site")
    assert (page.status_code, reason_of(page)) == (403, "cross_site")
    public = await stand.post(PATH, webhook(), host="rebound.example.com")
    assert (public.status_code, reason_of(public)) == (403, "public_host")
    assert len(stand.inlet.entries) == 1


async def test_a_large_webhook_is_413() -> None:
    stand = Stand(webhook_secrets=(SECRET,), body_limit=1000)
    assert (await stand.post(PATH, b" " * 1001)).status_code == 413


async def test_a_log_that_is_down_or_slow_is_503() -> None:
    body = webhook()
    stand = Stand(webhook_secrets=(SECRET,), webhook_timeout=0.01)
    stand.inlet.fails = Overloaded("the log is down")
    down = await stand.post(PATH, body, x_pagerduty_signature=sign(body, SECRET))
    stand.inlet.released.clear()
    slow = await stand.post(PATH, body, x_pagerduty_signature=sign(body, SECRET))
    assert [(answer.status_code, reason_of(answer)) for answer in (down, slow)] == [(503, "overloaded")] * 2
    assert down.headers["retry-after"] == "5"


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_no_body_makes_reading_fail(body: bytes) -> None:
    assert read(body, "hook-1").feedback is None


@given(
    st.dictionaries(
        st.sampled_from(["incident_key", "incident", "priority", "assignees", "urgency", "content", "resolve_reason"]),
        st.none()
        | st.integers()
        | st.text()
        | st.just(OPEN_ID)
        | st.lists(st.none() | st.just({"summary": "x"}))
        | st.just({"incident_key": OPEN_ID, "summary": 7})
        | st.just({"type": "merge_resolve_reason", "incident": 7}),
    ),
    st.sampled_from(sorted(KINDS)),
)
def test_no_odd_event_makes_reading_fail(data: dict[str, Any], event_type: str) -> None:
    found = read(webhook(event_type, {"incident_key": None, **data}), "hook-1")
    assert (found.feedback is None) == (found.outcome in {"unjoined", "foreign", "unreadable"})


@pytest.mark.parametrize(
    ("agent", "event_type", "person"),
    [
        pytest.param({"summary": "Dana", "type": "user_reference"}, "incident.resolved", True, id="a user"),
        pytest.param({"summary": "Dana"}, "incident.resolved", True, id="somebody without a type"),
        pytest.param({"type": "inbound_integration_reference"}, "incident.resolved", False, id="our own request"),
        pytest.param(None, "incident.resolved", False, id="a resolve by nobody"),
        pytest.param(None, "incident.acknowledged", True, id="an acknowledgement by nobody who is named"),
    ],
)
def test_who_did_it(agent: dict[str, str] | None, event_type: str, *, person: bool) -> None:
    event = {
        "id": "01A",
        "event_type": event_type,
        "occurred_at": "2026-03-01T12:00:00Z",
        "agent": agent,
        "data": {"incident_key": "in:v1:prod:eu:0123456789abcdef"},
    }
    heard = read(json.dumps({"event": event}).encode(), "w1")
    assert heard.feedback is not None
    assert heard.feedback.person is person
