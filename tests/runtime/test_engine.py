from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from streamproc.core.errors import Defect
from streamproc.core.event import Activated, Artifact, Wake
from streamproc.core.fold import CONFIG, Folded
from streamproc.core.record import Position
from streamproc.core.table import RowKey
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.engine import AHEAD, PATIENCE, Engine, _upstream
from streamproc.runtime.memory import MemoryJournal
from tests.support.toy import COUNT, LETTERS, TOPICS, TOY, CountRow, Line, Word

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
IDLE = timedelta(minutes=10)


class Bench:
    """An engine over a memory journal, one transaction for each thing that is done."""

    def __init__(self, partitions: int = 1) -> None:
        self.journal = MemoryJournal(TOPICS, partitions)
        self.clock = ManualClock(T0)
        self.seen: list[tuple[str, int, int]] = []
        self.start()

    def start(self) -> None:
        self.engine = Engine(TOY, LETTERS, self.journal, self.clock, self)

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:
        self.seen.append((node, partition, count))

    def append(self, *entries: Entry) -> None:
        with self.journal.transaction():
            self.engine.append(entries)

    def word(self, text: str) -> None:
        self.append(Entry.of("words", Word(word=text), text))

    def line(self, text: str) -> None:
        self.append(Entry.of("lines", Line(sender="ann", text=text), "ann"))

    def step(self, node: str, limit: int = 500) -> int:
        with self.journal.transaction():
            return self.engine.step(self.engine.part(node), limit)

    def fire(self, limit: int = 500) -> list[Wake]:
        """Fire timers and return the wakes that were written."""
        before = len(self.journal.logs["words", 0])
        with self.journal.transaction():
            fired = self.engine.fire(self.clock.now(), limit)
        wakes = [Wake.decode(record.value, record.headers) for record in self.journal.logs["words", 0][before:]]
        assert fired == len(wakes)
        return wakes


def test_what_an_edge_brings_is_stamped_by_the_log() -> None:
    bench = Bench()
    bench.clock.advance(MINUTE)
    bench.word("ape")
    (record,) = bench.journal.logs["words", 0]
    assert (record.stamp, record.now, record.key) == (T0 + MINUTE, T0 + MINUTE, b"ape")


def test_a_stamp_that_an_entry_brings_is_kept() -> None:
    bench = Bench()
    bench.append(Entry("words", b"", b"{}", {"now": b"2026-03-01T11:00:00+00:00"}))
    (record,) = bench.journal.logs["words", 0]
    assert (record.stamp, record.now) == (T0, T0 - timedelta(hours=1))


def test_records_of_one_key_stay_in_one_partition() -> None:
    bench = Bench(partitions=2)
    for text in ("ape", "bee", "cat", "dog", "ape", "bee", "ape"):
        bench.word(text)
    held = [record for p in (0, 1) for record in bench.journal.logs["words", p]]
    assert len({(record.key, record.partition) for record in held}) == 4
    assert {record.partition for record in held} == {0, 1}


def test_everywhere_is_every_partition() -> None:
    bench = Bench(partitions=2)
    bench.append(
        Entry(
            "switches", b"", b'{"kind":"other","version":1,"checksum":"' + b"a" * 64 + b'"}', {"type": b"activated.v1"}
        )
    )
    bench.step("relay")
    assert [len(bench.journal.logs[topic, p]) for topic in ("lines", "words") for p in (0, 1)] == [1, 1, 1, 1]


def test_a_step_folds_up_to_its_limit_and_tells_the_sensor_and_the_listener() -> None:
    bench = Bench()
    heard: list[set[RowKey]] = []
    bench.engine.listen("tally", lambda part, changes: heard.append(set(changes)))
    for text in ("ape", "bee", "cat"):
        bench.word(text)
    assert [bench.step("tally", 2), bench.step("tally", 2), bench.step("tally", 2)] == [2, 1, 0]
    assert bench.seen == [("tally", 0, 2), ("tally", 0, 1)]
    assert [COUNT.at("cat") in changes for changes in heard] == [False, True]


