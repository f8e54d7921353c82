"""Verdicts and Retry-After: named cases."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.events.escalation import Verdict
from streamproc.sinks.pagerduty.verdict import Answer, retry_after, verdict

NOW = datetime(2026, 11, 22, 8, 30, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        pytest.param(
            202,
            b'{"status":"success","message":"Event processed","dedup_key":"k"}',
            Answer(Verdict.DELIVERED, "Event processed"),
            id="taken",
        ),
        pytest.param(200, b"", Answer(Verdict.DELIVERED, "HTTP 200"), id="taken without words"),
        pytest.param(
            400,
            b'{"status":"invalid event","message":"Event object is invalid","errors":["key is short","no payload"]}',
            Answer(Verdict.REFUSED, "Event object is invalid: key is short; no payload"),
            id="refused in PagerDuty's words",
        ),
        pytest.param(
            400,
            b'{"message":"Event object is invalid"}',
            Answer(Verdict.REFUSED, "Event object is invalid"),
            id="refused without errors",
        ),
        pytest.param(
            400, b'{"message":"no","errors":"x"}', Answer(Verdict.REFUSED, "no"), id="errors of another shape"
        ),
        pytest.param(400, b'{"status"}', Answer(Verdict.REFUSED, '{"status"}'), id="broken JSON"),
        pytest.param(400, b"[" * 100_000, Answer(Verdict.REFUSED, "[" * 500), id="JSON too deep"),
        pytest.param(400, b"[1]", Answer(Verdict.REFUSED, "[1]"), id="JSON that is no object"),
        pytest.param(400, b'{"message":5}', Answer(Verdict.REFUSED, '{"message":5}'), id="message of another type"),
        pytest.param(400, b"\xff", Answer(Verdict.REFUSED, "\ufffd"), id="not UTF-8"),
        pytest.param(403, b"", Answer(Verdict.REFUSED, "HTTP 403"), id="forbidden"),
        pytest.param(413, b"too large", Answer(Verdict.REFUSED, "too large"), id="too large"),
        pytest.param(408, b"", Answer(Verdict.AGAIN, "HTTP 408"), id="request timeout"),
        pytest.param(429, b"", Answer(Verdict.AGAIN, "HTTP 429"), id="throttled"),
        pytest.param(500, b"<html>", Answer(Verdict.AGAIN, "<html>"), id="server error"),
        pytest.param(599, b"", Answer(Verdict.AGAIN, "HTTP 599"), id="any 5xx"),
        pytest.param(302, b"", Answer(Verdict.AGAIN, "HTTP 302"), id="a proxy's redirect says nothing of the event"),
        pytest.param(None, b"", Answer(Verdict.AGAIN, "no answer"), id="no answer"),
    ],
)
def test_verdict(status: int | None, body: bytes, answer: Answer) -> None:
    assert verdict(status, body) == answer


@given(status=st.none() | st.integers(100, 599), body=st.binary() | st.from_type(dict).map(repr).map(str.encode))
def test_verdict_is_total(status: int | None, body: bytes) -> None:
    answer = verdict(status, body)
    assert answer.message
    assert len(answer.message) <= 500


@given(message=st.text(), errors=st.lists(st.text()))
def test_words_are_bounded(message: str, errors: list[str]) -> None:
    assert len(verdict(400, json.dumps({"message": message, "errors": errors}).encode()).message) <= 500


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        pytest.param(None, None, id="absent"),
        pytest.param("30", 30.0, id="seconds"),
        pytest.param(" 0 ", 0.0, id="at once"),
        pytest.param("Sun, 22 Nov 2026 08:31:30 GMT", 90.0, id="date"),
        pytest.param("Sun, 22 Nov 2026 08:31:30 -0000", 90.0, id="date of unknown zone is UTC"),
        pytest.param("Sun, 22 Nov 2026 08:00:00 GMT", 0.0, id="date in the past"),
        pytest.param("soon", None, id="nonsense"),
        pytest.param("-5", None, id="negative"),
        pytest.param("", None, id="empty"),
        pytest.param("Sun, 99 Nov 2026 08:00:00 GMT", None, id="no such day"),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text())
def test_retry_after_is_total(header: str) -> None:
    assert (retry_after(header, NOW) or 0.0) >= 0.0
