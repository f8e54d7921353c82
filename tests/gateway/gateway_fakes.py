"""An inlet, a desk and a client for the tests of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from streamproc.core.event import DeadLetter, Why
from streamproc.events.alert import Link, Severity
from streamproc.events.escalation import Page, PageAction, Verdict
from streamproc.events.incident import (
    Action,
    Classification,
    Context,
    Decision,
    Incident,
    IncidentChange,
    Member,
)
from streamproc.gateway.app import build
from streamproc.gateway.config import GatewayConfig
from streamproc.ports import Entry
from streamproc.views import IncidentSummary, IncidentView, NodeStatus, PipelineStatus, incident_view

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ALERT = b'{"name": "DiskFull", "status": "firing"}'
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
OPEN_ID = "in:v1:prod:eu-1:00000000000000aa"
QUOTED_ID = "in:v1:a%2Fb:eu-1:00000000000000bb"
SHUT_ID = "in:v1:prod:eu-1:00000000000000cc"


class FakeInlet:
    """Keeps what is appended; on demand it fails, or holds everybody until released."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.fails: Exception | None = None
        self.entered = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()
        self.waiting = 0

    async def append(self, entries: Sequence[Entry]) -> None:
        self.entered.set()
        self.waiting += 1
        await self.released.wait()
        self.waiting -= 1
        if self.fails is not None:
            raise self.fails
        self.entries.extend(entries)


class FakeDesk:
    """Shows fixed incidents and dead letters."""

    def __init__(self) -> None:
        self.stands = STATUS
        self.fails: Exception | None = None
        self.shown = [incident(OPEN_ID), incident(QUOTED_ID, muted=True), incident(SHUT_ID, status="resolved")]
        self.pages: list[Page] = [page(Verdict.DELIVERED, 202), page(Verdict.AGAIN, None)]
        self.letters = [
            letter(offset=7, value=b'{"name": "' + b"x" * 500 + b'"}'),
            letter(offset=3, value=b"\xff\xfe\x00"),
            letter(topic="", now=None),
        ]

    def status(self) -> PipelineStatus:
        if self.fails is not None:
            raise self.fails
        return self.stands

    def incidents(self, status: Literal["open", "resolved", "all"], limit: int, before: str) -> list[IncidentSummary]:
        found = [one for one in self.shown if status in ("all", one.status)]
        ids = [one.incident_id for one in found]
        after = ids.index(before) + 1 if before else 0
        return [IncidentSummary.of(one) for one in found[after : after + limit]]

    def incident(self, incident_id: str) -> IncidentView | None:
        return incident_view([one for one in self.shown if one.incident_id == incident_id], self.pages)

    def dead_letters(self, limit: int, before: str) -> list[DeadLetter]:
        ids = [one.letter_id for one in self.letters]
        after = ids.index(before) + 1 if before else 0
        return self.letters[after : after + limit]

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        return next((one for one in self.letters if one.letter_id == letter_id), None)


def member(**given: Any) -> Member:
    return Member(
        **{
            "fingerprint": "fp:v1:0a",
            "alert_id": "a",
            "name": "HighErrorRate",
            "severity": Severity.CRITICAL,
            "summary": HOSTILE,
            "service": "checkout",
            "resource": "pod-1",
            "starts_at": NOW - timedelta(minutes=5),
            "why": "opened",
            **given,
        }
    )


def incident(incident_id: str, **given: Any) -> Incident:
    why = Why(stage="correlate", reason="opened", now=NOW, origin="episodes/0/4", figures={"scope": HOSTILE})
    return Incident(
        **{
            "incident_id": incident_id,
            "scope": "prod:eu-1",
            "change": IncidentChange.OPENED,
            "status": "open",
            "title": HOSTILE,
            "severity": Severity.CRITICAL,
            "service": "checkout",
            "services": ("checkout", "web"),
            "root": member(),
            "opened_at": NOW - timedelta(minutes=5),
            "resolved_at": NOW if given.get("status") == "resolved" else None,
            "changed_at": NOW - timedelta(seconds=5),
            "open_count": 2,
            "total_count": 40,
            "joined": (member(), member(fingerprint="fp:v1:0b", muted_by="silence-1")),
            "context": CONTEXT,
            "classification": Classification(category="application", urgency="high", p_page=0.9, abstain=False),
            "decision": Decision(
                action=Action.PAGE, reason="severity", destination="team", dry_run=True, acknowledged_by=HOSTILE
            ),
            "trail": (why,),
            **given,
        }
    )


def page(verdict: Verdict, status: int | None) -> Page:
    return Page(
        incident_id=OPEN_ID,
        destination="team",
        routing_key_hint="0a0a",
        dedup_key=OPEN_ID,
        action=PageAction.TRIGGER,
        seq=1,
        verdict=verdict,
        status=status,
        message=HOSTILE,
        decided_at=NOW,
        sent_at=NOW,
        summary=HOSTILE,
    )


def letter(**given: Any) -> DeadLetter:
    return DeadLetter(
        **{
            "reason": "wrong_shape",
            "detail": HOSTILE,
            "node": "normalise",
            "topic": "alerts.raw",
            "partition": 0,
            "offset": 1,
            "now": NOW,
            "headers": {"type": "raw-alert.v1", "source": "generic", "now": NOW.isoformat()},
            **given,
        }
    )


CONTEXT = Context(
    known=True,
    owner=HOSTILE,
    tier=1,
    impact="Customers cannot pay",
    runbook="https://runbooks.example.com/checkout",
    dashboards=(Link(href="javascript:alert(1)", text="bad"), Link(href="https://graphs.example.com/d/1", text="good")),
    depends_on=("payments",),
    dependants=("web",),
)
STATUS = PipelineStatus(
    ready=True,
    why_not="",
    armed=True,
    open_incidents=2,
    paged_incidents=1,
    waiting_to_send=0,
    dead_letters=3,
    nodes=(
        NodeStatus(node="decide", partition=0, lag=0, rows=12, now=NOW),
        NodeStatus(node="learn", partition=0, lag=4, rows=0, now=None),
    ),
    decisions={"correlate/opened": 3, "deduplicate/opened": 4, "deduplicate/repeat": 90},
)


class Stand:
    """A gateway between a fake inlet and a fake desk, and a client that speaks to it."""

    desk_type: type[FakeDesk] = FakeDesk

    def __init__(self, **settings: Any) -> None:
        self.inlet = FakeInlet()
        self.desk = self.desk_type()
        self.registry = CollectorRegistry()
        self.app: FastAPI = build(GatewayConfig(**settings), self.inlet, self.desk, self.registry, lambda: NOW)

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")

    async def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.request(method, path, **request)

    async def post(self, path: str, content: Any = b"", **headers: str) -> httpx.Response:
        """Post a body; `content_type` becomes Content-Type and so on."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.send("POST", path, content=content, headers=named)

    async def get(self, path: str, **request: Any) -> httpx.Response:
        return await self.send("GET", path, **request)

    def count(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric; None where there is no such series."""
        return self.registry.get_sample_value(name, labels)


def reason_of(answer: httpx.Response) -> str:
    """Return the reason of a refusal, having checked its shape."""
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"reason", "message", "mend"}
    assert error["message"]
    assert error["mend"]
    return str(error["reason"])
