"""When the reconciler looks, what it asks, and what it does about an outside that does not answer. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamproc.core.errors import Defect, Rejected, Transient, Unusable
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation
from streamproc.events.incident import Incident as Told
from streamproc.events.incident import IncidentChange, Member
from streamproc.ports import Entry, Overloaded
from streamproc.reconcile.compare import Kind
from streamproc.reconcile.ours import Claim
from streamproc.reconcile.report import Outcome, Reconciliation
from streamproc.runtime import asking
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.reconcile_metrics import ReconcileMetrics
from streamproc.runtime.reconciler import Reconciler
from streamproc.sinks.pagerduty.resources import (
    Alert,
    Incident,
    IncidentQuery,
    LogEntry,
    MaintenanceWindow,
    Service,
)
from streamproc.sinks.pagerduty.rest import RestClient
from streamproc.views import IncidentView, PipelineStatus, incident_view
from tests.support.sending import VirtualTiming, settle

T0 = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BEFORE = T0 - timedelta(hours=1)
ID, FOREIGN = "in:v1:prod:eu:0123456789abcdef", "in:v1:prod:us:0123456789abcdef"
SAID, TICKET = ("default", "key", ID), ("default", "ticket-key", ID)
CLAIM = Claim(ID, "paged", "db is down", 3, BEFORE, BEFORE, said=(SAID,), pinned=SAID)
SERVICES: list[dict[str, Any]] = [
    {"id": "P1", "name": "pages", "integrations": [{"id": "I1", "integration_key": "key"}]},
    {"id": "P2", "name": "tickets", "integrations": [{"id": "I2", "integration_key": "ticket-key"}]},
]


class Account(RestClient):
    """What PagerDuty would answer, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.first: Callable[[], None] | None = None
        self.held: dict[str, dict[str, Any]] = {}
        self.alerts_of: dict[str, list[dict[str, Any]]] = {}
        self.known: list[dict[str, Any]] = SERVICES

    def hold(self, name: str, key: str, *alerts: dict[str, Any], **changes: Any) -> None:
        base = {"id": name, "incident_number": 1, "status": "triggered", "incident_key": key, "created_at": BEFORE}
        self.held[name] = {**base, "service": {"id": "P1"}, "alert_counts": {"all": len(alerts) or 1}, **changes}
        one = {"id": "A", "status": "triggered", "alert_key": key, "created_at": BEFORE, "service": {"id": "P1"}}
        self.alerts_of[name] = [{**one, **given} for given in (alerts or ({},))]

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if len(self.asked) == 1 and self.first is not None:
            self.first()
        if self.fails is not None:
            raise self.fails

    async def services(self) -> tuple[Service, ...]:
        self._note("services")
        return tuple(Service.model_validate(one) for one in self.known)

    async def maintenance_windows(self) -> tuple[MaintenanceWindow, ...]:
        return ()

    async def incidents(self, query: IncidentQuery) -> AsyncIterator[Incident]:
        self._note(f"incidents {query.incident_key or ','.join(query.service_ids) or 'all'}")
        for name, one in self.held.items():
            keys = {alert["alert_key"] for alert in self.alerts_of[name]}
            if query.incident_key in keys or (not query.incident_key and one["status"] in query.statuses):
                yield Incident.model_validate(one)

    async def alerts(self, incident_id: str) -> tuple[Alert, ...]:
        self._note(f"alerts {incident_id}")
        return tuple(Alert.model_validate(one) for one in self.alerts_of[incident_id])

    async def log_entries(self, incident_id: str) -> tuple[LogEntry, ...]:
        self._note(f"log {incident_id}")
        return ()


