"""Alertmanager's webhook and its kin."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamproc.core.errors import Rejected
from streamproc.core.identity import fingerprint
from streamproc.sources import alertmanager
from streamproc.sources.foreign import Envelope, ForeignAlert

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "payloads"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEBHOOK = orjson.loads((PAYLOADS / "alertmanager_webhook.json").read_bytes())


def load(name: str) -> Any:
    return orjson.loads((PAYLOADS / name).read_bytes())


def one(alert: dict[str, Any], **envelope: object) -> ForeignAlert:
    alerts, refusals = alertmanager.read({"alerts": [alert], **envelope}, NOW)
    assert refusals == []
    assert len(alerts) == 1
    return alerts[0]


def test_a_webhook_with_firing_and_resolved_alerts() -> None:
    (firing, resolved), refusals = alertmanager.read(WEBHOOK, NOW)
    assert refusals == []
    assert firing == ForeignAlert(
        source="alertmanager",
        fingerprint="fp:v1:a1b2c3d4e5f60718",
        alert_id="a1b2c3d4e5f60718@2026-03-01T12:00:00.123456789Z",
        status="firing",
        name="HighErrorRate",
        summary="12 % of requests to checkout fail",
        description="5xx over 10 % for 5 minutes.",
        severity_text="critical",
        labels=WEBHOOK["alerts"][0]["labels"],
        annotations=WEBHOOK["alerts"][0]["annotations"],
        starts_at=NOON.replace(microsecond=123456),
        ends_at=None,
        at=NOON.replace(microsecond=123456),
        group='{}/{team="payments"}:{alertname="HighErrorRate"}',
        links=firing.links,
        expires=True,
    )
    assert [(link.text, link.href[:29]) for link in firing.links] == [("source", "https://prometheus.example.co")]
    assert (resolved.status, resolved.alert_id) == ("resolved", "0807f6e5d4c3b2a1@2026-03-01T13:40:00+02:00")
    assert (resolved.starts_at, resolved.ends_at) == (
        NOON.replace(hour=11, minute=40),
        NOON.replace(hour=11, minute=55, second=30),
    )
    assert resolved.at == resolved.ends_at
    assert resolved.links == ()


def test_the_api_says_firing_by_an_end_to_come() -> None:
    (firing, resolved), refusals = alertmanager.read(load("alertmanager_api.json"), NOW)
    assert refusals == []
    assert (firing.status, firing.ends_at, firing.group) == ("firing", None, "")
    assert (resolved.status, resolved.ends_at) == ("resolved", NOON.replace(minute=20))


def test_grafana_is_read_with_its_links() -> None:
    (alert,), _ = alertmanager.read(load("grafana_webhook.json"), NOW)
    assert [link.text for link in alert.links] == ["source", "dashboard", "panel"]
    assert (alert.group, alert.severity_text) == ("", "")


def test_google_is_read_with_its_oddities() -> None:
    (alert,), _ = alertmanager.read(load("google_webhook.json"), NOW)
    assert (alert.status, alert.ends_at, alert.group) == ("firing", None, "")
    assert alert.labels["shard"] == "7"
    assert "zone" not in alert.labels
    assert alert.fingerprint.startswith("fp:v1:")
    assert alert.alert_id == "policy-1-incident-0.abc@2026-03-01T12:00:00Z"


LABELS = {"alertname": "Down"}


@pytest.mark.parametrize(
    ("alert", "envelope", "expected"),
    [
        pytest.param({"status": "firing"}, {}, "firing", id="the alert says firing"),
        pytest.param({"status": "Resolved"}, {"status": "firing"}, "resolved", id="the alert wins over its group"),
        pytest.param({}, {"status": "resolved"}, "resolved", id="the group speaks for an alert that says nothing"),
        pytest.param({}, {}, "firing", id="nobody says anything"),
        pytest.param({"endsAt": "2026-03-01T12:00:00Z"}, {"status": "firing"}, "resolved", id="an end in the past"),
        pytest.param({"endsAt": "2026-03-01T13:00:00Z"}, {"status": "resolved"}, "firing", id="an end to come"),
        pytest.param({"status": "firing", "endsAt": "2026-03-01T12:00:00Z"}, {}, "firing", id="firing with a past end"),
        pytest.param({"status": {"state": "suppressed"}}, {}, "firing", id="the api without an end"),
        pytest.param({"status": {"state": "active"}}, {"status": "resolved"}, "firing", id="the api knows no group"),
        pytest.param(
            {"status": {}, "endsAt": "2026-04-01T00:00:00Z"}, {}, "firing", id="the api with an end far ahead"
        ),
        pytest.param({"status": None}, {}, "firing", id="null"),
    ],
)
def test_status(alert: dict[str, Any], envelope: dict[str, Any], expected: str) -> None:
    assert one({"labels": LABELS, **alert}, **envelope).status == expected


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("0001-01-01T00:00:00Z", id="zero"),
        pytest.param("another time", id="words"),
        pytest.param("2999-01-01T00:00:00Z", id="far ahead"),
        pytest.param(None, id="null"),
    ],
)
def test_without_a_start_arrival_orders_and_silence_says_nothing(given: object) -> None:
    firing = one({"status": "firing", "labels": LABELS, "startsAt": given})
    resolved = one({"status": "resolved", "labels": LABELS, "startsAt": given, "endsAt": "2026-03-01T12:00:00Z"})
    assert (firing.starts_at, firing.at, firing.expires) == (NOW, NOW, False)
    assert (resolved.ends_at, resolved.at, resolved.expires) == (NOON, NOW, False)
    assert firing.alert_id == resolved.alert_id == f"{firing.fingerprint}@{given or ''}"


def test_without_a_fingerprint_the_labels_are_the_identity() -> None:
    first = one({"labels": {"alertname": "Down", "host": "a"}, "fingerprint": ""})
    again = one({"labels": {"host": "a", "alertname": "Down"}, "annotations": {"summary": "other words"}})
    assert first.fingerprint == again.fingerprint == fingerprint("alertmanager", {"alertname": "Down", "host": "a"})


def test_peers_of_a_pair_say_the_same() -> None:
    alert = WEBHOOK["alerts"][0]
    one_peer, other = (
        one(alert, receiver="a"),
        one({**alert, "generatorURL": "https://other.example.com"}, receiver="b"),
    )
    assert (one_peer.fingerprint, one_peer.alert_id, one_peer.at) == (other.fingerprint, other.alert_id, other.at)


@pytest.mark.parametrize(
    ("envelope", "group", "truncated"),
    [
        pytest.param({"groupKey": "{}:{}", "groupLabels": {}}, "", 0, id="grouped by nothing"),
        pytest.param({"groupKey": "{}:{a}", "groupLabels": {"a": "b"}}, "{}:{a}", 0, id="grouped"),
        pytest.param({"groupLabels": {"a": "b"}}, "", 0, id="no group key"),
        pytest.param({"truncatedAlerts": 12}, "", 12, id="alerts were left out"),
        pytest.param({"truncatedAlerts": "many"}, "", 0, id="no number"),
        pytest.param({"truncatedAlerts": True}, "", 0, id="true is no number"),
        pytest.param({"truncatedAlerts": -1}, "", 0, id="less than none"),
    ],
)
def test_group_and_truncation(envelope: dict[str, Any], group: str, truncated: int) -> None:
    alert = one({"labels": LABELS}, **envelope)
    assert (alert.group, alert.truncated) == (group, truncated)


@pytest.mark.parametrize(
    ("labels", "annotations", "expected"),
    [
        pytest.param({"alertname": "A"}, {"summary": "s", "description": "d"}, ("A", "s", "d"), id="both"),
        pytest.param({"alertname": "A"}, None, ("A", "A", ""), id="null annotations"),
        pytest.param({"alertname": "A"}, {"message": "m"}, ("A", "m", "m"), id="message"),
        pytest.param({"alertname": "A"}, {"title": "t", "details": "d"}, ("A", "t", "d"), id="title and details"),
        pytest.param({"name": "N"}, {}, ("N", "N", ""), id="label name"),
        pytest.param({"x": "y"}, {"title": "t"}, ("t", "t", ""), id="title as name"),
        pytest.param({"x": "y"}, {}, ("unnamed alert", "unnamed alert", ""), id="no name at all"),
    ],
)
def test_texts_of_an_alert(labels: dict[str, str], annotations: Any, expected: tuple[str, str, str]) -> None:
    alert = one({"labels": labels, "annotations": annotations})
    assert (alert.name, alert.summary, alert.description) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({"severity": "page", "priority": "P3"}, "page", id="severity"),
        pytest.param({"priority": "P3", "level": "x"}, "P3", id="priority"),
        pytest.param({"level": "warn"}, "warn", id="level"),
        pytest.param({"a": "b"}, "", id="none"),
    ],
)
def test_severity_text(labels: dict[str, str], expected: str) -> None:
    assert one({"labels": labels}).severity_text == expected


@pytest.mark.parametrize(
    ("alert", "reason"),
    [
        pytest.param("text", "not_an_object", id="no object"),
        pytest.param({"status": "firing"}, "no_labels", id="no labels"),
        pytest.param({"labels": {}}, "no_labels", id="empty labels"),
        pytest.param({"labels": ["a"]}, "wrong_type", id="labels are a list"),
        pytest.param({"labels": LABELS, "annotations": "x"}, "wrong_type", id="annotations are text"),
        pytest.param({"labels": LABELS, "status": "pending"}, "bad_status", id="unknown status"),
        pytest.param({"labels": LABELS, "status": 3}, "bad_status", id="status is a number"),
    ],
)
def test_a_bad_alert_is_refused_with_its_own_payload(alert: Any, reason: str) -> None:
    good = WEBHOOK["alerts"][0]
    alerts, (refusal,) = alertmanager.read({**WEBHOOK, "alerts": [good, alert, good]}, NOW)
    assert len(alerts) == 2
    assert refusal.reason == reason
    assert orjson.loads(refusal.body) == {**WEBHOOK, "alerts": [alert]}
    again, (same,) = alertmanager.read(orjson.loads(refusal.body), NOW)
    assert again == []
    assert same == refusal


def test_a_single_alert_and_a_list_are_refused_in_their_own_shape() -> None:
    bad = {"labels": LABELS, "status": "pending"}
    assert orjson.loads(alertmanager.read(bad, NOW)[1][0].body) == bad
    assert orjson.loads(alertmanager.read([bad, {"labels": LABELS}], NOW)[1][0].body) == [bad]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("text", "this body is text", id="text"),
        pytest.param(3, "this body is a number", id="number"),
        pytest.param({"alerts": {}}, "has a list `alerts`", id="alerts are no list"),
        pytest.param({"labels": {"a": "b"}}, "has a list `alerts`", id="labels alone are no alert"),
    ],
)
def test_an_unusable_body_is_rejected(body: Any, message: str) -> None:
    for use in (alertmanager.envelope, lambda body: alertmanager.read(body, NOW)):
        with pytest.raises(Rejected, match=message) as refused:
            use(body)
        assert refused.value.reason == "wrong_shape"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(WEBHOOK, Envelope(2, WEBHOOK["groupKey"]), id="webhook"),
        pytest.param(
            {"alerts": [], "groupLabels": {}, "groupKey": "{}:{}"}, Envelope(0, "{}:{}"), id="no group labels"
        ),
        pytest.param([{}, {}], Envelope(2, ""), id="list"),
        pytest.param({"labels": LABELS, "status": "firing", "fingerprint": "ab"}, Envelope(1, "ab"), id="one alert"),
    ],
)
def test_envelope(body: Any, expected: Envelope) -> None:
    assert alertmanager.envelope(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(WEBHOOK, True, id="webhook"),
        pytest.param({"alerts": [], "receiver": "x"}, True, id="empty webhook"),
        pytest.param({"alerts": [{"labels": {}, "startsAt": "x"}]}, True, id="bare list in an object"),
        pytest.param({"alerts": [{"name": "x"}]}, False, id="somebody else's list"),
        pytest.param({"alerts": []}, False, id="anybody's empty list"),
        pytest.param({"alerts": {}}, False, id="alerts are no list"),
        pytest.param([{"labels": {}, "startsAt": "x"}], True, id="api"),
        pytest.param([{"labels": {}}], False, id="list without starts"),
        pytest.param([], False, id="empty list"),
        pytest.param({"labels": {}, "startsAt": "x"}, True, id="one alert"),
        pytest.param({"labels": {}, "generatorURL": "x"}, False, id="not yet an alert"),
        pytest.param("x", False, id="text"),
    ],
)
def test_looks_like(body: Any, expected: bool) -> None:  # noqa: FBT001  a column of the table
    assert alertmanager.looks_like(body) is expected
