from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import BaseModel, ValidationError

from streamproc.core.errors import Unusable
from streamproc.core.event import Wake
from streamproc.core.fold import Lookups, Overlay
from streamproc.core.step import ACTIVE
from streamproc.core.table import Row, RowKey, RowStore, Table, encode_rows
from streamproc.state import TABLES

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Tagged(Row):
    tags: tuple[str, ...] = ()
    note: str | None = None


def _tags(row: Tagged) -> tuple[str, ...]:
    return row.tags


THINGS = Table("things", Tagged, bound="", index=_tags)
OTHERS = Table("others", Tagged, bound="", index=_tags)
PLAIN = Table("plain", Tagged, bound="")
ALL: tuple[Table[Tagged], ...] = (THINGS, OTHERS, PLAIN)

NAMES = ("x", "y", "z")
ROWS = st.none() | st.builds(Tagged, tags=st.lists(st.sampled_from(NAMES), max_size=4).map(tuple))
ADDRESSES = st.builds(RowKey, st.sampled_from(["things", "others"]), st.sampled_from("abcd"))
CHANGES = st.dictionaries(ADDRESSES, ROWS, max_size=4)


def tagged(*tags: str) -> Tagged:
    return Tagged(tags=tags)


class Layers(RuleBasedStateMachine):
    """Rows under a batch under a record, against plain dicts in which everything is looked up by going through."""

    def __init__(self) -> None:
        super().__init__()
        self.store = RowStore(ALL, most_decoded=4)
        self.model: dict[RowKey, Tagged | None] = {}
        self.record: dict[RowKey, Tagged | None] = {}
        self.start()

    def start(self) -> None:
        self.overlay = Overlay(self.store, {table.name: table for table in ALL}, Lookups(lambda _: None))

    @rule(changes=CHANGES)
    def change(self, changes: dict[RowKey, Tagged | None]) -> None:
        self.overlay.record.update(changes)
        self.record.update(changes)

    @rule()
    def refuse(self) -> None:
        self.overlay.record = {}
        self.record = {}

    @rule()
    def keep(self) -> None:
        self.overlay.keep()
        self.model.update(self.record)
        self.record = {}

    @rule()
    def commit(self) -> None:
        self.keep()
        self.store.apply(self.overlay.batch)
        self.start()

    @rule()
    def restart(self) -> None:
        """The store is read back from its bytes; what was not committed is gone."""
        self.model = {
            address: row for table in ALL for address, row in _read(self.store, table) if isinstance(row, Tagged)
        }
        store = RowStore(ALL)
        for address, raw in self.store.raw().items():
            assert store.restore(address, raw) is None
        self.store, self.record = store, {}
        self.start()

    @invariant()
    def everything_is_found(self) -> None:
        seen = {**self.model, **self.record}
        for table in (THINGS, OTHERS):
            for name in NAMES:
                naive = sorted(
                    address.key
                    for address, row in seen.items()
                    if address.table == table.name and row is not None and name in row.tags
                )
                assert self.overlay.keys(table, name) == naive
                assert self.overlay.count(table, name) == len(naive)
            for key in "abcd":
                assert self.overlay.get(table, key) == seen.get(table.at(key))

    @invariant()
    def the_store_keeps_no_empty_index(self) -> None:
        assert all(self.store._index.values())
        assert all(self.store._under.values())


def _read(store: RowStore, table: Table[Tagged]) -> Iterator[tuple[RowKey, Tagged]]:
    return ((table.at(key), row) for key, row in store.scan(table))


TestLayers = Layers.TestCase


@given(CHANGES, CHANGES)
def test_changes_applied_and_restored_are_the_same(
    first: dict[RowKey, Tagged | None], second: dict[RowKey, Tagged | None]
) -> None:
    applied, restored = RowStore(ALL), RowStore(ALL)
    applied.apply(first)
    applied.apply(second)
    for address, raw in applied.raw().items():
        restored.restore(address, raw)
    assert restored.raw() == applied.raw()
    assert restored._index == applied._index
    assert restored._under == applied._under


def test_a_store_keeps_rows_as_bytes_and_forgets_them() -> None:
    store = RowStore(ALL)
    written = store.apply({THINGS.at("a"): tagged("x"), PLAIN.at("a"): tagged("x")})
    assert written == {THINGS.at("a"): b'{"v":1,"tags":["x"]}', PLAIN.at("a"): b'{"v":1,"tags":["x"]}'}
    assert len(store) == 2
    assert store.get(THINGS.at("a")) == tagged("x")
    assert store.names(THINGS.at("a")) == ("x",)
    assert store.names(PLAIN.at("a")) == ()
    assert dict(store.scan(THINGS)) == {"a": tagged("x")}
    assert store.apply({THINGS.at("a"): None, THINGS.at("b"): None}) == {THINGS.at("a"): None, THINGS.at("b"): None}
    assert store.get(THINGS.at("a")) is None
    assert store.under("things", "x") == set()
    assert len(store) == 1


