"""POST /v1/feedback: what people and other tools say."""

from __future__ import annotations

from typing import Any

import pytest

from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.gateway.config import hash_token
from tests.gateway.gateway_fakes import NOW, OPEN_ID, Stand, reason_of

PATH = "/v1/feedback"


async def give(stand: Stand, **said: Any) -> Feedback:
    answer = await stand.send("POST", PATH, json={"incident_id": OPEN_ID, "kind": "acknowledged", **said})
    assert answer.status_code == 202, answer.text
    entry = stand.inlet.entries[-1]
    assert (entry.topic, entry.key) == ("feedback", OPEN_ID.encode())
    feedback = Feedback.decode(entry.value, entry.headers)
    assert answer.json() == {"feedback_id": feedback.feedback_id}
    return feedback


async def test_a_label_goes_into_the_log() -> None:
    stand = Stand()
    feedback = await give(stand, kind="label", page=False, by="dana", value="noise")
    assert (feedback.kind, feedback.page, feedback.by, feedback.value) == (FeedbackKind.LABEL, False, "dana", "noise")
    assert feedback.at == NOW
    assert stand.count("streamproc_feedback_total", kind="label") == 1


async def test_a_given_id_makes_a_repetition_the_same_whenever_it_comes() -> None:
    stand = Stand()
    first = await give(stand, feedback_id="mine", at="2026-11-22T09:00:00Z")
    again = await give(stand, feedback_id="mine", at="2026-11-22T09:30:00Z")
    other = await give(stand, feedback_id="mine", kind="resolved")
    assert first.feedback_id == again.feedback_id != other.feedback_id


async def test_without_an_id_the_moment_tells_two_apart() -> None:
    stand = Stand()
    early = await give(stand, at="2026-11-22T09:00:00Z")
    same = await give(stand, at="2026-11-22T10:00:00+01:00")
    late = await give(stand, at="2026-11-22T09:30:00Z")
    assert early.feedback_id == same.feedback_id != late.feedback_id


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        pytest.param({"incident_id": "in:v1:a:b:00"}, 404, "not_found", id="unknown incident"),
        pytest.param({"kind": "applauded"}, 422, "invalid", id="unknown kind"),
        pytest.param({"kind": "label"}, 422, "invalid", id="a label that does not say"),
        pytest.param({"page": True}, 422, "invalid", id="a verdict that is no label"),
        pytest.param({"at": "2026-11-22T09:00:00"}, 422, "invalid", id="no offset"),
        pytest.param({"who": "me"}, 422, "invalid", id="unknown field"),
        pytest.param({f"f{n}": 1 for n in range(50)}, 422, "invalid", id="many unknown fields"),
    ],
)
async def test_wrong_feedback_says_what_is_wrong(said: dict[str, Any], status: int, reason: str) -> None:
    stand = Stand()
    answer = await stand.send("POST", PATH, json={"incident_id": OPEN_ID, "kind": "acknowledged", **said})
    assert (answer.status_code, reason_of(answer)) == (status, reason)
    assert len(answer.json()["error"]["message"]) <= 1000
    assert stand.inlet.entries == []


async def test_no_json_is_422() -> None:
    answer = await Stand().post(PATH, b"{")
    assert (answer.status_code, reason_of(answer)) == (422, "invalid")


async def test_a_token_is_asked_for() -> None:
    stand = Stand(ingest_tokens=(hash_token("s3cret"),))
    assert (await stand.post(PATH, b"{}")).status_code == 401
    assert (await stand.post(PATH, b"{}", authorization="Bearer s3cret")).status_code == 422
