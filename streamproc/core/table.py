"""Tables: rows that a node keeps, in memory as bytes, with indexes that are derived and never stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from streamproc.core.errors import Unusable
from streamproc.core.event import Frozen, Wake

GO_ON = "start that version again, or restore what was backed up before it (docs/operations.md, Upgrade)"


class Row(Frozen):
    """One row of state. Frozen; a change is a new row, and None forgets it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = 1
    """Version of the row's schema when it was written; see `Table.version`."""
    wake_at: AwareDatetime | None = None
    """When the owner wants to look again; a wake counts only while its `due` equals this."""


R = TypeVar("R", bound=Row)


class RowKey(NamedTuple):
    """Address of a row within a node's partition."""

    table: str
    key: str


@dataclass(frozen=True)
class Table(Generic[R]):
    """A kind of row: its name, its model, what bounds it, and how other rows find it."""

    name: str
    row: type[R]
    bound: str
    """What keeps the table finite, in words; shown in the docs and checked in review."""
    index: Callable[[R], Iterable[str]] | None = None

    @cached_property
    def version(self) -> int:
        """The version that its rows are written in: what the model says of `v`.

        A model that changes, also in what it holds, says a higher one. Whoever knows only a lower one would leave out
        what it does not know when it writes the row again, so it refuses to read it.
        """
        return int(self.row.model_fields["v"].default)

    def decode(self, key: str, raw: bytes) -> R:
        """Return a row from its bytes, in this version.

        Raises:
            Unusable: a newer version wrote it.
            pydantic.ValidationError: it is none.
        """
        try:
            row = self.row.model_validate_json(raw)
        except ValidationError:
            self._known(key, _Written.model_validate_json(raw).v)
            raise
        if row.v == self.version:
            return row
        self._known(key, row.v)
        return row.model_copy(update={"v": self.version})

    def _known(self, key: str, version: int) -> None:
        if version > self.version:
            raise _newer(self.at(key), f"in version {version} of its table, of which {self.version} is known here")

    def at(self, key: str) -> RowKey:
        """Return the address of the row with this key."""
        return RowKey(self.name, key)

    def names(self, row: R | None) -> tuple[str, ...]:
        """Return the index names that a row stands under, each once; none for a forgotten row."""
        return () if row is None or self.index is None else tuple(dict.fromkeys(self.index(row)))


class _Written(BaseModel):
    v: int = 1


def _newer(address: RowKey, how: str) -> Unusable:
    return Unusable(f"row {address.table}/{address.key} was written by a newer streamproc, {how}; {GO_ON}")


class Rows(Protocol):
    """What a stage may see: the rows of its node, and the activated versions of large things."""

    def get(self, table: Table[R], key: str) -> R | None:
        """Return the row, or None."""

    def keys(self, table: Table[Any], index: str) -> list[str]:
        """Return the keys of the rows that stand under `index`, sorted."""

    def count(self, table: Table[Any], index: str) -> int:
        """Return how many rows stand under `index`."""

    def artifact(self, kind: ArtifactKind[T]) -> T | None:
        """Return the version of a large thing that counts for the event, or None while none has been activated."""

    def version(self, kind: str) -> int:
        """Return the number of the version that counts for the event, 0 while there is none."""


T = TypeVar("T")


@dataclass(frozen=True)
class ArtifactKind(Generic[T]):
    """A kind of large immutable thing, and how its body is read."""

    name: str
    decode: Callable[[str], T]


MOST_DECODED = 256
"""Rows that a partition keeps decoded: of what comes in together, much is about the same incidents."""


