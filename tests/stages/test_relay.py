from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamproc.core.errors import Rejected
from streamproc.core.event import Activated, Event
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy
from streamproc.stages.relay import FEEDBACK, POLICY, FeedbackReason, PolicyReason, refuse_unsafe
from tests.support.rows import rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ON_DB = Matcher(name="service", op="=", value="db")


def feedback(incident: str) -> Feedback:
    return Feedback(feedback_id="w1", incident_id=incident, kind=FeedbackKind.ACKNOWLEDGED, at=T0)


def policy(**changes: Any) -> Policy:
    given = {
        "policy_id": "night",
        "kind": "silence",
        "version": 3,
        "matchers": (ON_DB,),
        "starts_at": T0,
        "ends_at": T0.replace(hour=1),
    }
    return Policy.model_validate({**given, **changes})


@pytest.mark.parametrize(
    ("incident", "scope"),
    [
        pytest.param("in:v1:prod:eu:0123", "prod:eu", id="two parts"),
        pytest.param("in:v1:-:0123", "-", id="one part"),
        pytest.param("in:v1:prod:eu:0123/2", "prod:eu", id="the second destination's key"),
    ],
)
def test_feedback_finds_its_scope(incident: str, scope: str) -> None:
    said = feedback(incident)
    taken = FEEDBACK.step(said, rows_of(), T0, None)
    assert (taken.reason, taken.changes, taken.figures) == (FeedbackReason.FEEDBACK, {}, {"kind": "acknowledged"})
    assert taken.emit == (said.model_copy(update={"scope": scope}),)


@pytest.mark.parametrize("incident", ["PABC123", "in:v1:0123", "in:v2:prod:0123", "adopted:1:prod:eu"])
def test_feedback_about_what_is_none_of_ours(incident: str) -> None:
    with pytest.raises(Rejected, match="is no incident id of streamproc") as refused:
        FEEDBACK.step(feedback(incident), rows_of(), T0, None)
    assert refused.value.reason == "foreign_incident"


ACTIVATED = Activated(kind="config", version=2, checksum="0" * 64)


@pytest.mark.parametrize(
    ("event", "reason", "figures"),
    [
        pytest.param(policy(), PolicyReason.POLICY, {"policy": "night", "version": 3}, id="policy"),
        pytest.param(ACTIVATED, PolicyReason.ACTIVATED, {"kind": "config", "version": 2}, id="activation"),
    ],
)
def test_passed_on_as_it_is(event: Event, reason: PolicyReason, figures: dict[str, Any]) -> None:
    taken = POLICY.step(event, rows_of(), T0, None)
    assert (taken.reason, taken.emit, taken.changes, taken.figures) == (reason, (event,), {}, figures)


@pytest.mark.parametrize(
    ("unsafe", "reason"),
    [
        pytest.param(policy(matchers=()), "mutes_everything", id="no matchers"),
        pytest.param(policy(ends_at=None), "no_end", id="no end"),
        pytest.param(policy(ends_at=T0.replace(year=9500)), "bad_time", id="ends when nobody can mean"),
        pytest.param(policy(ends_at=T0), "no_end", id="ends as it begins"),
        pytest.param(policy(kind="maintenance", matchers=()), "mutes_everything", id="a maintenance window likewise"),
        pytest.param(
            policy(matchers=(ON_DB, Matcher(name="a", op="=~", value="("))), "bad_expression", id="does not compile"
        ),
        pytest.param(policy(matchers=(Matcher(name="a", op="!~", value="["),)), "bad_expression", id="unlike likewise"),
        pytest.param(
            policy(matchers=(Matcher(name="a", op="=~", value="(a{1000}){1000}"),)), "bad_expression", id="too many"
        ),
        pytest.param(
            policy(matchers=(Matcher(name="a", op="=~", value="(" * 5000),)), "bad_expression", id="too deep and open"
        ),
        pytest.param(
            policy(matchers=(Matcher(name="a", op="=~", value="a" * 1_000_000),)), "bad_expression", id="too large"
        ),
        pytest.param(
            policy(matchers=(Matcher(name="a", op="=~", value=r"(a)\1"),)), "bad_expression", id="a backreference"
        ),
        pytest.param(
            policy(matchers=(Matcher(name="a", op="!~", value="(?=a)b"),)), "bad_expression", id="it looks around"
        ),
        pytest.param(
            policy(matchers=(Matcher(name="a", op="=~", value="\ud800"),)), "bad_expression", id="half a character"
        ),
        pytest.param(policy(matchers=(Matcher(name="a", op="=~", value=".*"),)), "mutes_everything", id="any text"),
        pytest.param(policy(matchers=(Matcher(name="a", op="=", value=""),)), "mutes_everything", id="no such label"),
        pytest.param(policy(matchers=(Matcher(name="a", op="!=", value="b"),)), "mutes_everything", id="all but one"),
        pytest.param(policy(matchers=(Matcher(name="a", op="!~", value="b"),)), "mutes_everything", id="all but some"),
        pytest.param(policy(kind="arm", matchers=(), ends_at=None), "reserved_id", id="arming by another name"),
    ],
)
def test_unsafe_policies_are_refused(unsafe: Policy, reason: str) -> None:
    with pytest.raises(Rejected, match="policy night") as refused:
        POLICY.step(unsafe, rows_of(), T0, None)
    assert refused.value.reason == reason
    assert len(str(refused.value)) < 1000


def test_nothing_but_arming_has_its_id() -> None:
    with pytest.raises(Rejected, match="kept for arming"):
        POLICY.step(policy(policy_id="arm"), rows_of(), T0, None)


@pytest.mark.parametrize(
    "safe",
    [
        pytest.param(policy(kind="arm", policy_id="arm", matchers=(), ends_at=None), id="arming has no end"),
        pytest.param(policy(withdrawn=True, matchers=(), ends_at=None), id="a withdrawal needs nothing"),
        pytest.param(policy(matchers=(Matcher(name="a", op="=", value="("),)), id="a plain text is no expression"),
        pytest.param(policy(matchers=(Matcher(name="a", op="=~", value="web-.*"),)), id="an expression"),
    ],
)
def test_safe_policies_pass(safe: Policy) -> None:
    refuse_unsafe(safe)
