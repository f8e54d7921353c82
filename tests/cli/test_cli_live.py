"""`streamproc status --live`: what the screen shows, where it looks, and how it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from streamproc import cli
from streamproc.commands.console import plain
from streamproc.commands.live import FromDesk, FromGateway, Look, follow, render
from streamproc.commands.scrape import Process, Scrape
from streamproc.commands.site import Directory
from streamproc.core.errors import StreamprocError, Transient
from streamproc.gateway.operations import Incidents
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.settings import Environment
from streamproc.views import PipelineStatus, WorkerStatus
from tests.cli.playing import Pipeline, call

METRICS = """
streamproc_ingest_alerts_total{{source="alertmanager"}} {alerts}
streamproc_deliveries_total{{action="trigger",verdict="delivered"}} {delivered}
streamproc_deliveries_total{{action="trigger",verdict="again"}} {again}
streamproc_delivery_oldest_seconds {oldest}
streamproc_events_received_total{{node="decide"}} {alerts}
streamproc_step_seconds_sum{{node="decide"}} {seconds}
streamproc_step_seconds_count{{node="decide"}} {alerts}
streamproc_decisions_total{{stage="escalate",reason="severity",intentional="true"}} {alerts}
streamproc_decisions_total{{stage="fold",reason="rejected",intentional="false"}} {again}
"""


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a working directory and an environment of its own."""
    monkeypatch.chdir(tmp_path)
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def firing(pipeline: Pipeline) -> Pipeline:
    pipeline.configure()
    pipeline.alert("DatabaseDown", service="db")
    pipeline.raw(b"{nonsense")
    return pipeline


def metrics(alerts: int, delivered: int = 0, again: int = 0, oldest: float = 0, seconds: float = 0) -> str:
    return METRICS.format(alerts=alerts, delivered=delivered, again=again, oldest=oldest, seconds=seconds)


def look(pipeline: Pipeline, at: float, text: str = "", *, runs: bool = True) -> Look:
    desk = SqliteDesk(pipeline.folder)
    return Look(at, runs, desk.status(), desk.incidents(), Scrape.of(text) if text else None)


def screen(last: Look, before: Look | None = None) -> list[str]:
    return plain(render("here", last, before)).splitlines()


def line(shown: list[str], begins: str) -> str:
    return " ".join(next(one for one in shown if one.startswith(begins)).split())


# -- the screen -------------------------------------------------------------------------------------------------------


def test_rates_are_those_since_the_look_before(firing: Pipeline) -> None:
    before, last = look(firing, 10.0, metrics(100)), look(firing, 12.0, metrics(150, 4, 0, 0, 0.001))
    shown = screen(last, before)
    assert line(shown, "alerts in") == "alerts in 25.0/s"
    assert line(shown, "requests to PagerDuty") == "requests to PagerDuty 2.0/s delivered 4"
    assert line(shown, "slowest node") == "slowest node decide 20 µs a record"
    assert line(shown, "decide").endswith("25.0")
    assert line(shown, "deduplicate").endswith("-"), "this process tells nothing of it"
    assert line(shown, "escalate") == "escalate severity 50"
    assert not any(one.startswith("fold") for one in shown)


def test_without_figures_of_a_process_the_rest_is_shown(firing: Pipeline) -> None:
    shown = screen(look(firing, 12.0, runs=False), look(firing, 10.0, runs=False))
    assert line(shown, "pipeline") == "pipeline not running here"
    assert any("not ready" in one and "no process of streamproc runs" in one for one in shown)
    assert line(shown, "alerts in") == "alerts in -"
    assert line(shown, "slowest node") == "slowest node -"
    assert line(shown, "open incidents") == "open incidents 1 1 would page"
    assert line(shown, "armed") == "armed no dry run, nothing pages"
    assert line(shown, "critical").endswith("DatabaseDown of db page (dry run): severity")
    assert "LATEST REASONS" not in "\n".join(shown)


def test_the_first_look_has_no_rates_and_no_reasons(firing: Pipeline) -> None:
    shown = screen(look(firing, 10.0, metrics(100)))
    assert line(shown, "alerts in") == "alerts in -"
    assert "LATEST REASONS" not in "\n".join(shown)


def test_an_idle_pipeline_has_no_slowest_node(firing: Pipeline) -> None:
    same = metrics(100)
    shown = screen(look(firing, 12.0, same), look(firing, 10.0, same))
    assert line(shown, "slowest node") == "slowest node -"
    assert line(shown, "alerts in") == "alerts in 0.0/s"


@pytest.mark.parametrize(
    ("again", "oldest", "said"),
    [
        pytest.param(0, 0, "waiting to send 0", id="PagerDuty answers"),
        pytest.param(0, 42, "waiting to send 0 the oldest for 42 s", id="something waits"),
        pytest.param(
            3, 90, "waiting to send 0 the oldest for 90 s, PagerDuty does not answer, or asks to wait", id="away"
        ),
    ],
)
def test_a_circuit_that_is_open_is_seen(firing: Pipeline, again: int, oldest: int, said: str) -> None:
    shown = screen(look(firing, 12.0, metrics(1, 0, again, oldest)), look(firing, 10.0, metrics(1)))
    assert line(shown, "waiting to send") == said