def test_what_the_fold_touches_stays_decoded_and_is_never_out_of_date() -> None:
    store = RowStore(ALL, most_decoded=4)
    a, b, c = (THINGS.at(key) for key in "abc")
    store.apply({a: tagged("x")})
    first = store.touch(a)
    assert store.touch(a) is first
    assert store.get(a) is not first
    store.apply({b: tagged("y"), c: tagged("z")})
    assert store.touch(a) is first, "the older half is still at hand"
    store.restore(a, b'{"tags":["z"]}')
    assert store.touch(a) == store.get(a) == tagged("z")
    store.apply({a: None})
    assert store.touch(a) is None


def test_rows_that_nobody_touches_are_bytes_only() -> None:
    store, addresses = RowStore(ALL, most_decoded=4), [THINGS.at(str(number)) for number in range(9)]
    store.apply({address: tagged("x") for address in addresses})
    early = store.touch(addresses[0])
    for address in addresses[1:]:
        store.touch(address)
    assert store.touch(addresses[0]) is not early


def test_an_index_name_given_twice_counts_once() -> None:
    store = RowStore(ALL)
    store.apply({THINGS.at("a"): tagged("x", "x")})
    assert store.names(THINGS.at("a")) == ("x",)
    store.apply({THINGS.at("a"): tagged("y", "y")})
    assert (store.under("things", "x"), store.under("things", "y")) == (set(), {"a"})
    assert THINGS.names(None) == ()


def test_a_restored_row_tells_the_wake_that_it_waits_for() -> None:
    store = RowStore(ALL)
    waiting = encode_rows({PLAIN.at("a"): Tagged(wake_at=T0)})[PLAIN.at("a")]
    assert waiting is not None
    assert store.restore(PLAIN.at("a"), waiting) == Wake(table="plain", key="a", due=T0)
    assert store.restore(PLAIN.at("b"), b"{}") is None


class Grown(Row):
    v: int = 3
    mood: Literal["good", "bad"] = "good"


GROWN = Table("grown", Grown, bound="")


def test_a_row_of_an_older_version_is_read_and_becomes_one_of_this_version() -> None:
    store = RowStore((GROWN,))
    store.restore(GROWN.at("a"), b'{"v": 2, "mood": "bad", "given_up_since": 1}')
    row = store.get(GROWN.at("a"))
    assert row == Grown(mood="bad")
    assert encode_rows({GROWN.at("a"): row})[GROWN.at("a")] == b'{"v":3,"mood":"bad"}'


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b'{"v": 4, "unheard_of": 1}', id="a field more"),
        pytest.param(b'{"v": 4, "mood": "none at all"}', id="a value more"),
    ],
)
def test_a_row_of_a_newer_version_is_refused(raw: bytes) -> None:
    with pytest.raises(
        Unusable, match=r"row grown/a was written by a newer streamproc, in version 4 .* 3 is known here"
    ):
        RowStore((GROWN,)).restore(GROWN.at("a"), raw)


def test_a_row_of_a_table_that_only_a_newer_version_has_is_refused() -> None:
    with pytest.raises(Unusable, match="row moods/a was written by a newer streamproc, and its table is not known"):
        RowStore((GROWN,)).restore(RowKey("moods", "a"), b"{}")


@pytest.mark.parametrize("raw", [b'{"v": 3, "mood": "none"}', b'{"v": 2, "mood": "none"}', b"{", b'{"v": "x"}', b"[]"])
def test_what_is_no_row_is_no_version_either(raw: bytes) -> None:
    with pytest.raises(ValidationError):
        RowStore((GROWN,)).restore(GROWN.at("a"), raw)


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from _models(inner)


def _nullable(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, object]]:
    """Yield the fields that may be None, in a row and in everything inside it, with their defaults."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        if type(None) in get_args(field.annotation):
            yield f"{model.__name__}.{name}", ... if field.is_required() else field.get_default()
        for inner in _models(field.annotation):
            yield from _nullable(inner, seen)


@pytest.mark.parametrize("table", [pytest.param(table, id=table.name) for table in TABLES])
def test_what_may_be_none_is_none_by_default(table: Table[Any]) -> None:
    """Rows are written without their empty fields, so a field that is left out must come back as None."""
    assert [name for name, default in _nullable(table.row, set()) if default is not None] == []


def test_the_list_of_tables_is_complete_and_says_what_bounds_them() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
    assert all(table.bound for table in TABLES)
    assert ACTIVE in TABLES
