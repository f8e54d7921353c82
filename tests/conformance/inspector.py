"""Looks over the shoulder of every stage: a topology whose stages are checked against the contract at every step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from streamproc.core.event import DeadLetter, Event, Wake
from streamproc.core.fold import Overlay
from streamproc.core.step import Node, Stage, StageConfig, Step, Topology
from streamproc.core.table import ArtifactKind, R, Row, RowKey, Rows, T, Table, encode_rows


class Check(StrEnum):
    """What every stage must keep to."""

    PURE = "pure"
    """Event, rows and config are as they were."""
    DETERMINISTIC = "deterministic"
    """The same once more gives the same."""
    ROUND_TRIP = "round_trip"
    """A row comes back from its bytes as it was."""
    DECLARED = "declared"
    """What it emits has a later taker or a topic, and that topic's key; what it looks up is in its `reads`."""
    OWNED = "owned"
    """It changes rows of its own tables only, and they are of the table's model."""
    WAKES = "wakes"
    """Every `wake_at` has its wake and the other way round; a timer that fired is dealt with."""
    REASONS = "reasons"
    """Its reason is of its enum, its figures are plain."""


class Watched:
    """The rows as a stage may see them, and no more: remembers what it was shown."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.shown: list[tuple[Row, Row]] = []
        self.looked_up: set[str] = set()

    def get(self, table: Table[R], key: str) -> R | None:
        row = self._rows.get(table, key)
        if row is not None:
            self.shown.append((row, row.model_copy(deep=True)))
        return row

    def keys(self, table: Table[Any], index: str) -> list[str]:
        return self._rows.keys(table, index)

    def count(self, table: Table[Any], index: str) -> int:
        return self._rows.count(table, index)

    def artifact(self, kind: ArtifactKind[T]) -> T | None:
        self.looked_up.add(kind.name)
        return self._rows.artifact(kind)

    def version(self, kind: str) -> int:
        return self._rows.version(kind)


class Inspector:
    """Collects, over everything that is played through its topology, who broke what, and which reasons came up."""

    def __init__(self) -> None:
        self.broken: dict[tuple[str, Check], list[str]] = defaultdict(list)
        self.reached: Counter[tuple[str, str]] = Counter()
        self.rows: dict[str, Row] = {}
        """One row of each table, the largest that was written."""
        self.emitted: set[tuple[str, str]] = set()
        """Node and wire name of everything that left a node."""

    def inspected(self, topology: Topology) -> Topology:
        """Return the same topology under inspection."""
        return tuple(
            replace(node, stages=tuple(self._inspected(node, at, stage) for at, stage in enumerate(node.stages)))
            for node in topology
        )

    def _inspected(self, node: Node, at: int, stage: Stage) -> Stage:
        def step(event: Event, rows: Rows, now: datetime, config: StageConfig) -> Step:
            overlay = cast("Overlay", rows)  # the fold hands over nothing else
            seen, again = Watched(rows), Watched(rows)
            before = event.model_copy(deep=True), config.model_copy(deep=True)
            uncommitted = dict(overlay.batch), dict(overlay.record)
            taken = stage.step(event, seen, now, config)
            repeated = stage.step(event, again, now, config)
            faults = {
                Check.PURE: _pure((event, config), before, (overlay.batch, overlay.record), uncommitted, seen),
                Check.DETERMINISTIC: [] if taken == repeated else [f"once {taken}, once more {repeated}"],
                Check.ROUND_TRIP: _round_trip(stage, taken),
                Check.DECLARED: [*self._declared(node, at, taken), *_undeclared_reads(stage, seen)],
                Check.OWNED: _owned(stage, taken),
                Check.WAKES: _wakes(event, taken),
                Check.REASONS: _reasons(stage, taken),
            }
            for check, found in faults.items():
                self.broken[stage.name, check].extend(f"{event.TYPE}: {fault}" for fault in found)
            self.reached[stage.name, str(taken.reason)] += 1
            self._keep(taken)
            return taken

        return replace(stage, step=step)

    def _declared(self, node: Node, at: int, taken: Step) -> Iterator[str]:
        for event in taken.emit:
            if isinstance(event, DeadLetter) or any(type(event) in later.takes for later in node.stages[at + 1 :]):
                continue
            self.emitted.add((node.name, event.TYPE))
            routes = node.routes.get(event.TYPE, ())
            if not routes:
                yield f"{event.TYPE} has no way out of node {node.name}"
            for topic, everywhere in routes:
                if not everywhere and topic.key and not isinstance(getattr(event, topic.key, None), str):
                    yield f"{event.TYPE} has no {topic.key}, the key of {topic.name}"

    def _keep(self, taken: Step) -> None:
        for address, row in taken.changes.items():
            known = self.rows.get(address.table)
            if row is not None and (known is None or len(row.model_dump_json()) > len(known.model_dump_json())):
                self.rows[address.table] = row


def _pure(
    given: tuple[Any, ...], before: tuple[Any, ...], rows: tuple[Any, ...], rows_before: tuple[Any, ...], seen: Watched
) -> Iterator[str]:
    if given != before:
        yield f"event or config changed: {before} became {given}"
    if rows != rows_before:
        yield "it wrote rows past its step"
    for row, was in seen.shown:
        if row != was:
            yield f"a row changed: {was} became {row}"


def _undeclared_reads(stage: Stage, seen: Watched) -> Iterator[str]:
    for name in seen.looked_up - {kind.name for kind in stage.reads}:
        yield f"it looks up the {name} and does not say so"


def _round_trip(stage: Stage, taken: Step) -> Iterator[str]:
    models = {table.name: table.row for table in stage.owns}
    for address, raw in encode_rows(taken.changes).items():
        row = taken.changes[address]
        if raw is not None and address.table in models and models[address.table].model_validate_json(raw) != row:
            yield f"{row} does not come back from {raw!r}"


def _owned(stage: Stage, taken: Step) -> Iterator[str]:
    models = {table.name: table.row for table in stage.owns}
    for address, row in taken.changes.items():
        if address.table not in models:
            yield f"it changes {address}"
        elif row is not None and type(row) is not models[address.table]:
            yield f"{address} is no {models[address.table].__name__}"


def _wakes(event: Event, taken: Step) -> Iterator[str]:
    wanted = {RowKey(wake.table, wake.key): wake.due for wake in taken.wake}
    waiting = {address: row.wake_at for address, row in taken.changes.items() if row and row.wake_at}
    if wanted != waiting or len(wanted) != len(taken.wake):
        yield f"rows wait for {waiting}, the step wants {taken.wake}"
    if isinstance(event, Wake) and RowKey(event.table, event.key) not in taken.changes:
        yield "the row of a timer that fired stays as it is, so the timer would fire at every start"


def _reasons(stage: Stage, taken: Step) -> Iterator[str]:
    if not isinstance(taken.reason, stage.reasons):
        yield f"{taken.reason!r} is none of {stage.reasons}"
    for name, figure in taken.figures.items():
        if not isinstance(figure, str | int | float | bool | None):
            yield f"figure {name} is {figure!r}"