class Here:
    """What is known here, and what was appended."""

    def __init__(self) -> None:
        self.ready, self.armed = True, True
        self.known: dict[str, Claim] = {ID: CLAIM}
        self.entries: list[Entry] = []
        self.full: Exception | None = None
        self.remembered: IncidentView | None = None

    def status(self) -> PipelineStatus:
        return PipelineStatus(
            ready=self.ready,
            why_not="",
            armed=self.armed,
            open_incidents=0,
            paged_incidents=0,
            waiting_to_send=0,
            dead_letters=0,
            nodes=(),
            decisions={},
        )

    def claims(self) -> dict[str, Claim]:
        return dict(self.known)

    def incident(self, incident_id: str) -> IncidentView | None:
        return self.remembered

    async def append(self, entries: Sequence[Entry]) -> None:
        if self.full is not None:
            raise self.full
        self.entries += entries


class Timing(VirtualTiming):
    """Knows whether somebody waits for time to pass."""

    waits = 0

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        self.waits += 1
        try:
            await super().wait(event, seconds)
        finally:
            self.waits -= 1

    async def resting(self) -> None:
        """Return once somebody waits: the threads of a look are back."""
        await settle()
        while not self.waits:  # noqa: ASYNC110  what it waits for happens in threads
            await asyncio.sleep(0.001)
        await settle()


class World:
    def __init__(self, destinations: dict[str, str] | None = None) -> None:
        self.account, self.here, self.clock = Account(), Here(), ManualClock(T0)
        self.timing = Timing(self.clock)
        self.registry = CollectorRegistry()
        self.account.hold("Q1", ID)
        self.reconciler = Reconciler(
            self.account,
            self.here,
            self.here,
            self.clock,
            destinations if destinations is not None else {"key": "default"},
            ReconcileMetrics(self.registry),
            timing=self.timing,
        )

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"streamproc_reconcile_{name}", labels)

    async def look(self, **how: Any) -> Reconciliation:
        return await self.reconciler.look(**how)

    @property
    def looks(self) -> int:
        return self.account.asked.count("services")

    async def after(self, seconds: float) -> int:
        """Let time pass; return how many looks were made."""
        before = self.looks
        await self.timing.advance(seconds)
        await self.timing.resting()
        return self.looks - before


@asynccontextmanager
async def runs(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.reconciler.run())
    await world.timing.resting()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_looks_at_once_and_then_every_five_minutes() -> None:
    world = World()
    async with runs(world):
        assert world.looks == 1
        assert await world.after(299) == 0
        assert await world.after(1) == 1
    assert world.value("looks_total", result="done") == 2
    assert world.reconciler.status().last is not None


async def test_what_differs_is_looked_at_again_soon() -> None:
    world = World()
    world.account.held.clear()
    async with runs(world):
        assert world.here.entries == []
        assert await world.after(119) == 0
        assert await world.after(1) == 1
        assert [entry.topic for entry in world.here.entries] == ["feedback"]
        assert await world.after(299) == 0
    assert world.value("total", kind="missing", outcome="seen") == 1
    assert world.value("total", kind="missing", outcome="repaired") == 1
    assert world.value("differences", kind="missing") == 1


async def test_looks_when_pagerduty_answers_again_but_not_without_end() -> None:
    world = World()
    async with runs(world):
        world.reconciler.look_soon()
        assert await world.after(9) == 0
        assert await world.after(1) == 1
        assert await world.after(60) == 0
        world.reconciler.look_soon()
        assert await world.after(0.001) == 1


@pytest.mark.parametrize(
    ("error", "result", "pause"),
    [
        pytest.param(Transient("away"), "unanswered", 300, id="away"),
        pytest.param(Transient("429", 900.0), "unanswered", 900, id="asked to wait"),
        pytest.param(Unusable("no right"), "unusable", 300, id="a wrong key"),
        pytest.param(Rejected("refused", "never"), "refused", 300, id="refused"),
    ],
)
async def test_an_error_is_said_once_and_tried_again(error: Exception, result: str, pause: int) -> None:
    world = World()
    world.account.fails = error
    with capture_logs() as logs:
        async with runs(world):
            assert await world.after(pause - 1) == 0
            assert await world.after(1) == 1
            assert world.reconciler.status().error == str(error)
            world.account.fails = None
            assert await world.after(pause) == 1
            assert world.reconciler.status().error == ""
    assert len(logs) == 1
    assert world.value("looks_total", result=result) == 2


