"""What PagerDuty lost, and what people did there unheard, is mended: the whole pipeline beside the emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import stamina
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamproc.core.errors import Defect, Transient, Unusable
from streamproc.emulator.account import Deed
from streamproc.emulator.directory import Directory, Service, Window
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.reconcile.compare import Kind
from streamproc.reconcile.ours import Claim
from streamproc.reconcile.report import Outcome, Reconciliation
from streamproc.reconciling import begin_reconciling, destinations_of, standing_of
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.reconciler import Reconciler
from streamproc.sinks.pagerduty.config import RestConfig
from streamproc.sinks.pagerduty.rest import RestClient
from streamproc.views import IncidentView, PipelineStatus
from tests.service.standing import (
    KEYS,
    Standing,
    now_alert,
    pagerduty,
    samples,
    settings_of,
    until,
    until_told,
    working,
)

FAR = timedelta(days=1)
API = {"api_key": "key", "retry_config": {"max_attempts": 1}}


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


class Stand:
    """A pipeline whose webhooks nobody sends, and one that looks at PagerDuty when it is told to."""

    def __init__(self, standing: Standing, reconciler: Reconciler) -> None:
        self.standing, self.reconciler = standing, reconciler
        self.emulator = standing.emulator

    @property
    def claims(self) -> list[Claim]:
        return list(self.standing.pipeline.desk.claims().values())

    async def page(self, *names: str) -> None:
        """Let alerts fire, each an incident of its own, and wait until PagerDuty answered all pages."""
        alerts = [now_alert(name) for name in names]
        await self.standing.post(*alerts)
        await self.rest(lambda: len(self.claims) > 0 and all(claim.said for claim in self.claims))

    async def rest(self, holds: Callable[[], bool]) -> None:
        await until(lambda: holds() and not any(claim.pending for claim in self.claims))

    async def look(self, **how: Any) -> Reconciliation:
        return await self.reconciler.look(**how)

    async def twice(self) -> Reconciliation:
        """Look twice: what both see is mended."""
        first = await self.look()
        assert not first.repaired
        return await self.look()

    async def agrees(self) -> None:
        """Wait until what was mended is done, and nothing differs."""

        async def agreed() -> bool:
            return not (await self.look(mend=False)).found

        await until_told(agreed)

    def claim(self) -> Claim:
        (claim,) = self.claims
        return claim


@asynccontextmanager
async def standing(tmp_path: Path, *, armed: bool = True, **sections: Any) -> AsyncIterator[Stand]:
    async with pagerduty() as (emulator, url):
        settings = settings_of(url, tmp_path / "data", **sections)
        config = RestConfig.model_validate({**API, "base_url": url})
        async with (
            working(settings, tmp_path / "data", emulator, armed=armed) as running,
            RestClient(config) as rest,
        ):
            pipeline = running.pipeline
            reconciler = Reconciler(
                rest,
                pipeline.desk,
                pipeline.runtime,
                SystemClock(),
                destinations_of(settings),
                settle=timedelta(0),
            )
            yield Stand(running, reconciler)


def kinds(report: Reconciliation) -> list[tuple[Kind, Outcome]]:
    return [(one.kind, one.outcome) for one in report.found]


async def test_what_agrees_is_left_alone(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        await stand.page("a")
        report = await stand.look()
        assert (report.found, report.open_here, report.open_there) == ((), 1, 1)


async def test_a_lost_trigger_is_said_again(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        stand.emulator.faults.add(Fault(kind=FaultKind.SWALLOW, action="trigger", count=1))
        await stand.page("a")
        assert stand.standing.alerts == []
        assert kinds(await stand.twice()) == [(Kind.MISSING, Outcome.REPAIRED)]
        await until(lambda: stand.standing.statuses == ["triggered"])
        await stand.agrees()


async def test_what_pagerduty_resolved_by_itself_is_said_again_once_an_hour(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        await stand.page("a")
        for count in (2, 3):
            stand.emulator.account.resolve_alert(stand.standing.alerts[-1], "", datetime.now(UTC))
            assert kinds(await stand.look()) == [(Kind.MISSING, Outcome.SEEN)]
            found = kinds(await stand.look())
            if count == 3:
                assert found == [(Kind.MISSING, Outcome.WAITING)]
                return
            assert found == [(Kind.MISSING, Outcome.REPAIRED)]
            await stand.rest(lambda: stand.standing.statuses == ["resolved", "triggered"])


async def test_a_lost_resolve_is_sent_again(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        await stand.page("a")
        stand.emulator.faults.add(Fault(kind=FaultKind.SWALLOW, action="resolve", count=1))
        await stand.standing.post({**now_alert("a"), "status": "resolved"})
        await stand.rest(lambda: stand.claim().state == "closed")
        assert stand.standing.statuses == ["triggered"]
        assert kinds(await stand.twice()) == [(Kind.STRAY, Outcome.REPAIRED)]
        await until(lambda: stand.standing.statuses == ["resolved"])
        await stand.agrees()


@pytest.mark.parametrize(
    ("deed", "kind", "settled"),
    [
        pytest.param(Deed.ACKNOWLEDGE, Kind.ACKNOWLEDGED, lambda claim: claim.acknowledged, id="acknowledged"),
        pytest.param(Deed.RESOLVE, Kind.RESOLVED, lambda claim: claim.state == "held", id="resolved"),
    ],
)
async def test_what_a_person_did_unheard_is_taken_over(
    tmp_path: Path, deed: Deed, kind: Kind, settled: Callable[[Claim], bool]
) -> None:
    async with standing(tmp_path) as stand:
        await stand.page("a")
        stand.standing.act(deed)
        report = await stand.twice()
        assert kinds(report) == [(kind, Outcome.REPAIRED)]
        assert report.found[0].by == "Dana Ruiz"
        await until(lambda: settled(stand.claim()))
        await stand.agrees()
        assert len(stand.standing.alerts) == 1


async def test_a_merge_is_followed(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        await stand.page("a")
        event = {
            "routing_key": KEYS["default"],
            "event_action": "trigger",
            "payload": {"summary": "another tool's", "source": "x", "severity": "error"},
        }
        stand.emulator.take("alert", "/v2/enqueue", {**event, "dedup_key": "foreign"}, 202, None)
        ours, foreign = stand.emulator.account.incidents.values()
        stand.emulator.merge(foreign, [ours], "Dana Ruiz")
        assert kinds(await stand.twice()) == [(Kind.MERGED, Outcome.REPAIRED)]
        await until(lambda: stand.claim().acknowledged)
        await stand.agrees()
        await stand.standing.post({**now_alert("a"), "status": "resolved"})
        await until(lambda: stand.standing.statuses == ["resolved", "triggered"])


async def test_a_reassignment_stops_the_second_destination(tmp_path: Path) -> None:
    services = {"checkout": {"destination": "default", "second_destination": "second"}}
    async with standing(tmp_path, services=services) as stand:
        await stand.standing.post(now_alert("a", "checkout"))
        await stand.rest(lambda: len(stand.claims) == 1 and stand.claim().awaits)
        assert (await stand.look()).found == ()
        incident = next(iter(stand.emulator.account.incidents.values()))
        stand.emulator.act(incident, Deed.REASSIGN, "Dana Ruiz", "Responder 2")
        assert kinds(await stand.twice()) == [(Kind.REASSIGNED, Outcome.REPAIRED)]
        await until(lambda: not stand.claim().awaits)
        await stand.agrees()


async def test_what_is_not_ours_is_only_told(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        await stand.page("a")
        event = {
            "routing_key": KEYS["default"],
            "event_action": "trigger",
            "dedup_key": "in:v1:prod:eu-9:0123456789abcdef",
            "payload": {"summary": "another streamproc's", "source": "x", "severity": "error"},
        }
        stand.emulator.take("alert", "/v2/enqueue", event, 202, None)
        assert kinds(await stand.twice()) == [(Kind.UNKNOWN, Outcome.LEFT)]
        assert stand.standing.statuses == ["triggered", "triggered"]


async def test_a_dry_run_only_looks(tmp_path: Path) -> None:
    async with standing(tmp_path, armed=False) as stand:
        event = {
            "routing_key": KEYS["default"],
            "event_action": "trigger",
            "dedup_key": "in:v1:prod:eu-9:0123456789abcdef",
            "payload": {"summary": "left from before", "source": "x", "severity": "error"},
        }
        stand.emulator.take("alert", "/v2/enqueue", event, 202, None)
        report = await stand.look(at_once=True)
        assert (report.armed, kinds(report)) == (False, [(Kind.UNKNOWN, Outcome.LEFT)])


async def test_a_service_in_maintenance_misses_nothing(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        stand.emulator.faults.add(Fault(kind=FaultKind.SWALLOW, action="trigger"))
        await stand.page("a")
        assert kinds(await stand.look()) == [(Kind.MISSING, Outcome.SEEN)]
        service = Service(name="Pipeline", routing_key=KEYS["default"])
        now = datetime.now(UTC)
        window = Window(description="upgrade", start=now - timedelta(hours=1), end=now + FAR, services=["Pipeline"])
        stand.emulator.directory = Directory(services=[service], windows=[window])
        assert (await stand.look()).found == ()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(Fault(kind=FaultKind.STATUS_500, action="rest"), Transient, id="500"),
        pytest.param(Fault(kind=FaultKind.STATUS_429, action="rest", retry_after="30"), Transient, id="429"),
        pytest.param(Fault(kind=FaultKind.DROP_BEFORE, action="rest"), Transient, id="away"),
    ],
)
async def test_without_an_answer_nothing_is_done(tmp_path: Path, fault: Fault, error: type[Exception]) -> None:
    async with standing(tmp_path) as stand:
        await stand.page("a")
        stand.emulator.faults.add(fault)
        with pytest.raises(error):
            await stand.look()
        stand.emulator.faults.clear()
        await stand.agrees()


async def test_a_wrong_key_is_said_with_its_mend(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        stand.emulator.config = stand.emulator.config.model_copy(update={"api_key": "another"})
        with pytest.raises(Unusable, match="PAGERDUTY_API_KEY"):
            await stand.look()


async def test_more_incidents_than_a_page_holds(tmp_path: Path) -> None:
    async with standing(tmp_path) as stand:
        payload = {"summary": "another tool's", "source": "x", "severity": "error"}
        event = {"routing_key": KEYS["default"], "event_action": "trigger", "payload": payload}
        for number in range(230):
            stand.emulator.take("alert", "/v2/enqueue", {**event, "dedup_key": f"foreign-{number}"}, 202, None)
        await stand.page("a")
        report = await stand.look()
        assert (report.found, report.open_there) == ((), 1)
        lists = [one for one in stand.emulator.rest_requests if one.path == "/incidents"]
        assert len(lists) == 3
        assert not [one for one in stand.emulator.rest_requests if one.path.endswith("/alerts")]


async def test_the_pipeline_looks_by_itself(tmp_path: Path) -> None:
    async with pagerduty() as (emulator, url):
        rest = {**API, "base_url": url}
        settings = settings_of(url, tmp_path / "data", pagerduty={"rest": rest, "reconcile_every": 3600})
        async with working(settings, tmp_path / "data", emulator, armed=True) as running:

            async def looked() -> bool:
                return (await running.get("/v1/reconciliation"))["last"] is not None

            await until_told(looked)
            told = await running.get("/v1/reconciliation")
            assert told["enabled"]
            assert told["last"]["found"] == []
            shown = samples((await running.http.get("/metrics")).text)
            assert shown['streamproc_reconcile_looks_total{result="done"}'] >= 1
            assert shown['streamproc_reconcile_total{kind="stray",outcome="repaired"}'] == 0


async def test_without_a_key_there_is_none(tmp_path: Path) -> None:
    async with (
        pagerduty() as (emulator, url),
        working(settings_of(url, tmp_path / "data"), tmp_path / "data", emulator, armed=True) as running,
    ):
        assert await running.get("/v1/reconciliation") == {"enabled": False, "error": "", "last": None}


async def test_its_end_harms_nothing(tmp_path: Path) -> None:
    class Broken:
        """Knows nothing, and says so in the wrong way."""

        def status(self) -> PipelineStatus:
            raise Defect("no status")

        def claims(self) -> dict[str, Claim]:
            return {}

        def incident(self, incident_id: str) -> IncidentView | None:
            return None

    async with pagerduty() as (_, url):
        settings = settings_of(url, tmp_path / "data", pagerduty={"rest": {**API, "base_url": url}})
        with capture_logs() as logs:
            async with AsyncExitStack() as stack:
                nowhere = cast("Any", None)
                registry = CollectorRegistry()
                clock = SystemClock()
                reconciler = await begin_reconciling(settings, Broken(), nowhere, clock, registry, None, stack)
                await until(lambda: bool(logs))
        assert standing_of(reconciler).enabled
    assert "no status" in logs[0]["error"]
