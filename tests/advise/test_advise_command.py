from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rich.console import Group
from typer.testing import CliRunner, Result

from streamproc.advise.change import Change
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.telling import as_json
from streamproc.advise.trying import Present, Trials
from streamproc.advise.weighing import Verdict, Weighed
from streamproc.backtest.inputs import Window, find
from streamproc.backtest.reading import Tally, judgements
from streamproc.cli import app
from streamproc.commands.advise import _tried
from streamproc.commands.advised import Advice
from streamproc.commands.advised import told as shown
from streamproc.commands.console import plain
from streamproc.settings import load
from tests.advise.pages import evidence
from tests.advise.weeks import T0, day, fired, judged, said, traffic
from tests.backtest.recording import jsonl

DEPENDS = {"services": {"portal": {"depends_on": ["edge"]}}}


def run(folder: Path, *more: str, lines: list[Any] | None = None) -> Result:
    recorded = jsonl(folder / "raw.jsonl", traffic() if lines is None else lines)
    heard = jsonl(folder / "said.jsonl", said())
    settings = folder / "streamproc.yaml"
    settings.write_text("# ours\nenvironment: prod\n")
    given = ["--input", str(recorded), "--feedback", str(heard), "--config", str(settings)]
    return CliRunner().invoke(app, ["advise", *given, *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("advise")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    """What is advised of nine days of which the right answer is known."""
    result = run(folder, "--json", "--write", str(folder / "advice"))
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def by_kind(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in told["proposals"]}


def test_what_is_known_of_these_days_is_what_is_advised(told: dict[str, Any]) -> None:
    assert [each["kind"] for each in told["proposals"]] == ["comes_back", "needless", "together", "unowned"]
    found = by_kind(told)
    assert found["comes_back"]["change"] == {"pagerduty": {"incidents": {"auto_resolve_threshold": 600}}}
    assert found["together"]["change"] == {"services.yaml": DEPENDS}
    assert found["unowned"]["change"]["services.yaml"]["services"]["batch"] == {"owner": "storage"}
    assert told["recording"]["acted_upon"] == 10
    assert told["complete"]


def test_a_rule_that_people_acted_upon_is_never_quieted(told: dict[str, Any]) -> None:
    rules = [rule for each in told["proposals"] for rule in each["change"].get("normalise", {}).get("rules", ())]
    assert [rule["name"] for rule in rules] == ["advise: DiskPredicted"]
    assert all(each["misses"]["acted_upon"] == 0 for each in told["proposals"])
    assert all(each["misses"]["acted_upon_not_at_their_time"] == 0 for each in told["proposals"])


def test_both_parts_of_the_recording_are_told(told: dict[str, Any]) -> None:
    quiet = by_kind(told)["needless"]
    assert quiet["verdict"] == "confirmed"
    assert quiet["saves"]["first_two_thirds"] == {"pages": 42, "less": 6, "more": 0, "missed": 6}
    assert quiet["saves"]["last_third"] == {"pages": 24, "less": 3, "more": 0, "missed": 3}


def test_all_at_once_is_backtested_too(told: dict[str, Any]) -> None:
    apart = sum(each["saves"]["pages"] for each in told["proposals"])
    assert told["all_at_once"]["saves"]["pages"] == apart == 43
    assert told["all_at_once"]["refused"] is None


def test_what_is_written_can_be_tried_as_it_is(folder: Path, told: dict[str, Any]) -> None:
    files = [each["file"] for each in told["files"]]
    names = [Path(each).name for each in files]
    assert names == [
        "01-comes-back.yaml", "02-needless-DiskPredicted.yaml", "03-together.yaml", "04-unowned.yaml", "all.yaml",
    ]  # fmt: skip
    for file in files:
        assert load(Path(file)).environment == "prod"
        assert Path(file).read_text().startswith("# streamproc advise: ")
    recorded, heard = folder / "raw.jsonl", folder / "said.jsonl"
    given = ["--config", str(folder / "streamproc.yaml"), "--against", files[1]]
    assert told["files"][1]["try"][1] == f"streamproc shadow start {files[1]}"
    result = CliRunner().invoke(
        app,
        ["backtest", "--input", str(recorded), "--feedback", str(heard), *given, "--output", str(folder / "report")],
    )
    assert "02-needless-DiskPredicted.yaml would page 57 times instead of 66: 9 pages less" in result.stdout


SHORT = [*fired("DiskFull", "db", 0, 5), *fired("DiskFull", "db", 60, 5)]


def test_what_a_person_reads(tmp_path: Path) -> None:
    few = ["--most", "1", "--write", str(tmp_path / "advice")]
    result = run(tmp_path, *few)
    assert result.exit_code == 0
    text = result.stdout
    assert "1 proposal from 8 d 11 h and 66 pages, 10 of them acted upon" in text
    assert "1         -25 pages  Reopen what comes back within 10 min, and do not page it anew: QueueLag" in text
    assert "15 of 42 pages in the first two thirds, which proposed it; 10 of 24 in the last third: confirmed" in text
    assert "keep_firing_for: 7m" in text
    assert "3 more candidates were not tried; --most takes more." in text
    assert f"--against {tmp_path}/advice/01-comes-back.yaml --output report" in text
    assert f"streamproc shadow start {tmp_path}/advice/01-comes-back.yaml" in text


def test_without_answers_needless_rules_are_not_looked_for(tmp_path: Path) -> None:
    lines = [*SHORT, "no json"]
    recorded = jsonl(tmp_path / "raw.jsonl", lines)
    result = CliRunner().invoke(app, ["advise", "--input", str(recorded)])
    assert result.exit_code == 0
    assert "needless rules are not looked for" in result.stdout
    assert "The recording is shorter than a week" in result.stdout
    assert "--write DIR leaves a settings file" in result.stdout
    assert "1 bad line left out; the first, line 5: it is not JSON" in result.stderr


def test_what_would_delay_a_page_that_was_acted_upon_is_refused(tmp_path: Path) -> None:
    lines: list[Any] = []
    heard: list[Any] = []
    for number in range(9):  # flaps, 4 minutes on and 8 off; the last one of each day stays, and is acted upon
        for again, lasts in enumerate((4, 4, 4, 4, 60)):
            lines += fired("QueueLag", "queue", day(number) + 12 * again, lasts)
        heard.append(judged("QueueLag", "queue", day(number) + 48))
    recorded, said_ = jsonl(tmp_path / "raw.jsonl", lines), jsonl(tmp_path / "said.jsonl", heard)
    result = CliRunner().invoke(app, ["advise", "--input", str(recorded), "--feedback", str(said_)])
    assert "NOT PROPOSED" in result.stdout
    assert "Let what flaps settle for 5 min: QueueLag" in result.stdout
    assert "9 pages that people acted upon would not be said at their time" in result.stdout


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "advice").mkdir()
    (tmp_path / "advice" / "mine").touch()
    result = run(tmp_path, "--write", str(tmp_path / "advice"), lines=SHORT)
    assert result.exit_code == 2
    assert "holds something already" in result.stderr


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path, "--write", str(tmp_path / "file" / "advice"), lines=SHORT)
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        pytest.param(["--input", "nowhere"], "nowhere is no file", id="no input"),
        pytest.param(["--input", "raw.jsonl", "--from", "7d"], "a file is replayed as a whole", id="a file in part"),
        pytest.param(["--input", "raw.jsonl", "--config", "none.yaml"], "cannot be read", id="no settings"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], fault: str) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "raw.jsonl", SHORT)
    result = CliRunner().invoke(app, ["advise", *given])
    assert result.exit_code == 2
    assert fault in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("lines", "tried", "whole"),
    [
        pytest.param(10, 0, False, id="in the first backtest"),
        pytest.param(200, 1, False, id="in the second one"),
        pytest.param(4 * 132 + 5, 4, False, id="in the one of all at once"),
        pytest.param(5 * 132 + 1, 4, True, id="after the last one"),
    ],
)
def test_what_was_found_until_it_was_stopped(tmp_path: Path, lines: int, tried: int, *, whole: bool) -> None:
    recorded = find(str(jsonl(tmp_path / "raw.jsonl", traffic())), load(None), Window(), None, T0)
    present = Present.of(None, None)
    trials = Trials(present, tmp_path)
    heard = judgements(jsonl(tmp_path / "said.jsonl", said()), Tally())
    evidence = trials.observe(recorded, heard, lambda _total, _unit: nullcontext(iter), lambda: False)
    assert evidence is not None
    assert trials.count == 132
    left = iter(range(lines))
    advice = _tried(trials, evidence, present, 20, lambda: next(left, None) is None)
    assert (len(advice.weighed), advice.whole is not None, advice.complete) == (tried, whole, whole)


REFUSED = Weighed(Candidate(Kind.NEEDLESS, "Quiet", (), Change(), 1, 1, 1), Verdict.SAVES_NOTHING)


def test_what_is_refused_is_told_in_part() -> None:
    advice = Advice(evidence([]), [], [REFUSED] * 7, REFUSED)
    told = plain(Group(*shown(advice, [])))
    assert told.count("the backtest saves no page") == 6
    assert "refused   the backtest saves no page" in told
    assert "and 2 more: --json" in told
    assert as_json(advice.evidence, advice.weighed, [], advice.whole, [])["all_at_once"]["refused"] is not None


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    def press() -> None:
        while signal.getsignal(signal.SIGINT) is before and not ended.is_set():
            os.sched_yield()
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    before, ended = signal.getsignal(signal.SIGINT), threading.Event()
    pressed = threading.Thread(target=press)
    pressed.start()
    result = run(tmp_path)
    ended.set()
    pressed.join()
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert signal.getsignal(signal.SIGINT) is before
