"""The emulator's REST API v2 over ASGI: what is asked, what is refused, and that webhooks tell of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from streamproc.emulator.app import build
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.directory import Directory, Policy, Schedule, Service, Window, identifier
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.webhooks import sign

KEY, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
FIRST, SECOND = "Q0000000000001", "Q0000000000002"
START = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
FROM = {"From": "responder-1@example.com"}
HOOK = "https://gateway.test/v1/feedback/pagerduty"


class Desk:
    """Opens incidents at the emulator, and asks its REST API."""

    def __init__(self, emulator: Emulator, http: httpx.AsyncClient) -> None:
        self.emulator, self.http, self.now = emulator, http, START

    async def open(self, dedup_key: str = "k", key: str = KEY, severity: str = "critical") -> None:
        payload = {"summary": f"{dedup_key} is down", "source": "db-1", "severity": severity}
        event = {"routing_key": key, "event_action": "trigger", "dedup_key": dedup_key, "payload": payload}
        assert (await self.http.post("/v2/enqueue", json=event)).status_code == 202

    async def resolve(self, dedup_key: str) -> None:
        event = {"routing_key": KEY, "event_action": "resolve", "dedup_key": dedup_key}
        assert (await self.http.post("/v2/enqueue", json=event)).status_code == 202

    async def get(self, path: str, **query: Any) -> Any:
        return (await self.http.get(path, params=query)).raise_for_status().json()

    async def put(self, path: str, body: Any) -> httpx.Response:
        return await self.http.put(path, json=body, headers=FROM)

    async def change(self, name: str = FIRST, **change: Any) -> httpx.Response:
        return await self.put(f"/incidents/{name}", {"incident": {"type": "incident_reference", **change}})

    async def numbers(self, **query: Any) -> list[int]:
        return [one["incident_number"] for one in (await self.get("/incidents", **query))["incidents"]]


class Gateway:
    """Takes webhooks with one status."""

    def __init__(self, status: int = 202) -> None:
        self.status = status
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.status)


@asynccontextmanager
async def desk(hook: Callable[[httpx.Request], httpx.Response] | None = None, **config: Any) -> AsyncIterator[Desk]:
    found: list[Desk] = []
    app = build(
        EmulatorConfig.model_validate({"webhook_backoff": 0.0, **config}),
        clock=lambda: found[0].now if found else START,
        webhook_transport=httpx.MockTransport(hook or Gateway()),
    )
    headers = {"Authorization": "Token token=key"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://emulator.test", headers=headers) as http,
    ):
        found.append(Desk(app.state.emulator, http))
        yield found[0]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param("Token token=key", 200, id="the key"),
        pytest.param("Token token=another", 401, id="another key"),
        pytest.param("Token token=", 401, id="no key"),
        pytest.param("Bearer key", 401, id="another scheme"),
        pytest.param("", 401, id="nothing"),
    ],
)
async def test_a_key_is_demanded(authorization: str, status: int) -> None:
    async with desk(api_key="key") as pd:
        answer = await pd.http.get("/users", headers={"Authorization": authorization})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "said"),
    [pytest.param({}, "'From' header", id="none"), pytest.param({"From": "x@y.z"}, "User Not Found", id="nobody's")],
)
async def test_who_writes_must_be_known(headers: dict[str, str], said: str) -> None:
    async with desk() as pd:
        await pd.open()
        answer = await pd.http.put(f"/incidents/{FIRST}", json={"incident": {}}, headers=headers)
    assert answer.status_code == 400
    assert said in answer.text


async def test_the_rate_limit_is_told_and_held() -> None:
    async with desk() as pd:
        assert (await pd.http.get("/users")).headers["ratelimit-limit"] == "960"
        await pd.http.put("/_emulator/rest-limit", json={"requests_per_minute": 2})
        last = await pd.http.get("/users")
        over = await pd.http.get("/users")
        other = await pd.http.get("/users", headers={"Authorization": "Token token=other"})
        pd.now += timedelta(seconds=60)
        again = await pd.http.get("/users")
        asked = await pd.get("/_emulator/rest-requests")
    assert last.headers["ratelimit-remaining"] == "0"
    assert (over.status_code, over.json()["error"]["code"], over.headers["ratelimit-reset"]) == (429, 2020, "60")
    assert (other.status_code, again.status_code) == (200, 200)
    assert [one["status"] for one in asked] == [200, 200, 429, 200, 200]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param({}, [1, 2, 3], id="all of the last month"),
        pytest.param({"incident_key": "b"}, [2], id="by key"),
        pytest.param({"statuses[]": ["triggered", "acknowledged"]}, [2, 3], id="open"),
        pytest.param({"statuses[]": "resolved"}, [1], id="resolved"),
        pytest.param({"service_ids[]": identifier("service", "Service of key ...3210")}, [3], id="by service"),
        pytest.param({"since": "2026-11-22T08:31:00Z"}, [2, 3], id="since"),
        pytest.param({"since": "2026-11-22T08:00:00", "until": "2026-11-22T08:30:30Z"}, [1], id="until"),
        pytest.param({"since": "2026-11-21T00:00:00Z", "until": "2026-11-22T00:00:00Z"}, [], id="before"),
        pytest.param({"sort_by": "created_at:desc"}, [3, 2, 1], id="the latest first"),
    ],
)
async def test_searches(query: dict[str, Any], found: list[int]) -> None:
    async with desk() as pd:
        for name, key in (("a", KEY), ("b", KEY), ("c", OTHER)):
            await pd.open(name, key)
            pd.now += timedelta(minutes=1)
        await pd.resolve("a")
        assert await pd.numbers(**query) == found


async def test_an_old_incident_is_found_only_when_all_are_asked_for() -> None:
    async with desk() as pd:
        await pd.open()
        pd.now += timedelta(days=40)
        assert await pd.numbers() == []
        assert await pd.numbers(date_range="all") == [1]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"limit": 101}, id="a page too large"),
        pytest.param({"limit": 0}, id="no page"),
        pytest.param({"limit": "x"}, id="no number"),
        pytest.param({"offset": -1}, id="before the beginning"),
        pytest.param({"offset": 9_901, "limit": 100}, id="over 10,000"),
        pytest.param({"statuses[]": "open"}, id="unknown status"),
        pytest.param({"sort_by": "title"}, id="unknown order"),
        pytest.param({"since": "yesterday"}, id="no time"),
        pytest.param({"since": "2026-01-01T00:00:00Z"}, id="over six months"),
    ],
)
async def test_searches_that_are_refused(query: dict[str, Any]) -> None:
    async with desk() as pd:
        answer = await pd.http.get("/incidents", params=query)
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"]


async def test_pages() -> None:
    async with desk() as pd:
        for name in "abc":
            await pd.open(name)
        first = await pd.get("/incidents", limit=2, total="true")
        last = await pd.get("/incidents", limit=2, offset=2)
    assert (len(first["incidents"]), first["more"], first["total"]) == (2, True, 3)
    assert (len(last["incidents"]), last["more"], last["total"]) == (1, False, None)


async def test_an_acknowledge_by_rest_is_told_like_any_other() -> None:
    gateway = Gateway()
    async with desk(gateway, webhook_url=HOOK, webhook_secret="hush") as pd:
        await pd.open()
        changed = (await pd.change(status="acknowledged")).raise_for_status().json()["incident"]
        await pd.emulator.webhooks.drain()
    assert changed["status"] == "acknowledged"
    assert changed["acknowledgements"][0]["acknowledger"]["summary"] == "Responder 1"
    assert gateway.requests[-1].headers["x-pagerduty-signature"] == sign("hush", gateway.requests[-1].content)
    assert b"incident.acknowledged" in gateway.requests[-1].content
    assert b"Responder 1" in gateway.requests[-1].content


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        pytest.param({"status": "resolved", "resolution": "done"}, "status", "resolved", id="resolve"),
        pytest.param({"title": "worse"}, "title", "worse", id="title"),
        pytest.param({"urgency": "low"}, "urgency", "low", id="urgency"),
        pytest.param({"escalation_level": 2}, "escalation_level", 2, id="escalation level"),
    ],
)
async def test_changes(change: dict[str, Any], field: str, value: object) -> None:
    async with desk() as pd:
        await pd.open()
        answer = (await pd.change(**change)).raise_for_status().json()["incident"]
        assert answer[field] == value
        assert (await pd.get(f"/incidents/{FIRST}"))["incident"] == answer


@pytest.mark.parametrize(
    ("change", "field", "name"),
    [
        pytest.param({"priority": {"id": identifier("priority", "P2")}}, "priority", "P2", id="priority"),
        pytest.param(
            {"escalation_policy": {"id": identifier("escalation_policy", "Default")}},
            "escalation_policy",
            "Default",
            id="policy",
        ),
    ],
)
async def test_changes_by_reference(change: dict[str, Any], field: str, name: str) -> None:
    async with desk() as pd:
        await pd.open()
        answer = (await pd.change(**change)).raise_for_status().json()["incident"]
        assert answer[field]["summary"] == name
        if field == "priority":
            assert (await pd.change(priority=None)).json()["incident"]["priority"] is None


async def test_reassignment() -> None:
    async with desk() as pd:
        await pd.open()
        answer = await pd.change(assignments=[{"assignee": {"id": identifier("user", "Responder 2")}}])
    assert answer.json()["incident"]["assignments"][0]["assignee"]["summary"] == "Responder 2"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"status": "triggered"}, id="back to triggered"),
        pytest.param({"title": " "}, id="empty title"),
        pytest.param({"urgency": "huge"}, id="unknown urgency"),
        pytest.param({"priority": {"id": "nope"}}, id="unknown priority"),
        pytest.param({"escalation_policy": "nope"}, id="unknown policy"),
        pytest.param({"escalation_level": 0}, id="no level"),
        pytest.param({"assignments": "nobody"}, id="assignments that are no list"),
        pytest.param({"assignments": ["nobody"]}, id="unknown user"),
        pytest.param({"assignments": [], "escalation_level": 2}, id="two ways of reassigning"),
        pytest.param({"colour": "red"}, id="unknown field"),
    ],
)
async def test_changes_that_are_refused_change_nothing(change: dict[str, Any]) -> None:
    async with desk() as pd:
        await pd.open()
        before = await pd.get(f"/incidents/{FIRST}")
        assert (await pd.change(**{"title": "new", **change})).status_code == 400
        assert await pd.get(f"/incidents/{FIRST}") == before


async def test_a_resolved_incident_takes_no_status_and_no_urgency() -> None:
    async with desk() as pd:
        await pd.open()
        await pd.resolve("k")
        assert "Incident Already Resolved" in (await pd.change(status="resolved")).text
        assert (await pd.change(urgency="low")).status_code == 400


async def test_many_are_changed_at_once() -> None:
    async with desk() as pd:
        await pd.open("a")
        await pd.open("b")
        asked = [{"id": name, "type": "incident_reference", "status": "resolved"} for name in (FIRST, SECOND)]
        answer = (await pd.put("/incidents", {"incidents": asked})).raise_for_status().json()
        assert [one["status"] for one in answer["incidents"]] == ["resolved", "resolved"]
        assert (await pd.put("/incidents", {"incidents": []})).status_code == 400
        assert (await pd.put("/incidents", {"incidents": [{"id": "Q9"}]})).status_code == 404


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(b"{", 400, id="no JSON"),
        pytest.param(b"[]", 400, id="no object"),
        pytest.param(b'{"incident": 1}', 400, id="no incident"),
    ],
)
async def test_bodies_that_are_refused(content: bytes, status: int) -> None:
    async with desk() as pd:
        await pd.open()
        answer = await pd.http.put(f"/incidents/{FIRST}", content=content, headers=FROM)
    assert answer.status_code == status


async def test_a_merge_moves_the_alerts_and_they_live_on_there() -> None:
    gateway = Gateway()
    async with desk(gateway, webhook_url=HOOK) as pd:
        await pd.open("a")
        await pd.open("b")
        sources = {"source_incidents": [{"id": SECOND, "type": "incident_reference"}]}
        (await pd.put(f"/incidents/{FIRST}/merge", sources)).raise_for_status()
        source = (await pd.get(f"/incidents/{SECOND}"))["incident"]
        assert await pd.numbers(incident_key="b") == [1]
        await pd.resolve("a")
        assert (await pd.get(f"/incidents/{FIRST}"))["incident"]["status"] == "triggered"
        open_alerts = (await pd.get(f"/incidents/{FIRST}/alerts", **{"statuses[]": "triggered"}))["alerts"]
        await pd.resolve("b")
        assert (await pd.get(f"/incidents/{FIRST}"))["incident"]["status"] == "resolved"
        await pd.emulator.webhooks.drain()
        assert (await pd.put(f"/incidents/{FIRST}/merge", sources)).status_code == 400
        assert (await pd.put(f"/incidents/{FIRST}/merge", {})).status_code == 400
        assert (await pd.http.post(f"/_emulator/incidents/{SECOND}/reopen")).status_code == 409
    assert (source["status"], source["resolve_reason"]["incident"]["id"]) == ("resolved", FIRST)
    assert [alert["alert_key"] for alert in open_alerts] == ["b"]
    assert sum(b'"incident.resolved"' in request.content for request in gateway.requests) == 2


async def test_alerts_are_resolved_and_moved() -> None:
    async with desk() as pd:
        await pd.open("a")
        await pd.open("b")
        path = f"/incidents/{SECOND}/alerts/A0000000000002"
        moved = {"alert": {"type": "alert", "incident": {"id": FIRST, "type": "incident_reference"}}}
        assert (await pd.put(path, moved)).json()["alert"]["incident"]["id"] == FIRST
        assert (await pd.put(path, moved)).status_code == 404
        there = f"/incidents/{FIRST}/alerts/A0000000000002"
        assert (await pd.put(there, {"alert": {"status": "triggered"}})).status_code == 400
        assert (await pd.put(there, {"alert": {"status": "resolved"}})).json()["alert"]["status"] == "resolved"
        assert (await pd.get(f"/incidents/{FIRST}"))["incident"]["alert_counts"] == {
            "all": 2,
            "triggered": 1,
            "resolved": 1,
        }
        last = f"/incidents/{FIRST}/alerts/A0000000000001"
        await pd.put(last, {"alert": {"status": "resolved"}})
        assert (await pd.get(f"/incidents/{FIRST}"))["incident"]["status"] == "resolved"
        await pd.open("c")
        gone = f"/incidents/{SECOND[:-1]}3/alerts/A0000000000003"
        assert (await pd.put(gone, moved)).status_code == 400


async def test_notes_and_the_log() -> None:
    async with desk() as pd:
        await pd.open()
        made = await pd.http.post(f"/incidents/{FIRST}/notes", json={"note": {"content": "looking"}}, headers=FROM)
        assert made.json()["note"]["content"] == "looking"
        empty = await pd.http.post(f"/incidents/{FIRST}/notes", json={"note": {"content": " "}}, headers=FROM)
        assert empty.status_code == 400
        notes = (await pd.get(f"/incidents/{FIRST}/notes"))["notes"]
        log = (await pd.get(f"/incidents/{FIRST}/log_entries"))["log_entries"]
        assert (await pd.http.get("/incidents/Q9/notes")).status_code == 404
    assert [(note["content"], note["user"]["summary"]) for note in notes] == [("looking", "Responder 1")]
    assert [(one["type"], one["agent"]["type"]) for one in log] == [
        ("annotate_log_entry", "user_reference"),
        ("trigger_log_entry", "service_reference"),
    ]


async def test_what_the_account_holds() -> None:
    directory = Directory(
        teams=["Shop"],
        schedules=[Schedule(name="Shop nights", users=["Responder 2"]), Schedule(name="Nobody")],
        policies=[
            Policy(name="Shop", levels=[["Shop nights"], ["Responder 1"]]),
            Policy(name="Empty", levels=[["Nobody"]]),
        ],
        services=[Service(name="Checkout", routing_key=KEY, policy="Shop", team="Shop")],
        windows=[
            Window(description="now", start=START - timedelta(hours=1), end=START + timedelta(hours=1)),
            Window(description="later", start=START + timedelta(hours=1), end=START + timedelta(hours=2)),
        ],
    )
    async with desk() as pd:
        put = await pd.http.put("/_emulator/directory", json=directory.model_dump(mode="json"))
        assert put.status_code == 200
        await pd.open("a")
        await pd.open("b", OTHER)
        change = {"routing_key": KEY, "payload": {"summary": "deploy", "source": "ci"}}
        await pd.http.post("/v2/change/enqueue", json=change)
        services = (await pd.get("/services", **{"include[]": "integrations"}))["services"]
        assert [one["name"] for one in services] == ["Checkout", "Service of key ...3210"]
        assert services[0]["integrations"][0]["integration_key"] == KEY
        assert "integration_key" not in str((await pd.get("/services"))["services"])
        policy = (await pd.get("/escalation_policies"))["escalation_policies"][0]
        kinds = [rule["targets"][0]["type"] for rule in policy["escalation_rules"]]
        assert kinds == ["schedule_reference", "user_reference"]
        oncalls = (await pd.get("/oncalls"))["oncalls"]
        assert [(one["escalation_level"], one["user"]["summary"]) for one in oncalls] == [
            (1, "Responder 2"),
            (2, "Responder 1"),
        ]
        nights = identifier("schedule", "Shop nights")
        assert len((await pd.get("/oncalls", **{"schedule_ids[]": nights}))["oncalls"]) == 1
        assert (await pd.get("/oncalls", **{"escalation_policy_ids[]": "nope"}))["oncalls"] == []
        windows = {name: await pd.get("/maintenance_windows", filter=name) for name in ("ongoing", "future", "all")}
        assert [len(found["maintenance_windows"]) for found in windows.values()] == [1, 1, 2]
        assert [one["name"] for one in (await pd.get("/schedules"))["schedules"]] == ["Shop nights", "Nobody"]
        assert (await pd.get("/users"))["users"][0]["email"] == "responder-1@example.com"
        assert [one["name"] for one in (await pd.get("/teams"))["teams"]] == ["Shop"]
        assert [one["name"] for one in (await pd.get("/priorities", limit=1))["priorities"]] == ["P1"]
        assert [one["summary"] for one in (await pd.get("/change_events"))["change_events"]] == ["deploy"]
        assert "teams" in (await pd.get("/abilities"))["abilities"]


def subscription(**given: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "type": "webhook_subscription",
        "delivery_method": {"type": "http_delivery_method", "url": HOOK},
        "events": ["incident.acknowledged"],
        "filter": {"type": "account_reference"},
    }
    return {"webhook_subscription": asked | given}


async def subscribe(pd: Desk, **given: Any) -> dict[str, Any]:
    answer = await pd.http.post("/webhook_subscriptions", json=subscription(**given))
    assert answer.status_code == 201
    made: dict[str, Any] = answer.json()["webhook_subscription"]
    return made


async def test_a_subscription_gets_what_it_asked_for_signed_with_its_secret() -> None:
    gateway = Gateway()
    async with desk(gateway) as pd:
        made = await subscribe(pd)
        secret = made["delivery_method"]["secret"]
        await pd.open()
        await pd.change(status="acknowledged")
        assert (await pd.http.post(f"/webhook_subscriptions/{made['id']}/ping")).status_code == 202
        await pd.emulator.webhooks.drain()
        listed = await pd.get("/webhook_subscriptions")
        held = await pd.get(f"/webhook_subscriptions/{made['id']}")
        assert (await pd.http.delete(f"/webhook_subscriptions/{made['id']}")).status_code == 204
        assert (await pd.http.get(f"/webhook_subscriptions/{made['id']}")).status_code == 404
    assert secret not in str(listed)
    assert held["webhook_subscription"]["delivery_method"]["secret"] is None
    acknowledged, ping = gateway.requests
    assert b"incident.acknowledged" in acknowledged.content
    assert b"pagey.ping" in ping.content
    for request in gateway.requests:
        assert request.headers["x-pagerduty-signature"] == sign(secret, request.content)
        assert request.headers["x-webhook-subscription"] == made["id"]


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        pytest.param({"type": "service_reference", "id": identifier("service", "Checkout")}, 1, id="its service"),
        pytest.param({"type": "service_reference", "id": "P0"}, 0, id="another service"),
        pytest.param({"type": "team_reference", "id": identifier("team", "Shop")}, 1, id="its team"),
        pytest.param({"type": "team_reference", "id": "P0"}, 0, id="another team"),
    ],
)
async def test_a_subscription_of_a_service_or_team(wanted: dict[str, str], heard: int) -> None:
    gateway = Gateway()
    async with desk(gateway) as pd:
        pd.emulator.directory = Directory(services=[Service(name="Checkout", routing_key=KEY, team="Shop")])
        await subscribe(pd, filter=wanted, events=["incident.triggered"])
        await pd.open()
        await pd.emulator.webhooks.drain()
    assert len(gateway.requests) == heard


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"delivery_method": {"type": "pigeon"}}, id="no HTTP"),
        pytest.param({"delivery_method": {"type": "http_delivery_method", "url": "gateway"}}, id="no address"),
        pytest.param({"events": []}, id="no events"),
        pytest.param({"events": ["incident.sang"]}, id="unknown event"),
        pytest.param({"filter": None}, id="no filter"),
        pytest.param({"filter": {"type": "user_reference"}}, id="unknown filter"),
        pytest.param({"filter": {"type": "team_reference"}}, id="a team without id"),
    ],
)
async def test_subscriptions_that_are_refused(given: dict[str, Any]) -> None:
    async with desk() as pd:
        assert (await pd.http.post("/webhook_subscriptions", json=subscription(**given))).status_code == 400


async def test_a_subscription_that_is_refused_three_times_is_switched_off_until_it_is_enabled() -> None:
    gateway = Gateway(401)
    async with desk(gateway) as pd:
        made = await subscribe(pd, events=["incident.triggered"])
        for name in "abcd":
            await pd.open(name)
            await pd.emulator.webhooks.drain()
        assert len(gateway.requests) == 3
        shown = (await pd.get(f"/webhook_subscriptions/{made['id']}"))["webhook_subscription"]
        assert shown["delivery_method"]["temporarily_disabled"]
        gateway.status = 202
        await pd.http.post(f"/webhook_subscriptions/{made['id']}/enable")
        await pd.open("e")
        await pd.emulator.webhooks.drain()
        assert len(gateway.requests) == 4
        await pd.http.delete("/_emulator/state")
        assert (await pd.get("/webhook_subscriptions"))["webhook_subscriptions"] == []


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param({"kind": "status_500"}, 500, id="5xx, for every request"),
        pytest.param({"kind": "status_429", "action": "rest"}, 429, id="429, for REST"),
        pytest.param({"kind": "slow", "action": "rest", "seconds": 0.0}, 200, id="slow"),
        pytest.param({"kind": "status_500", "action": "trigger"}, 200, id="for events"),
    ],
)
async def test_faults_are_those_of_events(fault: dict[str, Any], status: int) -> None:
    async with desk() as pd:
        await pd.http.post("/_emulator/faults", json=fault)
        assert (await pd.http.get("/users")).status_code == status


async def test_a_slow_answer_of_the_events_api_is_an_answer() -> None:
    async with desk() as pd:
        await pd.http.post("/_emulator/faults", json={"kind": "slow", "seconds": 0.0, "count": 1})
        await pd.open()
        assert await pd.numbers() == [1]
