"""`streamproc test`: what passes, what fails and how that is told, and what cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent, indent
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner, Result

from streamproc.cli import app
from streamproc.policytest.format import Suite
from streamproc.policytest.schema import policy_tests_schema

ROOT = Path(__file__).parents[2]

HEAD = """\
services: {web: {depends_on: [db]}, db: {}}
defaults: {labels: {severity: critical, cluster: eu-1}}
cases:
"""
STORY = """\
- {at: 0, alert: {alertname: DbDown, service: db}, every: 1m, until: 10m}
- {at: 30s, alert: {alertname: Web5xx, service: web}, annotations: {summary: errors of web}}
- {at: 12m, resolve: {}}
"""
FLAPPING = """\
- {alert: {alertname: Slow, service: web, severity: error}}
- {at: 1m, resolve: {alertname: Slow}}
- {at: 3m, alert: {alertname: Slow, service: web, severity: error}}
"""
SILENCED = """\
- {silence: {matchers: ['service="db"'], for: 30m, id: works}}
- {alert: {alertname: DbDown, service: db}}
- {at: 20m, resolve: {alertname: ~Db.*}}
"""
EXPIRED = """\
- {alert: {alertname: DbDown, service: db, severity: error}, at: 1m}
- {at: 1m, silence: {matchers: ['service="db"'], for: 30m, id: works, maintenance: true}}
- {at: 5m, expire: works}
"""
QUIET = """\
- {alert: {alertname: Odd, service: db, severity: info}}
"""
TICKET = """\
- {alert: {alertname: Disk, service: db, severity: warning}}
"""
DATADOG = """\
- source: datadog
  body: {alert_id: 42, alert_transition: Triggered, title: Disk is full, tags: "service:disk", alert_priority: P1}
- source: datadog
  at: 2m
  body: {alert_id: 42, alert_transition: Recovered, title: Disk is full, tags: "service:disk", alert_priority: P1}
