from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamproc.core.event import Activated, Artifact, Wake
from streamproc.core.fold import Overlay
from streamproc.core.step import Step
from streamproc.core.table import Row, RowKey
from streamproc.events.training import Label, Sample
from streamproc.learning.linear import MODEL
from streamproc.learning.model import Learner
from streamproc.stages.learn import MOST_REPLAYED, STAGE, Config, Reason, step
from streamproc.state import LEARNER, SAMPLE, LearnerRow, SampleRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DUE = T0 + timedelta(days=7)


def sample(name: str = "a", **changes: Any) -> Sample:
    given = {"sample_id": name, "features": {f"name:{name}": 1.0}, "p_page": 0.7, "model_version": 2, "at": T0}
    return Sample.model_validate({**given, **changes})


def label(name: str = "a", *, page: bool = True, source: str = "acknowledged", weight: float = 1.0) -> Label:
    return Label(sample_id=name, page=page, source=source, weight=weight, at=T0)


def waiting(**changes: Any) -> SampleRow:
    given = {"features": {"name:a": 1.0}, "p_page": 0.7, "model_version": 2, "at": T0, "wake_at": DUE}
    return SampleRow.model_validate({**given, **changes})


def learner(*replay: str, **changes: Any) -> LearnerRow:
    return LearnerRow.model_validate({"model": Learner().model_dump_json(), "replay": replay, **changes})


def table(samples: dict[str, SampleRow], known: LearnerRow | None = None) -> dict[RowKey, Row]:
    rows: dict[RowKey, Row] = {SAMPLE.at(name): row for name, row in samples.items()}
    return rows if known is None else {**rows, LEARNER.at("learner"): known}


def told(step_: Step) -> LearnerRow:
    row = step_.changes[LEARNER.at("learner")]
    assert isinstance(row, LearnerRow)
    return row


def play(rows: Overlay, events: Sequence[Sample | Label | Wake], config: Config | None = None) -> list[Step]:
    steps = []
    for event in events:
        steps.append(step(event, rows, T0, config or Config()))
        commit(rows, steps[-1])
    return steps


WAKE = Wake(table="sample", key="a", due=DUE)
YES = waiting(page=True, said_by="acknowledged")
CASES = [
    pytest.param(sample(), {}, None, Reason.KEPT, {SAMPLE.at("a"): waiting()}, id="a sample is kept"),
    pytest.param(sample(), {"a": waiting(p_page=0.1)}, None, Reason.DUPLICATE, {}, id="a second one changes nothing"),
    pytest.param(sample("d"), {name: waiting() for name in "abc"}, None, Reason.FULL, {}, id="a sample too many"),
    pytest.param(
        sample(), {name: waiting() for name in "abc"}, None, Reason.DUPLICATE, {}, id="full, but this one is known"
    ),
    pytest.param(label(), {}, None, Reason.UNKNOWN_SAMPLE, {}, id="a label of nothing known"),
    pytest.param(label(), {"a": waiting()}, None, Reason.LABELLED, None, id="the first label"),
    pytest.param(label(source="label"), {"a": waiting()}, None, Reason.LABELLED, None, id="the first label, explicit"),
    pytest.param(label(), {"a": YES}, None, Reason.REPEATED, {}, id="a second sign changes nothing"),
    pytest.param(
        label(page=False, source="unheeded"), {"a": YES}, None, Reason.REPEATED, {}, id="nor does another sign"
    ),
    pytest.param(label(source="label"), {"a": YES}, None, Reason.RELABELLED, None, id="explicit after a sign: agrees"),
    pytest.param(
        label(page=False, source="label"), {"a": YES}, None, Reason.RELABELLED, None, id="explicit: disagrees"
    ),
    pytest.param(
        label(source="label"), {"a": waiting(page=True, said_by="label")}, None, Reason.REPEATED, {}, id="said twice"
    ),
    pytest.param(
        label(page=False, source="label"),
        {"a": waiting(page=True, said_by="label")},
        None,
        Reason.RELABELLED,
        None,
        id="changed their mind",
    ),
    pytest.param(
        label(), {"a": waiting(page=True, said_by="label")}, None, Reason.REPEATED, {}, id="a sign after the explicit"
    ),
    pytest.param(WAKE, {"a": waiting()}, None, Reason.UNLABELLED, {SAMPLE.at("a"): None}, id="nobody said anything"),
    pytest.param(
        WAKE, {"a": YES}, learner("b"), Reason.FORGOTTEN, {SAMPLE.at("a"): None}, id="learned, and no longer replayed"
    ),
    pytest.param(
        WAKE,
        {"a": YES},
        learner("a"),
        Reason.REMEMBERED,
        {SAMPLE.at("a"): YES.model_copy(update={"wake_at": None})},
        id="still replayed",
    ),
]


@pytest.mark.parametrize(("event", "samples", "known", "reason", "changes"), CASES)
def test_learn(
    event: Sample | Label | Wake,
    samples: dict[str, SampleRow],
    known: LearnerRow | None,
    reason: Reason,
    changes: dict[RowKey, Row | None] | None,
) -> None:
    step_ = step(event, rows_of(table(samples, known)), T0, Config(most_samples=3))
    assert step_.reason is reason
    assert step_.emit == ()
    if changes is not None:
        assert step_.changes == changes
    wakes = {wake.key: wake.due for wake in step_.wake}
    assert wakes == {at.key: row.wake_at for at, row in step_.changes.items() if row is not None and row.wake_at}