async def test_before_the_pipeline_is_ready_nothing_is_asked() -> None:
    world = World()
    world.here.ready = False
    async with runs(world):
        assert await world.after(9) == 0
        world.here.ready = True
        assert await world.after(1) == 1


async def test_the_age_is_that_of_the_last_look_that_succeeded() -> None:
    world = World()
    world.clock.advance(timedelta(seconds=30))
    assert world.value("age_seconds") == 30
    await world.look()
    world.clock.advance(timedelta(seconds=5))
    assert world.value("age_seconds") == 5


async def test_what_the_log_does_not_take_is_mended_with_the_next_look() -> None:
    world = World()
    world.account.held.clear()
    world.here.full = Overloaded("full", retry_after=2)
    with pytest.raises(Overloaded):
        await world.look(at_once=True)
    world.here.full = None
    assert (await world.look(at_once=True)).repaired == {Kind.MISSING: 1}


async def test_a_defect_ends_it() -> None:
    world = World()
    world.account.fails = Defect("wrong")
    with pytest.raises(Defect):
        await world.reconciler.run()


async def test_a_dry_run_mends_nothing() -> None:
    world = World()
    world.here.armed = False
    world.account.held.clear()
    report = await world.look(at_once=True)
    assert [one.outcome for one in report.found] == [Outcome.LEFT]
    assert world.here.entries == []


async def test_one_look_proves_nothing() -> None:
    world = World()
    world.account.held.clear()
    for minutes, outcome in ((0, Outcome.SEEN), (1, Outcome.SEEN), (2, Outcome.REPAIRED), (3, Outcome.WAITING)):
        world.clock.set(T0 + timedelta(minutes=minutes))
        assert [one.outcome for one in (await world.look()).found] == [outcome]
    world.clock.set(T0 + timedelta(minutes=62))
    assert [one.outcome for one in (await world.look()).found] == [Outcome.REPAIRED]


async def test_what_was_gone_in_between_begins_anew() -> None:
    world = World()
    held = world.account.held.pop("Q1")
    await world.look()
    world.account.held["Q1"] = held
    world.clock.advance(timedelta(minutes=2))
    assert (await world.look()).found == ()
    world.account.held.clear()
    assert [one.outcome for one in (await world.look()).found] == [Outcome.SEEN]


async def test_what_was_said_while_it_asked_is_left_alone() -> None:
    world = World()
    later = T0 + timedelta(minutes=5)
    new = replace(CLAIM, incident_id=FOREIGN, said=(("default", "key", FOREIGN),), said_at=later)

    def meanwhile() -> None:
        world.clock.set(later)
        world.account.hold("Q1", ID, status="resolved")
        world.account.hold("Q2", FOREIGN)
        world.here.known = {ID: replace(CLAIM, state="closed", said=(), said_at=later), FOREIGN: new}

    world.account.first = meanwhile
    assert (await world.look(at_once=True)).found == ()


# -- what is asked ----------------------------------------------------------------------------------------------------


async def test_what_is_on_the_list_is_not_asked_for() -> None:
    world = World()
    await world.look()
    assert world.account.asked == ["services", "incidents P1"]


async def test_what_is_not_on_the_list_is_asked_for_by_its_key() -> None:
    world = World()
    world.account.held["Q1"]["status"] = "resolved"
    for number in range(2, 9):
        world.account.hold(f"Q{number}", ID, status="resolved", created_at=BEFORE - timedelta(days=number))
    await world.look()
    looked_into = [asked for asked in world.account.asked if asked.startswith("alerts")]
    assert looked_into == [f"alerts Q{number}" for number in range(1, asking.MOST_INCIDENTS + 1)]
    assert f"incidents {ID}" in world.account.asked


