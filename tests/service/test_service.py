"""The pipeline on one machine, from a real webhook to a person and back."""

from __future__ import annotations

import asyncio
import base64
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina

from streamproc.beginning import arming, catalogue_of, read_catalogue
from streamproc.core.errors import Defect, Unusable
from streamproc.emulator.account import Deed
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.gateway.config import hash_token
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock, SystemClock
from streamproc.runtime.embedded.journal import FILE
from streamproc.runtime.embedded.spool import submit
from streamproc.service import channels, running, sender_config
from streamproc.settings import Settings
from tests.embedded.pipelines import T0, body, kept, policy
from tests.service.standing import (
    KEYS,
    Standing,
    effects,
    free_port,
    now_alert,
    pagerduty,
    samples,
    settings_of,
    standing,
    stopped_by,
    until,
    working,
)

# apprise's email plugin imports a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def only_incident(stand: Standing, status: str = "all") -> dict[str, Any]:
    (incident,) = (await stand.get("/v1/incidents", status=status))["incidents"]
    found: dict[str, Any] = await stand.get(f"/v1/incidents/{incident['incident_id']}")
    return found


# -- from a webhook to a page and back -------------------------------------------------------------------------------


async def test_an_alert_pages_once_and_its_resolve_resolves(folder: Path) -> None:
    async with standing(folder) as stand:
        first = now_alert("Down", "checkout")
        assert (await stand.post(first, now_alert("Slow", "checkout"))).json() == {"accepted": 2}
        await stand.until(lambda: stand.statuses == ["triggered"])
        await stand.post(first)
        (page,) = stand.alerts
        incident = await only_incident(stand, "open")
        assert (page.routing_key, page.dedup_key) == (KEYS["default"], incident["summary"]["incident_id"])
        assert page.severity == "critical"
        assert len(incident["members"]) == 2
        await stand.post({**first, "status": "resolved"}, {**now_alert("Slow", "checkout"), "status": "resolved"})
        await stand.until(lambda: stand.statuses == ["resolved"])
        assert effects(stand.emulator, "resolve") == ["resolved"]
        assert (await only_incident(stand, "resolved"))["summary"]["status"] == "resolved"


async def test_a_person_who_acknowledges_in_pagerduty_is_seen(folder: Path) -> None:
    async with standing(folder) as stand:
        await stand.post(now_alert("Down", "checkout"))
        await stand.until(lambda: stand.statuses == ["triggered"])
        stand.act(Deed.ACKNOWLEDGE)
        await stand.until(lambda: b"Dana Ruiz" in b"".join(kept(folder, "incidents.enriched")))
        incident = await only_incident(stand)
        assert incident["summary"]["acknowledged_by"] == "Dana Ruiz"
        told = [one.state for one in stand.emulator.webhooks.deliveries if one.event_type == "incident.acknowledged"]
        assert told == ["delivered"]
        metrics = samples((await stand.http.get("/metrics")).text)
        assert metrics['streamproc_feedback_total{kind="acknowledged"}'] == 1


async def test_nobody_acknowledges_and_the_second_destination_is_told(folder: Path) -> None:
    services = {"checkout": {"destination": "default", "second_destination": "second", "owner": "shop"}}
    soon = {"incidents": {"escalation_timeout": 1}}
    async with standing(folder, services=services, pagerduty=soon) as stand:
        await stand.post(now_alert("Down", "checkout"))
        await stand.until(lambda: len(stand.alerts) == 2)
        first, second = stand.alerts
        assert (first.routing_key, second.routing_key) == (KEYS["default"], KEYS["second"])
        assert second.dedup_key == f"{first.dedup_key}/2"
        assert (await only_incident(stand))["context"]["owner"] == "shop"
        await stand.post({**now_alert("Down", "checkout"), "status": "resolved"})
        await stand.until(lambda: stand.statuses == ["resolved", "resolved"])


# -- dry run, arming -------------------------------------------------------------------------------------------------


async def test_a_dry_run_sends_nothing_and_arming_adopts_what_is_open(folder: Path) -> None:
    async with standing(folder, armed=False) as stand:
        await stand.post(now_alert("Down", "checkout"))
        assert (await only_incident(stand))["summary"]["dry_run"] is True
        assert (await stand.get("/v1/status"))["armed"] is False
        armed = Entry.of("policies", arming(1, T0, author="ann"))
        assert await asyncio.to_thread(submit, folder, [armed], 60.0) is True
        await stand.until(lambda: len(stand.emulator.account.changes) == 1)
        summary = stand.emulator.account.changes[0]["payload"]["summary"]
        assert "1" in summary
        assert (await stand.get("/v1/status"))["armed"] is True
        assert stand.alerts == []
        await stand.post(now_alert("Queue full", "search"))
        await stand.until(lambda: stand.statuses == ["triggered"])
        assert stand.alerts[0].event["payload"]["component"] == "search"


