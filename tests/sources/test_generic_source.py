"""Our own small JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamproc.core.errors import Rejected
from streamproc.sources import generic
from streamproc.sources.foreign import Envelope, ForeignAlert

PAYLOADS = Path(__file__).parents[1] / "fixtures" / "payloads"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
FULL: dict[str, Any] = orjson.loads((PAYLOADS / "generic.json").read_bytes())


def one(body: Any) -> ForeignAlert:
    (alert,), refusals = generic.read(body, NOW)
    assert refusals == []
    return alert


def test_everything_that_can_be_said() -> None:
    alert = one(FULL)
    assert (alert.name, alert.status, alert.severity_text, alert.group) == (
        "Backup failed",
        "firing",
        "high",
        "nightly",
    )
    assert alert.alert_id == "backup-db-1@2026-03-01T03:00:00Z"
    assert alert.labels["attempt"] == "3"
    assert alert.at == alert.starts_at == datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert [(link.text, link.href) for link in alert.links] == [
        ("job", "https://ci.example.com/jobs/17"),
        ("", "https://logs.example.com/17"),
    ]
    assert alert.expires


def test_a_name_is_enough() -> None:
    alert = one({"name": "Down"})
    assert (alert.status, alert.summary, alert.severity_text) == ("firing", "Down", "")
    assert (alert.starts_at, alert.at, alert.expires) == (NOW, NOW, False)


def test_silence_says_nothing_where_the_sender_says_so() -> None:
    assert not one({**FULL, "expires": False}).expires


def test_an_id_is_the_identity() -> None:
    assert (
        one({"id": "a", "status": "resolved"}).fingerprint
        == one({"id": "a", "name": "x", "labels": {"b": "c"}}).fingerprint
    )
    assert one({"fingerprint": "a", "id": "17"}).fingerprint == one({"id": "a"}).fingerprint


def test_else_name_and_labels_are() -> None:
    first = one({"name": "Down", "labels": {"host": "a"}, "summary": "s"})
    assert first.fingerprint == one({"name": "Down", "labels": {"host": "a"}, "status": "ok"}).fingerprint
    assert first.fingerprint != one({"name": "Down", "labels": {"host": "b"}}).fingerprint
    assert first.fingerprint != one({"name": "Up", "labels": {"host": "a"}}).fingerprint


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(None, "firing", id="nothing"),
        pytest.param("FIRING", "firing", id="case"),
        pytest.param(" problem ", "firing", id="spaces"),
        pytest.param("ok", "resolved", id="ok"),
        pytest.param("recovered", "resolved", id="recovered"),
    ],
)
def test_status(said: Any, expected: str) -> None:
    assert one({"name": "x", "status": said}).status == expected


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param({}, "no_name", id="no name"),
        pytest.param({"name": "  "}, "no_name", id="blank name"),
        pytest.param({"name": "x", "status": "perhaps"}, "bad_status", id="status"),
        pytest.param({"name": "x", "labels": []}, "wrong_type", id="labels"),
        pytest.param({"name": "x", "annotations": 3}, "wrong_type", id="annotations"),
        pytest.param({"name": "x", "links": "https://a"}, "wrong_type", id="links"),
        pytest.param(None, "not_an_object", id="null"),
    ],
)
def test_a_bad_alert_is_refused_alone(bad: Any, reason: str) -> None:
    for body, alone in (({"alerts": [FULL, bad], "x": 1}, {"alerts": [bad], "x": 1}), ([bad, FULL], [bad])):
        alerts, (refusal,) = generic.read(body, NOW)
        assert len(alerts) == 1
        assert refusal.reason == reason
        assert orjson.loads(refusal.body) == alone


def test_a_single_bad_alert_is_refused_as_it_came() -> None:
    _, (refusal,) = generic.read({"status": "ok"}, NOW)
    assert orjson.loads(refusal.body) == {"status": "ok"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("x", "one alert or a list of alerts, not text", id="text"),
        pytest.param({"alerts": {}}, "`alerts` is an object, not a list", id="alerts"),
    ],
)
def test_an_unusable_body_is_rejected(body: Any, message: str) -> None:
    for use in (generic.envelope, lambda body: generic.read(body, NOW)):
        with pytest.raises(Rejected, match=message):
            use(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(FULL, Envelope(1, "nightly"), id="group"),
        pytest.param([{"name": "a"}, 3], Envelope(2, "a"), id="name of the first"),
        pytest.param({"alerts": [3]}, Envelope(1, ""), id="no object"),
        pytest.param([], Envelope(0, ""), id="none"),
    ],
)
def test_envelope(body: Any, expected: Envelope) -> None:
    assert generic.envelope(body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(FULL, True, id="one"),
        pytest.param([FULL], True, id="list"),
        pytest.param({"alerts": [FULL]}, True, id="object with a list"),
        pytest.param({"name": "x"}, False, id="a name alone could be anything"),
        pytest.param([], False, id="empty"),
        pytest.param([3], False, id="numbers"),
        pytest.param({"alerts": 3}, False, id="alerts are no list"),
        pytest.param(3, False, id="a number"),
    ],
)
def test_looks_like(body: Any, expected: bool) -> None:  # noqa: FBT001  a column of the table
    assert generic.looks_like(body) is expected
