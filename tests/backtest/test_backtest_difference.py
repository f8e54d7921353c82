"""The difference in pages, by calls made by hand, and what always holds of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.backtest.difference import (
    Call,
    Change,
    Difference,
    Finding,
    Kind,
    Pair,
    Relation,
    compare,
)
from streamproc.backtest.parting import part
from streamproc.core.event import Scalar, Why
from streamproc.events.alert import Severity
from tests.backtest.recording import T0


def moment(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def call(call_id: str, alerts: str, minutes: float = 0, **more: Any) -> Call:
    """Return a call; each letter of `alerts` is one."""
    return Call(
        call_id,
        f"i-{call_id}",
        moment(minutes),
        alerts[:1],
        tuple(alerts),
        more.pop("severity", Severity.ERROR),
        **more,
    )


def shape(difference: Difference) -> list[tuple[str, list[str], list[str]]]:
    """Return the relations, and the ids of each side."""
    return [
        (str(pair.relation), [each.call_id for each in pair.a], [each.call_id for each in pair.b])
        for pair in difference.pairs
    ]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([call("1", "x")], [call("1", "x")], [("same", ["1"], ["1"])], id="the same"),
        pytest.param([call("1", "x")], [], [("only_a", ["1"], [])], id="only in A"),
        pytest.param([], [call("1", "x")], [("only_b", [], ["1"])], id="only in B"),
        pytest.param(
            [call("1", "x"), call("2", "y", 1)], [call("1", "xy")], [("merged", ["1", "2"], ["1"])], id="merged"
        ),
        pytest.param(
            [call("1", "xy")], [call("1", "x"), call("2", "y", 1)], [("split", ["1"], ["1", "2"])], id="split"
        ),
        pytest.param(
            [call("1", "xy"), call("2", "z", 1)],
            [call("1", "x"), call("2", "yz", 1)],
            [("regrouped", ["1", "2"], ["1", "2"])],
            id="regrouped",
        ),
        pytest.param(
            [call("1", "xy")], [call("1", "xz")], [("same", ["1"], ["1"])], id="one against one that covers others too"
        ),
        pytest.param(
            [call("1", "x"), call("2", "x", 60)],
            [call("1", "x", 60)],
            [("only_a", ["1"], []), ("same", ["2"], ["1"])],
            id="of calls about the same alert the ones of the same moment go together",
        ),
        pytest.param(
            [call("1", "x"), call("2", "x", 60)],
            [call("1", "x", 5), call("2", "x", 65)],
            [("same", ["1"], ["1"]), ("same", ["2"], ["2"])],
            id="and the others in order of time",
        ),
        pytest.param(
            [call("1", "x"), call("2", "x", 15, kind=Kind.SECOND)],
            [call("1", "x")],
            [("same", ["1"], ["1"]), ("only_a", ["2"], [])],
            id="the second destination is a page of its own",
        ),
        pytest.param(
            [call("1", "x"), call("2", "xy", 5), call("3", "x", 9)],
            [call("1", "y")],
            [("only_a", ["1"], []), ("same", ["2"], ["1"]), ("only_a", ["3"], [])],
            id="what only one side covers connects nothing",
        ),
    ],
)
def test_calls_go_together_by_their_alerts(
    a: list[Call], b: list[Call], expected: list[tuple[str, list[str], list[str]]]
) -> None:
    assert shape(compare(a, b)) == expected


def test_an_alert_is_missed_once_under_the_first_page_that_covers_it() -> None:
    a = [call("1", "xy"), call("2", "xy", 15, kind=Kind.SECOND), call("3", "z", 20)]
    difference = compare(a, [call("1", "xw", 1)])
    assert [(each.call.call_id, each.alerts, each.whole) for each in difference.missed] == [
        ("1", ("y",), False),
        ("3", ("z",), True),
    ]
    assert [(each.call.call_id, each.alerts) for each in difference.gained] == [("1", ("w",))]
    counts = difference.counts()
    assert (counts["missed_pages"], counts["missed_alerts"], counts["gained_alerts"]) == (2, 2, 1)


@pytest.mark.parametrize(
    ("other", "changes"),
    [
        pytest.param({"severity": Severity.CRITICAL}, (Change.SEVERITY,), id="severity"),
        pytest.param({"urgency": "low"}, (Change.URGENCY,), id="urgency"),
        pytest.param({"destination": "shop"}, (Change.DESTINATION,), id="destination"),
        pytest.param({"key_hint": "beef"}, (Change.DESTINATION,), id="another key under the same name"),
        pytest.param({"rule": "Other", "service": "other"}, (), id="names are no difference"),
    ],
)
def test_one_call_against_one_is_compared_in_what_a_responder_notices(
    other: dict[str, Any], changes: tuple[Change, ...]
) -> None:
    (pair,) = compare([call("1", "x")], [call("1", "x", **other)]).pairs
    assert pair.changes == changes
    assert pair.differs is bool(changes)


@pytest.mark.parametrize(
    ("seconds", "later", "earlier"),
    [
        pytest.param(0.9, False, False, id="less than a second is not noticed"),
        pytest.param(1, True, False, id="later"),
        pytest.param(-1, False, True, id="earlier"),
    ],
)
def test_a_call_may_move(seconds: float, later: bool, earlier: bool) -> None:  # noqa: FBT001  a table of both
    (pair,) = compare([call("1", "x")], [call("1", "x", seconds / 60)]).pairs
    assert (pair.later, pair.earlier, pair.differs) == (later, earlier, later or earlier)


@pytest.mark.parametrize(
    ("a", "b", "findings"),
    [
        pytest.param([call("1", "x")], [call("1", "x")], set(), id="nothing"),
        pytest.param([call("1", "x")], [], {Finding.MISSED_PAGE}, id="a missed page"),
        pytest.param([call("1", "xy")], [call("1", "x")], {Finding.MISSED_PAGE}, id="a part of a page is missed"),
        pytest.param([], [call("1", "x")], {Finding.PAGE}, id="one more"),
        pytest.param([call("1", "xy")], [call("1", "x"), call("2", "y")], {Finding.PAGE}, id="split is one more"),
        pytest.param([call("1", "x"), call("2", "y")], [call("1", "xy")], set(), id="merged is fine"),
        pytest.param([call("1", "x")], [call("1", "x", 1)], {Finding.LATER}, id="later"),
        pytest.param([call("1", "x")], [call("1", "x", -1)], set(), id="earlier is fine"),
        pytest.param([call("1", "x")], [call("1", "x", urgency="low")], {Finding.CHANGED}, id="changed"),
    ],
)
def test_what_may_be_wrong_with_b(a: list[Call], b: list[Call], findings: set[Finding]) -> None:
    assert compare(a, b).findings == findings


# -- laws -------------------------------------------------------------------------------------------------------------


@st.composite
def sides(draw: st.DrawFn) -> list[Call]:
    """Draw the calls of one side."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.sets(st.sampled_from("uvwxyz"), min_size=1, max_size=4),
                st.integers(0, 3),
                st.sampled_from(Kind),
                st.sampled_from(["", "low"]),
            ),
            max_size=7,
        )
    )
    return [
        call(f"c{number}", "".join(sorted(alerts)), minutes, kind=kind, urgency=urgency)
        for number, (alerts, minutes, kind, urgency) in enumerate(drawn)
    ]


