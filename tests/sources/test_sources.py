"""Recognising a producer, and the promise that no input raises anything but Rejected."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.errors import Rejected
from streamproc.events.raw import RawAlert
from streamproc.sources import SOURCES, Refused, envelope, recognise

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "payloads"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
EXPECTED = {
    "alertmanager_webhook": "alertmanager",
    "alertmanager_api": "alertmanager",
    "grafana_webhook": "alertmanager",
    "google_webhook": "alertmanager",
    "datadog_triggered": "datadog",
    "datadog_recovered": "datadog",
    "datadog_default": "datadog",
    "generic": "generic",
}


@pytest.mark.parametrize(("name", "source"), EXPECTED.items())
def test_without_a_header_the_shape_tells(name: str, source: str) -> None:
    body = (PAYLOADS / f"{name}.json").read_bytes()
    found, parsed = recognise(RawAlert(body=body))
    assert (found, parsed) == (source, orjson.loads(body))
    assert [other for other in SOURCES.values() if other.looks_like(parsed)] == [SOURCES[source]]


def test_the_header_wins_over_the_shape() -> None:
    assert recognise(RawAlert(body=b'{"alert_transition": "x"}', source="generic"))[0] == "generic"


def test_every_payload_is_taken_at_the_door_as_it_is_read() -> None:
    for name, source in EXPECTED.items():
        body = (PAYLOADS / f"{name}.json").read_bytes()
        alerts, refusals = SOURCES[source].read(orjson.loads(body), NOW)
        assert refusals == []
        assert envelope(source, body).count == len(alerts) > 0


@pytest.mark.parametrize(
    ("source", "body", "reason", "message"),
    [
        pytest.param("", b"", "not_json", "the body is not JSON", id="empty"),
        pytest.param("", b"{", "not_json", "at byte 1", id="cut off"),
        pytest.param("alertmanager", b'{"a": "\xff"}', "not_json", "the body is not JSON", id="not utf-8"),
        pytest.param("", b"[" * 5000 + b"]" * 5000, "not_json", "depth limit", id="nested without end"),
        pytest.param("", b"\xef\xbb\xbf{}", "not_json", "byte order mark", id="byte order mark"),
        pytest.param(
            "nagios", b"{}", "unknown_source", "no source 'nagios'; known are alertmanager", id="unknown source"
        ),
        pytest.param("", b"{}", "unknown_shape", "no header `source`", id="unknown shape"),
    ],
)
def test_what_cannot_be_recognised_is_rejected(source: str, body: bytes, reason: str, message: str) -> None:
    with pytest.raises(Rejected, match=message) as refused:
        recognise(RawAlert(body=body, source=source))
    assert refused.value.reason == reason
    with pytest.raises(Rejected) as at_the_door:
        envelope(source, body)
    assert at_the_door.value.reason in {reason, Refused.UNKNOWN_SOURCE}


WORDS = st.sampled_from(
    [
        *("alerts", "status", "labels", "annotations", "startsAt", "endsAt", "fingerprint", "groupKey", "groupLabels"),
        *("truncatedAlerts", "alertname", "firing", "resolved", "0001-01-01T00:00:00Z", "2026-03-01T12:00:00Z", "id"),
        *("name", "links", "href", "tags", "title", "alert_transition", "alert_scope", "org", "date", "$DATE", "Warn"),
        *(
            "[P1] [Triggered on {host:a}] x",
            "starts_at",
            "severity",
            "host:a,b",
            "1772366400000",
            "body",
            "generatorURL",
        ),
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | WORDS
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=8),
    max_leaves=25,
)


@given(body=JSON, source=st.sampled_from(sorted(SOURCES)))
def test_any_json_is_read_or_rejected(body: Any, source: str) -> None:
    try:
        alerts, refusals = SOURCES[source].read(body, NOW)
    except Rejected:
        return
    assert all(alert.at <= NOW.replace(hour=13) and alert.fingerprint.startswith("fp:v1:") for alert in alerts)
    for refusal in refusals:
        again, same = SOURCES[source].read(orjson.loads(refusal.body), NOW)
        assert (again, same) == ([], [refusal])


@given(body=JSON, source=st.sampled_from(sorted(SOURCES)))
def test_the_door_counts_what_is_read(body: Any, source: str) -> None:
    try:
        counted = SOURCES[source].envelope(body).count
    except Rejected:
        with pytest.raises(Rejected):
            SOURCES[source].read(body, NOW)
        return
    try:
        alerts, refusals = SOURCES[source].read(body, NOW)
    except Rejected:
        assert source == "datadog"
    else:
        assert counted == len(alerts) + len(refusals)


@given(body=st.binary() | JSON.map(str).map(str.encode), source=st.sampled_from(["", "x", *SOURCES]))
def test_any_bytes_are_recognised_or_rejected(body: bytes, source: str) -> None:
    try:
        name, _ = recognise(RawAlert(body=body, source=source))
    except Rejected:
        return
    assert name in SOURCES
