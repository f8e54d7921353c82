"""The inspector must see what it is there for: every check against a stage that breaks it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, cast

import pytest

from streamproc.core.event import Event, Wake
from streamproc.core.fold import Overlay
from streamproc.core.step import Node, Stage, StageConfig, Step, StepFunction
from streamproc.core.table import Row, Table
from streamproc.core.topic import Topic
from streamproc.services import CATALOGUE
from streamproc.state import HEARD, HeardRow
from tests.conformance.inspector import Check, Inspector
from tests.support.rows import rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class Ping(Event):
    TYPE: ClassVar[str] = "ping.v1"
    key: str = "k"
    labels: dict[str, str] = {}


class Keyless(Event):
    TYPE: ClassVar[str] = "keyless.v1"


class Reason(StrEnum):
    DONE = "done"


class Other(StrEnum):
    DONE = "done"


class Trap(Row):
    """None is left out of the bytes, so that a field without a default does not come back."""

    note: str | None = "written"


class LooseConfig(StageConfig):
    names: list[str] = []


TRAP = Table("trap", Trap, bound="one row")
DUE = T0 + timedelta(hours=1)
TICKS = itertools.count()


def mutates_event(event: Ping, *_: Any) -> Step:
    event.labels["seen"] = "yes"
    return Step({}, Reason.DONE)


def mutates_config(_event: Ping, _rows: Any, _now: datetime, config: LooseConfig) -> Step:
    config.names.append("seen")
    return Step({}, Reason.DONE)


def mutates_rows(_event: Ping, rows: Any, *_: Any) -> Step:
    object.__setattr__(rows.get(HEARD, "k"), "at", DUE)
    return Step({}, Reason.DONE)


def looks_up(_event: Ping, rows: Any, *_: Any) -> Step:
    rows.artifact(CATALOGUE)
    return Step({}, Reason.DONE)


def says(step: Step) -> StepFunction:
    return lambda *_: step


def counts(*_: Any) -> Step:
    return Step({}, Reason.DONE, figures={"tick": next(TICKS)})


BREACHES = [
    pytest.param(mutates_event, Ping(), Check.PURE, id="changes its event"),
    pytest.param(mutates_config, Ping(), Check.PURE, id="changes its config"),
    pytest.param(mutates_rows, Ping(), Check.PURE, id="changes a row in place"),
    pytest.param(counts, Ping(), Check.DETERMINISTIC, id="says something else each time"),
    pytest.param(says(Step({TRAP.at("k"): Trap(note=None)}, Reason.DONE)), Ping(), Check.ROUND_TRIP, id="loses a None"),
    pytest.param(says(Step({}, Reason.DONE, (Wake(table="", key="", due=T0),))), Ping(), Check.DECLARED, id="no topic"),
    pytest.param(says(Step({}, Reason.DONE, (Keyless(),))), Ping(), Check.DECLARED, id="no key"),
    pytest.param(looks_up, Ping(), Check.DECLARED, id="a lookup that it does not declare"),
    pytest.param(says(Step({HEARD.at("k"): None}, Reason.DONE)), Ping(), Check.OWNED, id="another's table"),
    pytest.param(
        says(Step({TRAP.at("k"): HeardRow(at=T0)}, Reason.DONE)), Ping(), Check.OWNED, id="another table's row"
    ),
    pytest.param(
        says(Step({TRAP.at("k"): Trap(wake_at=DUE)}, Reason.DONE)), Ping(), Check.WAKES, id="a row without its wake"
    ),
    pytest.param(
        says(Step({}, Reason.DONE, wake=(Wake(table="trap", key="k", due=DUE),))), Ping(), Check.WAKES, id="no row"
    ),
    pytest.param(
        says(Step({}, Reason.DONE)), Wake(table="trap", key="k", due=DUE), Check.WAKES, id="ignores its timer"
    ),
    pytest.param(says(Step({}, Other.DONE)), Ping(), Check.REASONS, id="another's reason"),
    pytest.param(
        says(Step({}, Reason.DONE, figures=cast("Any", {"at": T0}))), Ping(), Check.REASONS, id="a figure that is none"
    ),
]


def inspect(step: Callable[..., Step], event: Event) -> Inspector:
    inspector = Inspector()
    topic = Topic(
        name="t",
        version=1,
        title="t",
        key="key",
        events=("ping.v1", "keyless.v1"),
        partitions=1,
        producer="",
        consumers=(),
    )
    stage = Stage("one", step, takes=(Ping,), reasons=Reason, config=LooseConfig, owns=(TRAP,))
    (node,) = inspector.inspected((Node("n", topic, (stage,), (topic,)),))
    rows: Overlay = rows_of({HEARD.at("k"): HeardRow(at=T0)})
    node.stages[0].step(event, rows, T0, LooseConfig())
    return inspector


@pytest.mark.parametrize(("step", "event", "check"), BREACHES)
def test_a_breach_is_seen(step: StepFunction, event: Event, check: Check) -> None:
    assert check in {seen for (_, seen), faults in inspect(step, event).broken.items() if faults}


def test_every_check_can_fail() -> None:
    assert {case.values[2] for case in BREACHES} == set(Check)


def test_an_honest_stage_passes() -> None:
    honest = Step(
        {TRAP.at("k"): Trap(wake_at=DUE)}, Reason.DONE, (Ping(),), (Wake(table="trap", key="k", due=DUE),), {"n": None}
    )
    inspector = inspect(says(honest), Ping())
    assert not any(inspector.broken.values())
    assert inspector.reached == {("one", "done"): 1}
    assert inspector.rows == {"trap": Trap(wake_at=DUE)}
    assert inspector.emitted == {("n", "ping.v1")}
