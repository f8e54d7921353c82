from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
from river.linear_model import LogisticRegression
from river.optim import AdaGrad

from streamproc.learning.linear import predict
from streamproc.learning.model import MOST_SCORED, MOST_WEIGHTS, Learner, Lesson, judge, learn


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but `parts`."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:12], 16) / 16**12


NOUNS = ("disk", "cpu", "queue", "latency", "errors", "memory", "replica", "backup", "quota", "login")
PLACES = ("eu", "us", "ap", "lab")
WORTH = {"latency", "errors", "replica", "login"}


def stream(seed: int, count: int) -> Iterator[Lesson]:
    """Alerts of ten kinds in four places; some kinds are worth a page, none is in the lab, a tenth is the other way."""
    for n in range(count):
        noun = NOUNS[int(chance(seed, n, "noun") * len(NOUNS))]
        place = PLACES[int(chance(seed, n, "place") * len(PLACES))]
        page = (noun in WORTH and place != "lab") != (chance(seed, n, "whim") < 0.1)
        yield Lesson({f"name:{noun}": 0.7, f"cluster:{place}": 1.0, f"summary:w{n % 37}": 0.5}, page)


def reloaded(learner: Learner) -> Learner:
    return Learner.model_validate_json(learner.model_dump_json())


def taught(lessons: list[Lesson], *, through_json: bool = False) -> Learner:
    learner = Learner()
    for n, lesson in enumerate(lessons):
        learner = judge(learner, lesson, None)
        learner = learn(learner, lesson, lessons[max(0, n - 4) : n])
        learner = reloaded(learner) if through_json else learner
    return learner


def test_learn_dump_load_learn_is_learn_learn() -> None:
    lessons = list(stream(1, 120))
    assert taught(lessons, through_json=True).model_dump_json() == taught(lessons).model_dump_json()


def test_the_steps_are_those_of_river_itself() -> None:
    lessons = list(stream(2, 150))
    river: Any = LogisticRegression(AdaGrad(0.3), l2=1e-4)
    labels, pages = 0, 0
    for n, lesson in enumerate(lessons):
        labels, pages = labels + 1, pages + lesson.page
        for each in (lesson, *lessons[max(0, n - 4) : n]):
            of_class = max(1, pages if each.page else labels - pages)
            river.learn_one(each.features, each.page, w=math.sqrt(labels / (2 * of_class)))
    learner = taught(lessons, through_json=True)
    assert {name: weight for name, (weight, _) in learner.weights.items()} == dict(river.weights)
    assert {name: squares for name, (_, squares) in learner.weights.items()} == dict(river.optimizer.g2)
    assert learner.bias == river.intercept


def test_a_lesson_has_its_weight() -> None:
    light = learn(Learner(), Lesson({"a": 1.0}, page=True, weight=0.1), ())
    heavy = learn(Learner(), Lesson({"a": 1.0}, page=True, weight=3.0), ())
    assert heavy.bias > light.bias > 0


def test_what_was_said_is_scored_before_it_is_learned() -> None:
    lesson = Lesson({"a": 1.0}, page=True)
    first = judge(Learner(), lesson, 0.9)
    assert first.scored == ((0.0, 0.9, True),)
    assert first.weights == {}
    assert first.accuracy == 1.0
    assert first.log_loss == pytest.approx(-math.log(0.9))


def test_without_a_model_what_would_be_said_now_stands() -> None:
    assert judge(Learner(), Lesson({"a": 1.0}, page=False), None).scored == ((0.0, 0.5, False),)


def test_a_fresh_learner_says_nothing_of_itself() -> None:
    assert Learner().accuracy is None
    assert Learner().log_loss is None
    published = Learner().publish()
    assert published.platt == (1.0, 0.0)
    assert published.trust == ()


def test_a_certain_mistake_costs_a_bounded_loss() -> None:
    assert judge(Learner(), Lesson({}, page=True), 0.0).log_loss == pytest.approx(-math.log(1e-6))


def test_only_the_latest_predictions_are_kept() -> None:
    learner = Learner()
    for n in range(MOST_SCORED + 5):
        learner = judge(learner, Lesson({}, page=n % 2 == 0), n / 1000)
    assert len(learner.scored) == MOST_SCORED
    assert learner.scored[0][1] == 0.005


def test_the_smallest_weights_go_first() -> None:
    full = {f"old{n}": (1.0 + n, 1.0) for n in range(MOST_WEIGHTS)}
    learner = learn(Learner(weights=full), Lesson({"new": 1.0, "old5": 1.0}, page=True), ())
    assert len(learner.weights) == MOST_WEIGHTS
    assert "new" not in learner.weights
    assert learner.weights["old5"] != full["old5"]
    learner = learn(Learner(weights={**full, "old0": (0.001, 1.0)}), Lesson({"new": 1.0}, page=True), ())
    assert "new" in learner.weights
    assert "old0" not in learner.weights


def test_a_full_state_fits_into_one_record() -> None:
    name = "name:" + "word " * 3
    full = {f"{name}{n}": (-1.2345678901234567 / (n + 1), 123.45678901234567 + n) for n in range(MOST_WEIGHTS)}
    scored = tuple((-1.2345678901234567, 0.12345678901234567, True) for _ in range(MOST_SCORED))
    assert len(Learner(weights=full, scored=scored).model_dump_json()) < 900_000


@pytest.mark.parametrize("seed", [pytest.param(3, id="seed 3"), pytest.param(4, id="seed 4")])
def test_it_learns_what_is_worth_a_page(seed: int) -> None:
    lessons = list(stream(seed, 600))
    learner = taught(lessons[:400])
    model = learner.publish()
    right = [(predict(model, lesson.features).p >= 0.5) == lesson.page for lesson in lessons[400:]]
    assert sum(right) / len(right) > 0.8
    assert learner.accuracy is not None
    assert learner.accuracy > 0.75
    assert model.labels == 400
    assert model.both


def test_it_finds_nothing_where_there_is_nothing() -> None:
    noise = [Lesson(lesson.features, chance("noise", n) < 0.5) for n, lesson in enumerate(stream(5, 500))]
    model = taught(noise).publish()
    sure = [predict(model, lesson.features).confidence >= 0.85 for lesson in noise]
    assert sum(sure) / len(sure) < 0.05
