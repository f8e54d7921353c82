"""The journal that lets go of what was folded."""

from __future__ import annotations

from datetime import UTC, datetime

from streamproc.core.record import Position, Record
from streamproc.core.table import RowKey
from streamproc.runtime.journal import Append
from streamproc.runtime.passing import PassingJournal
from streamproc.topology import TOPICS

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
READ, UNREAD = "alerts", "pages"


def journal(shown: list[Record]) -> PassingJournal:
    return PassingJournal(TOPICS, {"deduplicate": READ}, shown.append)


def append(one: PassingJournal, topic: str, *values: bytes) -> None:
    with one.transaction():
        one.append([Append(topic, 0, b"", value, {}) for value in values], T0)


def fold(one: PassingJournal, until: int) -> None:
    with one.transaction():
        one.save("deduplicate", 0, {RowKey("episode", "k"): b"{}"}, Position(until, T0))


def test_records_wait_until_they_are_folded_and_offsets_go_on() -> None:
    one = journal([])
    append(one, READ, b"a", b"b", b"c")
    fold(one, 2)
    assert (one.start(READ, 0), one.end(READ, 0)) == (2, 3)
    append(one, READ, b"d")
    assert [(record.offset, record.value) for record in one.read(READ, 0, 2, 10)] == [(2, b"c"), (3, b"d")]
    assert [record.value for record in one.read(READ, 0, 3, 10)] == [b"d"]


def test_what_no_node_reads_is_shown_and_not_kept() -> None:
    shown: list[Record] = []
    one = journal(shown)
    append(one, UNREAD, b"a")
    append(one, UNREAD, b"b")
    assert [(record.offset, record.value) for record in shown] == [(0, b"a"), (1, b"b")]
    assert one.logs[UNREAD, 0] == []
    assert one.end(UNREAD, 0) == 2


def test_records_appended_while_others_are_folded_stay() -> None:
    one = journal([])
    append(one, READ, b"a")
    with one.transaction():
        one.append([Append(READ, 0, b"", b"b", {})], T0)
        one.save("deduplicate", 0, {}, Position(1, T0))
    assert [record.value for record in one.read(READ, 0, 1, 10)] == [b"b"]


def test_rows_are_not_kept_and_positions_are() -> None:
    one = journal([])
    append(one, READ, b"a")
    fold(one, 1)
    rows, position = one.load("deduplicate", 0)
    assert (list(rows), position) == ([], Position(1, T0))
