"""A page that was, or was not, becomes a case that passes under the settings that decided it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from streamproc.cli import app
from streamproc.core.errors import Unusable
from streamproc.events.feedback import FeedbackKind
from streamproc.policytest.capturing import settings_of
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.settings import load
from tests.policytest.pipeline import Live, alert


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAGERDUTY_ROUTING_KEY", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def live(play: Callable[[Live], None], settings: Mapping[str, Any] | None = None) -> str:
    """Let something happen in the data directory `d`; return the newest incident."""
    pipeline = Live(Path("d"), settings)
    play(pipeline)
    name = pipeline.newest()
    pipeline.close()
    return name


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["test", *words])


def paged(pipeline: Live) -> None:
    pipeline.post(0, alert("Other", "web"), alert("Down", "db"))
    pipeline.post(5, alert("Down", "db"), alert("Slow", "db", severity="warning"))
    pipeline.post(6, alert("Down", "db"))
    pipeline.answer(7, FeedbackKind.ACKNOWLEDGED)
    pipeline.post(
        20, alert("Down", "db", status="resolved"), alert("Slow", "db", severity="warning", status="resolved")
    )
    pipeline.advance(21)


def held(pipeline: Live) -> None:
    pipeline.post(0, alert("Blip", "db"))
    pipeline.post(1, alert("Blip", "db", status="resolved"))
    pipeline.post(2, {**alert("Blip", "db"), "startsAt": "2026-03-01T12:02:00Z"})
    pipeline.post(3, alert("Blip", "db", status="resolved"))


def below(pipeline: Live) -> None:
    pipeline.post(0, alert("Odd", "db", severity="info"))
    pipeline.post(9, alert("Odd", "db", severity="info", status="resolved"))


@pytest.mark.parametrize(
    ("play", "expected"),
    [
        pytest.param(paged, {"page": {"service": "db"}, "at_least": 1}, id="an acknowledged page"),
        pytest.param(held, {"page": {"service": "db"}, "at_least": 1}, id="one that came back and was held"),
        pytest.param(below, {"no_page": {}}, id="one that nobody was called for"),
    ],
)
def test_the_written_case_passes_at_once(play: Callable[[Live], None], expected: dict[str, Any]) -> None:
    name = live(play)
    written = run("--from", name, "--data-dir", "d", "case.test.yaml")
    assert written.exit_code == 0, written.output
    (case,) = yaml.safe_load(Path("case.test.yaml").read_text())["cases"]
    assert name in case["about"]
    assert case["expect"][0] == expected
    assert run("case.test.yaml").exit_code == 0


def test_a_silenced_page_names_its_silence() -> None:
    def play(pipeline: Live) -> None:
        pipeline.silence(0, 'service="db"', 90)
        pipeline.post(1, alert("Down", "db"))
        pipeline.post(2, alert("Down", "db", status="resolved"))

    assert run("--from", live(play), "--data-dir", "d", "case.test.yaml").exit_code == 0
    (case,) = yaml.safe_load(Path("case.test.yaml").read_text())["cases"]
    assert case["events"][0]["silence"]["matchers"] == ['service="db"']
    assert {"muted": {"by": "silence:works"}} in case["expect"]
    assert run("case.test.yaml").exit_code == 0


def test_a_silence_that_was_ended_ends_in_the_case() -> None:
    def play(pipeline: Live) -> None:
        pipeline.silence(-5, 'service="db"', 90)
        pipeline.silence(-4, 'service="web"', 90, name="maintenance:other")
        pipeline.post(0, alert("Down", "db", place="~tilde"))
        pipeline.silence(10, 'service="db"', 90, version=2, withdrawn=True)
        pipeline.silence(11, 'service="db"', 60, name="maintenance:late")
        pipeline.answer(12, FeedbackKind.RESOLVED)
        pipeline.post(20, alert("Down", "db", status="resolved", place="~tilde"))

    written = run("--from", live(play), "--data-dir", "d", "case.test.yaml")
    assert written.exit_code == 0, written.output
    (case,) = yaml.safe_load(Path("case.test.yaml").read_text())["cases"]
    assert [next(iter(event.keys() - {"at", "by", "source"})) for event in case["events"]] == [
        "silence",
        "body",
        "expire",
        "silence",
        "close",
        "body",
    ]
    assert case["events"][3]["silence"]["maintenance"] is True
    assert run("case.test.yaml").exit_code == 0


def test_an_event_of_datadog_becomes_a_case() -> None:
    def play(pipeline: Live) -> None:
        event = {"alert_id": 42, "title": "Disk is full", "tags": "service:disk", "alert_priority": "P1"}
        for minutes, transition in ((0, "Triggered"), (5, "Renotify"), (6, "Recovered")):
            pipeline.request(minutes, "datadog", {**event, "id": f"e{minutes}", "alert_transition": transition})
        pipeline.request(7, "generic", "no alert")

    assert run("--from", live(play), "--data-dir", "d", "case.test.yaml").exit_code == 0
    assert run("case.test.yaml").exit_code == 0


def test_what_the_log_does_not_hold_any_more_is_said() -> None:
    name = live(below)
    with sqlite3.connect("d/streamproc.db") as db:
        db.execute("DELETE FROM log WHERE topic=(SELECT number FROM topics WHERE name='alerts.raw')")
    db.close()
    done = run("--from", name, "--data-dir", "d")
    assert (done.exit_code, "does not hold the requests" in done.stderr) == (2, True)


def test_without_the_settings_of_then_those_of_now_are_taken() -> None:
    name = live(paged)
    with sqlite3.connect("d/streamproc.db") as db:
        db.execute("DELETE FROM log WHERE topic=(SELECT number FROM topics WHERE name='versions')")
    db.close()
    done = run("--from", name, "--data-dir", "d")
    assert (done.exit_code, "those of now are taken" in done.stderr) == (0, True)
    Path("quiet.yaml").write_text("escalate: {page: []}")
    done = run("--from", name, "--data-dir", "d", "--config", "quiet.yaml")
    assert (done.exit_code, "does not come to what it came to then" in done.stderr) == (2, True)


def test_settings_of_another_version_are_refused() -> None:
    with pytest.raises(Unusable, match="another version"):
        settings_of('{"escalate": {"gone": 1}}')


def test_only_its_own_alerts_are_in_it_without_repeats_and_without_secrets() -> None:
    def play(pipeline: Live) -> None:
        pipeline.post(0, alert("Other", "web", severity="info"), alert("Down", "db"))
        for minute in range(1, 9):
            pipeline.post(minute, alert("Down", "db"))
        pipeline.answer(9, FeedbackKind.ACKNOWLEDGED)
        pipeline.post(10, alert("Down", "db", status="resolved"))

    live(play)
    written = run("--from", live_id(Path("d"), "Down"), "--data-dir", "d")
    assert written.exit_code == 0, written.output
    text = written.stdout
    assert "Other" not in text
    assert "anna@example.com" not in text
    assert "s3cr3t-of-ours" not in text
    events = yaml.safe_load(text)["cases"][0]["events"]
    assert [(event["at"], "acknowledge" in event) for event in events] == [("0s", False), ("9m", True), ("10m", False)]


def live_id(folder: Path, title: str) -> str:
    return next(one.incident_id for one in SqliteDesk(folder).incidents("all") if title in one.title)


def test_a_regretted_page_is_expected_not_to_come_again() -> None:
    name = live(paged)
    assert run("--from", name, "--data-dir", "d", "--expect", "no-page", "case.test.yaml").exit_code == 0
    failed = run("case.test.yaml")
    assert failed.exit_code == 1
    assert "expected no page" in failed.output
    quiet = Path("quiet.yaml")
    quiet.write_text("escalate: {page: []}")
    assert run("case.test.yaml", "--config", "quiet.yaml").exit_code == 0


def test_the_settings_that_decided_it_are_those_of_the_log_not_of_now() -> None:
    name = live(below, {"escalate": {"page": ["info"]}, "pagerduty": {"incidents": {"escalation_timeout": 60}}})
    assert run("--from", name, "--data-dir", "d", "case.test.yaml").exit_code == 0
    (case,) = yaml.safe_load(Path("case.test.yaml").read_text())["cases"]
    assert case["expect"][0]["page"] == {"service": "db"}
    assert run("case.test.yaml").exit_code == 1
    Path("then.yaml").write_text("escalate: {page: [info]}")
    assert run("case.test.yaml", "--config", "then.yaml").exit_code == 0


def test_settings_come_back_from_the_log_as_they_were() -> None:
    given = load(None, {"environment": "prod", "correlate": {"hops": 2}, "escalate": {"page": ["critical"]}})
    assert settings_of(given.stages()).stages() == given.stages()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--from", "nobody"], "no incident is called 'nobody'", id="no such incident"),
        pytest.param(["--from", "in:v1", "a", "b"], "--from writes one file", id="two files"),
    ],
)
def test_what_cannot_be_written_is_said(words: list[str], said: str) -> None:
    live(below)
    done = run(*words, "--data-dir", "d")
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_folder_that_does_not_exist_is_made() -> None:
    assert run("--from", live(below), "--data-dir", "d", "new/policies").exit_code == 0
    (file,) = Path("new/policies").iterdir()
    assert file.name.endswith(".test.yaml")
    assert run("new").exit_code == 0


def test_a_folder_that_cannot_be_made_is_said() -> None:
    Path("file").touch()
    done = run("--from", live(below), "--data-dir", "d", "file/policies")
    assert (done.exit_code, "file/policies cannot be made" in done.stderr) == (2, True)


def test_a_file_is_never_written_over() -> None:
    name = live(below)
    Path("case.test.yaml").write_text("mine")
    done = run("--from", name, "--data-dir", "d", "case.test.yaml")
    assert (done.exit_code, Path("case.test.yaml").read_text()) == (2, "mine")
    Path("cases").mkdir()
    assert run("--from", name, "--data-dir", "d", "cases").exit_code == 0
    assert [file.name.startswith("odd-of-db") for file in Path("cases").iterdir()] == [True]