async def test_armed_from_the_first_moment_stays_armed(folder: Path) -> None:
    async with pagerduty() as (emulator, url):
        settings = settings_of(url, folder)
        for armed in (True, True, False):
            async with working(settings, folder, emulator, armed=armed) as stand:
                assert (await stand.get("/v1/status"))["armed"] is True
        assert len([one for one in kept(folder, "policies") if b'"kind":"arm"' in one]) == 1
        assert len(kept(folder, "versions")) == 2
        disarmed = policy(2, withdrawn=True)
        submit(folder, [disarmed], wait=0)
        async with working(settings, folder, emulator, armed=False) as stand:
            await stand.until(lambda: b'"version":2' in b"".join(kept(folder, "policies")))
            assert (await stand.get("/v1/status"))["armed"] is False
        async with working(settings, folder, emulator, armed=True) as stand:
            assert (await stand.get("/v1/status"))["armed"] is True


async def test_changed_settings_are_a_new_version_and_count_from_the_start_on(folder: Path) -> None:
    async with pagerduty() as (emulator, url):
        async with working(settings_of(url, folder), folder, emulator, armed=True):
            pass
        changed = settings_of(url, folder, escalate={"page": ["critical", "error", "warning"]})
        async with working(changed, folder, emulator, armed=True) as stand:
            await stand.post(now_alert("Odd", "checkout", severity="warning"))
            await stand.until(lambda: stand.statuses == ["triggered"])
    assert len([one for one in kept(folder, "versions") if b'"kind":"config"' in one]) == 2


# -- dead letters ----------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_listed_shown_and_retried(folder: Path) -> None:
    async with standing(folder) as stand:
        good, bad = now_alert("Down", "checkout"), {"labels": {}, "status": "firing"}
        assert (await stand.post(good, bad)).json() == {"accepted": 2}
        (letter,) = (await stand.get("/v1/dead-letters"))["dead_letters"]
        assert (letter["node"], letter["topic"]) == ("normalise", "alerts.raw")
        shown = await stand.get(f"/v1/dead-letters/{letter['letter_id']}")
        assert b'"labels"' in base64.b64decode(shown["value"])
        answer = await stand.http.post(f"/v1/dead-letters/{letter['letter_id']}/retry")
        assert answer.status_code == 202
        assert len((await stand.get("/v1/dead-letters"))["dead_letters"]) == 2
        assert (await stand.get("/v1/status"))["dead_letters"] == 2


# -- PagerDuty fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        pytest.param(FaultKind.STATUS_500, 2, id="500"),
        pytest.param(FaultKind.STATUS_429, 1, id="429"),
        pytest.param(FaultKind.DROP_BEFORE, 1, id="dropped before it was taken"),
        pytest.param(FaultKind.DROP_AFTER, 1, id="dropped after it was taken"),
    ],
)
async def test_what_pagerduty_does_not_answer_is_delivered_once(folder: Path, kind: FaultKind, count: int) -> None:
    async with standing(folder) as stand:
        stand.emulator.faults.add(Fault(kind=kind, count=count))
        await stand.post(now_alert("Down", "checkout"))
        await stand.until(lambda: '"delivered"' in b"".join(kept(folder, "pages")).decode())
        assert len(stand.alerts) == 1
        assert len(stand.emulator.account.incidents) == 1


async def test_pagerduty_is_away_for_a_while(folder: Path) -> None:
    port = free_port()
    settings = settings_of(f"http://127.0.0.1:{port}", folder)
    async with running(settings, folder, armed=True) as pipeline, httpx.AsyncClient(base_url=pipeline.url) as http:
        await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down", "checkout")))
        assert (await http.get("/v1/status")).json()["waiting_to_send"] == 1
        async with pagerduty(port) as (emulator, _):
            await until(lambda: len(emulator.account.alerts) == 1)
            await until(lambda: len(kept(folder, "pages")) == 1)
            assert effects(emulator, "trigger") == ["opened"]


