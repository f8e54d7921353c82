"""One trace from a webhook to the page, over every topic, posted by OTLP to a collector."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import stamina

from streamproc.emulator.faults import Fault, FaultKind
from streamproc.runtime.embedded.journal import FILE
from tests.embedded.pipelines import body
from tests.service.standing import Standing, now_alert, pagerduty, samples, settings_of, standing, until, working
from tests.support.collector import Collector, Seen, collecting

# apprise's email plugin imports a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNWANTED = f"{CALLER[:-2]}00"
CHAIN = ("POST /v1/ingest/{source}", "normalise", "deduplicate", "decide", "deliver", "send trigger", "deliver")
"""The spans of one page, each the parent of the next; deliver hears of the outcome."""


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def traced(collector: Collector, **more: Any) -> dict[str, Any]:
    return {"traces": {"endpoint": collector.url, **more}}


async def post(stand: Standing, name: str = "Down", **headers: str) -> None:
    answer = await stand.http.post(
        "/v1/ingest/alertmanager", content=body(now_alert(name, "checkout")), headers=headers
    )
    assert answer.status_code == 202


def chain(collector: Collector, last: Seen) -> list[Seen]:
    """Return the spans from the first one to `last`, by their parents."""
    by_id = {span.span_id: span for span in collector.spans}
    found = [last]
    while found[0].parent_id in by_id:
        found.insert(0, by_id[found[0].parent_id])
    return found


def told_of_the_page(collector: Collector) -> list[Seen]:
    return [span for span in collector.named("deliver") if "deliver/delivered" in span.attributes["streamproc.reasons"]]


def carried(folder: Path, topic: str) -> list[str]:
    """Return the `traceparent` of every record of a topic that has one."""
    with closing(sqlite3.connect(folder / FILE)) as db:
        query = "SELECT l.headers FROM log l JOIN topics t ON t.number=l.topic WHERE t.name=? ORDER BY l.off"
        found = [json.loads(headers).get("traceparent", "") for (headers,) in db.execute(query, (topic,))]
    return [header for header in found if header]


async def test_one_trace_leads_from_the_webhook_to_the_page(folder: Path, collector: Collector) -> None:
    async with standing(folder, **traced(collector)) as stand:
        await post(stand, traceparent=CALLER)
        await until(lambda: bool(told_of_the_page(collector)))
        (incident,) = (await stand.get("/v1/incidents", status="all"))["incidents"]
    assert {span.trace_id for span in collector.spans} == {CALLER.split("-")[1]}
    assert set(collector.paths) == {"/v1/traces"}
    found = chain(collector, told_of_the_page(collector)[0])
    assert tuple(span.name for span in found) == CHAIN
    assert found[0].parent_id == CALLER.split("-")[2]
    assert all(span.start <= span.end for span in found)
    assert {span.service for span in found} == {"streamproc"}
    assert not any(span.failed for span in found)
    request, normalise, _, decide, _, send, _ = found
    assert request.attributes["http.response.status_code"] == 202
    assert normalise.attributes["messaging.destination.name"] == "alerts.raw"
    assert decide.attributes["streamproc.incident_id"] == incident["incident_id"]
    assert "escalate/severity" in decide.attributes["streamproc.reasons"]
    assert tuple(name for name, _ in decide.events) == decide.attributes["streamproc.reasons"]
    assert send.attributes["http.response.status_code"] == 202
    assert (send.attributes["streamproc.attempts"], send.attributes["streamproc.verdict"]) == (1, "delivered")


async def test_a_span_has_the_id_that_what_it_wrote_carries(folder: Path, collector: Collector) -> None:
    async with standing(folder, **traced(collector)) as stand:
        await post(stand)
        await until(lambda: bool(told_of_the_page(collector)))
    (normalise,) = collector.named("normalise")
    assert {told.split("-")[2] for told in carried(folder, "alerts")} == {normalise.span_id}
    assert {told.split("-")[2] for told in carried(folder, "pages")} == {told_of_the_page(collector)[0].span_id}


async def test_a_page_that_waited_over_a_restart_is_in_the_trace_of_its_webhook(
    folder: Path, collector: Collector
) -> None:
    async with pagerduty() as (emulator, url):
        settings = settings_of(url, folder, **traced(collector))
        emulator.faults.add(Fault(kind=FaultKind.STATUS_500, count=1_000_000))
        async with working(settings, folder, emulator, armed=True) as stand:
            await post(stand, traceparent=CALLER)
            await until(lambda: bool(collector.named("send trigger")))
        assert not emulator.account.alerts
        emulator.faults.clear()
        async with working(settings, folder, emulator, armed=True):
            await until(lambda: bool(told_of_the_page(collector)))
    failed, *_, sent = collector.named("send trigger")
    assert failed.failed
    assert not sent.failed
    assert failed.span_id != sent.span_id
    assert failed.parent_id == sent.parent_id
    found = chain(collector, told_of_the_page(collector)[0])
    assert tuple(span.name for span in found) == CHAIN
    assert {span.trace_id for span in found} == {CALLER.split("-")[1]}


async def test_whoever_wants_no_spans_gets_none(folder: Path, collector: Collector) -> None:
    async with standing(folder, **traced(collector)) as stand:
        await post(stand, traceparent=UNWANTED)
        await stand.until(lambda: stand.statuses == ["triggered"])
        await post(stand, "Slow", traceparent="garbage")
        await until(lambda: bool(collector.named("decide")))
    assert CALLER.split("-")[1] not in {span.trace_id for span in collector.spans}
    assert UNWANTED in carried(folder, "pages")


async def test_a_share_of_none_begins_no_trace_and_joins_those_of_others(folder: Path, collector: Collector) -> None:
    async with standing(folder, **traced(collector, ratio=0.0)) as stand:
        await post(stand)
        await stand.until(lambda: stand.statuses == ["triggered"])
        await post(stand, "Slow", traceparent=CALLER)
        await until(lambda: bool(collector.named("decide")))
    assert {span.trace_id for span in collector.spans} == {CALLER.split("-")[1]}


async def test_without_an_endpoint_nothing_is_traced_and_the_header_travels(folder: Path) -> None:
    async with standing(folder) as stand:
        await post(stand, traceparent=CALLER)
        await stand.until(lambda: stand.statuses == ["triggered"])
        metrics = samples((await stand.http.get("/metrics")).text)
    assert not any(name.startswith("streamproc_spans") for name in metrics)
    assert carried(folder, "alerts.raw") == [CALLER]
    assert {told.split("-")[1] for told in carried(folder, "pages")} == {CALLER.split("-")[1]}


async def test_a_collector_that_is_away_holds_nothing_up(folder: Path, collector: Collector) -> None:
    collector.status = 500
    async with standing(folder, **traced(collector)) as stand:
        await post(stand)
        await stand.until(lambda: stand.statuses == ["triggered"])

        async def failed() -> float:
            return samples((await stand.http.get("/metrics")).text)['streamproc_spans_total{result="failed"}']

        while not await failed():
            pass
    assert not collector.spans


async def test_the_latency_budget_is_told_by_node_and_type(folder: Path) -> None:
    async with standing(folder) as stand:
        await post(stand)
        await stand.until(lambda: stand.statuses == ["triggered"])
        metrics = samples((await stand.http.get("/metrics")).text)
    for node, event in (("normalise", "raw-alert.v1"), ("deliver", "escalation.v1")):
        labels = f'{{event="{event}",node="{node}"}}'
        assert metrics[f"streamproc_node_latency_seconds_count{labels}"] >= 1
        own, total = (metrics[f"streamproc_node_{name}_seconds_sum{labels}"] for name in ("share", "latency"))
        assert 0 <= own <= total
