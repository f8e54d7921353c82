from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamproc.core.table import Row, RowKey
from streamproc.runtime.clock import ManualClock, SystemClock
from streamproc.runtime.timers import Timers

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FAR = T0 + timedelta(days=365)


def at(key: str) -> RowKey:
    return RowKey("count", key)


def waiting(minutes: int | None) -> Row:
    return Row(wake_at=None if minutes is None else T0 + minutes * MINUTE)


def taken(timers: Timers, minutes: int, limit: int = 100) -> list[tuple[str, int]]:
    return [(wake.key, (wake.due - T0) // MINUTE) for wake in timers.take(T0 + minutes * MINUTE, limit)]


def test_wakes_come_when_they_are_due_in_order() -> None:
    timers = Timers()
    timers.follow({at("late"): waiting(30), at("soon"): waiting(10), at("never"): waiting(None)})
    assert timers.next_due == T0 + 10 * MINUTE
    assert taken(timers, 9) == []
    assert taken(timers, 10) == [("soon", 10)]
    assert taken(timers, 60) == [("late", 30)]
    assert taken(timers, 60) == []
    assert timers.next_due is None


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        pytest.param(waiting(40), [("a", 40)], id="put off"),
        pytest.param(waiting(5), [("a", 5)], id="brought forward"),
        pytest.param(waiting(20), [("a", 20)], id="the same again"),
        pytest.param(waiting(None), [], id="waits no more"),
        pytest.param(None, [], id="forgotten"),
    ],
)
def test_a_changed_row_counts_as_it_is_now(then: Row | None, expected: list[tuple[str, int]]) -> None:
    timers = Timers()
    timers.follow({at("a"): waiting(20)})
    timers.follow({at("a"): then})
    assert len(timers) == len(expected)
    assert taken(timers, 60) == expected
    assert len(timers) == 0


def test_overdue_wakes_are_paced() -> None:
    timers = Timers()
    timers.follow({at(key): waiting(minutes) for minutes, key in enumerate("edcba")})
    assert taken(timers, 60, limit=2) == [("e", 0), ("d", 1)]
    assert taken(timers, 60, limit=2) == [("c", 2), ("b", 3)]
    assert taken(timers, 60, limit=2) == [("a", 4)]


def test_a_wake_that_is_put_off_again_and_again_is_queued_once() -> None:
    timers = Timers()
    for minutes in range(10, 1000):
        timers.follow({at("a"): waiting(minutes)})
    assert len(timers._heap) == 1
    assert taken(timers, 500) == []
    assert len(timers._heap) == 1
    assert taken(timers, 999) == [("a", 999)]


class Waiting(RuleBasedStateMachine):
    """Timers against a plain dict of what every row waits for."""

    KEYS = st.sampled_from("abcd")

    def __init__(self) -> None:
        super().__init__()
        self.timers = Timers()
        self.model: dict[RowKey, datetime] = {}
        self.now = T0

    @rule(key=KEYS, minutes=st.none() | st.integers(-5, 30), forget=st.booleans())
    def change(self, key: str, minutes: int | None, *, forget: bool) -> None:
        due = None if minutes is None else self.now + minutes * MINUTE
        self.timers.follow({at(key): None if forget else Row(wake_at=due)})
        if forget or due is None:
            self.model.pop(at(key), None)
        else:
            self.model[at(key)] = due

    @rule(minutes=st.integers(0, 20), limit=st.integers(0, 3))
    def pass_time(self, minutes: int, limit: int) -> None:
        self.now += minutes * MINUTE
        found = list(self.timers.take(self.now, limit))
        due = sorted((moment, address) for address, moment in self.model.items() if moment <= self.now)
        assert [wake.due for wake in found] == [moment for moment, _ in due[:limit]]
        for wake in found:
            assert self.model.pop(RowKey(wake.table, wake.key)) == wake.due

    @invariant()
    def the_next_is_never_told_too_late(self) -> None:
        first = min(self.model.values(), default=None)
        told = self.timers.next_due
        assert first is None or (told is not None and told <= first)
        assert len(self.timers) == len(self.model)

    def teardown(self) -> None:
        """In the end every row that waits is looked at, once."""
        found = {RowKey(wake.table, wake.key): wake.due for wake in self.timers.take(FAR, 100)}
        assert found == self.model
        assert self.timers.next_due is None


TestWaiting = Waiting.TestCase


def test_a_manual_clock_stands_until_it_is_set() -> None:
    clock = ManualClock(T0)
    assert clock.now() == clock.now() == T0
    clock.advance(MINUTE)
    clock.set(T0 + MINUTE)
    assert clock.now() == T0 + MINUTE
    with pytest.raises(ValueError, match="cannot go back"):
        clock.set(T0)


def test_the_machines_clock_tells_utc() -> None:
    assert SystemClock().now().tzinfo is UTC