async def test_a_routing_key_that_pagerduty_does_not_show_means_the_whole_account() -> None:
    world = World({"key": "default", "orchestrated": "other"})
    await world.look()
    assert world.account.asked[1] == "incidents all"


async def test_too_many_services_mean_the_whole_account() -> None:
    keys = [f"key-{number}" for number in range(asking.MOST_SERVICES)]
    world = World({"key": "default", **dict.fromkeys(keys, "other")})
    world.account.known = SERVICES + [
        {"id": f"S-{key}", "name": key, "integrations": [{"id": key, "integration_key": key}]} for key in keys
    ]
    await world.look()
    assert world.account.asked[1] == "incidents all"


async def test_an_alert_of_ours_is_found_in_another_incident() -> None:
    world = World()
    world.account.hold("Q1", "deploy-17", {}, {"alert_key": ID}, {"alert_key": f"{ID}/2", "status": "resolved"})
    report = await world.look()
    assert (report.found, report.open_there) == ((), 1)
    assert world.account.asked[2:] == ["alerts Q1", "log Q1"]


async def test_an_incident_without_a_key_is_looked_into() -> None:
    world = World()
    world.account.hold("Q1", ID, incident_key=None)
    world.account.hold("Q2", "deploy-17", incident_key=None, service={"id": "P9"})
    assert (await world.look()).found == ()
    assert world.account.asked[2:] == ["alerts Q1"]


async def test_incidents_of_others_are_not_looked_into() -> None:
    world = World()
    world.account.hold("Q2", "deploy-17")
    world.account.hold("Q3", "deploy-18", {}, {}, service={"id": "P9"})
    await world.look()
    assert world.account.asked == ["services", "incidents P1"]


async def test_a_ticket_and_a_page_of_the_same_key_are_two() -> None:
    world = World({"key": "default", "ticket-key": "default"})
    world.here.known = {ID: replace(CLAIM, said=(SAID, TICKET))}
    report = await world.look()
    assert [one.kind for one in report.found] == [Kind.MISSING]
    assert world.account.asked[2:] == [f"incidents {ID}"]


async def test_whose_alert_it_is_cannot_be_told_by_its_form_alone() -> None:
    world = World()
    world.account.hold("Q2", FOREIGN)
    report = await world.look(at_once=True)
    assert [(one.kind, one.outcome) for one in report.found] == [(Kind.UNKNOWN, Outcome.LEFT)]
    assert world.here.entries == []


async def test_what_only_the_log_remembers_as_over_is_resolved() -> None:
    world = World()
    world.here.known = {}
    world.here.remembered = view("resolved")
    report = await world.look(at_once=True)
    assert [(one.kind, one.outcome) for one in report.found] == [(Kind.STRAY, Outcome.REPAIRED)]
    (entry,) = world.here.entries
    said = Escalation.decode(entry.value, entry.headers)
    assert (entry.topic, entry.key, said.seq, said.repair) == ("escalations", b"key", 0, True)


async def test_what_the_log_remembers_as_open_is_only_told() -> None:
    world = World()
    world.here.known = {}
    world.here.remembered = view("open")
    report = await world.look(at_once=True)
    assert [(one.kind, one.outcome) for one in report.found] == [(Kind.UNKNOWN, Outcome.LEFT)]


def view(status: str) -> IncidentView | None:
    root = Member(
        fingerprint="fp:v1:1",
        alert_id="a",
        name="Down",
        severity=Severity.ERROR,
        summary="db is down",
        starts_at=BEFORE,
    )
    told = {
        "incident_id": ID,
        "scope": "prod:eu",
        "change": IncidentChange.OPENED,
        "status": status,
        "title": "db is down",
        "severity": Severity.ERROR,
        "root": root,
        "opened_at": BEFORE,
        "changed_at": BEFORE,
        "open_count": 1,
        "total_count": 1,
    }
    return incident_view([Told.model_validate(told)], [])
