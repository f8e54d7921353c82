"""The model that decides: linear weights in an immutable artifact. Predicts alone, learns nothing, needs no library."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from streamproc.core.event import Artifact
from streamproc.core.table import ArtifactKind

KIND = "model"
LARGEST = 35.0
"""Logits beyond are cut: a probability of 1 - 6e-16 is sure enough, and exp() does not overflow."""
UNSURE = 0.5
"""Confidence where nothing has been measured: a coin's."""

Steps = tuple[tuple[float, float], ...]
"""Pairs (sureness, share right), both rising; sureness is the larger of p and 1 - p."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one alert."""

    p: float
    """Probability that a page is worth it."""
    confidence: float
    """Measured share right of the latest predictions that were at least so sure; 0.5 where too few were."""


class LinearModel(BaseModel):
    """A published version: weights, calibration, and how far it may be trusted."""

    model_config = ConfigDict(frozen=True)

    weights: dict[str, float]
    bias: float
    platt: tuple[float, float] = (1.0, 0.0)
    """Calibration (a, b): the probability is that of the logit a * z + b."""
    labels: int = Field(ge=0)
    """How many labels it was learned from."""
    pages: int = Field(ge=0)
    """How many of them said that the page was worth it."""
    trust: Steps = ()

    @property
    def both(self) -> bool:
        """True where it has seen incidents that were worth a page and such that were not."""
        return 0 < self.pages < self.labels

    def artifact(self, version: int) -> Artifact:
        """Return the version as it is published; the checksum is the SHA-256 of the body."""
        body = self.model_dump_json()
        return Artifact(kind=KIND, version=version, checksum=hashlib.sha256(body.encode()).hexdigest(), body=body)


MODEL = ArtifactKind(KIND, decode=LinearModel.model_validate_json)
"""The activated version of the model."""


def sigmoid(logit: float) -> float:
    """Return the probability of a logit, which is cut at 35 on either side."""
    return 1 / (1 + math.exp(-max(-LARGEST, min(LARGEST, logit))))


def score(weights: Mapping[str, float], bias: float, features: Mapping[str, float]) -> float:
    """Return the logit of a sample; unknown features count nothing."""
    return sum((weights[name] * value for name, value in features.items() if name in weights), bias)


def predict(model: LinearModel, features: Mapping[str, float]) -> Prediction:
    """Return what a model says of a sample."""
    slope, shift = model.platt
    p = sigmoid(slope * score(model.weights, model.bias, features) + shift)
    return Prediction(p, confidence(model.trust, p))


def confidence(trust: Steps, p: float) -> float:
    """Return the measured share right of predictions that were at least as sure as `p`."""
    sure = max(p, 1 - p)
    return max((right for sureness, right in trust if sureness <= sure), default=UNSURE)


def measure_trust(said: Iterable[tuple[float, bool]]) -> Steps:
    """Return how far predictions can be trusted, from what was said (p) and what came of it.

    The share right of the n predictions that are at least so sure is (right + 1) / (n + 2), Laplace's rule, so that a
    few lucky ones prove nothing: 95 % takes 18 in a row. Only steps upwards are kept, from the least sure on, so the
    first step that reaches a wanted share is the smallest threshold that does.
    """
    sure = sorted(((max(p, 1 - p), (p >= UNSURE) == came) for p, came in said), reverse=True)
    tails: dict[float, float] = {}
    right = 0
    for n, (sureness, was_right) in enumerate(sure, start=1):
        right += was_right
        tails[sureness] = (right + 1) / (n + 2)
    steps: list[tuple[float, float]] = []
    for sureness, share in sorted(tails.items()):
        if share > (steps[-1][1] if steps else UNSURE):
            steps.append((sureness, share))
    return tuple(steps)