def test_lag_and_idle() -> None:
    bench = Bench()
    assert bench.engine.idle
    bench.line("ape bee")
    assert bench.engine.lag(bench.engine.part("split")) == 1
    assert not bench.engine.idle
    bench.step("split")
    assert [bench.engine.lag(bench.engine.part(node)) for node in ("split", "tally")] == [0, 2]
    bench.step("tally")
    assert bench.engine.idle


def test_a_restart_goes_on_where_it_was() -> None:
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.word("ape")
    bench.start()
    part = bench.engine.part("tally")
    assert part.position == Position(1, T0, "memory:words")
    assert bench.engine.next_due() == T0 + IDLE
    bench.step("tally")
    row = part.rows.get(COUNT.at("ape"))
    assert isinstance(row, CountRow)
    assert row.count == 2


def test_versions_are_known_from_the_log_on_and_after_a_restart() -> None:
    bench = Bench()
    body = '{"count": {"nudge_at": 1}}'
    checksum = hashlib.sha256(body.encode()).hexdigest()
    bench.append(Entry.of("versions", Artifact(kind=CONFIG, version=1, checksum=checksum, body=body)))
    bench.append(Entry.of("words", Activated(kind=CONFIG, version=1, checksum=checksum)))
    bench.start()
    bench.word("ape")
    bench.step("tally")
    assert [record.headers["type"] for record in bench.journal.logs["words", 0]][-1] == b"nudge.v1"


# -- timers ----------------------------------------------------------------------------------------------------------


def test_a_wake_is_written_when_it_is_due_with_its_own_time() -> None:
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.clock.advance(IDLE - MINUTE)
    assert bench.fire() == []
    bench.clock.advance(5 * MINUTE)
    fired = bench.clock.now()
    assert bench.fire() == [Wake(table="count", key="ape", due=T0 + IDLE, fired=fired)]
    assert fired == T0 + IDLE + 4 * MINUTE
    record = bench.journal.logs["words", 0][-1]
    assert (record.now, record.headers["type"]) == (T0 + IDLE, b"wake.v1")
    assert bench.fire() == []


def test_overdue_wakes_are_paced() -> None:
    bench = Bench()
    for text in ("ape", "bee", "cat"):
        bench.word(text)
    bench.step("tally")
    bench.clock.advance(IDLE)
    assert [len(bench.fire(2)), len(bench.fire(2)), len(bench.fire(2))] == [2, 1, 0]


def test_a_wake_waits_for_what_lies_upstream() -> None:
    """Else it overtakes what happened before it."""
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.clock.advance(IDLE - MINUTE)
    bench.line("ape")
    bench.clock.advance(2 * MINUTE)
    assert bench.fire() == []
    bench.step("split")
    (wake,) = bench.fire()
    assert not wake.forced


def test_a_wake_does_not_wait_for_what_came_after_it_was_due() -> None:
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.clock.advance(IDLE + timedelta(seconds=1))
    bench.line("bee")
    bench.line("bee")
    bench.step("split", 1)
    assert bench.engine.lag(bench.engine.part("split")) == 1
    (wake,) = bench.fire()
    assert not wake.forced


def test_a_wake_waits_where_upstream_stands_at_its_very_moment() -> None:
    """The next record may carry the same stamp."""
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.clock.advance(IDLE)
    bench.line("bee")
    bench.line("ape")
    bench.step("split", 1)
    assert bench.fire() == []


def test_a_wake_waits_no_longer_than_its_patience_and_says_so() -> None:
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.clock.advance(IDLE - MINUTE)
    bench.line("bee")
    bench.clock.advance(MINUTE + PATIENCE)
    assert [wake.forced for wake in bench.fire()] == [True]


