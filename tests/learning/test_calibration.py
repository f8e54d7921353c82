from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.learning.calibration import STRENGTH, fit_platt
from streamproc.learning.linear import sigmoid


def loss(rows: list[tuple[float, bool]], a: float, b: float) -> float:
    said = ((sigmoid(a * z + b), worth) for z, worth in rows)
    fit = -sum(math.log(p if worth else 1 - p) for p, worth in said)
    return fit + STRENGTH / 2 * ((a - 1) ** 2 + b**2)


def test_nothing_scored_changes_nothing() -> None:
    assert fit_platt([]) == (1.0, 0.0)


def test_an_overconfident_model_is_damped() -> None:
    rows = [(4.0, True)] * 70 + [(4.0, False)] * 30 + [(-4.0, False)] * 70 + [(-4.0, True)] * 30
    a, b = fit_platt(rows)
    assert sigmoid(4 * a + b) == pytest.approx(0.7, abs=0.02)
    assert b == pytest.approx(0, abs=1e-9)


def test_a_shift_is_made_good_as_far_as_the_prior_allows() -> None:
    a, b = fit_platt([(0.0, True)] * 90 + [(0.0, False)] * 10)
    assert a == 1
    assert 100 * (sigmoid(b) - 0.9) + STRENGTH * b == pytest.approx(0, abs=1e-6)
    assert 0.7 < sigmoid(b) < 0.9


rows_of_labels = st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), max_size=40)


@given(rows_of_labels)
def test_the_fit_is_no_worse_than_none(rows: list[tuple[float, bool]]) -> None:
    cut = [(max(-35.0, min(35.0, z)), worth) for z, worth in rows]
    a, b = fit_platt(rows)
    assert loss(cut, a, b) <= loss(cut, 1, 0) + 1e-9


def test_even_flipped_labels_do_not_diverge() -> None:
    a, _ = fit_platt([(20.0, False), (-20.0, True)] * 150)
    assert -1 < a < 1
