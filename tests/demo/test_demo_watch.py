from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from streamproc.core.event import DeadLetter, Scalar, Why
from streamproc.demo.figures import Process, Shown, percentile
from streamproc.demo.stage import Counted, Happened, Outlived
from streamproc.demo.telling import COUNTED_EVERY, Line, Verb
from streamproc.demo.watch import FOLDED_EVERY, OVER_AFTER, Watcher
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.emulator import Emulator
from streamproc.events.alert import Severity
from streamproc.events.escalation import Page, PageAction
from streamproc.events.escalation import Verdict as Sending
from streamproc.events.incident import Action, Decision, Incident, IncidentChange, Member
from streamproc.runtime.clock import ManualClock
from streamproc.views import IncidentSummary, IncidentView, NodeStatus, PipelineStatus, incident_view

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "in:v1:prod:eu:0123456789abcdef"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class FakeDesk:
    def __init__(self) -> None:
        self.changes: dict[str, list[Incident]] = {}
        self.pages: list[Page] = []
        self.letters: list[DeadLetter] = []
        self.decisions: dict[str, int] = {}
        self.asked: list[str] = []
        self.nodes: tuple[NodeStatus, ...] = ()

    def status(self) -> PipelineStatus:
        return PipelineStatus(
            ready=True,
            why_not="",
            armed=True,
            open_incidents=sum(changes[-1].status == "open" for changes in self.changes.values()),
            paged_incidents=0,
            waiting_to_send=0,
            dead_letters=len(self.letters),
            nodes=self.nodes,
            decisions=self.decisions,
        )

    def incidents(self, status: Literal["open", "resolved", "all"], limit: int, before: str) -> list[IncidentSummary]:
        return [IncidentSummary.of(changes[-1]) for changes in self.changes.values()]

    def incident(self, incident_id: str) -> IncidentView | None:
        self.asked.append(incident_id)
        return incident_view(
            self.changes[incident_id], [page for page in self.pages if page.incident_id == incident_id]
        )

    def dead_letters(self, limit: int, before: str) -> list[DeadLetter]:
        return self.letters[::-1][:limit]

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        return None

    def publish(self, reason: str, at: float, joined: tuple[Member, ...] = (), **changed: Any) -> None:
        state = changed.pop("state", "paged")
        figures: dict[str, Scalar] = {"severity": "critical", "state": state}
        decision = Decision(action=Action.PAGE, reason=reason, acknowledged_by=changed.pop("acknowledged_by", ""))
        fields: dict[str, Any] = {
            "incident_id": ID,
            "scope": "prod:eu",
            "change": IncidentChange.GREW,
            "status": "open",
            "title": "It hurts",
            "severity": Severity.CRITICAL,
            "service": "payments",
            "root": member("f0"),
            "opened_at": START,
            "changed_at": after(at),
            "open_count": 1,
            "total_count": 1,
            "joined": joined,
            "decision": decision,
            "trail": (
                Why(stage="normalise", reason="normalised", now=START, origin="alerts.raw/0/0"),
                Why(stage="escalate", reason=reason, now=after(at), origin="episodes/0/0", figures=figures),
            ),
        }
        incident = Incident(**{**fields, **changed})
        self.changes.setdefault(incident.incident_id, []).append(incident)

    def send(self, action: PageAction, at: float, verdict: Sending = Sending.DELIVERED) -> None:
        self.pages.append(
            Page(
                incident_id=ID,
                destination="default",
                routing_key_hint="0000",
                dedup_key=ID,
                action=action,
                seq=len(self.pages) + 1,
                verdict=verdict,
                decided_at=after(at),
                sent_at=after(at),
            )
        )


class FakeStage:
    runtime, url, site, again, stale, patience = "fakes", "", "", "", 0.0, 0.0

    def __init__(self, desk: FakeDesk) -> None:
        self.desk = desk
        self.outlived: Outlived | None = None
        self.happened: list[Happened] = []
        self.crew: tuple[Process, ...] = ()

    def decisions(self, status: PipelineStatus) -> dict[str, int]:
        return status.decisions

    def workers(self, status: PipelineStatus) -> tuple[Process, ...]:
        return self.crew

    def news(self) -> list[Happened]:
        news, self.happened = self.happened, []
        return news

    def failures(self) -> list[str]:
        return []

    def stopped(self) -> None:
        return None

    async def suffer(self) -> None:
        return None

    async def count(self) -> Counted:
        return Counted(0)


