"""The emulator over ASGI: deduplication, responders, faults, limits, webhooks, the record."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from streamproc.core.errors import Defect, Unusable
from streamproc.emulator.app import build
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.emulator import Emulator

KEY = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
HOOK = "http://gateway.test/v1/feedback/pagerduty"


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Gateway:
    """Takes webhooks; answers with the given statuses in turn, then 202."""

    def __init__(self, *statuses: int | Exception) -> None:
        self.statuses = list(statuses)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if self.statuses else 202
        if isinstance(status, Exception):
            raise status
        return httpx.Response(status)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(request.content)["event"] for request in self.requests]


class Desk:
    """Posts to the emulator and looks at it."""

    def __init__(self, emulator: Emulator, http: httpx.AsyncClient, clock: Clock) -> None:
        self.emulator, self.http, self.clock = emulator, http, clock

    async def post(self, action: str, dedup_key: str | None = "k", key: str = KEY, **given: Any) -> httpx.Response:
        event: dict[str, Any] = {"routing_key": key, "event_action": action, **given}
        if dedup_key is not None:
            event["dedup_key"] = dedup_key
        if action == "trigger" and "payload" not in given:
            event["payload"] = {"summary": "disk full", "source": "db-1", "severity": "critical"}
        return await self.http.post("/v2/enqueue", json=event)

    async def look(self, what: str) -> Any:
        return (await self.http.get(f"/_emulator/{what}")).raise_for_status().json()

    async def act(self, deed: str, number: int = 1, **given: str) -> httpx.Response:
        return await self.http.post(f"/_emulator/incidents/Q{number:013d}/{deed}", json=given)

    async def effects(self) -> list[str | None]:
        return [taken["effect"] for taken in await self.look("requests")]


@asynccontextmanager
async def desk(hook: Callable[[httpx.Request], httpx.Response] | None = None, **config: Any) -> AsyncIterator[Desk]:
    clock = Clock()
    settings = EmulatorConfig.model_validate({"webhook_backoff": 0.0, "webhook_secret": "hush", **config})
    transport = httpx.MockTransport(hook) if hook else None
    app = build(settings, clock=clock, webhook_transport=transport)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://emulator.test") as http,
    ):
        yield Desk(app.state.emulator, http, clock)


async def test_an_accepted_event_is_answered_as_pagerduty_does() -> None:
    async with desk() as pd:
        answer = await pd.post("trigger")
    assert answer.status_code == 202
    assert answer.json() == {"status": "success", "message": "Event processed", "dedup_key": "k"}


async def test_a_refused_event_is_answered_as_pagerduty_does() -> None:
    async with desk() as pd:
        answer = await pd.post("trigger", key="nope")
        requests = await pd.look("requests")
    assert answer.status_code == 400
    errors = ["Length of 'routing_key' is incorrect (should be 32 characters)"]
    assert answer.json() == {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
    assert [(taken["status"], taken["errors"], taken["effect"]) for taken in requests] == [(400, errors, None)]


async def test_unreadable_bodies_are_kept() -> None:
    async with desk() as pd:
        await pd.http.post("/v2/enqueue", content=b"not json", headers={"Content-Type": "application/json"})
        assert [taken["raw"] for taken in await pd.look("requests")] == ["not json"]


@pytest.mark.parametrize(
    ("steps", "effects", "statuses"),
    [
        pytest.param(
            [("trigger", KEY), ("trigger", KEY), ("resolve", KEY)],
            ["opened", "deduplicated", "resolved"],
            ["resolved"],
            id="repeats join the open alert",
        ),
        pytest.param(
            [("trigger", KEY), ("resolve", KEY), ("trigger", KEY)],
            ["opened", "resolved", "opened"],
            ["resolved", "triggered"],
            id="a trigger after the resolve opens anew",
        ),
        pytest.param(
            [("trigger", KEY), ("trigger", OTHER), ("resolve", OTHER)],
            ["opened", "opened", "resolved"],
            ["triggered", "resolved"],
            id="another routing key is another alert",
        ),
        pytest.param(
            [("acknowledge", KEY), ("resolve", KEY), ("trigger", KEY), ("resolve", OTHER)],
            ["dropped", "dropped", "opened", "dropped"],
            ["triggered"],
            id="nothing to acknowledge or resolve",
        ),
        pytest.param(
            [("trigger", KEY), ("acknowledge", KEY), ("acknowledge", KEY), ("trigger", KEY)],
            ["opened", "acknowledged", "unchanged", "deduplicated"],
            ["acknowledged"],
            id="a trigger leaves the acknowledge alone",
        ),
    ],
)
async def test_deduplication(steps: list[tuple[str, str]], effects: list[str], statuses: list[str]) -> None:
    async with desk() as pd:
        for action, key in steps:
            assert (await pd.post(action, key=key)).status_code == 202
        assert await pd.effects() == effects
        assert [incident["status"] for incident in await pd.look("incidents")] == statuses
        assert [alert["status"] for alert in await pd.look("alerts")] == statuses


async def test_a_trigger_without_dedup_key_is_given_one() -> None:
    async with desk() as pd:
        keys = {(await pd.post("trigger", None)).json()["dedup_key"] for _ in range(2)}
        assert len(keys) == 2
        assert {incident["incident_key"] for incident in await pd.look("incidents")} == keys


async def test_a_repeat_updates_the_alert() -> None:
    async with desk() as pd:
        await pd.post("trigger")
        await pd.post("trigger", payload={"summary": "worse", "source": "db-1", "severity": "warning"})
        (alert,) = await pd.look("alerts")
    assert (alert["triggers"], alert["summary"], alert["severity"]) == (2, "worse", "warning")


async def test_urgency_follows_severity() -> None:
    async with desk() as pd:
        for severity in ("critical", "error", "warning", "info"):
            await pd.post("trigger", severity, payload={"summary": "s", "source": "h", "severity": severity})
        assert [incident["urgency"] for incident in await pd.look("incidents")] == ["high", "high", "low", "low"]


async def test_change_events_notify_nobody() -> None:
    event = {"routing_key": KEY, "payload": {"summary": "deploy"}}
    async with desk() as pd:
        answer = await pd.http.post("/v2/change/enqueue", json=event)
        assert (answer.status_code, await pd.look("changes")) == (202, [event])
        assert "dedup_key" not in answer.json()
        assert (await pd.look("incidents"), await pd.effects()) == ([], ["change"])
        assert [taken["action"] for taken in await pd.look("requests")] == ["change"]


@pytest.mark.parametrize(
    ("deeds", "status", "field"),
    [
        pytest.param([("acknowledge", "")], "acknowledged", {}, id="acknowledge"),
        pytest.param([("acknowledge", ""), ("unacknowledge", "")], "triggered", {}, id="unacknowledge"),
        pytest.param([("resolve", "")], "resolved", {}, id="resolve"),
        pytest.param([("resolve", ""), ("reopen", "")], "triggered", {}, id="reopen"),
        pytest.param([("annotate", "looking")], "triggered", {}, id="annotate"),
        pytest.param([("title", "disk full on db")], "triggered", {"title": "disk full on db"}, id="title"),
        pytest.param([("level", "2")], "triggered", {"level": 2}, id="escalation level"),
        pytest.param([("escalate", "Ann")], "triggered", {"assignee": "Ann"}, id="escalate"),
        pytest.param([("reassign", "Bo")], "triggered", {"assignee": "Bo"}, id="reassign"),
        pytest.param([("priority", "P1")], "triggered", {"priority": "P1"}, id="priority"),
        pytest.param([("urgency", "low")], "triggered", {"urgency": "low"}, id="urgency"),
    ],
)
async def test_responders(deeds: list[tuple[str, str]], status: str, field: dict[str, Any]) -> None:
    gateway = Gateway()
    async with desk(gateway, webhook_url=HOOK) as pd:
        await pd.post("trigger")
        for deed, value in deeds:
            answer = await pd.act(deed, by="Ann", value=value)
            assert answer.status_code == 200
        assert answer.json()["status"] == status
        assert {name: answer.json()[name] for name in field} == field
        await pd.emulator.webhooks.drain()
    assert len(gateway.events) == 1 + len(deeds)
    assert gateway.events[-1]["agent"]["summary"] == "Ann"


@pytest.mark.parametrize(
    ("deeds", "code"),
    [
        pytest.param(["reopen"], 409, id="reopen what is open"),
        pytest.param(["resolve", "acknowledge"], 409, id="acknowledge what is resolved"),
        pytest.param(["sing"], 404, id="unknown deed"),
    ],
)
async def test_impossible_deeds(deeds: list[str], code: int) -> None:
    async with desk() as pd:
        await pd.post("trigger")
        for deed in deeds:
            answer = await pd.act(deed)
        assert answer.status_code == code
        assert answer.json()["detail"]


async def test_an_unknown_incident_is_not_found() -> None:
    async with desk() as pd:
        assert (await pd.http.post("/_emulator/incidents/Q9/resolve")).status_code == 404


async def test_a_person_s_resolve_ends_deduplication() -> None:
    async with desk() as pd:
        await pd.post("trigger")
        await pd.act("resolve")
        await pd.post("trigger")
        assert await pd.effects() == ["opened", "opened"]
        assert (await pd.act("reopen")).status_code == 409
        await pd.post("resolve")
        assert (await pd.act("reopen")).status_code == 200
        await pd.post("trigger")
        assert await pd.effects() == ["opened", "opened", "resolved", "deduplicated"]


async def test_webhooks_are_signed_and_shaped_like_pagerduty_s() -> None:
    gateway = Gateway()
    async with desk(gateway, webhook_url=HOOK) as pd:
        await pd.post("trigger", client="streamproc")
        await pd.act("priority", value="P1")
        await pd.act("annotate", value="looking")
        await pd.post("acknowledge")
        await pd.post("resolve")
        await pd.post("resolve")
        await pd.emulator.webhooks.drain()
    assert [event["event_type"] for event in gateway.events] == [
        "incident.triggered",
        "incident.priority_updated",
        "incident.annotated",
        "incident.acknowledged",
        "incident.resolved",
    ]
    triggered, prioritised, annotated = gateway.events[:3]
    assert (triggered["resource_type"], triggered["agent"]) == ("incident", None)
    assert triggered["client"] == {"name": "streamproc"}
    assert triggered["occurred_at"] == "2026-11-22T08:30:00.000Z"
    incident = triggered["data"]
    assert (incident["incident_key"], incident["status"], incident["number"]) == ("k", "triggered", 1)
    assert (incident["type"], incident["priority"], incident["urgency"]) == ("incident", None, "high")
    assert prioritised["data"]["priority"]["summary"] == "P1"
    note = annotated["data"]
    assert (note["type"], note["content"], note["incident"]["id"]) == ("incident_note", "looking", incident["id"])
    assert "incident_key" not in note
    for request in gateway.requests:
        mac = hmac.new(b"hush", request.content, hashlib.sha256).hexdigest()
        assert request.headers["x-pagerduty-signature"] == f"v1={mac}"
        assert request.headers["user-agent"] == "PagerDuty-Webhook/V3.0"
    assert len({request.headers["x-webhook-id"] for request in gateway.requests}) == 5


async def test_a_webhook_is_sent_again_under_the_same_id_and_later_ones_queue_behind() -> None:
    gateway = Gateway(500, httpx.ConnectError("down"), 429)
    async with desk(gateway, webhook_url=HOOK) as pd:
        await pd.post("trigger")
        await pd.act("acknowledge")
        await pd.emulator.webhooks.drain()
        deliveries = await pd.look("webhooks")
    assert [event["event_type"] for event in gateway.events] == ["incident.triggered"] * 4 + ["incident.acknowledged"]
    assert len({request.headers["x-webhook-id"] for request in gateway.requests[:4]}) == 1
    assert [(d["state"], d["attempts"], d["status"]) for d in deliveries] == [
        ("delivered", 4, 202),
        ("delivered", 1, 202),
    ]


@pytest.mark.parametrize(
    ("statuses", "attempts"),
    [pytest.param([401], 1, id="other 4xx"), pytest.param([500] * 3, 3, id="attempts used up")],
)
async def test_a_webhook_that_is_never_taken_is_dropped(statuses: list[int], attempts: int) -> None:
    async with desk(Gateway(*statuses), webhook_url=HOOK, webhook_attempts=3) as pd:
        await pd.post("trigger")
        await pd.emulator.webhooks.drain()
        (delivery,) = await pd.look("webhooks")
    assert (delivery["state"], delivery["attempts"]) == ("dropped", attempts)


async def test_closing_gives_up_webhooks() -> None:
    gateway = Gateway(*[500] * 50)
    async with desk(gateway, webhook_url=HOOK, webhook_backoff=60.0) as pd:
        await pd.post("trigger")
    assert len(gateway.requests) <= 1


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [
        pytest.param({"kind": "status_500"}, 500, None, id="500"),
        pytest.param({"kind": "status_429", "retry_after": "7"}, 429, "7", id="429 with Retry-After"),
        pytest.param({"kind": "status_500", "action": "trigger"}, 500, None, id="for this action"),
        pytest.param({"kind": "status_500", "routing_key": KEY}, 500, None, id="for this key"),
        pytest.param({"kind": "status_500", "action": "resolve"}, 202, None, id="for another action"),
        pytest.param({"kind": "status_500", "routing_key": OTHER}, 202, None, id="for another key"),
        pytest.param({"kind": "status_500", "probability": 0.0}, 202, None, id="never drawn"),
    ],
)
async def test_a_fault_that_answers(fault: dict[str, Any], status: int, retry_after: str | None) -> None:
    async with desk() as pd:
        assert (await pd.http.post("/_emulator/faults", json=fault)).status_code == 201
        answer = await pd.post("trigger")
        assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry_after)
        assert len(await pd.look("incidents")) == (status == 202)
        (taken,) = await pd.look("requests")
        assert (taken["status"], taken["fault"]) == (status, fault["kind"] if status != 202 else None)
        assert [f["hits"] for f in await pd.look("faults")] == [int(status != 202)]


async def test_a_fault_counts_down_and_is_cleared() -> None:
    async with desk() as pd:
        await pd.http.post("/_emulator/faults", json={"kind": "status_500", "count": 2})
        codes = [(await pd.post("trigger")).status_code for _ in range(3)]
        assert codes == [500, 500, 202]
        await pd.http.post("/_emulator/faults", json={"kind": "status_500"})
        await pd.http.delete("/_emulator/faults")
        assert (await pd.post("trigger")).status_code == 202


async def test_a_seeded_fault_repeats_its_draw() -> None:
    async def run() -> list[int]:
        async with desk() as pd:
            await pd.http.post("/_emulator/faults", json={"kind": "status_500", "probability": 0.5, "seed": 7})
            return [(await pd.post("trigger")).status_code for _ in range(20)]

    codes = await run()
    assert codes == await run()
    assert set(codes) == {202, 500}


async def test_an_unknown_fault_is_refused() -> None:
    async with desk() as pd:
        assert (await pd.http.post("/_emulator/faults", json={"kind": "fire"})).status_code == 422


async def test_dropping_needs_a_real_connection() -> None:
    async with desk() as pd:
        await pd.http.post("/_emulator/faults", json={"kind": "drop_before"})
        with pytest.raises(Defect, match="serve"):
            await pd.post("trigger")


async def test_the_rate_limit_is_per_key_and_slides() -> None:
    async with desk(rate_limit=2) as pd:
        assert (await pd.post("trigger")).status_code == 202
        pd.clock.now += timedelta(seconds=30)
        assert [(await pd.post("trigger")).status_code for _ in range(2)] == [202, 429]
        assert (await pd.post("trigger", key=OTHER)).status_code == 202
        pd.clock.now += timedelta(seconds=30)
        assert [(await pd.post("trigger")).status_code for _ in range(2)] == [202, 429]
        assert (await pd.look("requests"))[2]["status"] == 429


async def test_requests_are_listed_in_order_and_bounded() -> None:
    async with desk(keep_requests=2) as pd:
        for key in ("a", "b", "c"):
            await pd.post("trigger", key)
        assert [(taken["n"], taken["dedup_key"]) for taken in await pd.look("requests")] == [(2, "b"), (3, "c")]
        assert [taken["n"] for taken in await pd.look("requests?after=2")] == [3]


async def test_reset() -> None:
    async with desk(rate_limit=1) as pd:
        await pd.post("trigger")
        assert (await pd.http.delete("/_emulator/state")).status_code == 204
        assert [await pd.look(what) for what in ("requests", "alerts", "incidents", "changes", "faults")] == [[]] * 5
        assert (await pd.post("trigger")).status_code == 202
        assert await pd.effects() == ["opened"]


async def test_the_record_has_every_accepted_event_before_it_is_answered(tmp_path: Path) -> None:
    record = tmp_path / "taken.jsonl"
    async with desk(record=record) as pd:
        await pd.post("trigger", payload={"summary": "\u00e4", "source": "h", "severity": "info"})
        assert len(record.read_text(encoding="utf-8").splitlines()) == 1
        await pd.post("trigger", key="nope")
        await pd.post("resolve")
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert [(line["n"], line["action"], line["effect"]) for line in lines] == [
        (1, "trigger", "opened"),
        (3, "resolve", "resolved"),
    ]
    assert lines[0]["event"]["payload"]["summary"] == "\u00e4"


def test_a_record_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="cannot write the record"):
        build(EmulatorConfig(record=tmp_path))


async def test_the_page_stands_alone() -> None:
    async with desk() as pd:
        answer = await pd.http.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "Acknowledge" in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
