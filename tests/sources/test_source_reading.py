"""What all sources share: times, texts, links, and one bad alert among many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from streamproc.core.errors import Rejected
from streamproc.sources import reading
from streamproc.sources.foreign import ForeignAlert, Refused
from streamproc.sources.reading import bounded, moment, read_each, text, texts, times, web_links

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("2026-03-01T12:00:00Z", NOON, id="utc"),
        pytest.param("2026-03-01T14:00:00+02:00", NOON, id="another offset"),
        pytest.param("2026-03-01T12:00:00.123456789Z", NOON.replace(microsecond=123456), id="nanoseconds"),
        pytest.param("2026-03-01T12:00:00", NOON, id="no offset is utc"),
        pytest.param(1772366400, NOON, id="epoch seconds"),
        pytest.param(1772366400000, NOON, id="epoch milliseconds"),
        pytest.param("1772366400000", NOON, id="epoch milliseconds as text"),
        pytest.param(1772366400.5, NOON.replace(microsecond=500000), id="epoch with a fraction"),
        pytest.param("2026-03-01T13:30:00Z", NOON + 1.5 * HOUR, id="an hour ahead"),
        pytest.param("2026-03-01T13:30:01Z", None, id="more than an hour ahead"),
        pytest.param("0001-01-01T00:00:00Z", None, id="zero of Go"),
        pytest.param("0001-01-01T00:00:00+05:00", None, id="zero of Go before year one"),
        pytest.param("1970-01-01T00:00:00Z", None, id="zero of Unix"),
        pytest.param("9999-12-31T23:59:59-12:00", None, id="end of all years"),
        pytest.param(0, None, id="epoch zero"),
        pytest.param("another time", None, id="words"),
        pytest.param("", None, id="nothing"),
        pytest.param("9" * 5000, None, id="endless digits"),
        pytest.param(1e300, None, id="endless number"),
        pytest.param("²", None, id="digit that is no number"),
        pytest.param(True, None, id="true is not one second"),
        pytest.param(None, None, id="null"),
        pytest.param({"seconds": 1}, None, id="an object"),
    ],
)
def test_a_moment_is_utc_or_none(given: object, expected: datetime | None) -> None:
    found = moment(given, NOW + HOUR)
    assert found == expected
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("status", "starts", "ends", "expected"),
    [
        pytest.param("firing", NOON, None, (NOON, None, NOON), id="firing is as old as its start"),
        pytest.param("firing", NOON, NOW + HOUR, (NOON, None, NOON), id="firing has no end"),
        pytest.param("firing", None, None, (NOW, None, NOW), id="firing without a start is ordered by arrival"),
        pytest.param("resolved", NOON - HOUR, NOON, (NOON - HOUR, NOON, NOON), id="resolved is as old as its end"),
        pytest.param("resolved", NOON, None, (NOON, NOW, NOW), id="resolved without an end ends on arrival"),
        pytest.param("resolved", NOON, NOON - HOUR, (NOON, NOON, NOON), id="resolved before it started ends then"),
        pytest.param("resolved", None, NOON, (NOON, NOON, NOW), id="resolved without a start is ordered by arrival"),
        pytest.param("resolved", None, None, (NOW, NOW, NOW), id="resolved without any time"),
    ],
)
def test_times(status: Any, starts: datetime | None, ends: datetime | None, expected: tuple[Any, ...]) -> None:
    assert times(status, starts, ends, NOW) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("as it is ", "as it is ", id="text"),
        pytest.param(None, "", id="null"),
        pytest.param(True, "true", id="true"),
        pytest.param(1.5, "1.5", id="number"),
        pytest.param({"b": 1, "a": [None]}, '{"a":[null],"b":1}', id="object with sorted keys"),
    ],
)
def test_text(given: object, expected: str) -> None:
    assert text(given) == expected


def test_too_deep_a_value_is_rejected() -> None:
    with pytest.raises(Rejected, match="nested more than") as refused:
        text(orjson.loads(b"[" * 900 + b"]" * 900))
    assert refused.value.reason == Refused.TOO_DEEP


def test_texts_leave_nulls_out_and_refuse_what_is_no_object() -> None:
    assert texts(None, "labels") == {}
    assert texts({"a": "x", "b": None, "c": 3}, "labels") == {"a": "x", "c": "3"}
    with pytest.raises(Rejected, match="labels is a list, not an object of texts"):
        texts(["a"], "labels")


def test_links_are_web_addresses_only() -> None:
    pairs = (
        ("https://a", "one"),
        ("http://b", ""),
        ("javascript:alert(1)", "evil"),
        ("/graph", ""),
        (None, ""),
        (3, ""),
    )
    assert [(link.href, link.text) for link in web_links(*pairs)] == [("https://a", "one"), ("http://b", "")]


def test_too_many_alerts_are_rejected() -> None:
    assert bounded([1] * reading.MAX_ALERTS)
    with pytest.raises(Rejected, match="at most 20000") as refused:
        bounded([1] * (reading.MAX_ALERTS + 1))
    assert refused.value.reason == Refused.TOO_MANY_ALERTS


def read_one(alert: dict[str, Any]) -> ForeignAlert:
    if alert["n"] % 2:
        raise Rejected("odd", f"{alert['n']} is odd")
    return ForeignAlert("s", "f", "i", "firing", "n", "", "", "", {}, {}, NOW, None, NOW, "", (), expires=True)


def wrap(some: list[Any]) -> Any:
    return {"shared": "x", "alerts": some}


def test_a_bad_alert_is_refused_alone_with_a_body_that_can_be_read_again() -> None:
    alerts, refusals = read_each([{"n": 0}, {"n": 1}, "no alert", {"n": 2}], read_one, wrap)
    assert len(alerts) == 2
    assert [(one.reason, one.detail) for one in refusals] == [
        ("odd", "1 is odd"),
        ("not_an_object", "an alert is an object with labels, this is text"),
    ]
    assert orjson.loads(refusals[0].body) == {"shared": "x", "alerts": [{"n": 1}]}


def test_a_refused_alert_that_cannot_be_written_leaves_the_body_empty() -> None:
    _, refusals = read_each([{"n": 1, "deep": orjson.loads(b"[" * 900 + b"]" * 900)}], read_one, wrap)
    assert refusals[0].body == b""


def test_a_flood_of_bad_alerts_makes_few_dead_letters() -> None:
    _, refusals = read_each([{"n": 1}] * 500, read_one, wrap)
    assert len(refusals) == reading.MAX_REFUSALS + 1
    assert refusals[-1].reason == "many_refused"
    assert len(orjson.loads(refusals[-1].body)["alerts"]) == 400


def test_a_huge_envelope_is_not_copied_for_every_bad_alert() -> None:
    _, refusals = read_each([{"n": 1}] * 50, read_one, lambda some: {"shared": "x" * 2_500_000, "alerts": some})
    assert len(refusals) == 3
    assert len(orjson.loads(refusals[-1].body)["alerts"]) == 48
