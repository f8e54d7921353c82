"""Every stage of the topology against every check, over a corpus that reaches every reason. See `inspector.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import streamproc.events.shadow  # noqa: F401  no node takes or makes them, so nothing else loads them
from streamproc.core.event import DeadLetter, Event, Wake
from streamproc.core.fold import UNINTENDED, FoldReason
from streamproc.core.step import ACTIVE, Everywhere, Stage
from streamproc.core.table import Row, Table, encode_rows
from streamproc.core.topic import Topic
from streamproc.state import TABLES
from streamproc.topology import TOPICS, TOPOLOGY
from tests.conformance.inspector import Check, Inspector
from tests.conformance.play import Play
from tests.conformance.scenes import SCENES

STAGES = [stage for node in TOPOLOGY for stage in node.stages]


@dataclass
class Corpus:
    """What became of all scenes."""

    inspector: Inspector
    letters: list[DeadLetter]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    inspector = Inspector()
    topology = inspector.inspected(TOPOLOGY)
    letters: list[DeadLetter] = []
    for scene in SCENES:
        play = Play(topology)
        scene(play)
        letters.extend(play.letters())
    return Corpus(inspector, letters)


@pytest.mark.parametrize("check", list(Check))
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_stage_keeps_to(corpus: Corpus, stage: Stage, check: Check) -> None:
    assert not corpus.inspector.broken[stage.name, check]
    assert any(name == stage.name for name, _ in corpus.inspector.reached)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_reason_is_reached(corpus: Corpus, stage: Stage) -> None:
    """A reason that nothing can reach is dead code; for a new one, add a scene to the corpus."""
    assert [str(reason) for reason in stage.reasons if not corpus.inspector.reached[stage.name, str(reason)]] == []


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_what_is_unintended_is_among_the_reasons(stage: Stage) -> None:
    assert stage.unintended <= {str(reason) for reason in stage.reasons}


def test_no_stage_is_defective(corpus: Corpus) -> None:
    """What cannot be used is refused by name, never by an exception that nobody foresaw."""
    assert [letter for letter in corpus.letters if letter.reason == FoldReason.FAILED] == []
    known = {"no_name", "not_json", "no_end", "foreign_incident", "refused_by_pagerduty"}
    assert {letter.reason for letter in corpus.letters} == known
    assert FoldReason.FAILED in UNINTENDED


def test_stages_and_tables_have_names_of_their_own() -> None:
    assert len({stage.name for stage in STAGES}) == len(STAGES)
    assert len({node.name for node in TOPOLOGY}) == len(TOPOLOGY)


def test_every_table_has_one_owner_and_is_in_the_list() -> None:
    owned = [table.name for stage in STAGES for table in stage.owns]
    assert sorted([ACTIVE.name, *owned]) == sorted(table.name for table in TABLES)
    assert len(set(owned)) == len(owned)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_says_what_bounds_it_and_is_written(corpus: Corpus, table: Table[Any]) -> None:
    assert table.bound.strip()
    assert table is ACTIVE or type(corpus.inspector.rows[table.name]) is table.row


@pytest.mark.parametrize("table", [each for each in TABLES if each is not ACTIVE], ids=lambda table: table.name)
def test_rows_without_their_optional_fields_come_back(corpus: Corpus, table: Table[Any]) -> None:
    full = corpus.inspector.rows[table.name]
    bare = full.model_copy(update={name: None for name, field in type(full).model_fields.items() if optional(field)})
    for row in (full, bare):
        raw = encode_rows({table.at("k"): row})[table.at("k")]
        assert raw is not None
        assert table.row.model_validate_json(raw) == row


def optional(field: FieldInfo) -> bool:
    return type(None) in get_args(field.annotation)


def test_every_field_that_may_be_none_is_none_by_default() -> None:
    """Rows are written without empty fields, events within them too: one without a default could not be read back."""
    roots: list[type[BaseModel]] = [*(table.row for table in TABLES), *events().values()]
    traps = [
        f"{model.__name__}.{name}"
        for model in sorted(reachable(roots), key=lambda model: model.__name__)
        for name, field in model.model_fields.items()
        if optional(field) and (field.is_required() or field.default is not None)
    ]
    assert traps == []


def reachable(roots: list[type[BaseModel]]) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    waiting = list(roots)
    while waiting:
        model = waiting.pop()
        if model not in found:
            found.add(model)
            waiting.extend(inner for field in model.model_fields.values() for inner in models(field.annotation))
    return found


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def events() -> dict[str, type[Event]]:
    """Every event of the package, by wire name."""

    def below(kind: type[Event]) -> Iterator[type[Event]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from below(sub)

    return {
        kind.TYPE: kind for kind in below(Event) if kind.__module__.startswith("streamproc.") and "TYPE" in vars(kind)
    }


def test_the_walk_finds_what_is_nested() -> None:
    assert {"Why", "Member", "Decision", "Receipt", "PageText"} <= {
        model.__name__ for model in reachable([table.row for table in TABLES])
    }


@pytest.mark.parametrize("topic", TOPICS.values(), ids=lambda topic: topic.name)
def test_every_topic_declares_events_that_have_its_key(corpus: Corpus, topic: Topic) -> None:
    """But for what only ever goes to every partition, or to the only one."""
    known = events()
    fanned_out = {
        name
        for node in TOPOLOGY
        for name, routes in node.routes.items()
        if (topic, True) in routes and not any((other.name, name) in corpus.inspector.emitted for other in plain(topic))
    }
    for name in topic.events:
        kind = known[name]
        has_key = topic.key in kind.model_fields or isinstance(getattr(kind, topic.key, None), property)
        assert not topic.key or has_key or name in fanned_out or topic.partitions == 1, name
    assert topic.key or topic.partitions == 1


def plain(topic: Topic) -> Iterator[Any]:
    """Yield the nodes that write a topic by its key."""
    for node in TOPOLOGY:
        if any(not isinstance(written, Everywhere) and written == topic for written in node.writes):
            yield node


@pytest.mark.parametrize("node", TOPOLOGY, ids=lambda node: node.name)
def test_an_inbox_declares_what_its_node_takes(node: Any) -> None:
    inner = {kind.TYPE for stage in node.stages for kind in stage.takes} - set(node.inbox.events)
    assert set(node.inbox.events) <= set(node.types)
    # What the inbox does not declare comes from an earlier stage of the chain.
    assert inner <= {kind.TYPE for stage in node.stages[1:] for kind in stage.takes}
    assert Wake.TYPE not in node.inbox.events


def test_nodes_of_one_table_or_one_inbox_are_one_node() -> None:
    stateful = [node.inbox.name for node in TOPOLOGY if len(node.tables) > 1]
    assert len(set(stateful)) == len(stateful)


def test_the_corpus_is_the_same_on_every_run() -> None:
    """Else a failure could not be looked at twice."""
    logs = []
    for _ in range(2):
        play = Play()
        SCENES[-1](play)
        logs.append(
            {place: [(each.key, each.value) for each in log] for place, log in play.memory.journal.logs.items()}
        )
    assert logs[0] == logs[1]


def test_rows_that_a_run_leaves_behind_come_back() -> None:
    play = Play()
    SCENES[-1](play)
    tables = {table.name: table for table in TABLES}
    for part in play.memory.engine.parts:
        for address, raw in part.rows.raw().items():
            row: Row = tables[address.table].row.model_validate_json(raw)
            assert encode_rows({address: row})[address] == raw