def counted(pairs: Iterable[Pair]) -> Counter[Pair]:
    return Counter(pairs)


@given(sides())
def test_nothing_differs_from_itself(calls: list[Call]) -> None:
    difference = compare(calls, reversed(calls))
    assert difference.differing == ()
    assert difference.findings == frozenset()
    assert all(pair.a == pair.b for pair in difference.pairs)


@given(sides(), sides())
def test_every_call_of_both_sides_is_in_exactly_one_pair(a: list[Call], b: list[Call]) -> None:
    pairs = compare(a, b).pairs
    assert Counter(each for pair in pairs for each in pair.a) == Counter(a)
    assert Counter(each for pair in pairs for each in pair.b) == Counter(b)


def mirrored(pair: Pair) -> Pair:
    return Pair(pair.b, pair.a, pair.gained, pair.missed)


@given(sides(), sides())
def test_swapping_the_sides_mirrors_everything(a: list[Call], b: list[Call]) -> None:
    assert counted(compare(b, a).pairs) == counted(mirrored(pair) for pair in compare(a, b).pairs)


@given(sides(), sides())
def test_less_and_more_are_what_the_number_of_pages_changes_by(a: list[Call], b: list[Call]) -> None:
    counts = compare(a, b).counts()
    assert counts["pages_b"] == counts["pages_a"] - counts["less"] + counts["more"] == len(b)


