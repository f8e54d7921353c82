from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamproc.events.alert import Link, Severity
from streamproc.events.escalation import PageText
from streamproc.events.incident import Classification, Context, Incident, IncidentChange, Member
from streamproc.wording import SHOWN_MEMBERS, adoption_text, page_text

T0 = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def member(name: str = "Down", **changes: Any) -> Member:
    given = {
        "fingerprint": f"fp:v1:{name}",
        "alert_id": name,
        "name": name,
        "severity": "critical",
        "summary": f"{name} it is",
        "starts_at": T0,
    }
    return Member.model_validate({**given, **changes})


def incident(root: Member | None = None, **changes: Any) -> Incident:
    root = root or member(service="db", resource="db-1", labels={"pod": "p", "job": "j"})
    given = {
        "incident_id": "in:v1:prod:eu:1",
        "scope": "prod:eu",
        "change": IncidentChange.OPENED,
        "status": "open",
        "title": "The disk is full",
        "severity": root.severity,
        "environment": "prod",
        "cluster": "eu",
        "service": root.service,
        "services": (root.service,) if root.service else (),
        "root": root,
        "opened_at": T0,
        "changed_at": T0,
        "open_count": 2,
        "total_count": 3,
        "joined": (root,),
    }
    return Incident.model_validate({**given, **changes})


def test_what_an_incident_says_by_itself() -> None:
    assert page_text(incident(), "severity") == PageText(
        summary="db: The disk is full",
        source="db-1",
        severity=Severity.CRITICAL,
        component="db",
        group="prod:eu",
        kind="Down",
        details={
            "incident": "in:v1:prod:eu:1",
            "reason": "severity",
            "firing": 2,
            "alerts_in_all": 3,
            "muted": 0,
            "services": ["db"],
            "environment": "prod",
            "cluster": "eu",
            "opened_at": "2026-01-01T12:00:00+00:00",
            "alerts": ["critical: Down it is"],
            "root_labels": ["job=j", "pod=p"],
        },
    )


@pytest.mark.parametrize(
    ("root", "changes", "summary", "source"),
    [
        pytest.param(member(service="db"), {}, "db: The disk is full", "db", id="service"),
        pytest.param(member(resource="db-1"), {}, "db-1: The disk is full", "db-1", id="resource"),
        pytest.param(member(), {}, "eu: The disk is full", "eu", id="cluster"),
        pytest.param(member(), {"cluster": ""}, "prod:eu: The disk is full", "prod:eu", id="scope"),
        pytest.param(member(), {"cluster": "", "scope": ""}, "The disk is full", "", id="nothing"),
        pytest.param(member(service="db"), {"title": "db is down"}, "db is down", "db", id="named in the title"),
    ],
)
def test_where_it_is(root: Member, changes: dict[str, Any], summary: str, source: str) -> None:
    text = page_text(incident(root, **changes), "severity")
    assert (text.summary, text.source) == (summary, source)


def test_what_the_catalogue_knows() -> None:
    board = Link(href="https://grafana.example/db", text="RED")
    context = Context(
        known=True,
        owner="Kim",
        tier=1,
        impact="Nobody can buy.",
        runbook="https://wiki.example/db",
        dashboards=(board,),
        depends_on=("disk",),
        dependants=("web",),
    )
    text = page_text(incident(context=context), "severity")
    wanted = {
        "owner": "Kim",
        "tier": 1,
        "impact": "Nobody can buy.",
        "runbook": "https://wiki.example/db",
        "dependants": ["web"],
        "depends_on": ["disk"],
    }
    assert wanted.items() <= text.details.items()
    assert text.links == (Link(href="https://wiki.example/db", text="Runbook"), board)


def test_what_nobody_knows_is_left_out() -> None:
    text = page_text(incident(context=Context(known=False), environment=""), "severity")
    assert not {"owner", "tier", "impact", "runbook", "dependants", "environment"} & text.details.keys()
    assert text.links == ()


def said(**changes: Any) -> Classification:
    return Classification.model_validate({"category": "infrastructure", "urgency": "high", **changes})


@pytest.mark.parametrize(
    ("learned", "details"),
    [
        pytest.param(said(), {"category": "infrastructure", "urgency": "high"}, id="rules only"),
        pytest.param(
            said(p_page=0.913, abstain=False), {"learned": "worth a page with probability 0.91"}, id="the model is sure"
        ),
        pytest.param(
            said(p_page=0.6),
            {"learned": "worth a page with probability 0.60, not sure enough: the rules decided"},
            id="the model abstains",
        ),
    ],
)
def test_what_was_learned(learned: Classification, details: dict[str, str]) -> None:
    text = page_text(incident(classification=learned), "severity")
    assert details.items() <= text.details.items()
    assert ("learned" in text.details) is (learned.p_page is not None)


def test_members_are_listed_up_to_a_bound() -> None:
    joined = tuple(member(f"a{number}", summary="") for number in range(SHOWN_MEMBERS + 5))
    listed = page_text(incident(joined=joined), "severity").details["alerts"]
    assert listed == [f"critical: a{number}" for number in range(SHOWN_MEMBERS)]


def test_without_deltas_the_root_is_listed() -> None:
    assert page_text(incident(joined=()), "hold_over").details["alerts"] == ["critical: Down it is"]
    bare = member(summary="")
    assert page_text(incident(bare, joined=()), "hold_over").details["alerts"] == ["critical: Down"]


def test_adoption() -> None:
    text = adoption_text(12, 3, "prod:eu")
    assert text.summary == "streamproc is armed: 12 incidents that were open already are adopted without a page"
    assert (text.severity, text.group, text.details) == (
        Severity.INFO,
        "prod:eu",
        {"adopted": 12, "would_have_paged": 3},
    )