async def test_what_waits_is_sent_by_the_next_process(folder: Path) -> None:
    port = free_port()
    settings = settings_of(f"http://127.0.0.1:{port}", folder)
    async with running(settings, folder, armed=True) as pipeline, httpx.AsyncClient(base_url=pipeline.url) as http:
        await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down", "checkout")))
    async with pagerduty(port) as (emulator, _), working(settings, folder, emulator, armed=True) as stand:
        await stand.until(lambda: stand.statuses == ["triggered"])


# -- what stops it ---------------------------------------------------------------------------------------------------


class LoopClock(SystemClock):
    """Fails on demand for whoever asks from the event loop: the sender, and not the runtime's thread."""

    broken = False

    def now(self) -> datetime:
        if self.broken and threading.current_thread() is threading.main_thread():
            raise ZeroDivisionError("the clock fell off the wall")
        return super().now()


async def test_a_broken_sender_stops_the_pipeline(folder: Path) -> None:
    clock = LoopClock()
    async with pagerduty() as (_, url), running(settings_of(url, folder), folder, armed=True, clock=clock) as pipeline:
        clock.broken = True
        async with httpx.AsyncClient(base_url=pipeline.url) as http:
            await http.post("/v1/ingest/alertmanager", content=body(now_alert("Down")))
            await until(pipeline.stopped.done)
        error = stopped_by(pipeline)
        assert isinstance(error, Defect)
        assert str(error) == "the sender has stopped: ZeroDivisionError: the clock fell off the wall"


async def test_damage_while_it_runs_stops_it_and_readiness_says_why(folder: Path) -> None:
    async with pagerduty() as (_, url):
        settings = settings_of(url, folder)
        async with (
            running(settings, folder, armed=True) as pipeline,
            httpx.AsyncClient(base_url=pipeline.url) as http,
        ):
            with closing(sqlite3.connect(folder / FILE)) as db:
                db.execute("DROP TABLE positions")
            answer = await http.post("/v1/ingest/generic", json={"name": "Down", "status": "firing"})
            assert answer.status_code == 503
            await until(pipeline.stopped.done)
            assert (await http.get("/live")).status_code == 200
            assert "no such table: positions" in str(stopped_by(pipeline))


# -- what it cannot start with ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        pytest.param({"gateway": {"host": "0.0.0.0"}}, "gateway.ingest_tokens", id="anyone"),  # noqa: S104
        pytest.param({"services": Path("gone.yaml")}, "gone.yaml cannot be read", id="a catalogue that is gone"),
        pytest.param(
            {"pagerduty": {"notifications": {"channels": ["nonsense"]}}}, "fallback URL 1", id="no apprise URL"
        ),
        pytest.param(
            {"gateway": {"host": "0.0.0.0"}, "pagerduty": {"security": {"webhook_validation": False}}},  # noqa: S104
            "webhook_validation is false",
            id="unsigned webhooks from anywhere",
        ),
    ],
)
async def test_what_it_does_not_start_with(folder: Path, sections: dict[str, Any], says: str) -> None:
    with pytest.raises(Unusable, match=says):
        async with running(Settings.model_validate(sections), folder, armed=True):
            pytest.fail("it started")
    assert not await asyncio.to_thread(folder.exists)


async def test_a_taken_port_gives_the_directory_back(folder: Path) -> None:
    async with pagerduty() as (emulator, url):
        taken = int(url.rpartition(":")[2])
        with pytest.raises(Unusable, match="cannot listen on"):
            async with running(settings_of(url, folder, taken), folder, armed=True):
                pytest.fail("it started")
        async with working(settings_of(url, folder), folder, emulator, armed=True) as stand:
            assert (await stand.http.get("/ready")).status_code == 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("services: [", "cannot be read", id="no YAML"),
        pytest.param("services: {a: {tier: 9}}", "services.a.tier", id="out of bounds"),
        pytest.param("services: {a: {teir: 1}}", "no such key", id="an unknown key"),
        pytest.param("services: {1: {}, 2024-01-01: {}}", "services.yaml", id="keys that are no text"),
    ],
)
def test_a_catalogue_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(text)
    with pytest.raises(Unusable, match=says):
        catalogue_of(file)


def test_an_empty_catalogue_is_one(tmp_path: Path) -> None:
    file = tmp_path / "services.yaml"
    file.write_text("")
    assert read_catalogue(Settings(services=file)) == catalogue_of(file)
    assert read_catalogue(Settings()) is None


