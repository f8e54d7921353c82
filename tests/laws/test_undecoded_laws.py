"""What a runtime on one machine hands on or keeps undecoded is what its bytes say: else Kafka would decide apart."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings

from streamproc.core.event import Event, Wake
from streamproc.core.record import Record
from streamproc.events.alert import Alert, Episode
from streamproc.events.escalation import Escalation, Page
from streamproc.events.incident import Incident
from streamproc.events.training import Label, Sample
from tests.laws.crash import Rig, Script
from tests.laws.real_world import A_BAD_DAY, REAL_WORLD, scripts
from tests.support.replay import log_of

FEW = settings(max_examples=max(2, settings().max_examples // 10))


def shape(value: object) -> Any:
    """Return a value with the types that a decision could tell apart; a time zone of no offset is one, by any class."""
    if isinstance(value, datetime):
        return ("moment", value.isoformat())
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return (type(value).__name__, [shape(each) for each in value])
    fields = getattr(type(value), "model_fields", None)
    if fields is not None:
        return (type(value).__name__, {name: shape(getattr(value, name)) for name in fields})
    return (type(value).__name__, value)


def handed_on(rig: Rig) -> list[tuple[Record, Event]]:
    """Return the records of all topics that carry what they hold, and that."""
    every = [record for topic, p in rig.journal.logs for record in log_of(rig.journal, topic, p)]
    return [(record, record.event) for record in every if record.event is not None]


def check(rig: Rig) -> set[type[Event]]:
    kinds: set[type[Event]] = set()
    for record, event in handed_on(rig):
        kind = type(event)
        decoded = kind.decode(record.value, record.headers)
        assert event == decoded, record.origin
        assert shape(event) == shape(decoded), record.origin
        kinds.add(kind)
    for part in rig.memory.engine.parts:
        for address in part.rows.raw():
            kept, decoded_row = part.rows.touch(address), part.rows.get(address)
            assert kept == decoded_row, address
            assert shape(kept) == shape(decoded_row), address
    return kinds


def test_what_is_handed_on_undecoded_is_what_its_bytes_say() -> None:
    assert check(Rig(REAL_WORLD).play(A_BAD_DAY)) >= {Wake, Alert, Episode, Escalation, Label, Sample, Incident, Page}


@FEW
@given(scripts(6))
def test_what_is_handed_on_undecoded_is_what_its_bytes_say_whatever_happens(script: Script) -> None:
    check(Rig(REAL_WORLD).play(script))


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param((("a",), ["a"]), id="a list for a tuple"),
        pytest.param((1, 1.0), id="a number of another type"),
        pytest.param(({"a": 1}, {"a": True}), id="within"),
    ],
)
def test_the_shape_tells_apart_what_equality_does_not(pair: tuple[object, object]) -> None:
    assert shape(pair[0]) != shape(pair[1])
