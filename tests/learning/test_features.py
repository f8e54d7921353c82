from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.events.alert import Severity
from streamproc.events.incident import Incident, IncidentChange, Member
from streamproc.learning.features import features, words

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def member(**changes: Any) -> Member:
    given = {
        "fingerprint": "fp:v1:1",
        "alert_id": "1",
        "name": "DiskFull",
        "severity": Severity.ERROR,
        "summary": "",
        "starts_at": T0,
    }
    return Member.model_validate({**given, **changes})


def incident(root: Member, environment: str = "", cluster: str = "") -> Incident:
    return Incident(
        incident_id="in:v1:-:1",
        scope="-",
        change=IncidentChange.OPENED,
        status="open",
        title="",
        severity=root.severity,
        environment=environment,
        cluster=cluster,
        root=root,
        opened_at=T0,
        changed_at=T0,
        open_count=1,
        total_count=1,
    )


def read(one: Member, **places: str) -> dict[str, float]:
    return features(one, incident(one, **places))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("KubePodCrashLooping", ["kube", "pod", "crash", "looping"], id="CamelCase"),
        pytest.param("HTTPErrorsHigh", ["http", "errors", "high"], id="capitals before a word"),
        pytest.param("disk_full on node-7: 93 %", ["disk", "full", "on", "node"], id="numbers are no words"),
        pytest.param("HTTP 5xx p99", ["http", "5xx", "p"], id="letters after a number"),
        pytest.param(
            "Größe überschritten", ["gr", "öß", "e", "ü", "berschritten"], id="letters beyond ASCII stand alone"
        ),
        pytest.param("磁盘已满", ["磁盘已满"], id="no capitals at all"),
        pytest.param("a" * 90, ["a" * 40], id="a long word is cut"),
        pytest.param("a " * 90, ["a"] * 60, id="a long text is cut"),
        pytest.param("", [], id="empty"),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_each_field_has_length_one() -> None:
    found = read(
        member(name="DiskFullSoon", summary="a b c d", service="shop", resource="db-1", source="datadog"),
        environment="Prod",
        cluster="eu-1",
    )
    assert found == {
        "name:disk": 0.4472,
        "name:full": 0.4472,
        "name:soon": 0.4472,
        "name:disk full": 0.4472,
        "name:full soon": 0.4472,
        "summary:a": 0.5,
        "summary:b": 0.5,
        "summary:c": 0.5,
        "summary:d": 0.5,
        "service:shop": 1.0,
        "resource:db": 1.0,
        "source:datadog": 1.0,
        "environment:prod": 1.0,
        "cluster:eu-1": 1.0,
    }


def test_severity_is_left_out() -> None:
    grave = member(severity=Severity.CRITICAL, labels={"severity": "page", "Priority": "P1", "team": "sre"})
    mild = member(severity=Severity.INFO, labels={"severity": "none", "Priority": "P5", "team": "sre"})
    assert read(grave) == read(mild)
    assert read(mild)["label:team=sre"] == 1.0


def test_labels_tell_kinds_apart_not_instances() -> None:
    one = member(labels={"alertname": "DiskFull", "instance": "a:9100", "shard": "s-17"})
    two = member(labels={"alertname": "DiskFull", "instance": "b:9100", "shard": "s-4"})
    assert read(one) == read(two)
    assert "label:shard=s-#" in read(one)


texts = st.text(max_size=400)


@given(texts, texts, texts, texts, st.dictionaries(texts, texts, max_size=60))
def test_features_are_bounded_and_the_same_every_time(
    name: str, summary: str, service: str, resource: str, labels: dict[str, str]
) -> None:
    one = member(name=name, summary=summary, service=service, resource=resource, labels=labels, source="x")
    found = read(one, environment="prod", cluster="eu")
    shuffled = one.model_copy(update={"labels": dict(reversed(labels.items()))})
    assert read(shuffled, environment="prod", cluster="eu") == found
    assert len(found) <= 152
    assert all(0 < value <= 1 for value in found.values())
    assert all(len(feature) <= 100 for feature in found)
