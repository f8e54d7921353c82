"""A difference in words: what a person reads of pairs, fates and chains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streamproc.backtest.calls import Fate
from streamproc.backtest.contrast import Contrast, Row
from streamproc.backtest.difference import Call, Difference, Kind, Pair, Uncovered, compare
from streamproc.backtest.parting import part
from streamproc.backtest.spoken import became, by_rule, ended, head, instead, parted, summary, words
from streamproc.commands.reasons import sentence
from streamproc.core.event import Scalar, Why
from streamproc.events.alert import Severity
from tests.backtest.recording import T0

CALL = Call("c1", "i1", T0, "x", ("x",), Severity.ERROR, destination="default", key_hint="cdef", rule="Down")


def call(call_id: str, alerts: str, **more: Any) -> Call:
    return replace(CALL, call_id=call_id, lead=alerts[0], alerts=tuple(alerts), **more)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        pytest.param([call("1", "x")], [], "missed", id="missed"),
        pytest.param([call("1", "xy")], [call("1", "x")], "1 of its alerts is missed", id="a part"),
        pytest.param([call("1", "xyz")], [call("1", "x")], "2 of its alerts are missed", id="several of a part"),
        pytest.param([call("1", "x")], [call("1", "xy")], "covers more alerts", id="more alerts"),
        pytest.param([], [call("1", "x")], "a page more", id="one more"),
        pytest.param(
            [call("1", "xy"), call("2", "z")], [call("1", "x"), call("2", "yz")], "2 pages become 2 others", id="others"
        ),
        pytest.param(
            [call("1", "x")],
            [call("1", "x", severity=Severity.CRITICAL, urgency="high")],
            "severity error → critical; urgency none → high",
            id="severity and urgency",
        ),
        pytest.param(
            [call("1", "x")],
            [call("1", "x", key_hint="beef")],
            "destination default ...cdef → default ...beef",
            id="another key under the same name",
        ),
    ],
)
def test_a_pair_in_a_few_words(a: list[Call], b: list[Call], said: str) -> None:
    assert words(compare(a, b).differing[0]) == said


def test_a_page_that_others_cover_is_not_missed() -> None:
    a = [call("1", "x"), call("2", "x", kind=Kind.SECOND)]
    (pair,) = compare(a, [call("1", "x")]).differing
    assert words(pair) == "no page of its own"


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        pytest.param(None, "in no incident", id="no incident"),
        pytest.param(Fate("i", "ticket", "severity"), "now a ticket: Its severity asks for it.", id="ticket"),
        pytest.param(Fate("i", "hold", "reopened"), "held, and over before it paged", id="held"),
        pytest.param(Fate("i", "none", "muted"), "nothing is said: All that fires is muted.", id="muted"),
        pytest.param(
            Fate("i", "page", "severity"), "in an incident that pages, but not while it fired", id="another moment"
        ),
    ],
)
def test_what_became_of_an_alert(fate: Fate | None, said: str) -> None:
    assert instead(fate, sentence) == said


def why(stage: str, reason: str, **figures: Scalar) -> Why:
    return Why(stage=stage, reason=reason, now=T0, origin="episodes/0/1", figures=figures)


OPENED = why("correlate", "opened")


@pytest.mark.parametrize(
    ("a", "b", "said", "in_the_end"),
    [
        pytest.param(
            [OPENED], [OPENED], "Both reason chains say the same; what differs came before or after.", "", id="nothing"
        ),
        pytest.param([OPENED], [], "Only A takes this alert into an incident; B does not.", "", id="only A"),
        pytest.param([], [OPENED], "Only B takes this alert into an incident; A does not.", "", id="only B"),
        pytest.param(
            [OPENED, why("escalate", "said")],
            [OPENED],
            "escalate: A decides once more: It has been said already. B does not.",
            "escalate and correlate: A: It has been said already. B: It belongs to no open incident, so it opens one.",
            id="A goes on",
        ),
        pytest.param(
            [OPENED],
            [OPENED, why("escalate", "said")],
            "escalate: B decides once more: It has been said already. A does not.",
            "correlate and escalate: A: It belongs to no open incident, so it opens one. B: It has been said already.",
            id="B goes on",
        ),
        pytest.param(
            [OPENED, why("escalate", "severity", state="paged", destination=None)],
            [why("correlate", "same_service"), why("escalate", "severity", state="paged", destination="shop")],
            "correlate: A: It belongs to no open incident, so it opens one. "
            "B: This incident is about the same service, not long ago.",
            "escalate: both say: Its severity asks for it. But destination none in A, shop in B.",
            id="a reason, and a figure in the end",
        ),
    ],
)
def test_where_chains_part_in_words(a: list[Why], b: list[Why], said: str, in_the_end: str) -> None:
    parting, ending = part(a, b), part(a[-1:], b[-1:]) if a and b else None
    row = Row(Pair((CALL,), (CALL,)), "", "x", tuple(a), tuple(b), parting, None if ending == parting else ending)
    assert (parted(row, sentence), ended(row, sentence)) == (said, in_the_end)


def test_the_summary_names_what_there_is() -> None:
    later = call("1", "u", at=T0.replace(hour=13))
    a = [call("1", "u"), call("2", "v"), call("3", "w"), call("4", "xy"), call("5", "z", at=T0.replace(hour=14))]
    b = [later, call("2", "v", urgency="low"), call("4", "x"), call("5", "y"), call("6", "z")]
    assert summary(compare(a, b), "next.yaml") == (
        "next.yaml would page 5 times instead of 5: "
        "1 page less, 1 more, 1 later, 1 earlier, 1 changed, 0 merged, 1 split, 1 missed"
    )
    assert summary(compare(a, a), "next.yaml") == "next.yaml would page the same 5 times"


def test_rules_are_told_where_their_pages_differ_or_are_missed() -> None:
    a = [call("1", "x"), call("2", "y"), call("3", "z", rule="Slow"), call("4", "u", rule="Same")]
    b = [call("1", "w"), call("2", "v", rule="Slow"), call("3", "t", rule="Slow"), call("4", "u", rule="Same")]
    assert by_rule(compare(a, b)) == [
        {"rule": "Down", "a": 2, "b": 1, "missed": 2},
        {"rule": "Slow", "a": 1, "b": 2, "missed": 1},
    ]


def test_missed_alerts_are_counted_by_what_they_are_instead() -> None:
    missed = (Uncovered(CALL, ("x", "y", "z")),)
    difference = Difference((Pair((CALL,), (), missed),))
    fates = {"x": Fate("i", "ticket", "severity"), "y": Fate("i", "ticket", "severity")}
    found = Contrast(difference, (), fates, {}, ("a.yaml", "b.yaml"))
    assert became(found) == {"ticket": 2, "no_incident": 1}
    told = head(found)
    assert (told["a"], told["b"], told["findings"]) == ("a.yaml", "b.yaml", ["missed-page"])
