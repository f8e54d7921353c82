from __future__ import annotations

from dataclasses import replace

import pytest

from tests.laws import broken
from tests.laws.crash import Rig, World, check_crashes
from tests.laws.toy_world import EVERYTHING, TOY_WORLD


@pytest.mark.parametrize(
    ("world", "said", "when"),
    [
        pytest.param(
            replace(TOY_WORLD, journal=broken.PositionBeforeRows),
            "rows of .* are not those|lacks",
            "before the commit",
            id="position before rows",
        ),
        pytest.param(
            replace(TOY_WORLD, journal=broken.PositionAfterRows),
            "rows of .* are not those|nobody wrote",
            "within the commit",
            id="position after rows",
        ),
        pytest.param(
            replace(TOY_WORLD, journal=broken.EmitsBeforeCommit),
            "nobody wrote",
            "before the commit",
            id="emits before the commit",
        ),
        pytest.param(
            replace(TOY_WORLD, journal=broken.EmitsAfterCommit),
            "lacks",
            "within the commit",
            id="emits after the commit",
        ),
        pytest.param(
            replace(TOY_WORLD, journal=broken.RowsAfterEmits),
            "rows of .* are not those",
            "within the commit",
            id="rows after emits",
        ),
        pytest.param(
            replace(TOY_WORLD, runtime=broken.LostWakes), "still waits for", "after the commit", id="lost wakes"
        ),
        pytest.param(
            replace(TOY_WORLD, runtime=broken.ForgottenClamp),
            "rows of .* are not those",
            "after the commit",
            id="forgotten clamp",
        ),
    ],
)
def test_a_broken_runtime_is_caught_by_a_crash_and_by_nothing_else(world: World, said: str, when: str) -> None:
    Rig(world).play(EVERYTHING).check()
    with pytest.raises(AssertionError, match=said) as caught:
        check_crashes(world, EVERYTHING, folds_only=True)
    assert when in caught.value.__notes__[0]


def test_what_is_not_broken_is_not_caught() -> None:
    assert check_crashes(TOY_WORLD, EVERYTHING) > 100