def test_what_the_settings_say_of_sending_and_telling() -> None:
    given = {"requests_per_minute": 30, "notifications": {"fallback_after": 7, "channels": ["json://localhost"]}}
    settings = Settings.model_validate({"pagerduty": given})
    config = sender_config(settings)
    assert (config.rate_limit, config.fallback_after.total_seconds()) == (30, 7)
    assert channels(settings, ManualClock(T0)) is not None
    assert channels(Settings(), ManualClock(T0)) is None


# -- rotation --------------------------------------------------------------------------------------------------------


async def test_newer_tokens_and_secrets_count_without_a_restart(folder: Path) -> None:
    tokens = [hash_token("old")]
    asked: list[int] = []

    async with pagerduty() as (emulator, url):

        def current() -> Settings:
            asked.append(1)
            if not tokens:
                raise Unusable("the file is broken")
            gateway = {"ingest_tokens": list(tokens)}
            return settings_of(url, folder, gateway=gateway, pagerduty={"security": {"token_rotation": 1}})

        async def status(token: str) -> int:
            answer = await stand.http.get("/v1/status", headers={"authorization": f"Bearer {token}"})
            return answer.status_code

        async with working(current(), folder, emulator, armed=True, renew=current) as stand:
            assert (await status("old"), await status("new")) == (200, 401)
            tokens.append(hash_token("new"))
            await _asked_again(asked)
            assert (await status("old"), await status("new")) == (200, 200)
            tokens.clear()
            await _asked_again(asked)
            assert (await status("old"), await status("new")) == (200, 200)
            tokens.append(hash_token("new"))
            await _asked_again(asked)
            assert (await status("old"), await status("new")) == (401, 200)


async def _asked_again(asked: list[int]) -> None:
    """Wait until the settings were read twice more: what the first reading found has counted by then."""
    already = len(asked)
    await until(lambda: len(asked) >= already + 2)


# -- metrics ---------------------------------------------------------------------------------------------------------

DOCUMENTED = """
streamproc_events_received_total streamproc_events_emitted_total streamproc_decisions_total streamproc_errors_total
streamproc_step_seconds streamproc_rows streamproc_lag_records streamproc_lag_seconds
streamproc_deliveries_total streamproc_delivery_seconds streamproc_decision_latency_seconds streamproc_waiting
streamproc_delivery_oldest_seconds streamproc_alarms_total
streamproc_delivery_answers_total streamproc_delivery_circuit_open streamproc_delivery_retries_total
streamproc_receipt_to_page_seconds streamproc_open_incidents streamproc_active_version
streamproc_http_requests_total streamproc_http_request_seconds streamproc_http_rejected_total
streamproc_ingest_alerts_total streamproc_feedback_total
process_cpu_seconds_total process_resident_memory_bytes python_info python_gc_collections_total
"""


async def test_every_metric_is_there_from_the_start(folder: Path) -> None:
    async with pagerduty() as (emulator, url), working(settings_of(url, folder), folder, emulator, armed=True) as stand:
        text = (await stand.http.get("/metrics")).text
        shown = set(re.findall(r"^([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{.*)? [^ ]+$", text, re.MULTILINE))
        assert set(DOCUMENTED.split()) - shown == set()
        found = samples(text)
        assert found['streamproc_decisions_total{intentional="true",reason="opened",stage="correlate"}'] == 0
        assert found['streamproc_rows{node="learn"}'] == 2
        assert found['streamproc_lag_records{node="decide"}'] == 0
        await stand.post(now_alert("Down", "checkout"))
        await stand.until(lambda: stand.statuses == ["triggered"])
        await stand.until(lambda: len(kept(folder, "pages")) == 1)
        after = samples((await stand.http.get("/metrics")).text)
        assert after['streamproc_decisions_total{intentional="true",reason="opened",stage="correlate"}'] == 1
        assert after['streamproc_deliveries_total{action="trigger",verdict="delivered"}'] == 1
        assert after["streamproc_decision_latency_seconds_count"] == 1
        assert after["streamproc_receipt_to_page_seconds_count"] == 1
        assert after['streamproc_open_incidents{state="paged"}'] == 1
        assert after['streamproc_active_version{kind="config"}'] == 1
        assert after['streamproc_delivery_answers_total{destination="default",status="2xx"}'] == 1
        assert after['streamproc_rows{node="decide"}'] > found['streamproc_rows{node="decide"}']
        assert after['streamproc_ingest_alerts_total{source="alertmanager"}'] == 1