# -- where it looks ---------------------------------------------------------------------------------------------------


def answers(status: PipelineStatus, listed: Incidents, text: str) -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            return httpx.Response(200, text=text)
        assert request.headers["authorization"] == "Bearer secret"
        body = status if request.url.path == "/v1/status" else listed
        return httpx.Response(200, text=body.model_dump_json())

    return answer


def test_a_gateway_on_kafka_is_asked(firing: Pipeline) -> None:
    desk = SqliteDesk(firing.folder)
    worker = WorkerStatus(name="w", host="h", partitions=8)
    status = desk.status().model_copy(update={"workers": (worker,), "why_not": "the group moves partitions"})
    transport = httpx.MockTransport(answers(status, Incidents(incidents=desk.incidents(), next=None), metrics(7)))
    source = FromGateway(Process("http://gate", "secret", transport))
    seen = source.look()
    source.close()
    assert (seen.runs, seen.status, len(seen.incidents)) == (False, status, 1)
    assert seen.scrape is not None
    assert seen.scrape.total("streamproc_ingest_alerts_total") == 7
    assert "not ready the group moves partitions" in " ".join(plain(render(source.name, seen, None)).split())


def test_a_data_directory_is_read_and_its_process_asked_for_figures(firing: Pipeline) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, text=metrics(7))

    source = FromDesk(Directory(firing.folder), Process("http://here", transport=httpx.MockTransport(answer)))
    running = source.look()
    firing.close()
    stopped = source.look()
    source.close()
    assert (running.runs, running.scrape is not None, stopped.runs, stopped.scrape) == (True, True, False, None)
    assert asked == ["/metrics"], "nobody is asked where nobody works"


# -- again and again --------------------------------------------------------------------------------------------------


class Told:
    """A source that gives prepared looks, and fails where an error is prepared."""

    name = "told"

    def __init__(self, *prepared: Look | StreamprocError) -> None:
        self._prepared: Iterator[Look | StreamprocError] = iter(prepared)

    def look(self) -> Look:
        one = next(self._prepared)
        if isinstance(one, StreamprocError):
            raise one
        return one

    def close(self) -> None:
        """Nothing is open."""


def test_a_look_that_fails_is_said_and_tried_again(firing: Pipeline) -> None:
    source = Told(
        look(firing, 1.0, metrics(1)), Transient("nothing\nanswers"), look(firing, 3.0, metrics(1)), look(firing, 4.0)
    )
    shown: list[str] = []
    left = iter([True, True, False])
    follow(source, lambda one: shown.append(plain(one)), lambda: next(left))
    assert len(shown) == 3
    assert "ago: nothing answers" in shown[1]
    assert "ago:" not in shown[2]
    assert "alerts in              0.0/s" in shown[2]


def test_a_first_look_that_fails_ends_it() -> None:
    with pytest.raises(Transient):
        follow(Told(Transient("nothing answers")), lambda _: None, lambda: True)


def test_on_kafka_without_a_gateway_it_says_what_to_give() -> None:
    answer = call("status", "--live", "--kafka", "--url", "http://127.0.0.1:1")
    assert answer.exit_code == 5
    assert "nothing answers at http://127.0.0.1:1" in answer.output
    assert "give --url" in answer.output


MOST_SCREENS = 60
"""A screen that goes on for so long is not ended by what was typed."""


@pytest.mark.parametrize(("typed", "code"), [pytest.param(b"xq", 0, id="q"), pytest.param(b"\x03", 0, id="Ctrl-C")])
def test_a_key_ends_it_and_the_terminal_is_as_before(firing: Pipeline, typed: bytes, code: int) -> None:
    firing.close()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "streamproc", "status", "--live", "--data-dir", str(firing.folder)],
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  so that Ctrl-C is a signal
    )
    os.close(theirs)
    said, sent = "", False
    while said.count("ends it") < MOST_SCREENS and select.select([ours], [], [], 60)[0]:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so where the other side has closed
            break
        said += piece.decode(errors="replace")
        if not sent and "ends it" in said:
            os.write(ours, typed)
            sent = True
    os.close(ours)
    assert process.wait(30) == code, said
    assert "DatabaseDown" in said
    assert said.index("\x1b[?1049h") < said.index("\x1b[?1049l"), "the screen of before is shown again"


def test_where_no_terminal_is_it_writes_one_snapshot_after_the_other(firing: Pipeline) -> None:
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "streamproc", "status", "--live", "--data-dir", str(firing.folder)],
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    seen = 0
    for text in process.stdout:
        seen += text.startswith("pipeline ")
        assert "\x1b" not in text
        if seen == 2:
            process.send_signal(signal.SIGINT)
            break
    process.stdout.close()
    assert process.wait(30) == 0
