"""normalise: foreign payloads to alerts in our own words."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamproc.core.errors import Rejected
from streamproc.core.event import DeadLetter
from streamproc.core.fold import Lookups, Overlay
from streamproc.core.step import Step
from streamproc.core.table import RowStore
from streamproc.events.alert import Alert, Severity
from streamproc.events.raw import RawAlert
from streamproc.sources.severity import SEVERITIES
from streamproc.stages.normalise import MAX_ID, STAGE, Config, Reason, decide, step

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "payloads"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
ROWS = Overlay(RowStore(()), {}, Lookups(lambda _: None))


def run(body: object, config: Config | None = None, source: str = "alertmanager") -> Step:
    return step(RawAlert(body=orjson.dumps(body), source=source), ROWS, NOW, config or Config())


def one(labels: dict[str, str], config: Config | None = None, **alert: object) -> Alert:
    (made,) = run([{"labels": {"alertname": "A", **labels}, **alert}], config).emit
    assert isinstance(made, Alert)
    return made


def load(name: str) -> Any:
    return orjson.loads((PAYLOADS / f"{name}.json").read_bytes())


def test_a_webhook_becomes_alerts() -> None:
    done = run(load("alertmanager_webhook"), source="")
    assert (done.reason, done.changes, done.figures) == (Reason.NORMALISED, {}, {"source": "alertmanager", "alerts": 2})
    firing, resolved = done.emit
    assert isinstance(firing, Alert)
    assert isinstance(resolved, Alert)
    assert (firing.severity, resolved.severity) == (Severity.CRITICAL, Severity.WARNING)
    assert (firing.environment, firing.cluster, firing.service, firing.team) == ("prod", "eu-1", "checkout", "payments")
    assert (firing.resource, firing.scope) == ("checkout-5d9f-x2x", "prod:eu-1")
    assert firing.runbook == "https://runbooks.example.com/HighErrorRate"
    assert firing.fingerprint == "fp:v1:a1b2c3d4e5f60718"
    assert firing.trail == ()
    assert Alert.decode(firing.encode(), {}) == firing


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("datadog_triggered", ("prod", "", "shop", "web", "web-1", "error"), id="datadog"),
        pytest.param("datadog_default", ("", "", "", "", "db-1", "warning"), id="datadog's default payload"),
        pytest.param("generic", ("prod", "", "orders-db", "", "db-1", "error"), id="generic"),
        pytest.param("grafana_webhook", ("", "", "checkout", "", "", "error"), id="grafana"),
    ],
)
def test_places_of_other_producers(name: str, expected: tuple[str, ...]) -> None:
    (alert,) = run(load(name), source="").emit
    assert isinstance(alert, Alert)
    found = (alert.environment, alert.cluster, alert.service, alert.team, alert.resource, alert.severity)
    assert found == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        *(pytest.param(word, "critical", id=word) for word in ("critical", "page", "P1", "sev0", "Disaster", "s1")),
        *(pytest.param(word, "error", id=word) for word in ("error", "high", "P2", "sev2", "MAJOR", "s2")),
        *(pytest.param(word, "warning", id=word) for word in (" warn ", "ticket", "notify", "P3", "average", "s3")),
        *(pytest.param(word, "info", id=word) for word in ("info", "none", "P4", "P5", "s4", "debug", "Notice")),
        pytest.param("", "error", id="nothing said"),
    ],
)
def test_severities_of_the_wild(said: str, expected: str) -> None:
    done = run([{"labels": {"alertname": "A", "severity": said}}])
    assert [alert.severity for alert in done.emit if isinstance(alert, Alert)] == [expected]
    assert "unknown_severities" not in done.figures


def test_every_word_is_lower_case_and_stands_once() -> None:
    assert all(word == word.lower() for word in SEVERITIES)
    assert set(SEVERITIES.values()) == set(Severity)


def test_unknown_severities_take_the_default_and_are_counted() -> None:
    body = [{"labels": {"alertname": "A", "severity": said}} for said in ("purple", "Gold", "purple", "critical")]
    done = run(body, Config(default_severity=Severity.WARNING))
    found = [alert.severity.value for alert in done.emit if isinstance(alert, Alert)]
    assert found == ["warning", "warning", "warning", "critical"]
    assert done.figures["unknown_severities"] == "gold, purple"


def test_own_severity_words_win() -> None:
    config = Config(severities={" Sev1 ": Severity.ERROR, "gold": Severity.CRITICAL})
    assert one({"severity": "SEV1"}, config).severity is Severity.ERROR
    assert one({"severity": "Gold"}, config).severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({"app": "a", "service": "s"}, "s", id="the first label of the list"),
        pytest.param({"service": "", "app": "a"}, "a", id="an empty label is none"),
        pytest.param({"job": "kube-state-metrics", "deployment": "d"}, "d", id="the measured, not the measurer"),
        pytest.param({"service": "node-exporter", "job": "node"}, "", id="nothing but measurers"),
        pytest.param({"app.kubernetes.io/name": "k"}, "k", id="kubernetes' own label"),
        pytest.param({}, "", id="none"),
    ],
)
def test_service(labels: dict[str, str], expected: str) -> None:
    assert one(labels).service == expected


def test_measurers_are_services_where_wanted() -> None:
    assert one({"job": "node"}, Config(exporters=frozenset())).service == "node"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(("environment", "cluster"), "prod:c%3A1", id="default"),
        pytest.param(("tenant", "environment"), "acme:prod", id="a label first"),
        pytest.param(("nothing",), "-", id="a label that is not there"),
    ],
)
def test_scope(parts: tuple[str, ...], expected: str) -> None:
    labels = {"env": "prod", "cluster": "c:1", "tenant": "acme"}
    assert one(labels, Config(scope=parts)).scope == expected


def test_rules_apply_before_the_scope_is_made() -> None:
    rules = [
        {
            "name": "staging",
            "when": 'alert.labels.ns.startsWith("stg-")',
            "set": {"environment": "staging", "severity": "info"},
        },
        {"name": "typo at run time", "when": 'alert.name == "" || alert.name.matches("(")', "set": {"team": "x"}},
        {
            "name": "source",
            "when": 'alert.source == "alertmanager" && alert.severity_text == "page"',
            "set": {"service": "s"},
        },
    ]
    config = Config.model_validate({"rules": rules})
    body = [{"labels": {"alertname": "A", "ns": "stg-1", "severity": "page"}}, {"labels": {"alertname": "B"}}]
    done = run(body, config)
    first, second = (alert for alert in done.emit if isinstance(alert, Alert))
    assert (first.scope, first.severity, first.service) == ("staging:-", Severity.INFO, "s")
    assert (second.scope, second.severity, second.service) == ("-:-", Severity.ERROR, "")
    assert done.figures["rules"] == "source, staging"
    assert done.figures["failed_rules"] == 2


def test_a_bad_rule_is_named_at_load() -> None:
    with pytest.raises(ValidationError, match="rule 'mine'"):
        Config.model_validate({"rules": [{"name": "mine", "when": "1 +", "set": {"team": "x"}}]})


@pytest.mark.parametrize(
    ("alerts", "refused", "cut", "expected"),
    [
        pytest.param(2, 0, 0, Reason.NORMALISED, id="all read"),
        pytest.param(2, 0, 2, Reason.CUT, id="all read, some of it cut"),
        pytest.param(0, 0, 0, Reason.EMPTY, id="nothing in it"),
        pytest.param(1, 1, 0, Reason.PARTLY_REFUSED, id="some refused"),
        pytest.param(1, 1, 1, Reason.PARTLY_REFUSED, id="some refused, some cut"),
        pytest.param(0, 1, 0, Reason.ALL_REFUSED, id="all refused"),
    ],
)
def test_decide_and_step_agree(alerts: int, refused: int, cut: int, expected: Reason) -> None:
    assert decide(alerts, refused, cut) is expected
    body = {
        "alerts": [{"labels": {"alertname": "A", **({"x": "y" * 2000} if cut else {})}}] * alerts
        + [{"labels": {}}] * refused,
        "receiver": "r",
    }
    done = run(body)
    assert done.reason is expected
    assert len(done.emit) == alerts + refused
    assert done.figures.get("refused", 0) == refused
    assert done.figures.get("cut", 0) == cut
    assert (expected in STAGE.unintended) is (refused > 0)


def test_a_bad_alert_dead_letters_alone_and_its_letter_can_be_read_again() -> None:
    body = load("alertmanager_webhook")
    body["alerts"][1]["status"] = "unheard"
    done = run(body)
    good, letter = done.emit
    assert isinstance(good, Alert)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.detail) == ("bad_status", "status 'unheard' is neither firing nor resolved")
    mended = orjson.loads(letter.value)
    mended["alerts"][0]["status"] = "resolved"
    (again,) = run(mended).emit
    assert isinstance(again, Alert)
    assert (again.fingerprint, again.status, again.group) == ("fp:v1:0807f6e5d4c3b2a1", "resolved", good.group)


def test_an_unusable_body_is_rejected() -> None:
    with pytest.raises(Rejected, match="not JSON"):
        step(RawAlert(body=b"{"), ROWS, NOW, Config())


def test_what_the_producer_left_out_is_told() -> None:
    assert run({**load("alertmanager_webhook"), "truncatedAlerts": 7}).figures["truncated"] == 7


def test_too_many_and_too_long_texts_are_cut_and_counted() -> None:
    config = Config(max_labels=3, max_label=16, max_text=256)
    labels = {"alertname": "A" * 20, "b": "x" * 16, "c" * 17: "y", "d": "dropped"}
    done = run([{"labels": labels, "annotations": {"description": "d" * 300}}], config)
    (alert,) = done.emit
    assert isinstance(alert, Alert)
    assert alert.labels == {"alertname": "A" * 15 + "…", "b": "x" * 16, "c" * 15 + "…": "y"}
    assert alert.description == alert.annotations["description"] == "d" * 255 + "…"
    assert (alert.name, alert.summary) == ("A" * 15 + "…", "d" * 255 + "…")
    assert done.figures["cut"] == 7


def test_what_places_an_alert_is_dropped_last() -> None:
    """Else an alert with many labels would fall into another scope, and mute or page somebody else."""
    labels = {f"a{n:03}": "x" for n in range(100_000)}
    alert = one({**labels, "cluster": "eu-1", "env": "prod", "service": "shop", "tenant": "acme"})
    assert (alert.scope, alert.service, len(alert.labels)) == ("prod:eu-1", "shop", 64)
    assert one({**labels, "tenant": "acme"}, Config(scope=("tenant",))).scope == "acme"


def test_labels_together_are_limited() -> None:
    done = run([{"labels": {"alertname": "A", **{f"l{n:02}": "é" * 1000 for n in range(60)}}}])
    (alert,) = done.emit
    assert isinstance(alert, Alert)
    assert len(orjson.dumps(alert.labels)) <= Config().max_all_labels
    assert "alertname" in alert.labels
    assert done.figures["cut"] == 61 - len(alert.labels)


def test_names_that_are_one_when_cut_are_counted() -> None:
    done = run([{"labels": {"alertname": "A", "x" * 20 + "1": "1", "x" * 20 + "2": "2"}}], Config(max_label=16))
    assert done.figures["cut"] == 3  # two names, and one of the two labels


def test_links_are_few_and_whole() -> None:
    links = [{"href": f"https://a/{n}", "text": "t" * 200} for n in range(10)]
    done = run({"name": "A", "links": [f"https://{'a' * 3000}", *links]}, source="generic")
    (alert,) = done.emit
    assert isinstance(alert, Alert)
    assert [link.href for link in alert.links] == [f"https://a/{n}" for n in range(8)]
    assert alert.links[0].text == "t" * 127 + "…"
    assert done.figures["cut"] == 3 + 8


def test_a_runbook_too_long_to_be_one_is_left_out() -> None:
    done = run([{"labels": {"alertname": "A"}, "annotations": {"runbook": "https://" + "a" * 3000}}])
    (alert,) = done.emit
    assert isinstance(alert, Alert)
    assert alert.runbook == ""
    assert done.figures["cut"] == 1


def test_cutting_never_touches_the_identity() -> None:
    config = Config(max_label=16)
    assert one({"x": "y" * 40 + "1"}, config).fingerprint != one({"x": "y" * 40 + "2"}, config).fingerprint


def test_long_identifiers_stay_apart() -> None:
    first, second = (one({}, fingerprint="a" * 300 + end) for end in "bc")
    assert len(first.alert_id) == len(second.alert_id) == MAX_ID
    assert first.alert_id != second.alert_id
    (grouped,) = run({"alerts": [{"labels": {"a": "b"}}], "groupKey": "k" * 999, "groupLabels": {"a": "b"}}).emit
    assert isinstance(grouped, Alert)
    assert len(grouped.group) == MAX_ID


def test_runbooks_are_found_in_labels_too() -> None:
    assert one({"runbook_url": "https://a"}).runbook == "https://a"
    assert one({"runbook_url": "https://a"}, annotations={"runbook": "https://b"}).runbook == "https://b"


TEXTS = st.dictionaries(st.sampled_from(["alertname", "severity", "service", "cluster", "x"]) | st.text(), st.text())


@given(bodies=st.lists(st.fixed_dictionaries({"labels": TEXTS, "annotations": TEXTS}), max_size=4))
def test_the_same_bytes_are_the_same_alerts_and_nothing_is_lost(bodies: list[Any]) -> None:
    done = run(bodies)
    assert done == run(bodies)
    assert len(done.emit) == len(bodies)
    for alert in done.emit:
        if isinstance(alert, Alert):
            assert Alert.decode(alert.encode(), {}) == alert