def member(fingerprint: str, why: str = "opened", service: str = "payments") -> Member:
    return Member(
        fingerprint=fingerprint,
        alert_id=fingerprint,
        name="Broken",
        severity=Severity.CRITICAL,
        summary=f"{fingerprint} is broken",
        service=service,
        starts_at=START,
        why=why,
    )


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    made = Emulator(EmulatorConfig(), lambda: after(1.5))
    yield made
    await made.aclose()


class Watching:
    def __init__(self, emulator: Emulator) -> None:
        self.desk = FakeDesk()
        self.clock = ManualClock(START)
        self.stage = FakeStage(self.desk)
        self.watcher = Watcher(self.stage, emulator, START, self.clock.now)

    def look(self, at: float) -> list[Line]:
        self.clock.set(after(at))
        return self.watcher.follow(self.watcher.read())


@pytest.fixture
def watching(emulator: Emulator) -> Watching:
    return Watching(emulator)


@pytest.mark.parametrize(
    ("reason", "changed", "verb", "words"),
    [
        pytest.param("severity", {}, Verb.PAGE, "critical: pages at once", id="a page"),
        pytest.param("severity", {"state": "ticketed"}, Verb.TICKET, "critical: no page, a ticket", id="a ticket"),
        pytest.param("below", {"state": "quiet"}, Verb.QUIET, "wakes nobody", id="nothing"),
        pytest.param("reopened", {"state": "held"}, Verb.HOLD, "back already: must stay 2 min", id="held"),
        pytest.param("acknowledged", {"acknowledged_by": "Ada"}, Verb.ACK, "by Ada", id="acknowledged"),
        pytest.param("acknowledged", {}, Verb.ACK, "by somebody", id="acknowledged by nobody known"),
        pytest.param("resolved", {"status": "resolved"}, Verb.CLOSE, "its alert is over", id="closed"),
        pytest.param(
            "resolved",
            {"status": "resolved", "total_count": 2000},
            Verb.CLOSE,
            "its 2,000 alerts are over",
            id="closed after many",
        ),
    ],
)
def test_a_decision_is_told_with_its_reason(
    watching: Watching, reason: str, changed: dict[str, Any], verb: Verb, words: str
) -> None:
    watching.desk.publish(reason, 1.0, **changed)
    line = Line(1.0, verb, "payments", words, f"escalate/{reason}", "It hurts")
    assert watching.look(1.2) == [line]
    assert watching.look(1.4) == []


@pytest.mark.parametrize("reason", ["said", "published", "feedback", "new_kind"])
def test_what_changes_nothing_for_people_is_not_told(watching: Watching, reason: str) -> None:
    watching.desk.publish(reason, 1.0)
    assert watching.look(1.2) == []


def test_the_same_decision_twice_in_a_row_is_told_once(watching: Watching) -> None:
    watching.desk.publish("worse", 1.0)
    watching.desk.publish("worse", 1.1)
    assert [line.words for line in watching.look(1.2)] == ["worse than was said"]


def test_few_that_join_are_named_and_crowds_are_counted(watching: Watching) -> None:
    watching.desk.publish("said", 1.0, (member("f0"), member("f1", "neighbour", "cart")))
    assert watching.look(1.0) == [
        Line(1.0, Verb.JOIN, "payments", "cart Broken", "correlate/neighbour", "f1 is broken")
    ]
    watching.desk.publish("said", 2.0, tuple(member(f"g{at}", "same_group") for at in range(5)))
    assert watching.look(2.0) == [Line(2.0, Verb.JOIN, "payments", "5 more alerts", "correlate/same_group")]
    watching.desk.publish("said", 2.1, tuple(member(f"h{at}", "same_group") for at in range(5)))
    assert watching.look(2.1) == []
    later = 2.0 + COUNTED_EVERY.total_seconds()
    assert [line.words for line in watching.look(later)] == ["5 more alerts"]


