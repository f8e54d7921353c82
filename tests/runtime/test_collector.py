from __future__ import annotations

import gc

from streamproc.runtime.collector import YOUNG, tune


def test_it_leaves_what_stands_alone_and_looks_seldom() -> None:
    before = gc.get_threshold()
    try:
        tune()
        assert gc.get_threshold()[0] == YOUNG
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
