from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.learning.linear import MODEL, LinearModel, confidence, measure_trust, predict, score, sigmoid

MODEL_1 = LinearModel(weights={"a": 2.0, "b": -1.0}, bias=0.5, labels=60, pages=20, trust=((0.6, 0.7), (0.9, 0.96)))


@pytest.mark.parametrize(
    ("features", "p", "sure"),
    [
        pytest.param({}, 0.6225, 0.7, id="nothing known: the bias alone"),
        pytest.param({"a": 1.0, "unknown": 9.0}, 0.9241, 0.96, id="unknown features count nothing"),
        pytest.param({"b": 0.5}, 0.5, 0.5, id="on the fence: less sure than anything measured"),
        pytest.param({"b": 3.0}, 0.0759, 0.96, id="sure that it is not worth it"),
    ],
)
def test_predict(features: dict[str, float], p: float, sure: float) -> None:
    said = predict(MODEL_1, features)
    assert said.p == pytest.approx(p, abs=1e-4)
    assert said.confidence == sure


def test_calibration_scales_and_shifts_the_logit() -> None:
    calibrated = MODEL_1.model_copy(update={"platt": (2.0, -1.0)})
    assert predict(calibrated, {"a": 1.0}).p == sigmoid(2 * 2.5 - 1)


def test_logits_beyond_reason_are_cut() -> None:
    assert sigmoid(1e9) == sigmoid(35)
    assert sigmoid(-1e9) == sigmoid(-35) > 0


def test_the_artifact_is_named_by_its_content() -> None:
    artifact = MODEL_1.artifact(7)
    assert (artifact.kind, artifact.version) == ("model", 7)
    assert artifact.checksum == hashlib.sha256(artifact.body.encode()).hexdigest()
    assert MODEL.decode(artifact.body) == MODEL_1


@pytest.mark.parametrize(
    ("labels", "pages", "both"),
    [
        pytest.param(60, 20, True, id="both"),
        pytest.param(60, 0, False, id="none was worth it"),
        pytest.param(60, 60, False, id="all were worth it"),
    ],
)
def test_both(labels: int, pages: int, both: bool) -> None:  # noqa: FBT001  a case
    assert MODEL_1.model_copy(update={"labels": labels, "pages": pages}).both is both


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        pytest.param([], (), id="nothing measured"),
        pytest.param([(0.9, True)] * 18, ((0.9, 0.95),), id="18 right in a row: 95 %"),
        pytest.param([(0.1, False)] * 9 + [(0.9, True)] * 9, ((0.9, 0.95),), id="either side counts"),
        pytest.param([(0.9, False)] * 18, (), id="always wrong: worse than a coin"),
        pytest.param(
            [(0.6, True)] * 10 + [(0.6, False)] * 10 + [(0.8, True)] * 18,
            ((0.6, 29 / 40), (0.8, 0.95)),
            id="the surer, the more often right",
        ),
        pytest.param(
            [(0.6, True)] * 38 + [(0.8, True)] + [(0.8, False)] * 3,
            ((0.6, 40 / 44),),
            id="the surest are not the best: no step down",
        ),
    ],
)
def test_measure_trust(said: list[tuple[float, bool]], steps: tuple[tuple[float, float], ...]) -> None:
    assert measure_trust(said) == steps


chances = st.floats(0, 1)


@given(st.lists(st.tuples(chances, st.booleans()), max_size=60), chances)
def test_confidence_is_that_of_the_best_threshold_below(said: list[tuple[float, bool]], p: float) -> None:
    sureness = max(p, 1 - p)
    best = 0.5
    for threshold in {max(q, 1 - q) for q, _ in said}:
        if threshold <= sureness:
            tail = [(q >= 0.5) == came for q, came in said if max(q, 1 - q) >= threshold]
            best = max(best, (sum(tail) + 1) / (len(tail) + 2))
    assert confidence(measure_trust(said), p) == pytest.approx(best)


def test_score_adds_up() -> None:
    assert score({"a": 2.0}, 1.0, {"a": 0.5, "b": 4.0}) == 2.0