class RowStore:
    """The committed rows of one node partition.

    Args:
        tables: of the node.
        most_decoded: rows that are kept decoded, beside the bytes of all.
    """

    def __init__(self, tables: Iterable[Table[Any]], most_decoded: int = MOST_DECODED) -> None:
        self._tables = {table.name: table for table in tables}
        self._rows: dict[RowKey, bytes] = {}
        self._decoded: dict[RowKey, Row] = {}
        self._decoded_before: dict[RowKey, Row] = {}
        self._half = most_decoded // 2
        self._index: dict[tuple[str, str], set[str]] = {}
        self._under: dict[RowKey, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, address: RowKey) -> Row | None:
        """Return the decoded row, or None."""
        raw = self._rows.get(address)
        return None if raw is None else self._tables[address.table].decode(address.key, raw)

    def touch(self, address: RowKey) -> Row | None:
        """Return the decoded row, or None, and keep it decoded. For the fold alone: others may be other threads."""
        row = self._decoded.get(address)
        if row is not None:
            return row
        raw = self._rows.get(address)
        if raw is None:
            return None
        row = self._decoded_before.get(address) or self._tables[address.table].decode(address.key, raw)
        self._remember(address, row)
        return row

    def _remember(self, address: RowKey, row: Row) -> None:
        """Keep a row decoded. The older half goes at once, which costs less than to know what was used last."""
        if len(self._decoded) >= self._half:
            self._decoded_before, self._decoded = self._decoded, {}
        self._decoded[address] = row

    def raw(self) -> Mapping[RowKey, bytes]:
        """Return every row as its bytes."""
        return self._rows

    def under(self, table: str, index: str) -> set[str]:
        """Return the keys of the rows under `index`; the caller must not change the set."""
        return self._index.get((table, index), set())

    def names(self, address: RowKey) -> tuple[str, ...]:
        """Return the index names that a row stands under."""
        return self._under.get(address, ())

    def scan(self, table: Table[R]) -> Iterator[tuple[str, R]]:
        """Iterate over all rows of a table, in no particular order. For restore and read models, never for stages."""
        for address, raw in self._rows.items():
            if address.table == table.name:
                yield address.key, table.row.model_validate_json(raw)

    def restore(self, address: RowKey, raw: bytes) -> Wake | None:
        """Take a row from durable storage; return the wake that it waits for, if any.

        Raises:
            Unusable: a newer version wrote it.
            pydantic.ValidationError: it is no row of its table.
        """
        if address.table not in self._tables:
            raise _newer(address, "and its table is not known here")
        row: Row = self._tables[address.table].decode(address.key, raw)
        self._put(address, row, raw)
        self._remember(address, row)
        return None if row.wake_at is None else Wake(table=address.table, key=address.key, due=row.wake_at)

    def apply(self, changes: Mapping[RowKey, Row | None]) -> dict[RowKey, bytes | None]:
        """Take committed changes; return them as bytes (None forgets), as durable storage wants them."""
        written = encode_rows(changes)
        self.install(changes, written)
        return written

    def install(self, changes: Mapping[RowKey, Row | None], written: Mapping[RowKey, bytes | None]) -> None:
        """Take changes that have already been encoded and committed."""
        for address, row in changes.items():
            raw = written[address]
            if row is None or raw is None:
                self._rows.pop(address, None)
                self._decoded.pop(address, None)
                self._reindex(address, ())
            else:
                self._put(address, row, raw)
                self._remember(address, row)

    def _put(self, address: RowKey, row: Row, raw: bytes) -> None:
        self._rows[address] = raw
        table = self._tables[address.table]
        if table.index is not None:
            self._reindex(address, table.names(row))

    def _reindex(self, address: RowKey, now_under: tuple[str, ...]) -> None:
        before = self._under.get(address, ())
        if before == now_under:
            return
        for name in set(before).difference(now_under):
            bucket = self._index[address.table, name]
            bucket.discard(address.key)
            if not bucket:
                del self._index[address.table, name]
        for name in set(now_under).difference(before):
            self._index.setdefault((address.table, name), set()).add(address.key)
        if now_under:
            self._under[address] = now_under
        else:
            self._under.pop(address, None)


def encode_rows(changes: Mapping[RowKey, Row | None]) -> dict[RowKey, bytes | None]:
    """Return changes as durable storage keeps them: JSON without empty fields, None for a forgotten row."""
    return {
        address: None if row is None else row.model_dump_json(exclude_none=True).encode()
        for address, row in changes.items()
    }