def test_every_reason_is_reached() -> None:
    assert {case.values[3] for case in CASES} == set(Reason)
    assert STAGE.unintended == {Reason.FULL}


def test_a_label_is_scored_learned_and_remembered() -> None:
    step_ = step(label(), rows_of(table({"a": waiting()})), T0, Config())
    kept = told(step_)
    state = Learner.model_validate_json(kept.model)
    assert state.scored == ((0.0, 0.7, True),)
    assert (state.labels, state.pages, kept.labels) == (1, 1, 1)
    assert state.weights["name:a"][0] > 0
    assert kept.replay == ("a",)
    assert step_.changes[SAMPLE.at("a")] == YES
    assert step_.figures["said"] == 0.7
    assert step_.figures["accuracy"] == 1.0


def test_a_sample_from_before_the_first_model_is_scored_by_what_would_be_said_now() -> None:
    step_ = step(label(), rows_of(table({"a": waiting(p_page=None, model_version=0)})), T0, Config())
    assert step_.figures["said"] is None
    assert Learner.model_validate_json(told(step_).model).scored == ((0.0, 0.5, True),)


def test_a_second_opinion_is_learned_but_not_scored() -> None:
    known = learner("a", "b")
    step_ = step(label(page=False, source="label", weight=3.0), rows_of(table({"a": YES}, known)), T0, Config())
    kept = told(step_)
    state = Learner.model_validate_json(kept.model)
    assert state.scored == ()
    assert state.weights["name:a"][0] < 0
    assert kept.replay == ("b", "a")
    assert step_.changes[SAMPLE.at("a")] == waiting(page=False, said_by="label")


def test_older_labels_are_replayed() -> None:
    old = waiting(features={"name:old": 1.0}, page=False, said_by="unheeded")
    alone = told(step(label(), rows_of(table({"a": waiting()}, learner())), T0, Config()))
    both = told(step(label(), rows_of(table({"a": waiting(), "old": old}, learner("old"))), T0, Config()))
    assert "name:old" not in Learner.model_validate_json(alone.model).weights
    assert Learner.model_validate_json(both.model).weights["name:old"][0] < 0


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({}, id="forgotten"),
        pytest.param({"old": waiting(features={"name:old": 1.0})}, id="anew and not labelled"),
    ],
)
def test_what_cannot_be_replayed_is_passed_over(others: dict[str, SampleRow]) -> None:
    step_ = step(label(), rows_of(table({"a": waiting(), **others}, learner("old"))), T0, Config())
    assert "name:old" not in Learner.model_validate_json(told(step_).model).weights


@pytest.mark.parametrize(
    ("first", "gone"),
    [
        pytest.param(YES.model_copy(update={"wake_at": None}), True, id="past its time"),
        pytest.param(YES, False, id="its timer will see to it"),
    ],
)
def test_the_oldest_replay_makes_room(first: SampleRow, gone: bool) -> None:  # noqa: FBT001  a case
    ids = [f"s{n}" for n in range(MOST_REPLAYED)]
    samples = {"a": waiting(), **dict.fromkeys(ids[1:], YES), "s0": first}
    step_ = step(label(), rows_of(table(samples, learner(*ids))), T0, Config())
    assert told(step_).replay == (*ids[1:], "a")
    assert (SAMPLE.at("s0") in step_.changes) is gone
    assert step_.changes.get(SAMPLE.at("s0")) is None


def test_a_remembered_sample_may_be_labelled_again() -> None:
    remembered = YES.model_copy(update={"wake_at": None})
    step_ = step(label(page=False, source="label"), rows_of(table({"a": remembered}, learner("a"))), T0, Config())
    assert step_.reason is Reason.RELABELLED
    assert step_.wake == ()


def test_versions_go_out_after_so_many_labels() -> None:
    rows = rows_of()
    names = [f"s{n}" for n in range(7)]
    events = [event for n, name in enumerate(names) for event in (sample(name), label(name, page=n % 2 == 0))]
    steps = play(rows, events, Config(publish_every=3))
    out = [event for step_ in steps for event in step_.emit]
    assert [(type(event), getattr(event, "version", 0)) for event in out] == [
        (Artifact, 1),
        (Activated, 1),
        (Artifact, 2),
        (Activated, 2),
    ]
    artifact, activated = out[2:]
    assert isinstance(artifact, Artifact)
    assert isinstance(activated, Activated)
    assert artifact.kind == activated.kind == MODEL.name
    assert artifact.checksum == activated.checksum
    model = MODEL.decode(artifact.body)
    assert (model.labels, model.pages, set(model.weights)) == (6, 3, {f"name:s{n}" for n in range(6)})


def test_a_version_is_newer_than_what_a_person_activated() -> None:
    rows = rows_of(table({"a": waiting()}, learner(version=2)), {"model": (9, "{}")})
    step_ = step(label(), rows, T0, Config(publish_every=1))
    assert [event.version for event in step_.emit if isinstance(event, Activated)] == [10]
    assert told(step_).version == 10


def test_the_same_log_gives_the_same_state() -> None:
    events = [event for n in range(30) for event in (sample(f"s{n}"), label(f"s{n}", page=n % 3 == 0))]
    first, second = rows_of(), rows_of()
    assert play(first, events) == play(second, events)
    assert first.batch == second.batch