@given(sides(), sides())
def test_missed_are_exactly_the_alerts_that_only_a_covers(a: list[Call], b: list[Call]) -> None:
    difference = compare(a, b)
    only_a = {alert for each in a for alert in each.alerts} - {alert for each in b for alert in each.alerts}
    missed = [alert for each in difference.missed for alert in each.alerts]
    assert (set(missed), len(missed)) == (only_a, len(only_a))
    for pair in difference.pairs:
        assert all(each.call in pair.a for each in pair.missed)


@given(sides(), st.integers(2, 9))
def test_a_page_that_moves_is_the_same_page(calls: list[Call], minutes: int) -> None:
    moved = [replace(each, at=each.at + timedelta(minutes=minutes)) for each in calls]
    difference = compare(calls, moved)
    assert difference.counts()["pages_b"] == len(calls)
    assert difference.missed == difference.gained == ()
    assert {pair.relation for pair in difference.pairs} <= {Relation.SAME}


# -- where chains part ------------------------------------------------------------------------------------------------


def why(stage: str, reason: str, minutes: float = 0, **figures: Scalar) -> Why:
    return Why(stage=stage, reason=reason, now=moment(minutes), origin=f"{stage}/0/{minutes}", figures=figures)


BEGINS = why("normalise", "normalised", alerts=1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([BEGINS], [BEGINS], None, id="the same"),
        pytest.param([], [], None, id="no chains"),
        pytest.param([BEGINS], [], ("normalise", ()), id="one side has none"),
        pytest.param([], [BEGINS], ("normalise", ()), id="the other side has none"),
        pytest.param(
            [BEGINS, why("escalate", "severity")], [BEGINS, why("escalate", "below")], ("escalate", ()), id="a reason"
        ),
        pytest.param(
            [BEGINS, why("escalate", "severity", state="paged", incident="i1", only="here")],
            [BEGINS, why("escalate", "severity", state="ticketed", incident="i2")],
            ("escalate", ("state",)),
            id="a figure, ids and what only one tells left out",
        ),
        pytest.param(
            [BEGINS, why("enrich", "known", tier=1), why("escalate", "severity")],
            [BEGINS, why("enrich", "known", tier=2), why("escalate", "below")],
            ("enrich", ("tier",)),
            id="a figure stands before a later reason",
        ),
        pytest.param(
            [why("normalise", "normalised", alerts=1), why("escalate", "severity")],
            [why("normalise", "normalised", 5, alerts=3), why("escalate", "reopened", 5)],
            ("escalate", ()),
            id="of other records the reasons count first",
        ),
        pytest.param(
            [why("normalise", "normalised", alerts=1)],
            [why("normalise", "normalised", 5, alerts=3)],
            ("normalise", ("alerts",)),
            id="and figures where no reason differs",
        ),
        pytest.param([BEGINS, why("escalate", "said")], [BEGINS], ("escalate", ()), id="A goes on"),
        pytest.param([BEGINS], [BEGINS, why("escalate", "said")], ("escalate", ()), id="B goes on"),
    ],
)
def test_where_chains_part(a: Sequence[Why], b: Sequence[Why], expected: tuple[str, tuple[str, ...]] | None) -> None:
    found = part(a, b)
    assert (None if found is None else (found.stage, found.figures)) == expected
    other = part(b, a)
    assert (None if other is None else (other.b, other.a)) == (None if found is None else (found.a, found.b))
