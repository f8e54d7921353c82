"""Records of several partitions in the order of their times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.record import Record
from streamproc.runtime.faust.client import Place
from streamproc.runtime.faust.merge import Merge

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = Place("pages", 0), Place("pages", 1)


def record(place: Place, offset: int, second: int) -> Record:
    return Record(place.topic, place.partition, offset, b"1234", T0 + timedelta(seconds=second))


def told(records: list[Record]) -> list[tuple[int, int]]:
    return [(each.partition, each.offset) for each in records]


def test_what_another_partition_may_precede_waits() -> None:
    merge = Merge()
    merge.add(A, [record(A, 0, 1), record(A, 1, 5)])
    assert merge.take([A, B]) == [], "of the other one nothing is known yet"
    merge.add(B, [record(B, 7, 3)])
    assert told(merge.take([A, B])) == [(0, 0), (1, 7)]
    assert (merge.first(A), merge.first(B), merge.held(A), merge.held(B)) == (1, None, 4, 0)
    assert merge.take([A, B]) == [], "of the other one more is to come"
    assert told(merge.take([A])) == [(0, 1)], "the other one is complete"
    assert merge.first(Place("pages", 9)) is None
    assert merge.held(Place("pages", 9)) == 0


def test_a_clock_that_steps_back_changes_no_order_and_holds_nothing_up() -> None:
    merge = Merge()
    merge.add(A, [record(A, 0, 9), record(A, 1, 2)])
    merge.add(B, [record(B, 0, 4), record(B, 1, 20)])
    assert told(merge.take([A, B])) == [(1, 0), (0, 0), (0, 1)]


@given(st.lists(st.lists(st.integers(0, 50), max_size=12), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_all_come_once_each_partition_in_its_order(stamps: list[list[int]], dice: object) -> None:
    logs = {
        Place("pages", p): [record(Place("pages", p), offset, second) for offset, second in enumerate(sorted(seconds))]
        for p, seconds in enumerate(stamps)
    }
    merge, at, taken = Merge(), dict.fromkeys(logs, 0), list[Record]()
    while behind := [place for place, log in logs.items() if at[place] < len(log)]:
        place = dice.choice(behind)  # type: ignore[attr-defined]
        step = dice.randint(1, 5)  # type: ignore[attr-defined]
        merge.add(place, logs[place][at[place] : at[place] + step])
        at[place] += step
        taken += merge.take([each for each, log in logs.items() if at[each] < len(log)])
    assert sorted(told(taken)) == sorted(told([each for log in logs.values() for each in log]))
    assert [each.stamp for each in taken] == sorted(each.stamp for each in taken)
