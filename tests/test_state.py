from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from streamproc.events.alert import Severity
from streamproc.events.feedback import Matcher, Policy
from streamproc.events.incident import IncidentChange, Member
from streamproc.state import (
    EVERY,
    HEARD,
    INCIDENT,
    MEMBER,
    MUTE,
    PAGE,
    POLICY,
    SAMPLE,
    TABLES,
    HeardRow,
    IncidentRow,
    MemberRow,
    MuteRow,
    PageRow,
    PolicyRow,
    SampleRow,
    Spot,
    bucket_of,
    group_index,
    kind_index,
    name_index,
    named_index,
    service_index,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = Member(fingerprint="fp:v1:1", alert_id="1", name="Down", severity="warning", summary="db is down", starts_at=T0)


def incident(**changes: Any) -> IncidentRow:
    given = {
        "incident_id": "in:v1:prod:1",
        "scope": "prod",
        "status": "open",
        "root": ROOT,
        "opened_at": T0,
        "joined_at": T0,
        "open_count": 1,
        "total_count": 1,
    }
    return IncidentRow.model_validate({**given, **changes})


@pytest.mark.parametrize(
    ("severities", "worst"),
    [
        pytest.param((0, 0, 0, 0), Severity.WARNING, id="none fires: the root's"),
        pytest.param((1, 0, 0, 0), Severity.INFO, id="info"),
        pytest.param((3, 1, 0, 0), Severity.WARNING, id="warning"),
        pytest.param((0, 2, 1, 0), Severity.ERROR, id="error"),
        pytest.param((9, 9, 9, 1), Severity.CRITICAL, id="one critical among many"),
    ],
)
def test_the_worst_open_member_counts(severities: tuple[int, int, int, int], worst: Severity) -> None:
    assert incident(severities=severities).severity is worst


@pytest.mark.parametrize(
    ("row", "title"),
    [
        pytest.param(incident(), "db is down", id="one"),
        pytest.param(incident(open_count=4), "db is down (+3 more)", id="four"),
        pytest.param(incident(open_count=0), "db is down", id="none"),
        pytest.param(incident(root=ROOT.model_copy(update={"summary": ""})), "Down", id="no summary"),
    ],
)
def test_title(row: IncidentRow, title: str) -> None:
    assert row.event(IncidentChange.GREW, T0).title == title


def test_the_event_has_no_deltas() -> None:
    event = incident(services=("db",), root=ROOT.model_copy(update={"service": "db"})).event(IncidentChange.GREW, T0)
    assert (event.joined, event.left, event.muted, event.decision, event.trail) == ((), (), False, None, ())
    assert (event.service, event.services, event.severity) == ("db", ("db",), Severity.WARNING)


def policy(**changes: Any) -> PolicyRow:
    given = {"policy_id": "night", "kind": "silence", "version": 1, "starts_at": T0, "matchers": [MATCHER]}
    return PolicyRow(policy=Policy.model_validate({**given, **changes}))


SPOT = Spot(fingerprint="fp:v1:x", alert_id="x", name="Down", names=("cache",), since=T0, at=T0)
BUCKET_OF_T0 = bucket_of(T0)
MATCHER = Matcher(name="a", op="=", value="b")


def page(state: Any) -> PageRow:
    told = incident().event(IncidentChange.OPENED, T0)
    return PageRow(incident=told, state=state, reason="severity", published_at=T0)


INDEXES = [
    pytest.param(
        INCIDENT.names(incident(services=("web", "DB"), groups=("g",), spots=(SPOT,), kinds=("k",))),
        (
            "alert:fp:v1:x",
            "group:prod/g",
            f"service:{BUCKET_OF_T0}:prod/web",
            f"service:{BUCKET_OF_T0}:prod/db",
            f"only:{BUCKET_OF_T0}:prod/Down",
            f"named:{BUCKET_OF_T0}:prod/cache",
        ),
        id="open incident",
    ),
    pytest.param(
        INCIDENT.names(
            incident(
                status="resolved", resolved_at=T0 + timedelta(hours=1), services=("web",), groups=("g",), kinds=("k",)
            )
        ),
        ("kind:prod/k", f"service:{BUCKET_OF_T0 + 2}:prod/web"),
        id="resolved incident",
    ),
    pytest.param(INCIDENT.names(None), (), id="forgotten"),
    pytest.param(MEMBER.names(MemberRow(incident_id="i", member=ROOT)), ("i",), id="member"),
    pytest.param(MUTE.names(MuteRow(incident_id="i", policy_id="p", until=T0)), ("incident:i", "policy:p"), id="mute"),
    pytest.param(POLICY.names(policy()), ("label:a=b",), id="policy"),
    pytest.param(
        POLICY.names(policy(matchers=[MATCHER.model_copy(update={"name": "severity"}), MATCHER])),
        ("label:a=b",),
        id="policy, by the label that fewer alerts share",
    ),
    pytest.param(
        POLICY.names(
            policy(matchers=[MATCHER.model_copy(update={"op": "=~"}), MATCHER.model_copy(update={"value": ""})])
        ),
        ("label:",),
        id="policy that no label finds",
    ),
    pytest.param(POLICY.names(policy(kind="arm", policy_id="arm")), (), id="arming"),
    pytest.param(POLICY.names(policy(withdrawn=True)), (), id="withdrawn policy"),
    pytest.param(PAGE.names(page("paged")), ("open", "open:paged"), id="open page"),
    pytest.param(PAGE.names(page("quiet")), ("open", "open:quiet"), id="quiet page"),
    pytest.param(PAGE.names(page("closed")), (), id="closed page"),
    pytest.param(HEARD.names(HeardRow(at=T0)), (), id="heard"),
    pytest.param(HEARD.names(HeardRow(at=T0, answer=True)), ("answer",), id="answered"),
    pytest.param(SAMPLE.names(SampleRow(features={}, model_version=0, at=T0)), (EVERY,), id="sample"),
]


@pytest.mark.parametrize(("names", "wanted"), INDEXES)
def test_indexes(names: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    assert names == wanted


def test_scopes_and_names_do_not_run_into_one_another() -> None:
    indexes = (service_index, partial(name_index, served=True), partial(name_index, served=False), named_index)
    made = [index(scope, name, 1) for index in indexes for scope, name in (("a:b", "c"), ("a", "b:c"))]
    made += [index(scope, name) for index in (group_index, kind_index) for scope, name in (("a:b", "c"), ("a", "b:c"))]
    assert len(set(made)) == len(made)


def test_the_bucket_is_the_half_hour() -> None:
    assert bucket_of(T0) == bucket_of(T0 + timedelta(minutes=29)) == bucket_of(T0 + timedelta(minutes=30)) - 1


def test_tables_have_names_of_their_own_and_a_bound() -> None:
    assert len({table.name for table in TABLES}) == len(TABLES)
    assert all(table.bound for table in TABLES)
