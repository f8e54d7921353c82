"""Platt's calibration: turns logits into probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Sequence

from streamproc.learning.linear import LARGEST, sigmoid

STRENGTH = 10.0
"""How strongly (1, 0) is believed beforehand, in units of the curvature of the loss; chosen on public alert rules."""
ROUNDS = 100
"""Steps of the fit; what is left after them is below the noise of a few hundred labels."""


def fit_platt(scored: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Return (a, b) such that sigmoid(a * z + b) fits what came of predictions with logit z.

    Minimises the log loss plus STRENGTH / 2 * ((a - 1)^2 + b^2): with no labels it is (1, 0). Follows J. Platt,
    "Probabilistic outputs for support vector machines" (1999), with a prior on (a, b) in place of smoothed targets;
    minimised with the fixed curvature bound of D. Böhning and B. Lindsay, "Monotonicity of quadratic-approximation
    algorithms" (1988), which cannot overshoot.

    Args:
        scored: logit as predicted before it was learned from, and whether the page was worth it.
    """
    rows = [(max(-LARGEST, min(LARGEST, logit)), worth) for logit, worth in scored]
    aa = STRENGTH + sum(z * z for z, _ in rows) / 4
    ab = sum(z for z, _ in rows) / 4
    bb = STRENGTH + len(rows) / 4
    determinant = aa * bb - ab * ab
    a, b = 1.0, 0.0
    for _ in range(ROUNDS):
        errors = [(z, sigmoid(a * z + b) - worth) for z, worth in rows]
        slope = STRENGTH * (a - 1) + sum(error * z for z, error in errors)
        shift = STRENGTH * b + sum(error for _, error in errors)
        a -= (bb * slope - ab * shift) / determinant
        b -= (aa * shift - ab * slope) / determinant
    return a, b
