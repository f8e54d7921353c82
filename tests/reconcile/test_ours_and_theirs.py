"""Claims from rows and from the log; what PagerDuty holds, from its answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamproc.core.identity import incident_of
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction
from streamproc.events.incident import Incident, IncidentChange, Member
from streamproc.reconcile.compare import Difference, Kind
from streamproc.reconcile.ours import claims_of, closed_long_ago
from streamproc.reconcile.report import Found, Outcome
from streamproc.reconcile.theirs import Deed, alone, held, routing_keys, silent
from streamproc.sinks.pagerduty import resources
from streamproc.state import IntentRow, PageRow
from streamproc.views import incident_view

T0 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LATER = T0 + timedelta(minutes=5)
ID = "in:v1:prod:eu:0123456789abcdef"
SAID = ("default", "key", ID)
DANA, MACHINE = {"id": "PU", "type": "user_reference", "summary": "Dana"}, {"id": "PS", "type": "service_reference"}


@pytest.mark.parametrize(
    ("key", "incident"),
    [
        pytest.param(ID, ID, id="the incident"),
        pytest.param(f"{ID}/2", ID, id="the second destination"),
        pytest.param(f"{ID}/critical", ID, id="growth"),
        pytest.param(f"{ID}/3", f"{ID}/3", id="no suffix of ours"),
        pytest.param("deploy-17", "", id="another tool's"),
        pytest.param("", "", id="none"),
    ],
)
def test_whose_key_it_is(key: str, incident: str) -> None:
    assert incident_of(key) == incident


def incident(**changes: Any) -> Incident:
    root = Member(
        fingerprint="fp:v1:1", alert_id="a", name="Down", severity=Severity.ERROR, summary="db is down", starts_at=T0
    )
    base = {
        "incident_id": ID,
        "scope": "prod:eu",
        "change": IncidentChange.OPENED,
        "status": "open",
        "title": "db is down",
        "severity": Severity.ERROR,
        "root": root,
        "opened_at": T0,
        "changed_at": T0,
        "open_count": 1,
        "total_count": 1,
    }
    return Incident.model_validate({**base, **changes})


def row(**changes: Any) -> PageRow:
    base = {"incident": incident(), "state": "paged", "reason": "severity", "published_at": LATER, "seq": 4}
    return PageRow.model_validate({**base, **changes})


def intent(action: PageAction, at: datetime, *, pending: bool = False) -> IntentRow:
    said = Escalation(
        incident_id=ID,
        scope="prod:eu",
        destination="default",
        routing_key="key",
        dedup_key=ID,
        action=action,
        seq=4,
        at=at,
    )
    return IntentRow(last=said, pending=(said,) if pending else ())


def test_a_claim_is_what_the_rows_say() -> None:
    page = row(said=(SAID,), destination="default", routing_key="key", dedup_key=ID, paged_at=T0, escalate_at=LATER)
    claim = claims_of([page], [intent(PageAction.TRIGGER, LATER, pending=True), IntentRow()])[ID]
    assert (claim.said, claim.pinned, claim.seq, claim.title) == ((SAID,), SAID, 4, "db is down")
    assert (claim.said_at, claim.triggered_at) == (LATER, LATER)
    assert claim.lives
    assert claim.pending
    assert claim.awaits
    assert not claim.acknowledged


def test_an_acknowledge_is_no_trigger() -> None:
    claim = claims_of([row(said=(SAID,), acknowledged_by="Dana")], [intent(PageAction.ACKNOWLEDGE, LATER)])[ID]
    assert (claim.said_at, claim.triggered_at) == (LATER, T0)
    assert claim.acknowledged
    assert not claim.pending


def test_what_is_closed_rests_since_it_closed() -> None:
    claim = claims_of([row(state="closed", paged_at=T0)], [])[ID]
    assert (claim.said_at, claim.lives) == (LATER, False)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param([incident()], False, id="open"),
        pytest.param([incident(), incident(status="resolved", changed_at=LATER)], True, id="over"),
    ],
)
def test_what_the_log_remembers(told: list[Incident], *, known: bool) -> None:
    claim = closed_long_ago(incident_view(told, []))
    assert (claim is not None) is known
    if claim is not None:
        assert (claim.incident_id, claim.state, claim.seq, claim.said_at) == (ID, "closed", 0, LATER)


# -- theirs -----------------------------------------------------------------------------------------------------------


def there(**changes: Any) -> resources.Incident:
    base = {
        "id": "Q1",
        "incident_number": 1,
        "title": "db is down",
        "status": "triggered",
        "incident_key": ID,
        "created_at": T0,
        "service": {"id": "P1"},
        "assignments": [{"assignee": DANA}, {"assignee": {"id": "P3", "summary": "Kim"}}],
    }
    return resources.Incident.model_validate({**base, **changes})


def one(**changes: Any) -> resources.Alert:
    base = {"id": "A1", "status": "triggered", "alert_key": ID, "created_at": T0}
    return resources.Alert.model_validate({**base, **changes})


def entry(type_: str, agent: Any = None, at: datetime = LATER) -> resources.LogEntry:
    return resources.LogEntry.model_validate({"id": "R", "type": type_, "created_at": at, "agent": agent})


ACKNOWLEDGED = {"status": "acknowledged", "acknowledgements": [{"at": LATER, "acknowledger": DANA}]}
MOVED = {"incident_key": "another"}


@pytest.mark.parametrize(
    ("incident", "alert", "log", "expected"),
    [
        pytest.param(there(), one(), [], {}, id="open"),
        pytest.param(there(status="resolved"), one(), [], {"open": False}, id="its incident is resolved"),
        pytest.param(there(), one(status="resolved"), [], {"open": False}, id="the alert alone is resolved"),
        pytest.param(
            there(**ACKNOWLEDGED), one(), [], {"acknowledged": Deed("Dana", LATER)}, id="acknowledged by a person"
        ),
        pytest.param(
            there(**{**ACKNOWLEDGED, "acknowledgements": [{"acknowledger": DANA}], "last_status_change_at": LATER}),
            one(),
            [],
            {"acknowledged": Deed("Dana", LATER)},
            id="the moment is that of its status",
        ),
        pytest.param(
            there(status="acknowledged", acknowledgements=[{"at": LATER, "acknowledger": MACHINE}]),
            one(),
            [],
            {},
            id="acknowledged by an event",
        ),
        pytest.param(
            there(**{**ACKNOWLEDGED, "status": "triggered"}), one(), [], {}, id="the acknowledgement timed out"
        ),
        pytest.param(
            there(status="resolved"),
            one(status="resolved"),
            [entry("annotate_log_entry", DANA), entry("resolve_log_entry", DANA)],
            {"open": False, "resolved": Deed("Dana", LATER)},
            id="resolved by a person",
        ),
        pytest.param(
            there(status="resolved"),
            one(status="resolved"),
            [entry("resolve_log_entry", MACHINE), entry("resolve_log_entry", DANA, T0)],
            {"open": False},
            id="resolved by an event, after a person did before",
        ),
        pytest.param(
            there(status="resolved"),
            one(status="resolved"),
            [entry("resolve_log_entry")],
            {"open": False},
            id="resolved by nobody",
        ),
        pytest.param(
            there(**MOVED),
            one(),
            [entry("merge_log_entry", DANA)],
            {"merged": Deed("Dana", LATER, "db is down")},
            id="merged by a person",
        ),
        pytest.param(there(**MOVED), one(), [], {}, id="grouped by PagerDuty"),
        pytest.param(
            there(incident_key=None), one(), [entry("merge_log_entry", DANA)], {}, id="whose incident it is is not told"
        ),
        pytest.param(there(), one(), [entry("merge_log_entry", DANA)], {}, id="another was merged into ours"),
        pytest.param(
            there(),
            one(),
            [entry("assign_log_entry", MACHINE), entry("delegate_log_entry", DANA, T0)],
            {"reassigned": Deed("Dana", T0, "Dana, Kim")},
            id="assigned by a person, then by the policy",
        ),
        pytest.param(there(), one(), [entry("assign_log_entry", MACHINE)], {}, id="assigned by the policy"),
        pytest.param(there(), one(service={"id": "P7"}), [], {"service": "P7"}, id="an alert of another service"),
    ],
)
def test_what_an_alert_says(
    incident: resources.Incident, alert: resources.Alert, log: list[resources.LogEntry], expected: dict[str, Any]
) -> None:
    found = held(incident, alert, log)
    base = {"service": "P1", "open": True, "acknowledged": None, "resolved": None, "merged": None, "reassigned": None}
    assert {name: getattr(found, name) for name in base} == {**base, **expected}
    assert (found.key, found.incident) == (ID, "Q1")


def test_an_incident_with_one_alert_is_that_alert() -> None:
    assert alone(there(**ACKNOWLEDGED)) == held(there(**ACKNOWLEDGED), one(), [])


def test_services_by_routing_key_and_those_that_open_nothing() -> None:
    services = [
        resources.Service.model_validate(given)
        for given in (
            {"id": "P1", "name": "a", "integrations": [{"id": "I1", "integration_key": "k1"}, {"id": "I2"}]},
            {"id": "P2", "name": "b", "status": "disabled"},
            {"id": "P3", "name": "c", "status": "active"},
        )
    ]
    window = resources.MaintenanceWindow.model_validate(
        {"id": "W", "start_time": T0, "end_time": LATER, "services": [{"id": "P3"}]}
    )
    assert routing_keys(services) == {"k1": "P1"}
    assert silent(services, [window]) == {"P2", "P3"}


def test_a_difference_is_shown_with_who_did_it() -> None:
    found = Found.of(Difference(Kind.MERGED, ID, ID, 3, "Q1", "P1", Deed("Dana", T0), "db is down"), Outcome.SEEN)
    assert (found.by, found.there, found.title) == ("Dana", "Q1", "db is down")
    assert Found.of(Difference(Kind.MISSING, ID, ID), Outcome.LEFT).by == ""
