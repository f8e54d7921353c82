from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from streamproc.advise.evidence import Standing, count_of, night_of, standing, verdict_of
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from tests.advise.pages import DAY, at, daily, evidence, page

ONE = (Matcher(name="service", op="=", value="batch"),)


def feedback(kind: FeedbackKind, *, person: bool = True, worth: bool | None = None) -> Feedback:
    return Feedback(feedback_id="f", incident_id="in:v1:a:b", kind=kind, person=person, page=worth, at=at(0))


@pytest.mark.parametrize(
    ("said", "worth"),
    [
        pytest.param(feedback(FeedbackKind.ACKNOWLEDGED), True, id="a person acknowledges"),
        pytest.param(feedback(FeedbackKind.RESOLVED), True, id="a person resolves"),
        pytest.param(feedback(FeedbackKind.RESOLVED, person=False), None, id="a machine resolves"),
        pytest.param(feedback(FeedbackKind.UNACKNOWLEDGED), None, id="an acknowledgement ends"),
        pytest.param(feedback(FeedbackKind.MISSING), None, id="it is lost at PagerDuty"),
        pytest.param(feedback(FeedbackKind.LABEL, worth=True, person=False), True, id="said to be worth it"),
        pytest.param(feedback(FeedbackKind.LABEL, worth=False), False, id="said to be needless"),
        pytest.param(feedback(FeedbackKind.LABEL), None, id="a label about something else"),
    ],
)
def test_what_feedback_says_of_a_page(said: Feedback, worth: bool | None) -> None:  # noqa: FBT001  a case
    assert verdict_of(said) is worth


@pytest.mark.parametrize(
    ("moment", "night"),
    [
        pytest.param(at(23 * 60), "2026-03-02", id="in the evening"),
        pytest.param(at(DAY + 5 * 60), "2026-03-02", id="in the morning after"),
        pytest.param(at(6 * 60), "", id="by day"),
    ],
)
def test_nights(moment: datetime, night: str) -> None:
    assert night_of(moment) == night


def test_two_thirds_propose() -> None:
    found = evidence([*daily(), page(10, acted=True)])
    assert found.split == at(6 * DAY)
    assert len(found.learned) == 7
    assert found.acted == 1
    assert page(10, lasts=None).lasted is None
    assert page(10, lasts=7).lasted == timedelta(minutes=7)


def policy(
    name: str, begins: float, ends: float | None, *, version: int = 1, withdrawn: bool = False,
    matchers: tuple[Matcher, ...] = ONE,
) -> tuple[datetime, Policy]:  # fmt: skip
    told = Policy(
        policy_id=name, kind=PolicyKind.SILENCE, version=version, matchers=matchers, starts_at=at(begins),
        ends_at=None if ends is None else at(ends), author=name, reason="noisy", withdrawn=withdrawn,
    )  # fmt: skip
    return at(begins), told


def span(since: float, until: float | None, renewals: int) -> tuple[datetime, datetime | None, int]:
    return at(since), None if until is None else at(until), renewals


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param([policy("a", 0, 100)], [span(0, 100, 0)], id="one"),
        pytest.param([policy("a", 0, 100), policy("b", 110, 200)], [span(0, 200, 1)], id="renewed by another one"),
        pytest.param([policy("a", 0, 100), policy("a", 0, 300, version=2)], [span(0, 300, 1)], id="made longer"),
        pytest.param(
            [policy("a", 0, 100), policy("b", 100 + 2 * DAY, 9 * DAY)], [span(100 + 2 * DAY, 9 * DAY, 0)],
            id="another one two days later",
        ),
        pytest.param([policy("a", 0, None), policy("b", 50, 99)], [span(0, 99, 1)], id="renewed before it ended"),
        pytest.param(
            [policy("a", 0, 100), policy("a", 40, 100, withdrawn=True)], [span(0, 40, 0)], id="withdrawn"
        ),
        pytest.param(
            [policy("a", 0, None), policy("a", 40, None, withdrawn=True)], [span(0, 40, 0)], id="without end, withdrawn"
        ),
        pytest.param([policy("a", 0, 100), policy("z", 40, 100, withdrawn=True)], [span(0, 100, 0)], id="another goes"),
        pytest.param([policy("z", 40, 100, withdrawn=True)], [], id="withdrawn before it is known"),
        pytest.param([policy("arm", 0, None, matchers=())], [], id="no matchers"),
    ],
)  # fmt: skip
def test_silences_of_a_log(
    told: list[tuple[datetime, Policy]], expected: list[tuple[datetime, datetime | None, int]]
) -> None:
    assert [(each.since, each.until, each.renewals) for each in standing(told, {})] == expected


def test_what_a_chain_of_silences_muted_is_counted_together() -> None:
    muted = {"a": {"X": 2}, "b": {"X": 1, "Y": 4}, "other": {"X": 9}}
    (found,) = standing([policy("a", 0, 100), policy("b", 100, 200)], muted)
    assert found == Standing(("a", "b"), ONE, at(0), at(200), 1, "b", "noisy", {"X": 3, "Y": 4})


def test_numbers_and_their_nouns() -> None:
    assert [count_of(1, "page"), count_of(1200, "page")] == ["1 page", "1,200 pages"]