def test_each_wake_is_judged_by_its_own_due_time() -> None:
    """Upstream is past the first, not past the second, which is not overdue enough to be forced."""
    bench = Bench()
    bench.word("ape")
    bench.clock.advance(3 * MINUTE)
    bench.word("bee")
    bench.step("tally")
    bench.clock.advance(8 * MINUTE)
    bench.line("cat")
    bench.line("cat")
    bench.step("split", 1)
    bench.clock.advance(3 * MINUTE)
    assert [(wake.key, wake.forced) for wake in bench.fire()] == [("ape", False)]
    bench.clock.advance(2 * MINUTE)
    assert [(wake.key, wake.forced) for wake in bench.fire()] == [("bee", True)]


def test_a_wake_that_was_put_off_is_not_forced_for_its_old_due_time() -> None:
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.clock.advance(9 * MINUTE)
    bench.word("ape")
    bench.step("tally")
    bench.line("ape")
    bench.clock.advance(10 * MINUTE + timedelta(seconds=1))
    assert bench.fire() == []


def test_a_wake_does_not_wait_for_its_own_inbox_behind_which_it_stands() -> None:
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.clock.advance(IDLE)
    bench.word("ape")
    assert len(bench.fire()) == 1
    bench.step("tally")
    row = bench.engine.part("tally").rows.get(COUNT.at("ape"))
    assert isinstance(row, CountRow)
    assert row.count == 2


@pytest.mark.parametrize(
    ("node", "upstream"),
    [
        pytest.param("relay", set(), id="the first"),
        pytest.param("split", {"relay"}, id="the second"),
        pytest.param("tally", {"relay", "split"}, id="one that writes to itself"),
    ],
)
def test_what_lies_upstream(node: str, upstream: set[str]) -> None:
    assert _upstream(TOY, next(each for each in TOY if each.name == node)) == upstream


def test_what_lies_upstream_in_a_circle() -> None:
    relay, split, tally = TOY
    circle = (relay, split, replace(tally, writes=(*tally.writes, TOPICS["switches"])))
    assert _upstream(circle, relay) == {"split", "tally"}


# -- what stops it ---------------------------------------------------------------------------------------------------


def test_a_stamp_far_ahead_of_the_clock_stops_the_node() -> None:
    bench = Bench()
    ahead = (T0 + AHEAD + timedelta(seconds=1)).isoformat().encode()
    bench.append(Entry("words", b"", b"{}", {"now": ahead}))
    with pytest.raises(Defect, match="more than 5 minutes ahead: set the clocks right"):
        bench.step("tally")


@pytest.mark.parametrize(
    "now",
    [
        pytest.param((T0 + AHEAD).isoformat().encode(), id="just in reach"),
        pytest.param(b"tomorrow", id="no moment, for the fold to refuse"),
    ],
)
def test_other_stamps_do_not(now: bytes) -> None:
    bench = Bench()
    bench.append(Entry("words", b"", Word(word="ape").encode(), {"now": now}))
    assert bench.step("tally") == 1


def test_an_inbox_that_was_made_anew_stops_the_start() -> None:
    bench = Bench()
    bench.word("ape")
    bench.step("tally")
    bench.journal.positions["tally", 0] = Position(1, T0, "another")
    with pytest.raises(Defect, match="words/0 was made anew"):
        bench.start()


@pytest.mark.parametrize("at", [pytest.param(7, id="cut at its end"), pytest.param(-1, id="cut at its start")])
def test_an_inbox_that_was_cut_stops_the_start(at: int) -> None:
    bench = Bench()
    bench.word("ape")
    bench.journal.positions["tally", 0] = Position(at, T0, "memory:words")
    with pytest.raises(Defect, match=f"words/0 holds offsets 0 to 1, but tally stands at {at}"):
        bench.start()


def test_a_hole_in_the_log_stops_the_node() -> None:
    bench = Bench()
    for text in ("ape", "bee", "cat"):
        bench.word(text)
    del bench.journal.logs["words", 0][1]
    with pytest.raises(Defect, match="words/0/2 was read where offset 1 was due: records are missing"):
        bench.step("tally")
