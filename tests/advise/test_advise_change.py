from __future__ import annotations

from typing import Any

import pytest
import yaml

from streamproc.advise.change import Change, services_text, settings_text, together
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.telling import everything, slug, sure
from streamproc.advise.weighing import Verdict, Weighed
from streamproc.settings import Settings

RULE = {"name": "advise: X", "when": 'alert.name == "X"', "set": {"severity": "warning"}}
OTHER = {"name": "mine", "when": 'alert.name == "Y"', "set": {"team": "a"}}
WINDOW = ("correlate", "window")
PRESENT = """\
# ours
environment: prod
normalise: # words
  rules:
    - name: mine
      when: alert.name == "Y"
      set: {team: a}
policies:
  noise: {matchers: [a=b], ends_at: 2027-01-01T00:00:00Z, reason: noisy}
  other: {matchers: [a=c], ends_at: 2027-01-01T00:00:00Z, reason: noisy}
"""


def given(present: str, change: Change, services: str = "") -> dict[str, Any]:
    text = settings_text(present, change, services, "why\nit is")
    assert text.startswith("# why\n# it is\n")
    found: dict[str, Any] = yaml.safe_load(text)
    Settings.model_validate({**found, "services": None})
    return found


@pytest.mark.parametrize(
    ("present", "change", "services", "expected"),
    [
        pytest.param("", Change(rules=(RULE,)), "", {"normalise": {"rules": [RULE]}}, id="no settings yet"),
        pytest.param(
            "# correlate:\n#   window: PT20M\n", Change(settings={WINDOW: 3600}), "", {"correlate": {"window": 3600}},
            id="settings that are comments only",
        ),
        pytest.param(
            "correlate:\n", Change(settings={WINDOW: 3600}), "", {"correlate": {"window": 3600}},
            id="a section of which all is commented out",
        ),
        pytest.param(
            "correlate: {window: PT20M, hops: 2}", Change(settings={WINDOW: 3600}), "",
            {"correlate": {"window": 3600, "hops": 2}}, id="over what is set",
        ),
        pytest.param("services: a.yaml", Change(), "/x/b.yaml", {"services": "/x/b.yaml"}, id="another catalogue"),
    ],
)  # fmt: skip
def test_settings_with_a_change(present: str, change: Change, services: str, expected: dict[str, Any]) -> None:
    assert given(present, change, services) == expected


def test_rules_come_after_those_that_stand_and_comments_stay() -> None:
    change = Change(rules=(RULE,), dropped=frozenset({"noise"}))
    assert given(PRESENT, change)["normalise"]["rules"] == [OTHER, RULE]
    assert list(given(PRESENT, change)["policies"]) == ["other"]
    text = settings_text(PRESENT, change, "", "")
    assert "# ours" in text
    assert "# words" in text


@pytest.mark.parametrize(
    ("present", "told", "expected"),
    [
        pytest.param("", {"a": {"owner": "x"}}, {"a": {"owner": "x"}}, id="no catalogue yet"),
        pytest.param(
            "services:\n  a:\n  b: {}", {"a": {"depends_on": ["b"]}}, {"a": {"depends_on": ["b"]}, "b": {}},
            id="an empty entry",
        ),
        pytest.param(
            "services: {a: {depends_on: [c]}}", {"a": {"depends_on": ["c", "d"]}}, {"a": {"depends_on": ["c", "d"]}},
            id="one dependency more",
        ),
    ],
)  # fmt: skip
def test_a_catalogue_with_a_change(present: str, told: dict[str, Any], expected: dict[str, Any]) -> None:
    text = services_text(present, Change(services=told), "why")
    assert yaml.safe_load(text) == {"services": expected}


def test_several_changes_as_one() -> None:
    one = Change(rules=(RULE,), settings={WINDOW: 1800}, services={"a": {"depends_on": ["b"]}})
    two = Change(
        rules=(RULE, OTHER), settings={WINDOW: 3600, ("escalate", "reopen_hold"): 300},
        services={"a": {"depends_on": ["c"], "owner": "x"}}, lifted=frozenset({"s"}), dropped=frozenset({"n"}),
    )  # fmt: skip
    whole = together([one, two])
    assert whole == Change(
        (RULE, OTHER), {WINDOW: 3600, ("escalate", "reopen_hold"): 300},
        {"a": {"depends_on": ["b", "c"], "owner": "x"}}, frozenset({"s"}), frozenset({"n"}),
    )  # fmt: skip
    assert together([two, one]).settings[WINDOW] == 3600
    assert whole.fragment() == {
        "normalise": {"rules": [RULE, OTHER]},
        "correlate": {"window": 3600},
        "escalate": {"reopen_hold": 300},
        "services.yaml": {"services": {"a": {"depends_on": ["b", "c"], "owner": "x"}}},
        "without policies": ["n", "s"],
    }


def candidate(kind: Kind, *rules: str) -> Candidate:
    return Candidate(kind, "Do", (), Change(), 5, 6, 2, frozenset(rules), worth_at_most=0.393)


@pytest.mark.parametrize(
    ("told", "name"),
    [
        pytest.param(candidate(Kind.NEEDLESS, "High Load/é"), "03-needless-High-Load", id="a name that no path takes"),
        pytest.param(candidate(Kind.NEEDLESS), "03-needless", id="of no rule"),
        pytest.param(candidate(Kind.COMES_BACK, "A", "B"), "03-comes-back", id="of several rules"),
    ],
)
def test_names_of_files(told: Candidate, name: str) -> None:
    assert slug(3, told) == name


def test_how_sure_it_is() -> None:
    assert sure(candidate(Kind.NEEDLESS, "A")) == (
        "seen 6 times on 2 days; at 95 % confidence at most 39% of such pages are worth acting on"
    )


def test_all_at_once_is_about_every_rule() -> None:
    whole = everything([Weighed(candidate(Kind.NEEDLESS, name), Verdict.CONFIRMED) for name in "AB"])
    assert (whole.kind, whole.rules, whole.expected) == (Kind.ALL, frozenset("AB"), 10)
    assert sure(whole).startswith("seen 12 times")
