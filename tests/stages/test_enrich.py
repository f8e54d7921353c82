from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from streamproc.events.alert import Link, Severity
from streamproc.events.incident import Context, Incident, IncidentChange, Member
from streamproc.stages.enrich import STAGE, Config, Reason, step
from tests.support.rows import rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SHOP = {
    "services": {
        "web": {
            "team": "front",
            "tier": 1,
            "impact": "Nobody can buy.",
            "runbook": "https://wiki.example/web",
            "dashboards": [{"href": "https://grafana.example/web", "text": "RED"}],
            "depends_on": ["api", "cdn"],
            "destination": "front",
            "second_destination": "boss",
        },
        "api": {"owner": "Kim", "team": "back", "depends_on": ["db", "redis"], "aliases": ["gateway"]},
        "batch": {"depends_on": ["db"], "destination": "back"},
        "db": {"destination": "back"},
    }
}


def incident(service: str, *others: str, change: IncidentChange = IncidentChange.OPENED) -> Incident:
    root = Member(
        fingerprint="fp:v1:1",
        alert_id="1",
        name="Down",
        severity=Severity.ERROR,
        summary="",
        service=service,
        starts_at=T0,
    )
    return Incident(
        incident_id="in:v1:-:1",
        scope="-",
        change=change,
        status="resolved" if change is IncidentChange.RESOLVED else "open",
        title="Down",
        severity=root.severity,
        service=service,
        services=tuple(name for name in (service, *others) if name),
        root=root,
        opened_at=T0,
        changed_at=T0,
        open_count=1,
        total_count=1,
    )


def context(**changes: Any) -> Context:
    return Context.model_validate({"known": True, "catalogue_version": 3, **changes})


CASES = [
    pytest.param(
        incident("web"),
        Reason.KNOWN,
        context(
            owner="front",
            tier=1,
            impact="Nobody can buy.",
            runbook="https://wiki.example/web",
            dashboards=(Link(href="https://grafana.example/web", text="RED"),),
            destination="front",
            second_destination="boss",
        ),
        id="all that is known; the team owns where no owner is named",
    ),
    pytest.param(
        incident("api"), Reason.KNOWN, context(owner="Kim", dependants=("web",)), id="no destination: the catch-all"
    ),
    pytest.param(
        incident("gateway"), Reason.KNOWN, context(owner="Kim", dependants=("web",)), id="known by another name"
    ),
    pytest.param(
        incident("db", "gateway", "web"),
        Reason.KNOWN,
        context(destination="back", depends_on=("api", "db"), dependants=("api", "batch", "web")),
        id="a cascade: what they need and what alerts too",
    ),
    pytest.param(
        incident("redis"),
        Reason.UNKNOWN_SERVICE,
        context(known=False, dependants=("api",)),
        id="not in the catalogue, but something needs it",
    ),
    pytest.param(incident("stranger"), Reason.UNKNOWN_SERVICE, context(known=False), id="unknown"),
    pytest.param(
        incident("", "db"),
        Reason.NO_SERVICE,
        context(known=False, dependants=("api", "batch")),
        id="the root names none, another member does",
    ),
    pytest.param(
        incident("db", change=IncidentChange.RESOLVED),
        Reason.KNOWN,
        context(destination="back", dependants=("api", "batch")),
        id="a resolved one likewise",
    ),
]


@pytest.mark.parametrize(("event", "reason", "known"), CASES)
def test_enrich(event: Incident, reason: Reason, known: Context) -> None:
    step_ = step(event, rows_of(artifacts={"catalogue": (3, json.dumps(SHOP))}), T0, Config())
    assert step_.reason is reason
    assert step_.emit == (event.model_copy(update={"context": known}),)
    assert step_.changes == {}
    assert step_.figures == {"service": event.service, "tier": known.tier, "destination": known.destination}


def test_no_catalogue() -> None:
    event = incident("web")
    step_ = step(event, rows_of(), T0, Config())
    assert step_.reason is Reason.NO_CATALOGUE
    assert step_.emit == (event.model_copy(update={"context": Context(known=False)}),)


def test_long_lists_are_cut() -> None:
    step_ = step(
        incident("db", "api", "web"),
        rows_of(artifacts={"catalogue": (1, json.dumps(SHOP))}),
        T0,
        Config(most_listed=1),
    )
    (emitted,) = step_.emit
    assert isinstance(emitted, Incident)
    assert emitted.context is not None
    assert (emitted.context.depends_on, emitted.context.dependants) == (("api",), ("api",))


def test_every_reason_is_reached() -> None:
    assert {case.values[1] for case in CASES} | {Reason.NO_CATALOGUE} == set(Reason)
    assert STAGE.owns == ()
