"""`streamproc health`: the report, its JSON and its page; and what a running process tells of itself."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from streamproc.commands import report
from streamproc.commands.common import OutsideRefused
from streamproc.commands.report import Health, gather, page
from streamproc.commands.scrape import Process, Scrape
from streamproc.commands.site import Directory
from streamproc.core.errors import Transient, Unusable
from streamproc.doctor.finding import Finding, State
from streamproc.settings import Environment
from streamproc.views import PipelineStatus
from tests.cli.playing import T0, Answers, Pipeline, call

HOSTILE = "<script>alert(1)</script>"
BEFORE = """
streamproc_ingest_alerts_total{source="alertmanager"} 100.0
streamproc_deliveries_total{action="trigger",verdict="delivered"} 5.0
streamproc_delivery_oldest_seconds 3.0
streamproc_step_seconds_sum{node="decide"} 1.0
streamproc_step_seconds_count{node="decide"} 10.0
streamproc_step_seconds_sum{node="normalise"} 1.0
streamproc_step_seconds_count{node="normalise"} 10.0
"""
AFTER = """
streamproc_ingest_alerts_total{source="alertmanager"} 140.0
streamproc_ingest_alerts_total{source="datadog"} 10.0
streamproc_deliveries_total{action="trigger",verdict="delivered"} 7.0
streamproc_delivery_oldest_seconds 42.0
streamproc_step_seconds_sum{node="decide"} 1.5
streamproc_step_seconds_count{node="decide"} 15.0
streamproc_step_seconds_sum{node="normalise"} 1.0
streamproc_step_seconds_count{node="normalise"} 10.0
"""


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a working directory and an environment of its own."""
    monkeypatch.chdir(tmp_path)
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def bad_day(pipeline: Pipeline) -> Pipeline:
    """Two incidents, a refused page, and two inputs that cannot be used."""
    pipeline.configure()
    pipeline.arm()
    pipeline.alert("DatabaseDown", service="db")
    pipeline.deliver(400, "Event object is invalid")
    for number in range(3):
        pipeline.alert("DiskWillFill", severity="warning", service="backup", instance=f"node-{number}")
    pipeline.raw(b"{nonsense")
    pipeline.raw(b"{nonsense")
    pipeline.alert(HOSTILE, severity="warning", service="web")
    pipeline.advance(seconds=2)
    return pipeline


def made(pipeline: Pipeline, *findings: Finding, after: timedelta = timedelta(hours=1)) -> Health:
    return gather(Directory(pipeline.folder), T0 + after, findings, (Scrape.of(BEFORE), Scrape.of(AFTER), 2.0))


# -- the report -------------------------------------------------------------------------------------------------------


def test_a_report_tells_what_happened(bad_day: Pipeline) -> None:
    told = made(bad_day)
    assert (told.running, told.status.open_incidents, told.incidents, told.complete) == (True, 3, 3, True)
    assert [(noise.rule, noise.alerts, noise.incidents, noise.pages) for noise in told.noisiest] == [
        ("DiskWillFill", 3, 1, 0),
        (HOSTILE, 1, 1, 0),
        ("DatabaseDown", 1, 1, 1),
    ]
    (refused,) = told.refused_pages
    assert (refused.status, refused.message, refused.destination) == (400, "Event object is invalid", "default")
    assert {one.reason: one.count for one in told.dead_letters}["not_json"] == 2
    assert told.versions["active config"] == "1"
    assert told.versions["active catalogue"] == "none"


def test_rates_are_those_between_two_looks(bad_day: Pipeline) -> None:
    told = made(bad_day)
    assert told.rates is not None
    assert (told.rates.alerts_in, told.rates.requests_out, told.oldest_waiting_seconds) == (25.0, 1.0, 42.0)


def test_without_a_process_rates_are_not_known(bad_day: Pipeline) -> None:
    bad_day.close()
    told = gather(Directory(bad_day.folder), T0)
    assert (told.running, told.rates, told.oldest_waiting_seconds, told.well) == (False, None, None, False)
    assert "no process" in told.status.why_not


def test_what_is_older_than_a_day_is_left_out(bad_day: Pipeline) -> None:
    told = made(bad_day, after=timedelta(hours=25))
    assert (told.incidents, told.noisiest, told.refused_pages) == (0, (), ())
    assert told.dead_letters, "they are kept until somebody looks"


