"""What details of alerts at PagerDuty tell, and what PagerDuty tells of its incidents."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.beside.clues import MOST_SETS, Clues, clues_of
from streamproc.beside.theirs import LATER, TheirPage, heading_of
from streamproc.sinks.pagerduty.resources import Alert, Incident, LogEntry
from tests.beside.nights import T0, at, page
from tests.beside.routes import listed

LABELS = {"alertname": "DiskFull", "severity": "warning", "node": "n 1 = x"}
AM = {
    "labels": LABELS,
    "annotations": {"summary": "It is full"},
    "fingerprint": "0A1b",
    "startsAt": "2026-11-16T09:00:00Z",
}
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        pytest.param({"firing": listed([AM])}, Clues(labels=(LABELS,)), id="alertmanager's template"),
        pytest.param(
            {"firing": json.dumps([AM])},
            Clues(labels=(LABELS,), occurrences=("0A1b@2026-11-16T09:00:00Z",)),
            id="alertmanager's JSON as text",
        ),
        pytest.param(
            {"firing": [AM, {"labels": {"a": "b"}}, {"no": "labels"}, 3], "num_firing": 2},
            Clues(labels=(LABELS, {"a": "b"}), occurrences=("0A1b@2026-11-16T09:00:00Z",), tags={"num_firing": "2"}),
            id="as a list, some of it foreign",
        ),
        pytest.param({"firing": 3}, Clues(tags={"firing": "3"}), id="a number as firing"),
        pytest.param(
            {"firing": "Labels:\nnone\nSource: x"},
            Clues(tags={"firing": "Labels:\nnone\nSource: x"}, text="Labels:\nnone\nSource: x"),
            id="no labels in it",
        ),
        pytest.param(
            {"tags": "env:prod, service:api", "title": "CPU high", "event": {"id": "9"}},
            Clues(tags={"env": "prod", "service": "api", "title": "CPU high"}, text="env:prod, service:api CPU high 9"),
            id="datadog's tags as text",
        ),
        pytest.param(
            {"tags": ["env:prod"], "labels": {"team": "db"}},
            Clues(tags={"env": "prod", "team": "db"}, text="env:prod db"),
            id="tags as a list, labels as an object",
        ),
        pytest.param("plain words", Clues(text="plain words"), id="no object"),
        pytest.param(None, Clues(), id="nothing"),
        pytest.param({"long": "x" * 300}, Clues(text="x" * 300), id="prose is no tag"),
    ],
)
def test_what_details_tell(details: Any, expected: Clues) -> None:
    assert clues_of(details) == expected


def test_deep_and_large_details_are_cut() -> None:
    deep: Any = "far down"
    for _ in range(20):
        deep = [deep]
    assert clues_of({"deep": deep}).text == ""
    assert len(clues_of({"firing": [{"labels": {"n": str(n)}} for n in range(100)]}).labels) == MOST_SETS
    assert clues_of({"firing": "[" * 100_000}).labels == ()


@given(JSON)
def test_no_details_are_too_strange(details: Any) -> None:
    assert clues_of(details) == clues_of(json.loads(json.dumps(details)))


def incident(**more: Any) -> Incident:
    base = {
        "id": "Q1",
        "incident_number": 7,
        "status": "triggered",
        "created_at": T0,
        "service": {"id": "S", "summary": "DB"},
    }
    return Incident.model_validate(base | more)


def entry(kind: str, who: str = "user_reference", **more: Any) -> LogEntry:
    agent = {"id": "U", "type": who, "summary": "Dana"}
    return LogEntry.model_validate(
        {"id": "L", "type": f"{kind}_log_entry", "created_at": at(1), "agent": agent, **more}
    )


@pytest.mark.parametrize(
    ("log", "deeds", "by_hand"),
    [
        pytest.param([entry("trigger", "service_reference")], (), False, id="a machine alone"),
        pytest.param(
            [entry("resolve", "service_reference"), entry("acknowledge")], ("acknowledge",), False, id="a person"
        ),
        pytest.param([entry("notify"), entry("trigger")], (), True, id="made by hand, and people notified"),
        pytest.param(
            [entry("annotate"), entry("priority_change")], ("priority_change", "annotate"), False, id="in order"
        ),
        pytest.param([entry("escalate", agent=None)], (), False, id="nobody named"),
    ],
)
def test_what_people_did(log: list[LogEntry], deeds: tuple[str, ...], *, by_hand: bool) -> None:
    alert = {"id": "A", "status": "triggered", "created_at": T0, "body": {"details": {"tags": "env:prod"}}}
    read = heading_of(incident()).read([Alert.model_validate(alert)], log)
    assert tuple(deed.what for deed in read.deeds) == deeds
    assert (read.by_hand, read.acted, read.service) == (by_hand, bool(deeds), "DB")
    assert read.alerts[0].clues.tags == {"env": "prod"}


@pytest.mark.parametrize(
    ("before", "now", "known"),
    [
        pytest.param(page(), incident(last_status_change_at=T0), True, id="as it was"),
        pytest.param(page(), incident(status="resolved", last_status_change_at=at(3)), False, id="changed since"),
        pytest.param(page(source="webhook"), incident(last_status_change_at=T0), False, id="known from webhooks"),
    ],
)
def test_what_changed_is_read_again(before: TheirPage, now: Incident, *, known: bool) -> None:
    listed_ = before.listed(now)
    assert listed_.deeds_known is known
    assert (listed_.deeds, listed_.status, listed_.source) == (before.deeds, now.status, "rest")


def test_when_there_is_nothing_more_to_read() -> None:
    ended = page(ended=5)
    assert not ended.final(at(5) + LATER - timedelta(seconds=1))
    assert ended.final(at(5) + LATER)
    assert not page().final(at(10_000))
    assert page(key="in:v1:prod:0123").ours
    assert [page(by="").acted, page(by=None).acted] == [False, None]
