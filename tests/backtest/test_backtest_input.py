"""Inputs that are out of order, broken, or none."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamproc.backtest import output as places
from streamproc.backtest.figures import Inputs, report
from streamproc.backtest.inputs import Window, duration, find, moment, window
from streamproc.backtest.page import render
from streamproc.backtest.reading import NAMED, Line, Recording, Tally, opened, traffic
from streamproc.backtest.replay import Replay
from streamproc.cli import app
from streamproc.commands.backtest import asked_to_stop
from streamproc.commands.reasons import sentence
from streamproc.core.errors import Unusable
from streamproc.settings import load
from tests.backtest.recording import T0, alert, at, backtest, backtest_packed, jsonl, line, recording, run


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAGERDUTY_ROUTING_KEY", raising=False)


def lines(*seconds: float) -> Recording:
    return recording(line(second) for second in seconds)


def moments(found: Iterator[Line]) -> list[float]:
    return [(one.at - T0).total_seconds() for one in found]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_lines_are_played_in_order_of_time_and_then_of_the_file(seconds: list[int]) -> None:
    found = list(traffic(lines(*seconds), Tally()))
    assert [(one.at, one.number) for one in found] == sorted((one.at, one.number) for one in found)
    assert sorted(one.number for one in found) == list(range(1, len(seconds) + 1))


def test_a_line_within_the_bound_is_put_into_its_place() -> None:
    tally = Tally()
    assert moments(traffic(lines(2, 3, 1, 4), tally, most=2)) == [1, 2, 3, 4]
    assert (tally.reordered, tally.lines) == (1, 4)


def test_large_bodies_are_held_back_for_less_long() -> None:
    with pytest.raises(Unusable, match=r"line 3: .* behind its place"):
        list(traffic(lines(2, 3, 1), Tally(), most_bytes=1))


def test_a_line_beyond_the_bound_is_an_error_that_names_it() -> None:
    with pytest.raises(Unusable, match=r"raw.jsonl, line 4: .* more than 2 lines or 64 MB behind its place"):
        list(traffic(lines(2, 3, 4, 1), Tally(), most=2))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param("{", "it is not JSON", id="broken JSON"),
        pytest.param("[1]", "it is no object", id="a list"),
        pytest.param('{"source": "alertmanager", "body": {}}', "it is no object", id="no time"),
        pytest.param('{"at": 5, "body": {}}', "it is no object", id="a time that is a number"),
        pytest.param('{"at": "today", "body": {}}', "its time 'today' is none", id="no time at all"),
        pytest.param('{"at": "2026-03-01T12:00:00", "body": {}}', "has no UTC offset", id="no offset"),
        pytest.param('{"at": "0001-01-01T00:00:00+09:00", "body": {}}', "out of range", id="outside the calendar"),
        pytest.param(
            json.dumps({"at": at(0), "source": "nagios", "body": {}}),
            "there is no source 'nagios'; known are alertmanager, datadog, generic",
            id="an unknown source",
        ),
    ],
)
def test_a_bad_line_is_named_skipped_and_counted(tmp_path: Path, bad: str, why: str) -> None:
    done = backtest(tmp_path, [line(0, alert("Down")), bad, "", line(5, alert("Slow"))])
    assert done.result.exit_code == 0
    assert "line 2 is left out" in done.told
    assert why in done.told
    assert done.report["input"]["bad_lines"]["count"] == 1
    assert done.report["input"]["lines"] == 2
    assert len(done.lines("decisions")) == 2


def test_many_bad_lines_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    done = backtest(tmp_path, [line(0, alert("Down")), *("{" for _ in range(NAMED + 5))])
    bad = done.report["input"]["bad_lines"]
    assert (bad["count"], len(bad["first"])) == (NAMED + 5, NAMED)
    assert f"{NAMED + 2} more" in done.told


def test_an_alert_that_the_pipeline_refuses_is_counted(tmp_path: Path) -> None:
    done = backtest(tmp_path, [line(0, alert("Down"), {"status": "firing"}), line(1)])
    assert done.report["dead_letters"]["count"] == 1
    assert done.report["dead_letters"]["by_reason"] == {"no_labels": 1}
    assert "1 refused by the pipeline; the first: normalise: no_labels" in done.told
    assert "dead letters" in done.files["report.html"].decode()


@pytest.mark.parametrize(
    ("recorded", "files", "message"),
    [
        pytest.param([], {}, "raw.jsonl is empty", id="an empty file"),
        pytest.param(["", " "], {}, "raw.jsonl is empty", id="empty lines"),
        pytest.param(["{", "{"], {}, "none of its lines can be used (2 bad); line 1: it is not JSON", id="no line"),
        pytest.param([line(0)], {"config": "pagerduty: {colour: red}"}, "colour", id="a setting that is none"),
        pytest.param([line(0)], {"config": "{"}, "config", id="settings that are no YAML"),
        pytest.param([line(0)], {"topology": "{"}, "Invalid JSON", id="a topology that is no JSON"),
        pytest.param(
            [line(0)], {"topology": '{"edges": [{"from": "a"}]}'}, "edges.0.to: Field required", id="half an edge"
        ),
        pytest.param([line(0)], {"topology": "[]"}, 'a topology is {"edges"', id="a topology of another shape"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(
    tmp_path: Path, recorded: list[Any], files: dict[str, str], message: str
) -> None:
    given = {}
    for name, text in files.items():
        given[name] = tmp_path / name
        given[name].write_text(text)
    done = backtest(tmp_path, recorded, **given)
    assert done.result.exit_code == 2
    assert message in done.told
    assert done.result.stderr.count("\n") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["raw.jsonl", *files])


@pytest.mark.parametrize("name", ["topology", "feedback"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    done = backtest(tmp_path, [line(0)], **{name: tmp_path / "nowhere"})
    assert done.result.exit_code == 2
    assert f"{tmp_path / 'nowhere'} cannot be read" in done.told
    assert not done.folder.exists()


def test_a_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = backtest(tmp_path, [line(0)])
    (tmp_path / "raw.jsonl").unlink()
    with pytest.raises(Unusable, match="cannot be read"), opened(tmp_path / "raw.jsonl") as found:
        list(found)
    assert done.result.exit_code == 0


def test_gzip_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    recorded = [line(0, alert("Down")), line(5, alert("Slow"))]
    packed = backtest_packed(tmp_path, recorded)
    assert packed.files == backtest(tmp_path / "plain", recorded).files


def test_gzip_that_is_cut_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    whole = tmp_path / "raw.jsonl"
    backtest_packed(tmp_path, [line(n, alert(f"Down{n}")) for n in range(50)])
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(Unusable, match=r"raw\.jsonl cannot be read"), opened(whole) as found:
        list(found)


def test_an_earlier_backtest_is_replaced(tmp_path: Path) -> None:
    backtest(tmp_path, [line(0, alert("Down"))])
    again = backtest(tmp_path, [line(0, alert("Slow"))])
    assert again.lines("pages")[0]["body"]["payload"]["summary"] == "Slow of db"
    assert set(again.files) == places.FILES - {"difference.json"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "thesis.txt").write_text("years of work")
    done = backtest(tmp_path, [line(0, alert("Down"))])
    assert done.result.exit_code == 2
    assert "holds something else" in done.told
    assert done.files == {"thesis.txt": b"years of work"}


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="cannot be written"), places.written(tmp_path / "file" / "output"):
        pass


def test_ctrl_c_leaves_what_was_done_marked_incomplete(tmp_path: Path) -> None:
    def recorded() -> Iterator[Line]:
        yield from traffic(recording([line(0, alert("Down"))]), Tally())
        os.kill(os.getpid(), signal.SIGINT)
        yield from traffic(recording([line(5, alert("Slow", "web"))]), Tally())

    before = signal.getsignal(signal.SIGINT)
    with places.written(tmp_path / "output") as files, asked_to_stop() as stop:
        replay = Replay(load(None), None, files)
        assert replay.run(recorded(), (), stop) is False
    assert signal.getsignal(signal.SIGINT) is before
    assert replay.ledger.totals.incidents == 1
    assert (tmp_path / "output" / "incidents.jsonl").read_text().count("\n") == 1
    figures = report(replay, Inputs(Tally(), Tally(), frozenset(), has_catalogue=False), complete=False)
    assert figures["complete"] is False
    assert "Not complete." in render(figures, replay.ledger.stories, sentence).decode()


def test_an_input_that_is_no_file_is_named(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing.jsonl")
    assert done.result.exit_code == 2
    assert "nothing.jsonl is no file, no folder" in done.told


# -- which stretch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("90s", -90, id="seconds"),
        pytest.param("15m", -900, id="minutes"),
        pytest.param("6h", -21_600, id="hours"),
        pytest.param("7d", -604_800, id="days"),
        pytest.param("2w", -1_209_600, id="weeks"),
        pytest.param("2026-03-01T12:00:30Z", 30, id="a moment"),
        pytest.param("2026-03-01T14:00:00+02:00", 0, id="a moment elsewhere"),
    ],
)
def test_a_moment_is_told_or_so_long_ago(text: str, seconds: float) -> None:
    assert moment(text, T0) == T0 + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        pytest.param("yesterday", None, "'yesterday' is no duration", id="words"),
        pytest.param("7", None, "'7' is no duration", id="no unit"),
        pytest.param("2026-03-01T12:00:00", None, "has no UTC offset", id="no offset"),
        pytest.param("1h", "2h", "--from 1h is not before --to 2h", id="the wrong way round"),
        pytest.param("2026-04-01T12:00:00Z", None, "is not before now", id="to come"),
    ],
)
def test_a_stretch_that_is_none_is_told(since: str, until: str | None, said: str) -> None:
    with pytest.raises(Unusable, match=said):
        window(since, until, T0)


def test_an_open_end_stays_open() -> None:
    assert window(None, None, T0) == Window()
    assert window("1h", None, T0) == Window(T0 - timedelta(hours=1))
    assert window(None, "1h", T0) == Window(None, T0 - timedelta(hours=1))
    assert duration(" 1d ") == timedelta(days=1)


@pytest.mark.parametrize(
    ("named", "options", "said"),
    [
        pytest.param("raw.jsonl", ["--from", "7d"], "a file is replayed as a whole", id="a window of a file"),
        pytest.param("raw.jsonl", ["--step", "1m"], "--step goes with a Prometheus only", id="steps of a file"),
        pytest.param(".", [], "holds no data of streamproc", id="another folder"),
        pytest.param("ftp://x", [], "is no file, no folder, not `kafka` and no address", id="another address"),
    ],
)
def test_what_does_not_go_together_is_told_and_nothing_is_written(
    named: str, options: list[str], said: str, tmp_path: Path
) -> None:
    jsonl(tmp_path / "raw.jsonl", [line(0, alert("Down"))])
    result = CliRunner().invoke(app, ["backtest", "--input", named, "--output", "out", *options])
    assert (result.exit_code, said in " ".join(result.stderr.split())) == (2, True), result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["raw.jsonl"]


def test_a_file_can_be_played_more_than_once(tmp_path: Path) -> None:
    source = find(str(jsonl(tmp_path / "raw.jsonl", [line(0, alert("Down"))])), load(None), Window(), None, T0)
    for _ in range(2):
        with source.open(Tally()) as playable:
            (one,) = playable.lines
        assert (one.read, source.unit, source.inboxes) == (playable.total, "bytes", None)


# -- Ctrl-C ----------------------------------------------------------------------------------------------------------

LONG = 30_000
"""Alerts that page, far more than are decided until somebody presses Ctrl-C."""


def test_ctrl_c_on_a_terminal_leaves_what_was_done(tmp_path: Path) -> None:
    """The bar is what is waited for: it shows a share, a rate and the time left."""
    recorded = jsonl(tmp_path / "raw.jsonl", (line(60 * n, alert(f"Down{n}", f"s{n}")) for n in range(LONG)))
    shown, stopped = interrupted(["--input", str(recorded), "--output", str(tmp_path / "out")], rb"\d+%.*MB/s")
    assert stopped.returncode == 130, shown
    assert "Interrupted: this is what was decided until then." in shown
    assert re.search(r"\d+:\d\d", shown)
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["complete"] is False
    assert 0 < told["funnel"]["pages"] < LONG
    assert (tmp_path / "out" / "pages.jsonl").read_text().count("\n") == told["funnel"]["pages"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "raw.jsonl"]


def interrupted(options: list[str], seen: bytes) -> tuple[str, subprocess.Popen[bytes]]:
    """Run a backtest whose standard error is a terminal, and press Ctrl-C once that shows something."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "streamproc", "backtest", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)  # noqa: S603
    os.close(theirs)
    shown, asked = b"", False
    try:
        while read := _read(ours):
            shown += read
            if not asked and re.search(seen, shown, re.DOTALL):
                asked = True
                process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        process.kill()
        os.close(ours)
    return shown.decode(), process


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody holds the other side any more
        return b""
