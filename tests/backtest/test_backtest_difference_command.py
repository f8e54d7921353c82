"""`streamproc backtest --against`, by recordings made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from streamproc.backtest import output as places
from streamproc.backtest.calls import CallLog
from streamproc.backtest.contrast import contrast
from streamproc.backtest.page import render
from streamproc.backtest.reading import Line, Tally, traffic
from streamproc.backtest.replay import Replay
from streamproc.backtest.spoken import lasting, lines
from streamproc.backtest.tape import Tape
from streamproc.commands.against import Against, Candidate, Nowhere, differences, shortened, tell
from streamproc.commands.console import plain
from streamproc.commands.reasons import sentence
from streamproc.settings import load
from tests.backtest.recording import Backtested, alert, alert_id, at, backtest, datadog, line, recording

KEY, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
DESTINATIONS = f"pagerduty: {{destinations: {{default: {{routing_key: {KEY}}}, shop: {{routing_key: {OTHER}}}}}}}\n"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAGERDUTY_ROUTING_KEY", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def against(
    folder: Path, recorded: Iterable[object], b: str, a: str = "", *, fail_on: str = "", **more: Path
) -> Backtested:
    """Run the command with two configurations."""
    if fail_on:
        more["fail-on"] = Path(fail_on)
    for name, text in (("a", a), ("b", b)):
        (folder / f"{name}.yaml").write_text(DESTINATIONS + text)
    return backtest(folder, recorded, config=folder / "a.yaml", against=folder / "b.yaml", **more)


def told(done: Backtested) -> dict[str, Any]:
    """Return difference.json."""
    assert done.result.exit_code in (0, 3), done.result.output
    found: dict[str, Any] = json.loads((done.folder / "difference.json").read_text())
    return found


def flapping(seconds: int) -> list[dict[str, Any]]:
    """Return an alert that is back after a minute, for so long."""
    error = {"severity": "error"}
    return [
        line(0, alert("Down", **error)),
        line(60, alert("Down", status="resolved", **error)),
        line(120, alert("Down", starts=at(120), **error)),
        line(120 + seconds, alert("Down", status="resolved", starts=at(120), **error)),
    ]


def test_the_same_settings_page_the_same(tmp_path: Path) -> None:
    done = against(tmp_path, flapping(600), "", fail_on="missed-page")
    found = told(done)
    assert done.result.exit_code == 0
    assert "b.yaml would page the same 2 times" in done.result.stdout
    assert (found["rows"], found["findings"], found["counts"]["unchanged"]) == ([], [], 2)
    assert done.report["funnel"]["pages"] == 2


def test_a_page_that_is_a_ticket_now_is_missed(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down", severity="error")), line(60, alert("Gone", "web"))]
    done = against(tmp_path, recorded, "escalate: {page: [critical], ticket: [error]}", fail_on="missed-page")
    assert done.result.exit_code == 3
    assert "--fail-on: found missed-page" in done.told
    expected = "b.yaml would page 1 time instead of 2: 1 page less, 0 more, 0 later, 0 merged, 1 missed"
    assert expected in done.result.stdout
    found = told(done)
    assert (found["summary"], found["a"], found["b"]) == (expected, "a.yaml", "b.yaml")
    assert found["instead"] == {"ticket": 1}
    assert found["by_rule"] == [{"rule": "Down", "a": 1, "b": 0, "missed": 1}]
    (row,) = found["rows"]
    assert (row["relation"], row["says"], row["about"]) == ("only_a", "missed", alert_id("Down"))
    (missed,) = row["missed"]
    assert missed["whole"] is True
    assert missed["alerts"][0]["says"] == "now a ticket: Its severity asks for it."
    assert row["parting"]["stage"] == "escalate"
    assert "state" in row["parting"]["figures"]
    assert "state paged in A, ticketed in B" in row["parting"]["says"]
    assert [link["stage"] for link in row["chains"]["b"]] == [link["stage"] for link in row["chains"]["a"]]
    assert "now a ticket" in done.result.stdout


def test_a_finding_that_nobody_named_fails_nothing(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down", severity="error"))]
    done = against(tmp_path, recorded, "escalate: {page: [critical]}", fail_on="later")
    assert done.result.exit_code == 0
    found = told(done)
    assert found["findings"] == ["missed-page"]
    assert found["rows"][0]["missed"][0]["alerts"][0]["says"].startswith("nothing is said: ")


def test_a_longer_hold_pages_later_and_the_chains_say_so(tmp_path: Path) -> None:
    done = against(tmp_path, flapping(900), "escalate: {reopen_hold: 300}", fail_on="later")
    assert done.result.exit_code == 3
    (row,) = told(done)["rows"]
    assert (row["relation"], row["delay_seconds"], row["says"]) == ("same", 180, "3 min later")
    assert row["missed"] == []


def test_what_is_over_before_the_hold_is_missed_and_was_held(tmp_path: Path) -> None:
    done = against(tmp_path, flapping(200), "escalate: {reopen_hold: 300}")
    found = told(done)
    assert found["instead"] == {"hold": 1}
    (row,) = found["rows"]
    assert row["missed"][0]["alerts"][0]["alert"] == alert_id("Down", at(120))
    assert row["missed"][0]["alerts"][0]["says"] == "held, and over before it paged"
    assert row["chains"]["b"][-1]["reason"] == "reopened"


@pytest.mark.parametrize(
    ("a", "b", "relation", "says", "first"),
    [
        pytest.param("correlate: {window: 60}", "", "merged", "2 pages become one", "A: It belongs", id="merged"),
        pytest.param("", "correlate: {window: 60}", "split", "one page becomes 2", "A: This incident", id="split"),
    ],
)
def test_pages_are_merged_or_split(tmp_path: Path, a: str, b: str, relation: str, says: str, first: str) -> None:
    recorded = [line(0, alert("Down")), line(600, alert("Slow"))]
    (row,) = told(against(tmp_path, recorded, b, a))["rows"]
    assert (row["relation"], row["says"], row["about"]) == (relation, says, alert_id("Slow"))
    assert row["parting"]["stage"] == "correlate"
    assert first in row["parting"]["says"]


def test_another_catalogue_leads_pages_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "next.yaml").write_text("services: {db: {destination: shop}}")
    found = told(against(tmp_path, [line(0, alert("Down"))], "services: next.yaml"))
    (row,) = found["rows"]
    assert (row["relation"], row["changes"], row["says"]) == ("same", ["destination"], "destination default → shop")
    assert (row["parting"]["stage"], row["parting"]["b"]) == ("enrich", "known")
    assert row["ending"]["figures"] == ["destination"]
    assert [row[side][0]["key_hint"] for side in "ab"] == ["cdef", "3210"]


def test_a_second_destination_is_a_page_more(tmp_path: Path) -> None:
    (tmp_path / "next.yaml").write_text("services: {db: {second_destination: shop}}")
    done = against(tmp_path, [line(0, alert("Down"))], "services: next.yaml", fail_on="page")
    assert done.result.exit_code == 3
    (row,) = told(done)["rows"]
    assert (row["relation"], row["says"], row["b"][0]["kind"]) == ("only_b", "a page more", "second")
    assert row["chains"]["b"][-1]["reason"] == "unacknowledged"


def test_alerts_of_one_second_keep_their_own_beginning(tmp_path: Path) -> None:
    """An incident publishes once a second; the chain of each alert begins with its own webhook all the same."""
    recorded = [line(n / 10, alert(f"Kind{n}", severity="error")) for n in range(4)]
    (row,) = told(against(tmp_path, recorded, "escalate: {page: [critical], ticket: [error]}"))["rows"]
    assert sorted(row["a"][0]["alerts"]) == sorted(alert_id(f"Kind{n}") for n in range(4))
    recorded = [line(0, alert("Kind0", severity="warning")), *recorded[1:3], line(0.3, alert("Kind3"))]
    done = against(tmp_path, recorded, "escalate: {page: [critical], ticket: [error, warning]}")
    (row,) = told(done)["rows"]
    assert row["delay_seconds"] == pytest.approx(0.2)
    assert row["about"] in {alert_id("Kind1"), alert_id("Kind3")}


def test_every_name_of_an_alert_is_covered(tmp_path: Path) -> None:
    recorded = [datadog(0, "e1"), datadog(600, "e2", "Renotify"), datadog(700, "e3", "Recovered")]
    found = told(against(tmp_path, recorded, "escalate: {page: []}"))
    (row,) = found["rows"]
    assert row["a"][0]["alerts"] == ["e1", "e2"]
    assert found["counts"]["missed_alerts"] == 2


def test_an_alert_that_begins_anew_while_it_fires_has_a_fate_under_both_ids(tmp_path: Path) -> None:
    error = {"severity": "error"}
    recorded = [line(0, alert("Down", **error)), line(600, alert("Down", starts=at(600), **error))]
    found = told(against(tmp_path, recorded, "escalate: {page: [critical], ticket: [error]}"))
    (row,) = found["rows"]
    assert row["a"][0]["alerts"] == [alert_id("Down"), alert_id("Down", at(600))]
    assert found["instead"] == {"ticket": 2}


def test_the_report_tells_it_and_trusts_no_text(tmp_path: Path) -> None:
    recorded = [
        line(0, alert("<script>", severity="error")),
        line(1, alert("Also", severity="error")),
        line(5, alert("Down", "web")),
    ]
    page = against(tmp_path, recorded, "escalate: {page: [critical], ticket: []}").files["report.html"].decode()
    assert "Difference: a.yaml against b.yaml" in page
    assert "1 page is missed: 2 alerts" in page
    assert "2 → 1" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    same = against(tmp_path, recorded, "").files["report.html"].decode()
    assert "No page is missed" in same


def test_the_same_input_gives_the_same_bytes_and_leaves_no_notes(tmp_path: Path) -> None:
    first = against(tmp_path, flapping(200), "escalate: {reopen_hold: 300}").files
    assert against(tmp_path, flapping(200), "escalate: {reopen_hold: 300}").files == first
    assert set(first) == {
        "incidents.jsonl",
        "decisions.jsonl",
        "pages.jsonl",
        "report.json",
        "report.html",
        "difference.json",
    }
    alone = backtest(tmp_path, flapping(200), config=tmp_path / "a.yaml").files
    assert {name: alone[name] for name in ("report.json", "pages.jsonl")} == {
        name: first[name] for name in ("report.json", "pages.jsonl")
    }
    assert "difference.json" not in alone


@pytest.mark.parametrize(
    ("b", "fault"),
    [
        pytest.param("escalate: {pages: [critical]}", "pages", id="an unknown key"),
        pytest.param("services: nowhere.yaml", "nowhere.yaml", id="a catalogue that is not there"),
    ],
)
def test_a_fault_of_the_second_is_told_before_anything_runs(tmp_path: Path, b: str, fault: str) -> None:
    done = against(tmp_path, ["no line at all"], b)
    assert done.result.exit_code == 2
    assert fault in done.told
    assert not done.folder.exists()


def test_a_topology_counts_for_both(tmp_path: Path) -> None:
    topology = tmp_path / "topology.json"
    topology.write_text(json.dumps({"edges": [{"from": "web", "to": "db"}]}))
    recorded = [line(0, alert("Down", "db")), line(5, alert("Slow", "web"))]
    counts = told(against(tmp_path, recorded, "", topology=topology))["counts"]
    assert (counts["pages_a"], counts["pages_b"]) == (1, 1)


def test_fail_on_needs_something_to_compare_with(tmp_path: Path) -> None:
    done = backtest(tmp_path, flapping(200), **{"fail-on": Path("page")})
    assert done.result.exit_code == 2
    assert "--against" in done.told


def test_without_a_file_the_first_one_is_called_what_it_is(tmp_path: Path) -> None:
    second = tmp_path / "b.yaml"
    second.write_text("")
    assert told(backtest(tmp_path, flapping(200), against=second))["a"] == "the defaults"
    (tmp_path / "streamproc.yaml").write_text("")
    assert told(backtest(tmp_path, flapping(200), against=second))["a"] == "streamproc.yaml"


# -- the parts --------------------------------------------------------------------------------------------------------


def in_order(recorded: list[dict[str, Any]]) -> list[Line]:
    return list(traffic(recording(recorded), Tally()))


def test_the_second_side_gets_the_very_same_lines(tmp_path: Path) -> None:
    played = in_order([*flapping(600), datadog(5, "e1")])
    tape = Tape(tmp_path / "lines")
    assert list(tape.record(played)) == played
    again = list(tape.play())
    assert [(each.at, each.number, each.source, each.body, each.read) for each in again] == [
        (each.at, each.number, each.source, each.body, each.read) for each in played
    ]
    assert tape.count == len(played)


def test_what_is_interrupted_in_the_second_side_has_no_difference(tmp_path: Path) -> None:
    both = Against("a.yaml", Candidate("b.yaml", load(None), None), tmp_path)
    replay = Replay(load(None), None, Nowhere())
    assert replay.run(both.follow(replay, in_order(flapping(600))), (), lambda: False)
    assert both.play((), lambda: True) is None


def test_more_differences_than_are_told_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = []
    for side, text in (("a", "[critical]"), ("b", "[]")):
        file = tmp_path / f"{side}.yaml"
        file.write_text(f"escalate: {{page: {text}}}")
        log = CallLog(tmp_path / side, side)
        replay = Replay(load(file), None, Nowhere())
        replay.ledger.tell(log)
        many = [line(n, alert(f"Down{n}", f"service{n}")) for n in range(14)]
        assert replay.run(in_order(many), (), lambda: False)
        log.close()
        logs.append(log)
    found = contrast(logs[0], logs[1], ("a", "b"), most=12)
    rows = list(lines(found, sentence))
    assert [row["chains"] is None for row in rows] == [False] * 12 + [True] * 2
    tell(found)
    assert "and 4 more: report.html" in capsys.readouterr().out
    shown = plain(differences(found, narrow=True)).splitlines()
    assert len(shown) == 1 + 2 * 10  # the why stands on a line of its own
    assert shown[2].startswith(" " * 21)
    with places.written(tmp_path / "output") as files:
        from_page = render(_figures(), (), sentence, found).decode()
        files.report("report.html", from_page.encode())
    assert "2 more differences are in difference.json" in from_page


def _figures() -> dict[str, Any]:
    """Return the figures of a backtest in which nothing happened."""
    none = {"count": 0, "first": []}
    return {
        "streamproc": "0",
        "complete": True,
        "input": {"lines": 0, "reordered": 0, "from": None, "to": None, "bad_lines": none},
        "funnel": dict.fromkeys(("notifications", "alerts", "episodes", "incidents", "pages"), 0),
        "pages": {"updates": 0, "tickets": 0, "per_day": []},
        "noisiest_rules": [],
        "services": [],
        "outcomes": [],
        "held": {"by_reason": {}, "paged_later": 0},
        "muted": {},
        "joined": {},
        "suppressed_repeats": {},
        "feedback": {"lines": 0},
        "topology": {"services": 0},
        "dead_letters": none,
        "bounds": {"incidents_in_html": 50, "seconds_after_last_line": 7200},
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        pytest.param(42, "42 s", id="seconds"),
        pytest.param(120, "2 min", id="minutes"),
        pytest.param(125, "2 min 5 s", id="minutes and seconds"),
        pytest.param(7260, "2 h 1 min", id="hours"),
    ],
)
def test_how_long_something_lasts(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_a_long_title_is_cut() -> None:
    assert shortened("short") == "short"
    assert len(shortened("long " * 50)) <= 60
