"""Steps, stages and nodes: the contract between decisions and whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from streamproc.core.errors import Defect
from streamproc.core.event import Activated, Event, Scalar, Wake
from streamproc.core.table import ArtifactKind, Row, RowKey, Rows, Table
from streamproc.core.topic import Topic

NOTHING: Mapping[str, Scalar] = MappingProxyType({})


class StageConfig(BaseModel):
    """Base of the stages' own settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Step(NamedTuple):
    """One decision: which rows change, why, what to publish and when to look again."""

    changes: Mapping[RowKey, Row | None]
    """New rows by address; None forgets. Only tables that the stage owns."""
    reason: StrEnum
    """Always, from the stage's own closed enum."""
    emit: tuple[Event, ...] = ()
    wake: tuple[Wake, ...] = ()
    """One for every changed row with a `wake_at`, with the same moment."""
    figures: Mapping[str, Scalar] = NOTHING
    """What the reason was decided on; goes into the reason chain."""


StepFunction = Callable[[Any, Rows, datetime, Any], Step]


class ActiveRow(Row):
    """Which version of a large thing this partition works with."""

    kind: str
    version: int
    checksum: str


ACTIVE = Table("active", ActiveRow, bound="one row for each kind of artifact")

Pins = Mapping[str, ActiveRow]
"""Versions of large things by kind, which count instead of the activated ones."""
NO_PINS: Pins = MappingProxyType({})


@dataclass(frozen=True)
class Stage:
    """A pure function `(event, rows, now, config) -> Step` and what it declares about itself."""

    name: str
    step: StepFunction
    takes: tuple[type[Event], ...]
    reasons: type[StrEnum]
    config: type[StageConfig] = StageConfig
    owns: tuple[Table[Any], ...] = ()
    """Tables that this stage alone may write; a wake for one of their rows comes to this stage."""
    reads: tuple[ArtifactKind[Any], ...] = ()
    """Large things that it looks up; a version that cannot be decoded is refused when it would be activated."""
    pins: Callable[[Any, Rows], Pins] | None = None
    """The versions that an event is decided by; None where the activated ones always count."""
    unintended: frozenset[str] = frozenset()
    """Reasons that say something went wrong outside (counted and logged as such); all others are intended."""

    @cached_property
    def owned(self) -> frozenset[str]:
        """Names of the tables that it owns."""
        return frozenset(table.name for table in self.owns)


@dataclass(frozen=True, slots=True)
class Everywhere:
    """A topic that a node writes to every partition of, not to the one of the key."""

    topic: Topic


@dataclass(frozen=True)
class Node:
    """An inbox topic, a chain of stages and their tables: the unit that a runtime runs and commits."""

    name: str
    inbox: Topic
    stages: tuple[Stage, ...]
    writes: tuple[Topic | Everywhere, ...]
    """A type leaves the node to every one of these that declares it; a type that none declares is a defect."""

    def __post_init__(self) -> None:
        owners: dict[str, str] = {}
        for stage in self.stages:
            for table in stage.owns:
                if table.name in owners:
                    raise Defect(f"table {table.name} has two owners: {owners[table.name]} and {stage.name}")
                owners[table.name] = stage.name

    @cached_property
    def tables(self) -> tuple[Table[Any], ...]:
        """Every table of the node, the one of activated versions included."""
        return (ACTIVE, *(table for stage in self.stages for table in stage.owns))

    @cached_property
    def by_name(self) -> Mapping[str, Table[Any]]:
        """The tables by their names."""
        return {table.name: table for table in self.tables}

    @cached_property
    def owner(self) -> Mapping[str, int]:
        """Position in the chain of the stage that owns a table."""
        return {table.name: at for at, stage in enumerate(self.stages) for table in stage.owns}

    @cached_property
    def types(self) -> Mapping[str, type[Event]]:
        """What the inbox may hold, by wire name."""
        taken: list[type[Event]] = [Wake, Activated]
        for stage in self.stages:
            taken.extend(stage.takes)
        return {kind.TYPE: kind for kind in taken}

    @cached_property
    def takers(self) -> Mapping[type[Event], tuple[int, ...]]:
        """Positions in the chain of the stages that take a type, in order."""
        kinds = {kind for stage in self.stages for kind in stage.takes}
        return {kind: tuple(at for at, stage in enumerate(self.stages) if kind in stage.takes) for kind in kinds}

    @cached_property
    def relays_activations(self) -> bool:
        """True where a stage passes activations on, instead of the fold taking them for this node."""
        return any(Activated in stage.takes for stage in self.stages)

    @cached_property
    def artifacts(self) -> tuple[str, ...]:
        """Kinds of large things that its stages look up, each once."""
        return tuple(dict.fromkeys(kind.name for stage in self.stages for kind in stage.reads))

    @property
    def default_type(self) -> type[Event]:
        """What a record without a type header is: the first type of the first stage."""
        return self.stages[0].takes[0]

    @cached_property
    def routes(self) -> Mapping[str, tuple[tuple[Topic, bool], ...]]:
        """Where each event type leaves to: the topics, and whether to every partition."""
        found: dict[str, list[tuple[Topic, bool]]] = {}
        for written in self.writes:
            topic, everywhere = (written.topic, True) if isinstance(written, Everywhere) else (written, False)
            for name in topic.events:
                found.setdefault(name, []).append((topic, everywhere))
        return {name: tuple(routes) for name, routes in found.items()}


Topology = tuple[Node, ...]