def test_pages_and_updates_are_told_apart(watching: Watching) -> None:
    watching.desk.publish("said", 0.0)
    sent = (
        (PageAction.TRIGGER, Sending.DELIVERED, "PagerDuty pages default"),
        (PageAction.TRIGGER, Sending.DELIVERED, "PagerDuty updated, no new page"),
        (PageAction.RESOLVE, Sending.DELIVERED, "resolved in PagerDuty"),
        (PageAction.TRIGGER, Sending.DELIVERED, "PagerDuty pages default"),
        (PageAction.TRIGGER, Sending.REFUSED, "trigger refused"),
        (PageAction.ACKNOWLEDGE, Sending.DELIVERED, "acknowledge delivered"),
    )
    for at, (action, verdict, words) in enumerate(sent):
        watching.desk.send(action, float(at), verdict)
        assert [line.words for line in watching.look(float(at))] == [words]


def test_dead_letters_are_told_once_oldest_first(watching: Watching) -> None:
    for number in (1, 2):
        watching.desk.letters.append(
            DeadLetter(reason="wrong_type", detail=f"letter {number}", stage="normalise", now=after(number))
        )
    assert watching.look(3.0) == [
        Line(float(number), Verb.LETTER, "", f"letter {number}", "normalise/wrong_type") for number in (1, 2)
    ]
    assert watching.look(3.5) == []


def test_late_ones_are_told_at_once_and_repeats_now_and_then(watching: Watching) -> None:
    watching.desk.decisions = {"deduplicate/late": 2, "deduplicate/repeat": 1000, "deduplicate/resolved_again": 5}
    assert watching.look(1.0) == [Line(1.0, Verb.LATE, "", "2 overtaken by a newer one", "deduplicate/late")]
    told = watching.look(1.0 + FOLDED_EVERY)
    assert told == [Line(1.0 + FOLDED_EVERY, Verb.FOLD, "", "1,005 repeats say nothing new", "deduplicate/repeat")]


def test_an_incident_that_is_long_over_is_not_looked_at(watching: Watching) -> None:
    watching.desk.publish("resolved", 1.0, status="resolved")
    watching.look(1.2)
    watching.desk.asked.clear()
    watching.look(1.2 + OVER_AFTER.total_seconds())
    assert watching.desk.asked == []


def test_what_happens_to_workers_is_told_once(watching: Watching) -> None:
    watching.stage.happened = [Happened(after(1.0), "worker-1", "is killed")]
    watching.stage.crew = (Process("worker-1", "dead", well=False),)
    assert watching.look(1.2) == [Line(1.0, Verb.WORKER, "worker-1", "is killed")]
    assert watching.watcher.figures.workers == watching.stage.crew
    assert watching.look(1.4) == []


def trigger(dedup_key: str, summary: str) -> dict[str, Any]:
    return {
        "routing_key": "0" * 32,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "payload": {"summary": summary, "severity": "critical", "source": "payments"},
    }


def test_the_figures_are_those_of_the_pipeline_and_of_pagerduty(watching: Watching, emulator: Emulator) -> None:
    first = watching.watcher.figures
    assert (first.compression, first.open_alerts) == (None, 0)
    watching.look(0.0)
    watching.desk.publish("severity", 1.0, acknowledged_by="Ada")
    watching.desk.nodes = tuple(
        NodeStatus(node="decide", partition=part, lag=lag, rows=0, now=None) for part, lag in ((0, 2), (1, 3))
    )
    watching.desk.decisions = {"deduplicate/opened": 30, "deduplicate/repeat": 10, "deduplicate/expired": 7}
    emulator.take("alert", "/v2/enqueue", trigger("another", "older"), 202, None)
    emulator.take(
        "alert",
        "/v2/enqueue",
        {"routing_key": "0" * 32, "event_action": "resolve", "dedup_key": "another"},
        202,
        None,
    )
    emulator.take("alert", "/v2/enqueue", trigger(ID, "It hurts"), 202, None)
    watching.look(2.0)
    figures = watching.watcher.figures
    assert (figures.alerts, figures.repeats, figures.episodes, figures.unfolded) == (40, 10, 30, 5)
    assert (figures.rate, figures.pages, figures.requests, figures.compression) == (20.0, 2, 3, 20.0)
    assert figures.delays == (1.5,)
    assert figures.shown == (
        Shown("triggered", "critical", "It hurts", "Ada"),
        Shown("resolved", "critical", "older", ""),
    )
    watching.look(10.0)
    assert watching.watcher.figures.rate == 0.0


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        pytest.param([3.0], 95, 3.0, id="one value"),
        pytest.param([1.0, 2.0, 3.0], 50, 2.0, id="the middle one"),
        pytest.param([0.0, 10.0], 95, 9.5, id="between two"),
    ],
)
def test_percentiles(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)
