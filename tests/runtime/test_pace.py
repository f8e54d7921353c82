from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.pace import FIRST, LONGEST, LoopTiming, Window, backoff


class TestWindow:
    @given(
        limit=st.integers(1, 8),
        steps=st.lists(
            st.tuples(st.integers(0, 4000).map(lambda tenths: tenths / 10), st.integers(1, 12)), max_size=60
        ),
    )
    def test_never_lets_more_than_the_limit_through_in_any_look_back(
        self, limit: int, steps: list[tuple[float, int]]
    ) -> None:
        window, now, sent = Window(limit, 60.0), 0.0, list[float]()
        for pause, wanted in steps:
            now += pause / 10
            for _ in range(min(wanted, window.free(now))):
                window.spend(now)
                sent.append(now)
        for begin in sent:
            assert sum(begin <= moment < begin + 60.0 for moment in sent) <= limit

    @given(limit=st.integers(1, 8), pauses=st.lists(st.floats(0, 100), min_size=1, max_size=40))
    def test_lets_the_next_one_through_when_it_says_so(self, limit: int, pauses: list[float]) -> None:
        window, now = Window(limit, 60.0), 0.0
        for pause in pauses:
            now += pause
            if not window.free(now):
                due = window.next_free()
                assert due is not None
                assert due > now
                now = due
            assert window.free(now) > 0
            window.spend(now)

    def test_counts_what_was_made_without_asking(self) -> None:
        window = Window(2, 60.0)
        window.spend(0.0, 4)
        assert window.free(59.9) == 0
        assert window.free(60.0) == 2

    def test_has_nothing_to_wait_for_while_it_is_empty(self) -> None:
        assert Window(2).next_free() is None


@pytest.mark.parametrize(
    ("failures", "jitter", "seconds"),
    [
        pytest.param(1, 0.0, 1.0, id="the first"),
        pytest.param(1, 1.0, 1.0, id="never under a second"),
        pytest.param(4, 0.0, 8.0, id="doubles"),
        pytest.param(4, 1.0, 4.0, id="at most half is taken off"),
        pytest.param(7, 0.0, 60.0, id="is bounded"),
        pytest.param(10**6, 0.5, 45.0, id="for ever"),
    ],
)
def test_backoff(failures: int, jitter: float, seconds: float) -> None:
    assert backoff(failures, jitter) == seconds


@given(failures=st.integers(1, 10**9), jitter=st.floats(0, 1))
def test_backoff_stays_within_its_bounds(failures: int, jitter: float) -> None:
    assert FIRST <= backoff(failures, jitter) <= LONGEST


class TestLoopTiming:
    async def test_returns_when_the_event_is_set(self) -> None:
        event = asyncio.Event()
        waiting = asyncio.create_task(LoopTiming().wait(event, None))
        await asyncio.sleep(0)
        assert not waiting.done()
        event.set()
        await waiting

    async def test_returns_when_the_seconds_have_passed(self) -> None:
        timing, event = LoopTiming(), asyncio.Event()
        begun = timing.monotonic()
        await timing.wait(event, 0.01)
        assert timing.monotonic() >= begun
        assert not event.is_set()