def test_all_pages_of_the_lists_are_read(bad_day: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(bad_day)
    monkeypatch.setattr(report, "PAGE", 1)
    assert made(bad_day).model_dump() == whole.model_dump()


def test_a_report_says_that_there_is_more(bad_day: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", 1)
    monkeypatch.setattr(report, "MOST", 2)
    told = made(bad_day)
    assert (told.complete, told.incidents) == (False, 2)
    assert "there is more than was looked at" in page(told)


def test_a_fault_makes_it_unwell(bad_day: Pipeline) -> None:
    assert made(bad_day, Finding("a", State.WARN, "hm")).well
    assert not made(bad_day, Finding("a", State.FAIL, "no")).well


# -- the page ---------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Collects tags, and what they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_loads_nothing_and_runs_nothing(bad_day: Pipeline) -> None:
    shown = page(made(bad_day, Finding("clock", State.FAIL, f"behind {HOSTILE}", "run <b>NTP</b>")))
    tags = Tags()
    tags.feed(shown)
    assert tags.loaded == []
    assert not {"script", "b", "link", "img"} & set(tags.tags)
    assert "url(" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "prefers-color-scheme: dark" in shown


def test_the_page_tells_what_the_report_has(bad_day: Pipeline) -> None:
    shown = page(made(bad_day, Finding("disk", State.WARN, "little is free", "free some"), Finding("x", State.OK, "y")))
    for part in ("DiskWillFill", "Event object is invalid", "not_json", "little is free", "free some", "42 s", "25.0"):
        assert part in shown


def test_the_page_of_an_empty_pipeline(pipeline: Pipeline) -> None:
    pipeline.close()
    shown = page(gather(Directory(pipeline.folder), T0))
    assert "No alert began." in shown
    assert "Every input could be used." in shown
    assert "no process of streamproc runs" in shown


# -- the command ------------------------------------------------------------------------------------------------------


def test_health_for_people(bad_day: Pipeline) -> None:
    answer = call("health", "--data-dir", str(bad_day.folder))
    assert answer.exit_code == 0, answer.output
    assert "dead letters       not_json 2" in answer.output
    assert "open incidents     3" in answer.output


def test_health_of_what_does_not_run_is_a_problem(bad_day: Pipeline) -> None:
    bad_day.close()
    answer = call("health", "--data-dir", str(bad_day.folder), "--json")
    assert answer.exit_code == 1
    assert json.loads(answer.output)["running"] is False


def test_a_full_report_is_written_for_its_owner_alone(bad_day: Pipeline) -> None:
    prepared: dict[str, tuple[int, object]] = {
        "/ready": (200, {"ready": True, "why_not": ""}),
        "/metrics": (200, BEFORE),
    }
    with Answers(prepared) as answers:
        Path("streamproc.yaml").write_text(f"pagerduty: {{api: {{base_url: '{answers.url}'}}}}\n", encoding="utf-8")
        arguments = ("--data-dir", str(bad_day.folder), "--url", answers.url)
        answer = call("health", "--full", "--report", "made", *arguments)
    assert answer.exit_code == 1, "there is no routing key"
    told = json.loads(Path("made/health.json").read_text(encoding="utf-8"))
    assert told["rates"]["alerts_in"] == 0.0
    assert {"check": "destinations", "state": "fail"}.items() <= next(
        one for one in told["findings"] if one["state"] == "fail"
    ).items()
    assert "FOUND BY THE DOCTOR" in answer.output
    assert "requests out       0.0/s" in answer.output
    assert Path("made/health.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    for file in Path("made").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_full_report_of_what_does_not_answer(bad_day: Pipeline) -> None:
    bad_day.close()
    answer = call("health", "--full", "--url", "http://127.0.0.1:1", "--data-dir", str(bad_day.folder))
    assert answer.exit_code == 1
    assert "not running" in answer.output
    assert "alerts in" not in answer.output


def test_what_waits_is_told_with_its_age(bad_day: Pipeline) -> None:
    with Answers({"/metrics": (200, AFTER), "/ready": (200, {"ready": True, "why_not": ""})}) as answers:
        answer = call("health", "--full", "--url", answers.url, "--data-dir", str(bad_day.folder))
    assert ", the oldest for 42 s" in answer.output


def test_a_report_that_cannot_be_written(bad_day: Pipeline) -> None:
    Path("taken").write_text("x", encoding="utf-8")
    answer = call("health", "--data-dir", str(bad_day.folder), "--report", "taken/below")
    assert answer.exit_code == 2
    assert "taken/below cannot be written" in answer.output


# -- what a process tells ---------------------------------------------------------------------------------------------


def test_a_counter_that_began_anew_counts_from_zero() -> None:
    before, after = Scrape.of("x_total 100"), Scrape.of("x_total 7")
    assert after.grown(before, "x_total") == {(): 7.0}
    assert after.total("y_total") is None


def test_the_slowest_node_is_that_of_the_time_between() -> None:
    before, after = Scrape.of(BEFORE), Scrape.of(AFTER)
    assert after.slowest(before) == ("decide", 0.1)
    assert after.slowest(after) is None


def process(status: int, text: str) -> Process:
    return Process("http://gate/", "secret", httpx.MockTransport(lambda _: httpx.Response(status, text=text)))


@pytest.mark.parametrize(
    ("status", "text"),
    [pytest.param(500, "x 1", id="a failure"), pytest.param(200, "<html>no metrics</html>", id="no metrics")],
)
def test_metrics_that_are_not_answered(status: int, text: str) -> None:
    asked = process(status, text)
    assert asked.scrape() is None
    asked.close()


def test_metrics_of_nobody() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    asked = Process("http://gate", transport=httpx.MockTransport(refuse))
    assert asked.scrape() is None
    with pytest.raises(Transient, match="nothing answers at http://gate: refused; give --url"):
        asked.ask("/v1/status", PipelineStatus)
    asked.close()


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        pytest.param(401, "{}", OutsideRefused, id="without a token"),
        pytest.param(200, "{}", Unusable, id="another program"),
        pytest.param(500, "oops", Unusable, id="a failure"),
    ],
)
def test_an_api_that_does_not_answer(status: int, text: str, error: type[Exception]) -> None:
    asked = process(status, text)
    with pytest.raises(error):
        asked.ask("/v1/status", PipelineStatus)
    asked.close()
