"""PagerDuty's own client behind our port, against the emulator over real HTTP."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamproc.core.errors import Rejected, Transient, Unusable
from streamproc.emulator.account import Deed
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.directory import Directory, Service, Window, identifier
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.emulator.server import Served, serve
from streamproc.sinks.pagerduty.budget import LocalBudget
from streamproc.sinks.pagerduty.config import EU_REST, US_REST, RestConfig
from streamproc.sinks.pagerduty.resources import Incident, IncidentChange, IncidentQuery, NewSubscription, Scope
from streamproc.sinks.pagerduty.rest import PagerDutyRest, RestClient

KEY = "0123456789abcdef0123456789abcdef"
FIRST = "Q0000000000001"
FROM = "responder-1@example.com"
OPEN = IncidentQuery(statuses=("triggered", "acknowledged"))
HOOK = "http://127.0.0.1:9/v1/feedback/pagerduty"


class Counted:
    """A budget without bound that counts."""

    def __init__(self) -> None:
        self.taken = 0

    async def take(self, n: int = 1) -> None:
        self.taken += n


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=50, cap=True):
        yield


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    emulator = await serve(EmulatorConfig(api_key="key"))
    yield emulator
    await emulator.stop()


@pytest.fixture
async def budget() -> Counted:
    return Counted()


@pytest.fixture
async def rest(served: Served, budget: Counted) -> AsyncIterator[PagerDutyRest]:
    async with client(served, budget) as made:
        yield made


def client(served: Served, budget: Counted | None = None, **given: Any) -> RestClient:
    config = {"base_url": served.url, "api_key": "key", "from_email": FROM, **given}
    return RestClient(RestConfig.model_validate(config), budget or Counted())


def trigger(served: Served, dedup_key: str = "k", at: datetime | None = None) -> None:
    payload = {"summary": f"{dedup_key} is down", "source": "db-1", "severity": "critical"}
    event = {"routing_key": KEY, "event_action": "trigger", "dedup_key": dedup_key, "payload": payload}
    served.emulator.account.take(event, dedup_key, at or datetime.now(UTC))


async def every(rest: PagerDutyRest, query: IncidentQuery = OPEN) -> list[Incident]:
    return [incident async for incident in rest.incidents(query)]


async def test_incidents_by_key_and_status(served: Served, rest: PagerDutyRest) -> None:
    trigger(served, "a")
    trigger(served, "b")
    served.emulator.act(served.emulator.account.incidents[FIRST], Deed.RESOLVE, "Ann", "")
    assert [one.incident_key for one in await every(rest)] == ["b"]
    (found,) = await every(rest, IncidentQuery(incident_key="a"))
    assert (found.id, found.status, found.number, found.title) == (FIRST, "resolved", 1, "a is down")
    assert found.last_status_change_by is not None
    assert (found.last_status_change_by.type, found.last_status_change_by.summary) == ("user_reference", "Ann")
    assert await every(rest, IncidentQuery(service_ids=("P0",))) == []
    assert await rest.incident(FIRST) == found
    assert await rest.incident("Q9") is None


async def test_an_incident_that_is_open_for_long_is_found(served: Served, rest: PagerDutyRest) -> None:
    trigger(served, at=datetime.now(UTC) - timedelta(days=400))
    assert len(await every(rest)) == 1
    old = IncidentQuery(since=datetime.now(UTC) - timedelta(days=500))
    assert len(await every(rest, old)) == 1
    assert await every(rest, IncidentQuery(since=datetime.now(UTC) - timedelta(days=300))) == []


async def test_a_merge_is_followed(served: Served, rest: PagerDutyRest) -> None:
    trigger(served, "a")
    trigger(served, "b")
    target, source = served.emulator.account.incidents.values()
    served.emulator.merge(target, [source], "Ann")
    there = await rest.incident(source.id)
    assert there is not None
    assert (there.status, there.merged_into) == ("resolved", target.id)
    (found,) = await every(rest, IncidentQuery(incident_key="b"))
    assert (found.id, found.merged_into) == (target.id, "")
    assert [alert.alert_key for alert in await rest.alerts(target.id)] == ["a", "b"]


async def test_more_than_ten_thousand_are_read_by_windows_of_time(served: Served, rest: PagerDutyRest) -> None:
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(days=300)
    for number in range(10_050):
        trigger(served, f"k{number}", began + timedelta(minutes=number * 40))
    served.emulator.rest_limit = 10_000
    found = await every(rest)
    assert [one.number for one in found] == list(range(1, 10_051))


async def test_too_many_of_one_moment_are_said(served: Served) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    for number in range(201):
        trigger(served, f"k{number}", at)
    config = RestConfig.model_validate({"base_url": served.url, "api_key": "key"})
    async with RestClient(config, Counted(), most=200) as rest:
        with pytest.raises(Rejected, match="of one moment") as refusal:
            await every(rest, IncidentQuery())
    assert refusal.value.reason == "too_many"


async def test_changes(served: Served, rest: PagerDutyRest) -> None:
    trigger(served)
    change = IncidentChange(
        status="acknowledged",
        title="worse",
        urgency="low",
        priority_id=identifier("priority", "P1"),
        escalation_level=2,
    )
    changed = await rest.update_incident(FIRST, change)
    assert (changed.status, changed.title, changed.urgency) == ("acknowledged", "worse", "low")
    assert changed.priority is not None
    assert changed.priority.summary == "P1"
    assert [one.acknowledger.summary for one in changed.acknowledgements] == ["Responder 1"]
    assert [one.summary for one in changed.assignees] == ["Responder 1"]
    resolved = await rest.update_incident(FIRST, IncidentChange(status="resolved", resolution="done"))
    assert (resolved.status, resolved.assignees) == ("resolved", ())
    with pytest.raises(Rejected, match="Incident Already Resolved") as refusal:
        await rest.update_incident(FIRST, IncidentChange(status="resolved"))
    assert refusal.value.reason == "refused"


async def test_notes_and_the_log(served: Served, rest: PagerDutyRest) -> None:
    trigger(served)
    note = await rest.add_note(FIRST, "looking")
    assert await rest.notes(FIRST) == (note,)
    assert [one.type for one in await rest.log_entries(FIRST)] == ["annotate_log_entry", "trigger_log_entry"]


async def test_what_the_account_holds(served: Served, rest: PagerDutyRest) -> None:
    now = datetime.now(UTC)
    window = Window(description="move", start=now - timedelta(hours=1), end=now + timedelta(hours=1), services=["Shop"])
    served.emulator.directory = Directory(services=[Service(name="Shop", routing_key=KEY)], windows=[window])
    served.emulator.account.changes.append({"routing_key": KEY, "payload": {"summary": "deploy"}})
    (service,) = await rest.services()
    assert service.integrations[0].integration_key.get_secret_value() == KEY
    assert KEY not in repr(service)
    assert [one.name for one in await rest.escalation_policies()] == ["Default"]
    assert [one.name for one in await rest.schedules()] == ["Primary"]
    assert [(one.escalation_level, one.user.summary) for one in await rest.on_calls()] == [
        (1, "Responder 1"),
        (2, "Responder 2"),
    ]
    assert [one.email for one in await rest.users()] == ["responder-1@example.com", "responder-2@example.com"]
    assert [one.name for one in await rest.teams()] == ["Platform"]
    assert [one.name for one in await rest.priorities()] == ["P1", "P2", "P3", "P4", "P5"]
    assert [one.services[0].summary for one in await rest.maintenance_windows()] == ["Shop"]
    assert [one.summary for one in await rest.change_events(now - timedelta(hours=1), now)] == ["deploy"]


async def test_a_list_of_several_pages(served: Served, rest: PagerDutyRest, budget: Counted) -> None:
    served.emulator.directory = Directory(teams=[f"Team {number}" for number in range(250)])
    assert len(await rest.teams()) == 250
    assert budget.taken == 3


async def test_a_subscription_from_its_creation_to_its_end(served: Served, rest: PagerDutyRest) -> None:
    wanted = NewSubscription(url=HOOK, events=frozenset({"incident.triggered"}), description="ours", filter=Scope())
    made = await rest.create_webhook_subscription(wanted)
    secret = made.secret.get_secret_value()
    assert secret
    assert secret not in repr(made)
    (listed,) = await rest.webhook_subscriptions()
    assert (listed.id, listed.url, listed.secret.get_secret_value()) == (made.id, HOOK, "")
    await rest.ping_webhook_subscription(made.id)
    assert [one.event_type for one in served.emulator.webhooks.deliveries] == ["pagey.ping"]
    served.emulator.webhooks.subscriptions[made.id].temporarily_disabled = True
    assert (await rest.webhook_subscriptions())[0].temporarily_disabled
    assert not (await rest.enable_webhook_subscription(made.id)).temporarily_disabled
    assert await rest.delete_webhook_subscription(made.id)
    assert not await rest.delete_webhook_subscription(made.id)


# -- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "count", "attempts"),
    [
        pytest.param(FaultKind.STATUS_500, 2, 3, id="5xx, better at the third"),
        pytest.param(FaultKind.DROP_BEFORE, 1, 2, id="a closed connection"),
        pytest.param(FaultKind.STATUS_429, 1, 2, id="over the limit"),
    ],
)
async def test_reads_are_tried_again(
    served: Served, rest: PagerDutyRest, budget: Counted, kind: FaultKind, count: int, attempts: int
) -> None:
    served.emulator.faults.add(Fault(kind=kind, count=count))
    assert await rest.teams()
    assert budget.taken == attempts


@pytest.mark.parametrize(
    ("fault", "said", "retry_after"),
    [
        pytest.param(Fault(kind=FaultKind.STATUS_500), "500: Internal Server Error", None, id="5xx"),
        pytest.param(Fault(kind=FaultKind.STATUS_429, retry_after="90"), "429: Rate Limit", 90.0, id="429"),
        pytest.param(Fault(kind=FaultKind.DROP_BEFORE), "cannot be reached", None, id="a closed connection"),
    ],
)
async def test_what_stays_wrong_is_transient(
    served: Served, fault: Fault, said: str, retry_after: float | None
) -> None:
    served.emulator.faults.add(fault)
    async with client(served) as rest:
        with pytest.raises(Transient, match=said) as failure:
            await rest.teams()
    assert failure.value.retry_after == retry_after
    assert fault.hits == (1 if retry_after else 3)


async def test_an_answer_that_does_not_come_is_given_up(served: Served) -> None:
    served.emulator.faults.add(Fault(kind=FaultKind.STALL, seconds=600))
    async with client(served, timeout=0.1, retry_config={"max_attempts": 1}) as rest:
        with pytest.raises(Transient, match=r"within 0\.1 s|cannot be reached"):
            await rest.teams()


async def test_an_account_without_priorities_has_none() -> None:
    answers = {b"/priorities": b"404 Not Found", b"/incidents/Q1": b"403 Forbidden"}

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = next(answer for path, answer in answers.items() if path in head)
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    config = RestConfig.model_validate(
        {"base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "api_key": "key"}
    )
    async with server, RestClient(config) as other:
        assert await other.priorities() == ()
        with pytest.raises(Unusable, match="403"):
            await other.incident("Q1")


async def test_the_limit_of_the_account_says_how_long_to_wait(served: Served, rest: PagerDutyRest) -> None:
    served.emulator.rest_limit = 1
    assert await rest.teams()
    async with client(served, retry_config={"max_attempts": 1}) as other:
        with pytest.raises(Transient, match="429: Rate Limit Exceeded") as failure:
            await other.teams()
    assert failure.value.retry_after is not None
    assert 55 <= failure.value.retry_after <= 60


async def test_a_note_that_may_be_there_is_not_written_twice(served: Served, rest: PagerDutyRest) -> None:
    trigger(served)
    served.emulator.faults.add(Fault(kind=FaultKind.DROP_AFTER, count=1))
    with pytest.raises(Transient):
        await rest.add_note(FIRST, "looking")
    assert len(served.emulator.account.incidents[FIRST].notes) == 1
    served.emulator.faults.add(Fault(kind=FaultKind.STATUS_429, count=1))
    assert await rest.add_note(FIRST, "still looking")


async def test_a_change_whose_answer_was_lost_is_made_again(served: Served, rest: PagerDutyRest) -> None:
    trigger(served)
    served.emulator.faults.add(Fault(kind=FaultKind.DROP_AFTER, count=1))
    assert (await rest.update_incident(FIRST, IncidentChange(urgency="low"))).urgency == "low"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"api_key": "wrong"}, "401: Invalid Credentials .*PAGERDUTY_API_KEY", id="another key"),
        pytest.param({"from_email": ""}, "PAGERDUTY_FROM_EMAIL", id="no From"),
        pytest.param({"from_email": "x@y.z"}, "x@y.z .* is no user", id="a From that is nobody's"),
    ],
)
async def test_what_the_settings_must_mend(served: Served, given: dict[str, Any], said: str) -> None:
    trigger(served)
    async with client(served, **given) as rest:
        with pytest.raises(Unusable, match=said):
            await rest.update_incident(FIRST, IncidentChange(urgency="low"))


def test_without_a_key_nothing_is_asked() -> None:
    with pytest.raises(Unusable, match="PAGERDUTY_API_KEY"):
        RestClient(RestConfig())


@pytest.mark.parametrize(
    ("answer", "failure", "said"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n<html>", Transient, "is a proxy between", id="a page of a proxy"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n[]", Transient, "is a proxy between", id="no list"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", Transient, "302", id="a redirect"),
        pytest.param(b"HTTP/1.1 403 Forbidden\r\n\r\n", Unusable, "403: nothing more: the API key may not", id="403"),
        pytest.param(b"HTTP/1.1 402 Pay\r\n\r\n{}", Rejected, "402: {}", id="402"),
        pytest.param(b'HTTP/1.1 200 OK\r\n\r\n{"teams": [{"id": 1}]}', Rejected, "cannot be read: id", id="a team"),
    ],
)
async def test_answers_of_others(answer: bytes, failure: type[Exception], said: str) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = RestConfig.model_validate({"base_url": f"http://127.0.0.1:{port}", "api_key": "key"})
    async with server, RestClient(config) as rest:
        with pytest.raises(failure, match=said):
            await rest.teams()


async def test_nothing_is_warned_of_and_no_error_has_the_key(served: Served) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with client(served, api_key="a-secret-key") as rest:
            with pytest.raises(Unusable) as failure:
                await rest.teams()
    assert "a-secret-key" not in f"{failure.value!r} {failure.value.__cause__!r}"


# -- settings and the budget ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "base"),
    [
        pytest.param(f" {US_REST}/ ", US_REST, id="US"),
        pytest.param(EU_REST, EU_REST, id="EU"),
        pytest.param("http://127.0.0.1:8081", "http://127.0.0.1:8081", id="the emulator"),
        pytest.param("http://localhost:8081", "http://localhost:8081", id="the emulator by name"),
    ],
)
def test_base_url(given: str, base: str) -> None:
    assert RestConfig(base_url=given).base_url == base


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("api.pagerduty.com", id="no scheme"),
        pytest.param("http://api.pagerduty.com", id="unencrypted"),
        pytest.param("http://10.0.0.1", id="unencrypted in the house"),
        pytest.param("https://api.pagerduty.com?x=1", id="a query"),
    ],
)
def test_unusable_base_url(given: str) -> None:
    with pytest.raises(ValidationError):
        RestConfig(base_url=given)


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=300), st.integers(10, 960))
def test_no_minute_sees_more_than_the_budget(pauses: list[float], per_minute: int) -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def spend() -> list[float]:
        nonlocal now
        budget = LocalBudget(per_minute, clock=lambda: now, sleep=sleep)
        taken = []
        for pause in pauses:
            now += pause / per_minute
            await budget.take()
            taken.append(now)
        return taken

    taken = asyncio.run(spend())
    for number, at in enumerate(taken):
        assert sum(at <= other < at + 60.0 - 1e-6 for other in taken[number:]) <= per_minute


async def test_a_budget_is_given_in_the_order_in_which_it_is_asked_for() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    budget = LocalBudget(60, clock=lambda: 0.0, sleep=sleep)
    await budget.take(6)
    await budget.take()
    await budget.take(9)
    assert [round(wait, 3) for wait in waits] == [1.111, 11.111]
