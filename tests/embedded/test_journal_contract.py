"""One contract, two journals: every test here runs on the one in memory and on the one in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.record import Position, Record
from streamproc.core.table import RowKey
from streamproc.runtime.embedded.journal import SqliteJournal, pack_headers, unpack_headers
from streamproc.runtime.journal import Append, Journal
from streamproc.runtime.memory import MemoryJournal
from tests.support.toy import TOPICS

NOW = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC)
ANY_BYTES = bytes(range(256))


class Broken(Exception):
    pass


@dataclass
class Kept:
    """A journal that can be closed and opened again."""

    journal: Journal
    open_again: Callable[[], Journal]

    def reopen(self) -> Journal:
        self.journal = self.open_again()
        return self.journal


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    if request.param == "memory":
        memory = MemoryJournal(TOPICS)
        yield Kept(memory, lambda: memory)
        return
    opened = [SqliteJournal(tmp_path / "data", TOPICS, "normal")]

    def again() -> Journal:
        opened[-1].close()
        opened.append(SqliteJournal(tmp_path / "data", TOPICS, "normal"))
        return opened[-1]

    yield Kept(opened[0], again)
    opened[-1].close()


def an_append(value: bytes, topic: str = "words", headers: Mapping[str, bytes] | None = None) -> Append:
    return Append(topic, 0, b"key", value, headers or {})


def put(journal: Journal, *values: bytes, topic: str = "words") -> None:
    with journal.transaction():
        journal.append([an_append(value, topic) for value in values], NOW)


def values(journal: Journal, topic: str = "words", offset: int = 0, limit: int = 100) -> list[tuple[int, bytes]]:
    return [(record.offset, record.value) for record in journal.read(topic, 0, offset, limit)]


def test_an_empty_journal(kept: Kept) -> None:
    journal = kept.journal
    assert (journal.start("words", 0), journal.end("words", 0), journal.read("words", 0, 0, 10)) == (0, 0, [])
    rows, position = journal.load("tally", 0)
    assert (list(rows), position) == ([], None)
    assert journal.partitions("words") == 1


def test_a_record_comes_back_as_it_was(kept: Kept) -> None:
    headers = {"type": b"word.v1", "any": ANY_BYTES, "empty": b"", "ünï": b"\xff"}
    with kept.journal.transaction():
        kept.journal.append([Append("words", 0, ANY_BYTES, ANY_BYTES, headers)], NOW)
    expected = Record("words", 0, 0, ANY_BYTES, NOW, ANY_BYTES, headers)
    assert kept.journal.read("words", 0, 0, 10) == [expected]
    assert kept.reopen().read("words", 0, 0, 10) == [expected]


def test_offsets_count_by_topic_and_go_on_after_reopening(kept: Kept) -> None:
    put(kept.journal, b"a", b"b")
    put(kept.journal, b"x", topic="lines")
    assert kept.journal.end("words", 0) == 2
    journal = kept.reopen()
    put(journal, b"c")
    with journal.transaction():
        journal.append([an_append(b"d")], NOW)
        journal.append([an_append(b"e")], NOW)
    assert values(journal) == [(0, b"a"), (1, b"b"), (2, b"c"), (3, b"d"), (4, b"e")]
    assert (journal.end("words", 0), journal.end("lines", 0), journal.start("words", 0)) == (5, 1, 0)


@pytest.mark.parametrize(
    ("offset", "limit", "read"),
    [
        pytest.param(0, 2, [0, 1], id="from the start, within the limit"),
        pytest.param(1, 100, [1, 2], id="from the middle to the end"),
        pytest.param(3, 100, [], id="at the head"),
        pytest.param(9, 100, [], id="beyond the head"),
    ],
)
def test_reading_from_an_offset(kept: Kept, offset: int, limit: int, read: list[int]) -> None:
    put(kept.journal, b"a", b"b", b"c")
    assert [at for at, _ in values(kept.journal, offset=offset, limit=limit)] == read


def test_topic_ids_survive_and_differ(kept: Kept) -> None:
    before = {name: kept.journal.topic_id(name) for name in TOPICS}
    assert len(set(before.values())) == len(TOPICS)
    journal = kept.reopen()
    assert {name: journal.topic_id(name) for name in TOPICS} == before


def test_rows_and_position_are_kept_by_node(kept: Kept) -> None:
    journal = kept.journal
    position = Position(7, NOW, journal.topic_id("words"))
    with journal.transaction():
        journal.save("tally", 0, {RowKey("count", "a"): b'{"n":1}', RowKey("count", "b"): b'{"n":2}'}, position)
        journal.save("split", 0, {RowKey("count", "a"): b'{"n":9}'}, Position(1, NOW))
    later = Position(8, NOW + timedelta(microseconds=1), journal.topic_id("words"))
    with journal.transaction():
        journal.save("tally", 0, {RowKey("count", "a"): None, RowKey("count", "b"): b'{"n":3}'}, later)
        journal.save("tally", 0, {RowKey("said", "a\x00b ünï"): b"{}", RowKey("said", "never"): None}, later)
    journal = kept.reopen()
    rows, found = journal.load("tally", 0)
    assert dict(rows) == {RowKey("count", "b"): b'{"n":3}', RowKey("said", "a\x00b ünï"): b"{}"}
    assert found == later
    assert dict(journal.load("split", 0)[0]) == {RowKey("count", "a"): b'{"n":9}'}


def test_a_transaction_is_all_or_nothing(kept: Kept) -> None:
    journal = kept.journal
    put(journal, b"before")
    before = Position(1, NOW, "id")
    with journal.transaction():
        journal.save("tally", 0, {RowKey("count", "a"): b"1"}, before)

    def break_off() -> None:
        with journal.transaction():
            journal.append([an_append(b"lost"), an_append(b"lost too", "lines")], NOW)
            journal.save("tally", 0, {RowKey("count", "a"): None, RowKey("count", "b"): b"2"}, Position(9, NOW, "id"))
            raise Broken

    with pytest.raises(Broken):
        break_off()
    for reopen in (False, True):
        opened = kept.reopen() if reopen else journal
        assert values(opened) == [(0, b"before")]
        assert (opened.end("words", 0), opened.end("lines", 0)) == (1, 0)
        rows, position = opened.load("tally", 0)
        assert (dict(rows), position) == ({RowKey("count", "a"): b"1"}, before)
    put(kept.journal, b"after")
    assert values(kept.journal) == [(0, b"before"), (1, b"after")]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.binary()))
def test_headers_of_any_bytes_come_back(headers: dict[str, bytes]) -> None:
    assert unpack_headers(pack_headers(headers)) == headers
