"""Mapping rules in CEL."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamproc.events.alert import Severity
from streamproc.sources.mapping import FIELDS, Rule, RuleSet

ALERT: dict[str, Any] = {
    **dict.fromkeys(FIELDS, ""),
    "name": "DiskFull",
    "labels": {"team": "db", "mount point": "/var"},
    "annotations": {"summary": "full"},
}
SAID: dict[str, Any] = {"severity": Severity.CRITICAL, "environment": "staging", "service": "pg", "summary": "full"}


def apply(*rules: tuple[str, dict[str, Any]]) -> tuple[dict[str, Any], list[str], int]:
    made = tuple(
        Rule.model_validate({"name": f"r{at}", "when": when, "set": set_}) for at, (when, set_) in enumerate(rules)
    )
    said = dict(SAID)
    matched, failed = RuleSet(made).apply(said, ALERT)
    return {name: value for name, value in said.items() if value != SAID.get(name)}, matched, failed


@pytest.mark.parametrize(
    "when",
    [
        pytest.param('alert.labels.team == "db"', id="label"),
        pytest.param("alert.labels['mount point'].startsWith('/')", id="label with a space"),
        pytest.param('"team" in alert.labels', id="a label that is there"),
        pytest.param('alert.labels.exists(name, alert.labels[name] == "/var")', id="any label"),
        pytest.param("has(alert.labels.team) && !has(alert.labels.owner)", id="has"),
        pytest.param('alert.severity == "critical" && alert.environment == "staging"', id="what the labels say"),
        pytest.param('alert.name.matches("^Disk")', id="regular expression"),
        pytest.param('alert.annotations.summary == "full"', id="annotation"),
        pytest.param('alert.summary != "alert.nothing and labels.none"', id="quoted words are no fields"),
        pytest.param("true", id="always"),
    ],
)
def test_a_condition_that_holds(when: str) -> None:
    assert apply((when, {"severity": "info"})) == ({"severity": Severity.INFO}, ["r0"], 0)


@pytest.mark.parametrize(
    ("when", "failed"),
    [
        pytest.param('alert.labels.team == "web"', 0, id="another value"),
        pytest.param('alert.labels.owner == "db"', 0, id="a label that is not there"),
        pytest.param('alert.annotations["x"] == "db"', 0, id="an annotation that is not there"),
        pytest.param('alert.name == "" || alert.name.matches("(")', 1, id="a bad regular expression met late"),
        pytest.param('alert.name == "" || 1 / 0 > 1', 1, id="a division by zero met late"),
        pytest.param('alert.name == "" ? true : alert.name', 0, id="neither true nor false"),
    ],
)
def test_a_condition_that_does_not(when: str, failed: int) -> None:
    assert apply((when, {"severity": "info"})) == ({}, [], failed)


def test_later_rules_win_and_none_sees_what_another_set() -> None:
    changed, matched, _ = apply(
        ("true", {"service": "a", "team": "x"}),
        ('alert.service == "a"', {"team": "never"}),
        ('alert.service == "pg"', {"service": "b", "resource": None}),
    )
    assert (changed, matched) == ({"service": "b", "team": "x"}, ["r0", "r2"])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        pytest.param({"when": "alert.name =="}, "rule 'r': `when` cannot be used", id="no CEL"),
        pytest.param(
            {"when": "alert.nmae == 'x'"}, "rule 'r': `alert` has no nmae; it has source, name", id="misspelt field"
        ),
        pytest.param({"when": "service == 'x'"}, "rule 'r': `when` cannot be used: Undefined variable", id="no alert"),
        pytest.param({"when": "alert.name.begins('x')"}, "rule 'r': `when` cannot be used", id="no such function"),
        pytest.param(
            {"when": "alert.labels.a.matches('(')"}, "rule 'r': `when` cannot be used", id="bad regular expression"
        ),
        pytest.param({"when": "alert.name > 3"}, "rule 'r': `when` cannot be used", id="text against number"),
        pytest.param({"when": "alert.name"}, "rule 'r': `when` gives '', not true or false", id="no condition"),
        pytest.param({"when": "size(alert) > 1"}, "rule 'r': name what you want of the alert", id="the whole alert"),
        pytest.param({"when": "alert['name'] == 'x'"}, "rule 'r': name what you want of the alert", id="by index"),
        pytest.param({"set": {}}, "sets nothing; it may set severity, environment", id="nothing to set"),
        pytest.param({"set": {"service": None}}, "sets nothing", id="null to set"),
        pytest.param({"set": {"severity": "urgent"}}, "Input should be 'critical'", id="no severity of ours"),
        pytest.param({"set": {"servcie": "x"}}, "Extra inputs are not permitted", id="misspelt setting"),
        pytest.param({"name": ""}, "at least 1 character", id="no name"),
    ],
)
def test_a_bad_rule_is_told_at_load(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        Rule.model_validate({"name": "r", "when": "true", "set": {"service": "x"}, **rule})
    assert message in str(wrong.value)


@pytest.mark.parametrize(
    "when",
    [
        pytest.param('alert.labels.owner == "x"', id="label"),
        pytest.param('alert.labels[alert.name] == "x"', id="a label by another field"),
    ],
)
def test_a_label_that_may_be_missing_is_no_error_at_load(when: str) -> None:
    assert Rule.model_validate({"name": "r", "when": when, "set": {"service": "x"}})


def test_only_what_is_read_is_handed_over() -> None:
    named = RuleSet((Rule.model_validate({"name": "r", "when": 'alert.labels.team == "db"', "set": {"team": "x"}}),))
    assert named._seen(ALERT) == {"labels": {"team": "db"}}
    any_ = RuleSet(
        (*named.rules, Rule.model_validate({"name": "s", "when": "size(alert.labels) > 9", "set": {"team": "x"}}))
    )
    assert any_._seen(ALERT) == {"labels": ALERT["labels"]}
