"""What a backtest is given: lines of recorded traffic in order of time, feedback, and a topology.

One bad line is noted with its number and skipped; what cannot be used at all is Unusable, before anything is written.
"""

from __future__ import annotations

import gzip
import heapq
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from streamproc.core.errors import Unusable
from streamproc.ports import Entry
from streamproc.services import Catalogue, Service
from streamproc.sources import SOURCES

OUT_OF_ORDER = 100_000
"""Lines that are held back to be sorted: one may stand so many lines behind its place. A shorter file may have any
order, if its bodies are no more than `HELD_BYTES`."""
HELD_BYTES = 64_000_000
"""Bytes of bodies that are held back at most."""
NAMED = 20
"""Bad lines that are named; further ones are counted."""
SHOWN = 300
GZIP = b"\x1f\x8b"

LabelField = Literal["page", "severity", "team", "category"]


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One request of a producer, as it was recorded."""

    at: datetime
    number: int
    source: str = field(compare=False)
    body: bytes = field(compare=False)
    read: int = field(default=0, compare=False)
    """Bytes of the file that had been read with it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that cannot be used."""

    line: int
    why: str


@dataclass(slots=True)
class Tally:
    """What was read of one file."""

    lines: int = 0
    """Usable ones."""
    bad: int = 0
    reordered: int = 0
    """Usable lines that stood behind a later one."""
    first_at: datetime | None = None
    last_at: datetime | None = None
    faults: list[Fault] = field(default_factory=list)
    """The first `NAMED` bad ones."""

    def refuse(self, number: int, why: str) -> None:
        """Note a bad line."""
        self.bad += 1
        if len(self.faults) < NAMED:
            self.faults.append(Fault(number, " ".join(why.split())[:SHOWN]))


class Judgement(BaseModel):
    """One line of feedback: what people said of an alert."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    alert: str = Field(min_length=1)
    """The producer's own id of the occurrence, as in the outputs."""
    field: LabelField
    value: bool | int | str


@dataclass(frozen=True, slots=True)
class Beside:
    """Records that came in beside the traffic: what people did at PagerDuty, and what they wanted."""

    at: datetime
    entries: tuple[Entry, ...]


class _Edge(BaseModel):
    """`from` depends on `to`."""

    model_config = ConfigDict(frozen=True)

    source: str = Field(alias="from", min_length=1)
    target: str = Field(alias="to", min_length=1)


class _Edges(BaseModel):
    model_config = ConfigDict(frozen=True)

    edges: tuple[_Edge, ...]


