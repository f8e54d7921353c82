"""The learner: logistic regression with AdaGrad, as pure functions over a frozen state that is JSON at rest.

River makes the steps; its model lives no longer than one call. Rate, penalty, replays and class weight are those that
did best in a comparison on the alert rules of four organisations (against SGD, passive-aggressive, naive Bayes,
Hoeffding trees, nearest neighbours and a stack of them).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from streamproc.learning.calibration import fit_platt
from streamproc.learning.linear import LinearModel, measure_trust, score, sigmoid

RATE = 0.3
PENALTY = 1e-4
MOST_WEIGHTS = 10_000
"""Weights kept; beyond them the smallest go. Public rule sets of 1,000 rules need 2,200."""
MOST_SCORED = 300
"""Latest predictions that calibration and trust are measured on."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One labelled sample."""

    features: Mapping[str, float]
    page: bool
    weight: float = 1.0


class Learner(BaseModel):
    """The learner's state."""

    model_config = ConfigDict(frozen=True)

    weights: dict[str, tuple[float, float]] = {}
    """Weight of each feature, and the sum of its squared gradients (AdaGrad's)."""
    bias: float = 0.0
    labels: int = 0
    pages: int = 0
    scored: tuple[tuple[float, float, bool], ...] = ()
    """The latest predictions: logit, probability as it was said, and what came of it."""

    @property
    def accuracy(self) -> float | None:
        """Share right of the latest predictions; None before the first."""
        return _mean([float((said >= 0.5) == page) for _, said, page in self.scored])  # noqa: PLR2004  the likelier side

    @property
    def log_loss(self) -> float | None:
        """Mean loss of the latest predictions in nats, each cut at 1e-6; None before the first."""
        return _mean([-math.log(max(1e-6, said if page else 1 - said)) for _, said, page in self.scored])

    def publish(self) -> LinearModel:
        """Return what `decide` predicts with."""
        return LinearModel(
            weights={name: weight for name, (weight, _) in self.weights.items() if weight},
            bias=self.bias,
            platt=fit_platt([(logit, page) for logit, _, page in self.scored]),
            labels=self.labels,
            pages=self.pages,
            trust=measure_trust([(said, page) for _, said, page in self.scored]),
        )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def judge(learner: Learner, lesson: Lesson, said: float | None) -> Learner:
    """Return the learner with one more prediction scored; to be called before it learns the lesson.

    Args:
        learner: the state.
        lesson: the sample and what came of it.
        said: the probability that was said when it was decided; None where there was no model yet, so that what the
            learner would say now stands for it.
    """
    weights = {name: learner.weights[name][0] for name in lesson.features if name in learner.weights}
    logit = score(weights, learner.bias, lesson.features)
    row = (logit, sigmoid(logit) if said is None else said, lesson.page)
    return learner.model_copy(update={"scored": (*learner.scored, row)[-MOST_SCORED:]})


def learn(learner: Learner, lesson: Lesson, replayed: Iterable[Lesson]) -> Learner:
    """Return the learner after a lesson and some older ones, so that a rare kind is not forgotten.

    Each step weighs (N / 2 n)^0.5, N labels of which n are of this class, times the lesson's own weight.
    """
    labels, pages = learner.labels + 1, learner.pages + lesson.page
    lessons = (lesson, *replayed)
    model = _load(learner, {name for each in lessons for name in each.features})
    for each in lessons:
        of_class = max(1, pages if each.page else labels - pages)
        model.learn_one(each.features, each.page, w=each.weight * math.sqrt(labels / (2 * of_class)))
    weights = {
        **learner.weights,
        **{name: (weight, model.optimizer.g2[name]) for name, weight in model.weights.items()},
    }
    changed = {"weights": _largest(weights), "bias": model.intercept, "labels": labels, "pages": pages}
    return learner.model_copy(update=changed)


def _largest(weights: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    if len(weights) <= MOST_WEIGHTS:
        return weights
    kept = sorted(weights, key=lambda name: (-abs(weights[name][0]), name))[:MOST_WEIGHTS]
    return {name: weights[name] for name in kept}


@cache
def _river() -> tuple[Any, Any, Any]:
    """Return what is needed of river, which takes two seconds to import: only the first label has to wait for it."""
    from river.linear_model import LogisticRegression  # noqa: PLC0415  see above
    from river.optim import AdaGrad  # noqa: PLC0415  see above
    from river.utils import VectorDict  # noqa: PLC0415  see above

    return LogisticRegression, AdaGrad, VectorDict


def _load(learner: Learner, names: set[str]) -> Any:
    """Return river's model with the state of some features: a step touches no others."""
    regression, adagrad, vector = _river()
    known = {name: state for name, state in learner.weights.items() if name in names}
    model = regression(adagrad(RATE), l2=PENALTY, intercept_init=learner.bias)
    model._weights = vector({name: weight for name, (weight, _) in known.items()})  # noqa: SLF001  no public way in
    model.optimizer.g2.update({name: squares for name, (_, squares) in known.items()})
    return model
