from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from streamproc.core.record import Position
from streamproc.core.step import Node, Step
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.journal import Append
from streamproc.runtime.memory import Memory, MemoryJournal
from tests.support.toy import COUNT, LETTERS, SPLIT, TOPICS, TOY, CountRow, Line, SplitReason, Total, Word

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def toy(partitions: int = 1, batch: int = 500) -> Memory:
    return Memory(TOY, LETTERS, MemoryJournal(TOPICS, partitions), ManualClock(T0), batch=batch)


def totals(runtime: Memory) -> list[tuple[str, int, bool]]:
    found = [Total.model_validate_json(record.value) for record in runtime.records("totals")]
    return [(total.word, total.count, total.over) for total in found]


def test_everything_is_folded_to_the_end() -> None:
    runtime = toy()
    runtime.put("lines", Line(sender="ann", text="ape ape ape bee"), "ann")
    assert runtime.run() == 1 + 4 + 1
    assert totals(runtime) == [
        ("ape", 1, False),
        ("ape", 2, False),
        ("ape", 3, False),
        ("bee", 1, False),
        ("ape", 13, False),
    ]
    assert runtime.run() == 0


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_however_it_is_cut_each_word_comes_to_the_same(partitions: int, batch: int) -> None:
    runtime = toy(partitions, batch)
    for text in ("ape bee", "bee cat", "ape"):
        runtime.put("lines", Line(sender=text, text=text), text)
    runtime.run()
    assert sorted(totals(runtime)) == [
        ("ape", 1, False),
        ("ape", 2, False),
        ("bee", 1, False),
        ("bee", 2, False),
        ("cat", 1, False),
    ]


def test_timers_fire_when_they_are_due_in_order() -> None:
    runtime = toy()
    runtime.put("words", Word(word="ape"), "ape")
    runtime.advance(5 * MINUTE)
    runtime.put("words", Word(word="bee"), "bee")
    runtime.advance(4 * MINUTE)
    assert not any(over for _, _, over in totals(runtime))
    runtime.advance(2 * MINUTE)
    assert totals(runtime)[-1] == ("ape", 1, True)
    assert runtime.clock.now() == T0 + 11 * MINUTE
    runtime.advance_to(T0 + 60 * MINUTE)
    assert totals(runtime)[-1] == ("bee", 1, True)
    assert [record.now - T0 for record in runtime.records("totals")] == [
        0 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        15 * MINUTE,
    ]


def test_time_does_not_go_back() -> None:
    runtime = toy()
    runtime.advance(MINUTE)
    with pytest.raises(ValueError, match="cannot go back"):
        runtime.advance_to(T0)


def test_another_process_goes_on_from_the_journal() -> None:
    runtime = toy()
    runtime.put("words", Word(word="ape"), "ape")
    runtime.run()
    again = Memory(TOY, LETTERS, runtime.journal, runtime.clock)
    again.put("words", Word(word="ape"), "ape")
    again.run()
    row = again.engine.part("tally").rows.get(COUNT.at("ape"))
    assert isinstance(row, CountRow)
    assert row.count == 2


class Impatient(Memory):
    rounds = 50


def test_a_topology_that_feeds_itself_for_ever_is_a_defect() -> None:
    def echo(event: Line, rows: object, now: datetime, config: object) -> Step:
        return Step({}, SplitReason.SPLIT, (event,))

    stage = type(SPLIT)("echo", echo, takes=(Line,), reasons=SplitReason)
    node = Node("echo", TOPICS["lines"], (stage,), (TOPICS["lines"],))
    runtime = Impatient((node,), LETTERS, MemoryJournal(TOPICS), ManualClock(T0))
    runtime.put("lines", Line(sender="ann", text=""), "ann")
    with pytest.raises(RuntimeError, match="never comes to rest"):
        runtime.run()


def test_a_topic_has_no_more_partitions_than_it_wants() -> None:
    journal = MemoryJournal(TOPICS, partitions=5)
    assert [journal.partitions(topic) for topic in ("lines", "switches")] == [2, 1]


def test_a_transaction_shows_everything_or_nothing() -> None:
    journal = MemoryJournal(TOPICS)
    appended = [Append("words", 0, b"k", b"v", {})]
    position = Position(1, T0)
    with suppress(KeyError), journal.transaction():
        journal.append(appended, T0)
        journal.save("tally", 0, {COUNT.at("a"): b"{}"}, position)
        raise KeyError
    assert (journal.end("words", 0), journal.load("tally", 0)[1]) == (0, None)
    with journal.transaction():
        journal.append(appended, T0)
        journal.append(appended, T0)
        journal.save("tally", 0, {COUNT.at("a"): b"{}", COUNT.at("b"): None}, position)
        assert journal.read("words", 0, 0, 10) == []
    assert [record.offset for record in journal.read("words", 0, 0, 10)] == [0, 1]
    rows, found = journal.load("tally", 0)
    assert (dict(rows), found) == ({COUNT.at("a"): b"{}"}, position)
    with journal.transaction():
        journal.save("tally", 0, {COUNT.at("a"): None}, position)
    assert dict(journal.load("tally", 0)[0]) == {}


def test_edges_append_all_or_nothing() -> None:
    runtime = toy()
    entries = [Entry.of("words", Word(word="ape"), "ape"), Entry("no such topic", b"", b"")]
    with pytest.raises(KeyError):
        runtime.append(entries)
    assert runtime.records("words") == []