"""
CLOSED = """\
- {alert: {alertname: DbDown, service: db}}
- {at: 2m, close: {alertname: DbDown}, by: anna}
- {at: 5m, alert: {alertname: More, service: db}}
"""
GROUPED = """\
- {alert: {alertname: A, service: one}, group: g}
- {at: 1m, alert: {alertname: B, service: two}, group: g}
"""


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAGERDUTY_ROUTING_KEY", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["test", *words])


def write(text: str, name: str = "a.test.yaml") -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def case(story: str, expect: str, name: str = "it holds", more: str = "") -> str:
    return f"- name: {name}\n{indent(dedent(more), '  ')}  events:\n{indent(story, '    ')}  expect:\n    - {expect}\n"


PASSING = [
    pytest.param(STORY, "{page: {service: db, severity: critical, title: ~.*DbDown}, at: 0}", id="a page at its time"),
    pytest.param(STORY, "{page: {destination: default, reason: severity}}", id="exactly one page without a number"),
    pytest.param(STORY, "{no_page: {service: web}}", id="no page of another service"),
    pytest.param(STORY, "no_page: {alert: {alertname: Web5xx}}", id="no page with an alert that joined later"),
    pytest.param(STORY, "{page:, count: 0, between: [1s, 2h]}", id="none in a while"),
    pytest.param(STORY, "{resolve:, at: 12m}", id="a resolve"),
    pytest.param(STORY, "{update: {reason: new_kind}, at_most: 1}", id="at most one update"),
    pytest.param(
        STORY,
        "incident: {alerts: [{alertname: DbDown}, {alertname: Web5xx}], root: {service: db}, resolved: true}",
        id="alerts together",
    ),
    pytest.param(STORY, "no_incident: {alerts: [{alertname: DbDown}]}", id="not alone"),
    pytest.param(STORY, "{incident: {severity: critical, service: db, title: ~.*}, at: 0}", id="an incident's facts"),
    pytest.param(FLAPPING, "{held: {reason: reopened}, at: 4m}", id="held at a moment"),
    pytest.param(FLAPPING, "{no_held:, at: 2h}", id="held no longer"),
    pytest.param(FLAPPING, "{page:, count: 2}", id="paged when it stayed"),
    pytest.param(FLAPPING, "{page: {reason: hold_over}, at: 5m}", id="the reason of the second page"),
    pytest.param(FLAPPING, "{decision: {action: hold, service: web}, between: [3m, 4m]}", id="a decision in a while"),
    pytest.param(SILENCED, "no_page:", id="silenced"),
    pytest.param(SILENCED, "muted: {alert: {alertname: DbDown}, by: works}", id="muted by its silence"),
    pytest.param(SILENCED, "no_muted: {by: other}", id="not muted by another"),
    pytest.param(SILENCED, "decision: {action: none, reason: muted}", id="decided nothing because of that"),
    pytest.param(EXPIRED, "{page:, at: 5m}", id="a silence of the alert's moment counts, and ends"),
    pytest.param(QUIET, "no_page:", id="nothing"),
    pytest.param(QUIET, "decision: {alert: {alertname: Odd}, action: none, reason: below}", id="why nothing"),
    pytest.param(TICKET, "{ticket: {service: db, severity: warning}, at: 0}", id="a ticket"),
    pytest.param(DATADOG, "{page: {title: ~.*Disk is full.*}, at: 0}", id="a body of Datadog"),
    pytest.param(DATADOG, "{resolve:, at: 2m}", id="its recovery"),
    pytest.param(CLOSED, "{decision: {reason: handled}, at: 3m}", id="somebody has closed it"),
    pytest.param(CLOSED, "page:", id="so that more of it calls nobody"),
    pytest.param(GROUPED, "incident: {alerts: [{alertname: A}, {alertname: B}]}", id="one group"),
    pytest.param(GROUPED, "{incident:, at_least: 1, at_most: 1}", id="between two numbers"),
]


@pytest.mark.parametrize(("story", "expect"), PASSING)
def test_what_comes_passes(story: str, expect: str) -> None:
    write(HEAD + case(story, expect))
    done = run("a.test.yaml")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("1 case passed in ")


FAILING = [
    pytest.param(
        STORY,
        "{page: {service: web}}",
        "expected 1 page: service web line 10 came 0s page",
        "0s page service db, severity critical",
        id="a page of another service",
    ),
    pytest.param(STORY, "{page:, at: 5m}", "expected 1 page at 5m", "0s page", id="at another time"),
    pytest.param(STORY, "no_page:", "expected no page", "* 0s page service db", id="a page that must not be"),
    pytest.param(FLAPPING, "page:", "expected 1 page", "* 5m page", id="one page too many"),
    pytest.param(
        FLAPPING, "{no_held:, at: 4m}", "expected no held at 4m", "paged again only if it stays", id="held, and why"
    ),
    pytest.param(
        STORY,
        "incident: {alerts: [{alertname: DbDown}]}",
        "alerts {alertname=DbDown}",
        "Web5xx{cluster=eu-1, service=web, severity=critical}",
        id="an incident with more in it",
    ),
    pytest.param(
        SILENCED, "muted: {by: other}", "at least 1 muted: by other", "muted by works", id="muted by another one"
    ),
    pytest.param(
        QUIET,
        "{page:, at_least: 1}",
        "at least 1 page line 8 came nothing of the kind",
        "Its severity asks for nothing.",
        id="not at all",
    ),
    pytest.param(
        QUIET,
        "{page:, between: [0, 5m], at_least: 1, at_most: 3}",
        "1 to 3 page between 0s and 5m",
        "nothing",
        id="few",
    ),
    pytest.param(STORY, "{page:, at_most: 0}", "expected no page", "* 0s", id="at most none"),
    pytest.param(STORY, "{incident: {resolved: false}}", "resolved False", "resolved: DbDown", id="it is over"),
]


@pytest.mark.parametrize(("story", "expect", "wanted", "came"), FAILING)
def test_what_does_not_come_fails_and_says_what_came_and_why(story: str, expect: str, wanted: str, came: str) -> None:
    write(HEAD + case(story, expect))
    done = run("a.test.yaml")
    assert done.exit_code == 1
    said = " ".join(done.stdout.split())
    assert wanted in said
    assert came in said
    assert "1 case failed, 0 cases passed" in said
    assert "\x1b" not in done.stdout


UNUSABLE = [
    pytest.param("", "policy tests are a mapping with `cases:`", id="an empty file"),
    pytest.param("cases: [", "a.test.yaml:1: it is no YAML", id="no YAML"),
    pytest.param("cases:\n- name: a\n  name: b\n", "a.test.yaml:3: `name` stands here a second time", id="twice"),
    pytest.param("cases: []\n", "a.test.yaml:1: cases: it is empty; at least one is needed", id="no cases"),
    pytest.param("casess: []\n", "a.test.yaml:1: casess: there is no such key; did you mean `cases`?", id="almost"),
    pytest.param(
        "cases:\n- name: a\n  events:\n  - alrt: {}\n  expect: [{page: {}}]\n",
        "a.test.yaml:4: cases[1].events[1].alrt: there is no such key; did you mean `alert`?",
        id="almost, within",
    ),
    pytest.param(HEAD + case("- {at: 5, alert: {a: b}}\n", "page:"), "'5' is no span of time", id="no unit"),
    pytest.param(HEAD + case("- {at: -5m, alert: {a: b}}\n", "page:"), "lies before the beginning", id="before"),
    pytest.param(HEAD + case("- {at: 3y, alert: {a: b}}\n", "page:"), "longer than a year", id="very late"),
    pytest.param(HEAD + case("- {alert: {a: b}, resolve: {}}\n", "page:"), "it has alert and resolve", id="two things"),
    pytest.param(HEAD + case("- {at: 1m}\n", "page:"), "it has none", id="nothing"),
    pytest.param(HEAD + case("- {alert: {}}\n", "page:"), "at least `alertname`", id="no labels"),
    pytest.param(HEAD + case("- {alert: {a: yes}}\n", "page:"), "put it into quotes", id="a truth as label"),
    pytest.param(HEAD + case("- {alert: {a: b}, every: 1m}\n", "page:"), "go together", id="every without until"),
    pytest.param(HEAD + case("- {alert: {a: b}, every: 0s, until: 1m}\n", "page:"), "longer than nothing", id="0"),
    pytest.param(HEAD + case("- {alert: {a: b}, at: 2m, every: 1m, until: 1m}\n", "page:"), "before `at`", id="ends"),
    pytest.param(HEAD + case("- {resolve: {}, by: anna}\n", "page:"), "`by` goes with acknowledge or close", id="by"),
    pytest.param(HEAD + case("- {silence: {matchers: [x], for: 1h}}\n", "page:"), "is no matcher", id="a matcher"),
    pytest.param(HEAD + case(QUIET, "{page:, held:}"), "it has page and held", id="two subjects"),
    pytest.param(HEAD + case(QUIET, "{at: 1m}"), "exactly one of page, update", id="no subject"),
    pytest.param(HEAD + case(QUIET, "{no_page:, count: 2}"), "leave `count` out", id="no and a number"),
    pytest.param(HEAD + case(QUIET, "{page:, count: 2, at_least: 1}"), "leave `at_least` out", id="two numbers"),
    pytest.param(HEAD + case(QUIET, "{page:, at: 1m, between: [0, 1m]}"), "not both", id="two times"),
    pytest.param(HEAD + case(QUIET, "{page:, between: [2m, 1m]}"), "in order of time", id="backwards"),
    pytest.param(HEAD + case(QUIET, "page: {title: '~('}"), "does not compile", id="a broken expression"),
    pytest.param(HEAD + case(QUIET, "page: {reason: no}"), "Input should be 'severity'", id="no such reason"),
    pytest.param(
        HEAD + case("- {resolve: {a: b}}\n", "page:"), "a.test.yaml:6: it holds: `resolve`", id="resolves none"
    ),
    pytest.param(HEAD + case("- {expire: x}\n", "page:"), "no silence has the id 'x'", id="expires none"),
    pytest.param(HEAD + case("- {acknowledge: {a: b}}\n", "page:"), "no incident holds", id="answers none"),
    pytest.param("config: no.yaml\n" + HEAD + case(QUIET, "page:"), "no.yaml cannot be read", id="no settings"),
    pytest.param(
        "settings: {escalate: {pag: []}}\n" + HEAD + case(QUIET, "page:"), "did you mean `page`?", id="no such setting"
    ),
    pytest.param("settings: {logs: 2026-01-01}\n" + HEAD + case(QUIET, "page:"), "logs", id="a date in settings"),
    pytest.param(
        HEAD + case("- {alert: {a: b}, every: 1ms, until: 1h}\n", "page:"), "more than 100,000 requests", id="too many"
    ),
]


@pytest.mark.parametrize(("text", "said"), UNUSABLE)
def test_what_cannot_be_used_is_said_with_its_line(text: str, said: str) -> None:
    write(text)
    done = run("a.test.yaml")
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())


def test_every_fault_of_every_file_is_told() -> None:
    write("cases: []\nbegin: 1\n", "p/a.test.yaml")
    write("cases: 5\n", "p/b.test.yaml")
    done = run("p")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 3


def test_a_folder_is_searched_and_cases_are_chosen_by_name() -> None:
    write(HEAD + case(QUIET, "no_page:", "one") + case(QUIET, "page:", "two"), "p/q/a.test.yaml")
    write("no test", "p/notes.yaml")
    assert run("p").exit_code == 1
    assert run("p", "-k", "ONE").exit_code == 0
    assert "no case has 'three' in its name" in run("p", "-k", "three").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param([], "name the tests", id="nothing"),
        pytest.param(["nowhere"], "nowhere does not exist", id="no such file"),
        pytest.param(["."], "there is no file whose name ends with .test.yaml", id="an empty folder"),
    ],
)
def test_without_tests_nothing_passes(words: list[str], said: str) -> None:
    done = run(*words)
    assert (done.exit_code, said in done.stderr) == (2, True)


def test_settings_come_from_the_file_that_is_named_with_those_of_the_tests_over_it() -> None:
    write("escalate: {page: [info], ticket: []}", "conf/s.yaml")
    head = "config: ../conf/s.yaml\n"
    write(head + HEAD + case(QUIET, "page:"), "p/a.test.yaml")
    write(head + "settings: {escalate: {page: [critical]}}\n" + HEAD + case(TICKET, "no_ticket:"), "p/b.test.yaml")
    assert run("p").exit_code == 0, run("p").output
    write("{}", "other.yaml")
    assert run("p/a.test.yaml", "--config", "other.yaml").exit_code == 1
    write(HEAD + case(QUIET, "page:"), "r.test.yaml")
    assert run("r.test.yaml", "--config", "conf/s.yaml").exit_code == 0
    assert run("r.test.yaml").exit_code == 1


def test_the_catalogue_may_be_a_file_and_settings_may_name_it() -> None:
    write("services: {web: {depends_on: [db]}}", "services.yaml")
    write("services: services.yaml", "s.yaml")
    rest = HEAD.partition("\n")[2] + case(STORY, "incident:")
    write("services: ../services.yaml\n" + rest, "p/a.test.yaml")
    write(rest, "p/b.test.yaml")
    assert run("p/a.test.yaml").exit_code == 0
    assert run("p/b.test.yaml", "--config", "s.yaml").exit_code == 0
    assert run("p/b.test.yaml").exit_code == 1


def test_an_acknowledgement_keeps_the_second_destination_quiet() -> None:
    keys = {name: {"routing_key": name * 32} for name in "ab"}
    more = f"settings: {json.dumps({'pagerduty': {'destinations': keys}})}\n"
    catalogue = "services: {db: {destination: a, second_destination: b}}\n"
    alert = "- {alert: {alertname: DbDown, service: db}}\n"
    head = more + catalogue + HEAD.partition("\n")[2]
    second = "{page: {destination: b, reason: unacknowledged}, at: 15m}"
    write(head + case(alert, second), "p/a.test.yaml")
    answered = alert + "- {at: 3m, acknowledge: {alertname: DbDown}, by: anna}\n"
    write(head + case(answered, "no_page: {destination: b}"), "p/b.test.yaml")
    write(head + case(alert, "no_page: {destination: b}", more="until: 14m\n"), "p/c.test.yaml")
    assert run("p").exit_code == 0, run("p").output


def test_the_file_of_the_documentation_passes() -> None:
    text = (ROOT / "docs" / "policy-tests.md").read_text(encoding="utf-8")
    write(text.partition("```yml\n")[2].partition("```")[0], "policies/a.test.yaml")
    write("escalate: {page: [critical, error]}", "streamproc.yaml")
    write("services: {shop: {depends_on: [db]}, db: {}}", "services.yaml")
    done = run("policies")
    assert done.exit_code == 0, done.stdout
    assert "3 cases passed" in done.stdout


def test_the_schema_knows_every_key() -> None:
    schema = json.loads(policy_tests_schema())
    assert set(schema["properties"]) == set(Suite.model_fields)
    assert "no_page" in schema["$defs"]["Expectation"]["properties"]
    assert "for" in schema["$defs"]["Silence"]["properties"]
    assert "default" not in schema["$defs"]["Expectation"]["properties"]["at"]


def test_junit_and_json_tell_the_same() -> None:
    file = write(HEAD + case(QUIET, "no_page:", "good") + case(STORY, "no_page:", '"bad & <x>\\x01"'))
    done = run(str(file), "--junit", "out.xml", "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["passed"], told["failed"]) == (1, 1)
    (failure,) = told["cases"][1]["failures"]
    assert failure["expected"] == "no page"
    assert failure["came"][0]["meant"] is True
    assert failure["why"][0]["chain"][-1] == {"stage": "escalate", "reason": "severity"}
    suites = ET.fromstring(Path("out.xml").read_text())  # noqa: S314  we wrote it
    assert (suites.get("tests"), suites.get("failures")) == ("2", "1")
    good, bad = suites.iter("testcase")
    assert (good.get("name"), good.find("failure")) == ("good", None)
    assert bad.get("name") == "bad & <x>\N{REPLACEMENT CHARACTER}"
    said = bad.find("failure")
    assert said is not None
    assert "expected no page" in (said.text or "")


def test_a_case_that_the_pipeline_cannot_read_does_not_pass_for_nothing() -> None:
    write(HEAD + case("- {source: generic, body: [1]}\n", "no_page:"))
    done = run("a.test.yaml", "--junit", "out.xml")
    assert done.exit_code == 1
    assert "refused: normalise:" in done.stdout
    assert "the pipeline could not read 1 of its events" in Path("out.xml").read_text()