class Recording:
    """The lines of a file, gzip or not."""

    def __init__(self, file: Path, raw: IO[bytes]) -> None:
        packed = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        self.file = file
        self._raw = raw
        self._lines: Iterable[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines.

        Raises:
            Unusable: the file cannot be read further, or ends in the middle of its compressed data.
        """
        try:
            yield from self._lines
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(self.file, error) from error

    @property
    def read(self) -> int:
        """Bytes of the file that were read."""
        return self._raw.tell()


@contextmanager
def opened(file: Path) -> Iterator[Recording]:
    """Open a file of lines.

    Raises:
        Unusable: it cannot be opened.
    """
    try:
        raw = file.open("rb")
    except OSError as error:
        raise _unreadable(file, error) from error
    with raw:
        yield Recording(file, raw)


def _unreadable(file: Path, error: Exception) -> Unusable:
    return Unusable(f"{file} cannot be read: {error}")


def traffic(lines: Recording, tally: Tally, most: int = OUT_OF_ORDER, most_bytes: int = HELD_BYTES) -> Iterator[Line]:
    """Yield the usable lines in order of time; lines of the same moment stay in the order of the file.

    Args:
        lines: as recorded.
        tally: is filled.
        most: lines that are held back to be sorted.
        most_bytes: bytes of their bodies.

    Raises:
        Unusable: a line stands further than that behind its place, or no line at all can be used.
    """
    held: list[Line] = []
    passed = newest = None
    weight = 0
    for number, text in enumerate(lines, 1):
        line = _line(text, number, lines.read, tally)
        if line is None:
            continue
        tally.lines += 1
        if newest is not None and line.at < newest:
            tally.reordered += 1
        newest = line.at if newest is None else max(newest, line.at)
        if passed is not None and line.at < passed:
            raise Unusable(
                f"{lines.file}, line {number}: its time {line.at.isoformat()} stands more than {most:,} lines or "
                f"{most_bytes // 1_000_000:,} MB behind its place; sort the file by `at`"
            )
        heapq.heappush(held, line)
        weight += len(line.body)
        while len(held) > most or weight > most_bytes:
            passed = (first := heapq.heappop(held)).at
            weight -= len(first.body)
            tally.first_at, tally.last_at = tally.first_at or first.at, first.at
            yield first
    if newest is None:
        raise Unusable(_nothing(lines.file, tally))
    while held:
        line = heapq.heappop(held)
        tally.first_at, tally.last_at = tally.first_at or line.at, line.at
        yield line


def _nothing(file: Path, tally: Tally) -> str:
    if not tally.faults:
        return f'{file} is empty: every line is to be an object {{"at": ..., "source": ..., "body": ...}}'
    first = tally.faults[0]
    return f"{file}: none of its lines can be used ({tally.bad:,} bad); line {first.line}: {first.why}"


def _line(text: bytes, number: int, read: int, tally: Tally) -> Line | None:
    """Return a line, None for a bad one, which is noted, and for one without text."""
    if not text.strip():
        return None
    try:
        return _parsed(text, number, read)
    except orjson.JSONDecodeError as error:
        tally.refuse(number, f"it is not JSON: {error}")
    except (AttributeError, KeyError, TypeError):
        tally.refuse(number, 'it is no object {"at": ..., "source": ..., "body": ...}')
    except (OverflowError, ValueError) as error:
        tally.refuse(number, str(error))
    return None


def _parsed(text: bytes, number: int, read: int) -> Line:
    said = orjson.loads(text)
    moment, source, body = _moment(said["at"]), said.get("source") or "", said["body"]
    if source and source not in SOURCES:
        raise ValueError(f"there is no source {str(source)[:40]!r}; known are {', '.join(SOURCES)}")
    # A copy, since what orjson returns holds on to up to twice its size, and many lines wait to be sorted.
    encoded = body.encode() if isinstance(body, str) else bytes(memoryview(orjson.dumps(body)))
    return Line(moment, number, source, encoded, read)


def _moment(at: str) -> datetime:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError as error:
        raise ValueError(f"its time {at[:40]!r} is none; write 2026-03-01T12:00:00Z") from error
    if moment.tzinfo is None:
        raise ValueError(f"its time {at} has no UTC offset")
    return moment.astimezone(UTC)


def judgements(file: Path, tally: Tally) -> list[Judgement]:
    """Return feedback in order of time; a bad line is noted and skipped.

    Raises:
        Unusable: the file cannot be read.
    """
    found: list[Judgement] = []
    with opened(file) as lines:
        for number, text in enumerate(lines, 1):
            try:
                found.append(Judgement.model_validate_json(text))
            except ValidationError as error:
                fault = error.errors(include_url=False)[0]
                where = ".".join(map(str, fault["loc"]))
                tally.refuse(number, f"{where}: {fault['msg']}" if where else str(fault["msg"]))
    tally.lines = len(found)
    return sorted(found, key=lambda judgement: judgement.at)


def with_topology(catalogue: str | None, file: Path) -> tuple[str, frozenset[str]]:
    """Return the service catalogue with the edges of a topology, and the services that the topology names.

    Raises:
        Unusable: the file cannot be read, or is no topology.
    """
    try:
        edges = _Edges.model_validate_json(file.read_bytes()).edges
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        shape = 'a topology is {"edges": [{"from": service, "to": what it depends on}, ...]}'
        raise Unusable(f"{file}: {where + ': ' if where else ''}{fault['msg']}; {shape}") from error
    known = Catalogue.of(catalogue) if catalogue is not None else Catalogue()
    needs: dict[str, dict[str, None]] = {}
    for edge in edges:
        if edge.source != edge.target:
            needs.setdefault(known.name_of(edge.source), {})[edge.target] = None
    services: dict[str, Service] = dict(known.services)
    for name, needed in needs.items():
        service = services.get(name, Service())
        every = dict.fromkeys((*service.depends_on, *needed))
        services[name] = service.model_copy(update={"depends_on": tuple(every)})
    named = frozenset(name for edge in edges for name in (edge.source, edge.target))
    merged: dict[str, Any] = {"services": {name: service.model_dump() for name, service in services.items()}}
    return Catalogue.model_validate(merged).model_dump_json(), named
