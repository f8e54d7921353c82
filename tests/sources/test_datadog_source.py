"""Datadog's webhook: our template, the default payload, other people's templates."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamproc.core.errors import Rejected
from streamproc.sources import datadog
from streamproc.sources.foreign import Envelope, ForeignAlert

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "payloads"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = orjson.loads((PAYLOADS / f"datadog_{name}.json").read_bytes())
    return loaded


def one(body: dict[str, Any]) -> ForeignAlert:
    (alert,), refusals = datadog.read(body, NOW)
    assert refusals == []
    return alert


def test_a_triggered_event_of_our_template() -> None:
    alert = one(load("triggered"))
    assert (alert.status, alert.alert_id, alert.group, alert.expires) == ("firing", "7001", "9bd4ac31", False)
    assert (alert.name, alert.summary) == ("CPU is high", "CPU is high (env:prod, host:web-1)")
    assert alert.description == "CPU over 90 % for 5 minutes."
    assert alert.severity_text == "P2"
    assert alert.at == alert.starts_at == NOON.replace(microsecond=123000)
    assert alert.ends_at is None
    assert alert.labels == {
        "env": "prod",
        "monitor": "true",
        "service": "shop",
        "team": "web",
        "zone": "a,b",
        "host": "web-1",
        "monitor_id": "4242",
        "org": "Example",
    }
    assert alert.annotations["transition"] == "Triggered"
    assert alert.annotations["cycle_key"] == "1772366400001"
    assert [link.text for link in alert.links] == ["Datadog"]


def test_its_recovery_is_the_same_alert_whatever_its_words() -> None:
    fired, recovered = one(load("triggered")), one(load("recovered"))
    assert recovered.fingerprint == fired.fingerprint
    assert (recovered.status, recovered.severity_text) == ("resolved", "P2")
    assert recovered.ends_at == recovered.at == NOON.replace(minute=10, microsecond=123000)
    assert "alert_status" not in recovered.annotations


def test_the_default_payload_is_read_by_its_title_and_its_closing_link() -> None:
    body = load("default")
    alert = one(body)
    assert (alert.status, alert.severity_text, alert.name) == ("firing", "warning", "Replication lag")
    assert alert.labels == {"host": "db-1", "monitor_id": "5150", "org": "Example"}
    recovered = one({**body, "id": "8002", "title": "[P1] [Recovered on {host:db-1}] Replication lag"})
    assert (recovered.status, recovered.fingerprint) == ("resolved", alert.fingerprint)
    elsewhere = one({**body, "title": "[P1] [Warn on {host:db-2}] Replication lag"})
    assert elsewhere.fingerprint != alert.fingerprint


def test_without_a_monitor_the_bare_title_is_the_identity() -> None:
    fired, recovered = one({"title": "[Triggered] Disk full"}), one({"title": "[Recovered] Disk full"})
    assert fired.fingerprint == recovered.fingerprint != one({"title": "[Triggered] Disk empty"}).fingerprint
    assert fired.alert_id == f"{fired.fingerprint}@"


@pytest.mark.parametrize("title", ["[TEST] [Triggered] CPU", "[Triggered] [TEST] CPU"])
def test_a_test_of_a_monitor_never_touches_the_real_alert(title: str) -> None:
    real, test = one({**load("triggered"), "title": "[Triggered] CPU"}), one({**load("triggered"), "title": title})
    assert test.name == "[TEST] CPU"
    assert test.fingerprint != real.fingerprint


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"alert_id": "4243"}, id="monitor"),
        pytest.param({"alert_scope": "host:web-2,env:prod"}, id="scope"),
        pytest.param({"org_id": "78"}, id="organisation"),
    ],
)
def test_what_tells_alerts_apart(other: dict[str, str]) -> None:
    assert one({**load("triggered"), **other}).fingerprint != one(load("triggered")).fingerprint


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"title": "[Re-Triggered] renamed"}, id="title"),
        pytest.param({"alert_scope": " env:prod , host:web-1,*"}, id="order of the scope"),
        pytest.param({"alert_cycle_key": "2", "id": "1", "date": "1"}, id="another episode"),
        pytest.param({"body": "see https://app.example.com/monitors/1"}, id="links in the text"),
    ],
)
def test_what_does_not(other: dict[str, str]) -> None:
    assert one({**load("triggered"), **other}).fingerprint == one(load("triggered")).fingerprint


@pytest.mark.parametrize(
    ("body", "status", "severity"),
    [
        pytest.param({"alert_transition": "Triggered", "alert_type": "error"}, "firing", "error", id="triggered"),
        pytest.param({"alert_transition": "Re-Triggered", "alert_type": "error"}, "firing", "error", id="again"),
        pytest.param({"alert_transition": "Warn", "alert_type": "error"}, "firing", "warning", id="warn"),
        pytest.param({"alert_transition": "Re-Warn"}, "firing", "warning", id="warn again"),
        pytest.param({"alert_transition": "No Data", "alert_type": "error"}, "firing", "error", id="no data"),
        pytest.param({"alert_transition": "Re-No Data"}, "firing", "", id="no data again"),
        pytest.param({"alert_transition": "Renotify", "alert_type": "warning"}, "firing", "warning", id="renotify"),
        pytest.param({"alert_transition": "Recovered", "alert_type": "success"}, "resolved", "", id="recovered"),
        pytest.param({"alert_transition": "Warn Recovered"}, "resolved", "", id="warn recovered"),
        pytest.param({"alert_transition": "No Data Recovered"}, "resolved", "", id="no data recovered"),
        pytest.param(
            {"alert_transition": "Warn", "alert_priority": "P1"}, "firing", "warning", id="warn of a P1 monitor"
        ),
        pytest.param({"alert_transition": "Triggered", "alert_type": "success"}, "firing", "", id="transition first"),
        pytest.param({"title": "x", "alert_type": "success"}, "resolved", "", id="success alone"),
        pytest.param({"title": "x", "alert_transition": "null"}, "firing", "", id="null is nothing"),
        pytest.param({"title": "x", "alert_transition": "$ALERT_TRANSITION"}, "firing", "", id="unset is nothing"),
        pytest.param(
            {"title": "[Recovered] x", "alert_transition": "$ALERT_TRANSITION"}, "resolved", "", id="title helps"
        ),
        pytest.param({"title": "x", "alert_transition": "Unheard"}, "firing", "", id="unknown transition"),
        pytest.param({"title": "[P4] [Triggered] x"}, "firing", "P4", id="priority in the title"),
        pytest.param({"title": "[No Data on {host:a}] x"}, "firing", "", id="no data in the title"),
        pytest.param({"title": "[Warn] x"}, "firing", "warning", id="warn in the title"),
    ],
)
def test_status_and_severity(body: dict[str, str], status: str, severity: str) -> None:
    alert = one({"alert_id": "1", **body})
    assert (alert.status, alert.severity_text) == (status, severity)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({"date": 1772366400000}, NOON, id="number"),
        pytest.param({"date": "1772366400000"}, NOON, id="digits"),
        pytest.param({"date": "$DATE", "last_updated": "1772366400000"}, NOON, id="last updated"),
        pytest.param({"date": "$DATE"}, NOW, id="arrival"),
    ],
)
def test_event_time(body: dict[str, Any], expected: datetime) -> None:
    assert one({"alert_id": "1", "title": "x", **body}).at == expected


def test_names_where_there_is_no_title() -> None:
    alert = one({"monitor_id": 12, "alert_transition": "Triggered", "tags": "$TAGS"})
    assert (alert.name, alert.summary) == ("monitor 12", "monitor 12")
    assert alert.labels == {"monitor_id": "12"}


def test_a_prefix_of_the_users_own_stays_in_the_name() -> None:
    assert one({"title": "[Triggered on {a:b}] [Redis] memory [high]"}).name == "[Redis] memory [high]"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param([], "wrong_shape", id="list"),
        pytest.param("x", "wrong_shape", id="text"),
        pytest.param({"alert_id": "133", "severity": "high"}, "wrong_shape", id="some other log"),
        pytest.param(orjson.loads(datadog.TEMPLATE), "wrong_shape", id="the template itself"),
        pytest.param({"alert_transition": "Triggered"}, "no_identity", id="no monitor and no title"),
        pytest.param({"title": "[Triggered]"}, "no_identity", id="nothing but a transition in the title"),
    ],
)
def test_an_unusable_body_is_rejected(body: Any, reason: str) -> None:
    with pytest.raises(Rejected) as refused:
        datadog.read(body, NOW)
    assert refused.value.reason == reason


def test_our_template_asks_for_all_that_is_read() -> None:
    assert set(load("triggered")) == set(orjson.loads(datadog.TEMPLATE))
    filled = re.sub(r"\$([A-Z_]+)", r"value of \1", datadog.TEMPLATE)
    alert = one({**orjson.loads(filled), "alert_transition": "Triggered"})
    assert alert.alert_id == "value of ID"
    assert alert.group == "value of AGGREG_KEY"
    assert alert.labels["monitor_id"] == "value of ALERT_ID"


def test_envelope() -> None:
    assert datadog.envelope(load("triggered")) == Envelope(1, "4242")
    assert datadog.envelope({"title": "x"}) == Envelope(1, "x")
    with pytest.raises(Rejected, match="this body is a list"):
        datadog.envelope([])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(load("triggered"), True, id="our template"),
        pytest.param(load("default"), True, id="default payload"),
        pytest.param({"title": "x", "event_type": "y"}, False, id="any event"),
        pytest.param({"alert_id": "133", "event_type": "y", "name": "z"}, False, id="some other log"),
        pytest.param([], False, id="list"),
    ],
)
def test_looks_like(body: Any, expected: bool) -> None:  # noqa: FBT001  a column of the table
    assert datadog.looks_like(body) is expected
