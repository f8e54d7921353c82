from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streamproc.commands.console import plain
from streamproc.commands.reasons import SENTENCES, sentence
from streamproc.commands.story import tell
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.events.incident import Classification
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.topology import TOPOLOGY
from tests.cli.playing import KEY, T0, Pipeline, call

CATALOGUE = {
    "services": {
        "checkout": {"owner": "team-shop", "tier": 1, "impact": "Customers cannot pay.", "depends_on": ["db"]},
        "db": {"owner": "team-data", "tier": 1, "runbook": "https://runbooks.example.com/db"},
        "web": {"depends_on": ["checkout"]},
    }
}


@pytest.fixture
def bad_day(pipeline: Pipeline) -> Path:
    """A database fails and takes its neighbour along; a disk fills; a payload is broken."""
    pipeline.activate("catalogue", CATALOGUE)
    pipeline.configure()
    pipeline.arm()
    pipeline.alert("DatabaseDown", service="db", instance="db-1")
    pipeline.deliver()
    for number in range(3):
        pipeline.advance(seconds=2)
        pipeline.alert("HighErrorRate", severity="error", service="checkout", pod=f"checkout-{number}")
    pipeline.deliver(400, "Event object is invalid")
    pipeline.advance(minutes=2)
    pipeline.alert("HighErrorRate", status="resolved", severity="error", service="checkout", pod="checkout-0")
    pipeline.alert("DiskWillFill", severity="warning", service="backup")
    pipeline.raw(b"{nonsense")
    pipeline.advance(seconds=2)
    pipeline.close()
    return pipeline.folder


def shown(folder: Path, width: int, most: int | None = 12) -> list[str]:
    desk = SqliteDesk(folder)
    view = desk.incident(incident(folder))
    assert view is not None
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(tell(view, T0 + timedelta(minutes=9), most=most))
    return out.getvalue().splitlines()


def incident(folder: Path) -> str:
    return next(one.incident_id for one in SqliteDesk(folder).incidents() if one.service == "db")


# -- status -----------------------------------------------------------------------------------------------------------


def test_status_says_how_it_stands(bad_day: Path) -> None:
    answer = call("status", "--data-dir", str(bad_day))
    assert answer.exit_code == 0
    lines = answer.output.splitlines()
    assert lines[0].split(maxsplit=1) == ["pipeline", f"not running  {bad_day}"]
    assert lines[1].split(maxsplit=1) == ["armed", "yes          since 2026-03-01 12:00:00 UTC, by alice"]
    assert "open incidents   2            1 of them paged" in lines
    assert "dead letters     2            `streamproc dead-letters list` shows why" in lines
    assert any(line.startswith("normalise ") for line in lines)
    assert any("DatabaseDown of db (+2 more)" in line for line in lines)


def test_status_of_a_dry_run(pipeline: Pipeline) -> None:
    pipeline.alert("DatabaseDown", service="db")
    said = call("status", "--data-dir", str(pipeline.folder)).output
    assert "pipeline         running" in said
    assert "no: dry run, nothing pages  `streamproc arm` lets pages go out" in said
    assert "1 would page" in said
    assert "page (dry run): severity" in said


def test_status_shows_so_many_incidents_and_counts_the_rest(pipeline: Pipeline) -> None:
    for number in range(13):
        pipeline.alert(f"Down{number}", service=f"service-{number}")
    assert "and 3 more" in call("status", "--data-dir", str(pipeline.folder)).output


def test_status_for_programs(bad_day: Path, pipeline: Pipeline) -> None:
    said = json.loads(call("status", "--json", "--data-dir", str(bad_day)).output)
    assert (said["running"], said["armed"], said["open_incidents"], said["dead_letters"]) == (False, True, 2, 2)
    assert said["why_not"] == "no process of streamproc runs on this data directory"


# -- explain ----------------------------------------------------------------------------------------------------------


def test_explain_tells_the_whole_story(bad_day: Path) -> None:
    said = call("explain", incident(bad_day), "--data-dir", str(bad_day)).output
    for part in (
        "CRITICAL  DatabaseDown of db (+2 more)",
        "page to default",
        "Its severity asks for it.",
        "team-data · tier 1",
        "https://runbooks.example.com/db",
        "checkout, web",
        "It belongs to no open incident, so it opens one.",
        "opened [episodes/0/3] open=1 total=1",
        "delivered 202 Event processed · default (key ...kkkk)",
        "refused 400 Event object is invalid",
        "3 firing of 4 in all",
        "Dependencies connect its service with one of this incident, and they came close together.",
        "resolved  error HighErrorRate checkout checkout-0",
        "settings 1, catalogue 1, model 0 · inbox sha256",
    ):
        assert part in said
    assert KEY not in said


@pytest.mark.parametrize("width", [80, 160])
def test_the_story_fits_the_terminal(bad_day: Path, width: int) -> None:
    lines = shown(bad_day, width)
    assert max(map(len, lines)) <= width
    # At 80 columns a chain of seven reasons, two pages and four alerts stay within two screens.
    assert len(lines) < (90 if width == 80 else 60)
    stages = [line.split()[1] for line in lines if line[14:].startswith(tuple(SENTENCES))]
    assert stages == ["normalise", "deduplicate", "correlate", "suppress", "enrich", "classify", "escalate"]


def test_a_long_story_is_cut_and_says_so(bad_day: Path) -> None:
    said = "\n".join(shown(bad_day, 160, most=2))
    assert "and 2 more alerts (--all shows them)" in said
    assert "moments left out (--all shows them)" in said
    assert "left out" not in "\n".join(shown(bad_day, 160, most=None))


def test_what_is_not_a_terminal_gets_no_colour_and_no_cuts(bad_day: Path) -> None:
    said = call("explain", incident(bad_day), "--data-dir", str(bad_day), FORCE_COLOR="1", COLUMNS="40").output
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) > 100


@pytest.mark.parametrize("cut", [slice(None), slice(0, 20), slice(-16, None), slice(-16, -10)])
def test_an_incident_is_found_by_what_people_type(bad_day: Path, cut: slice) -> None:
    answer = call("explain", incident(bad_day)[cut], "--data-dir", str(bad_day), "--json")
    assert answer.exit_code == 0, answer.output
    told: dict[str, Any] = json.loads(answer.output)
    assert told["summary"]["incident_id"] == incident(bad_day)
    assert told["chain"][0]["stage"] == "normalise"


def test_an_incident_that_is_not_known(bad_day: Path) -> None:
    answer = call("explain", "nothing", "--data-dir", str(bad_day))
    assert answer.exit_code == 2
    assert "no incident is called 'nothing'" in answer.stderr


def test_a_prefix_of_several(pipeline: Pipeline) -> None:
    for number in range(6):
        pipeline.alert(f"Down{number}", service=f"service-{number}")
    pipeline.close()
    answer = call("explain", "in:v1", "--data-dir", str(pipeline.folder))
    assert answer.exit_code == 2
    assert "'in:v1' could be in:v1:prod:-:" in answer.stderr
    assert "and more: give more of it" in answer.stderr


def test_the_story_of_an_incident_that_nobody_hears_of(pipeline: Pipeline) -> None:
    pipeline.alert("Heartbeat", severity="info")
    pipeline.alert("Heartbeat", status="resolved", severity="info")
    pipeline.close()
    said = call("explain", "in:v1", "--data-dir", str(pipeline.folder)).output
    assert "resolved after" in said
    assert "nothing  dry run: nothing was sent" in said
    assert "Nothing was sent." in said
    assert "Its severity asks for nothing. Then: It is over, wherever it was said." in said


def test_the_story_of_what_people_did(pipeline: Pipeline) -> None:
    pipeline.configure()
    pipeline.arm()
    pipeline.alert("DatabaseDown", service="db")
    name = SqliteDesk(pipeline.folder).incidents()[0].incident_id
    kind = FeedbackKind.ACKNOWLEDGED
    pipeline.put("feedback", Feedback(feedback_id="1", incident_id=name, kind=kind, by="dora", at=T0), name)
    matchers = (Matcher(name="service", op="=", value="db"),)
    ends = T0 + timedelta(hours=1)
    silence = Policy(policy_id="s1", kind=PolicyKind.SILENCE, version=1, matchers=matchers, starts_at=T0, ends_at=ends)
    pipeline.put("policies", silence)
    pipeline.advance(seconds=5)
    pipeline.close()
    said = call("explain", name, "--data-dir", str(pipeline.folder)).output
    assert "acknowledged by dora" in said
    assert " · muted" in said
    assert "Muted by s1." in said


def test_the_story_says_what_the_model_thought(bad_day: Path) -> None:
    view = SqliteDesk(bad_day).incident(incident(bad_day))
    assert view is not None
    sure = Classification(
        category="application", urgency="high", p_page=0.93, confidence=0.9, abstain=False, model_version=4
    )
    known = plain(tell(view.model_copy(update={"classification": sure}), T0, most=1))
    assert "worth a page with 93%, right 90% of the time when so sure (model 4)" in known
    unsure = sure.model_copy(update={"confidence": None, "abstain": True})
    doubted = plain(tell(view.model_copy(update={"classification": unsure}), T0, most=1))
    assert "worth a page with 93%; not sure enough, so the rules decided (model 4)" in doubted
    bare = view.model_copy(update={"classification": None, "context": None, "chain": (), "pages": ()})
    assert "The log holds no reason chain of it." in plain(tell(bare, T0, most=1))


def test_every_reason_has_a_sentence() -> None:
    for node in TOPOLOGY:
        for stage in node.stages:
            if stage.name.startswith("relay"):  # one enum for two stages
                assert set(SENTENCES[stage.name]) <= {str(reason) for reason in stage.reasons}
            else:
                assert set(SENTENCES[stage.name]) == {str(reason) for reason in stage.reasons}, stage.name
    assert sentence("escalate", "of another version") == "of another version"
    assert sentence("unknown", "x") == "x"


# -- dead letters -----------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_and_shown(bad_day: Path) -> None:
    letter, _ = json.loads(call("dead-letters", "list", "--json", "--data-dir", str(bad_day)).output)
    listed = call("dead-letters", "list", "--data-dir", str(bad_day)).output
    assert letter["letter_id"] in listed
    assert "not_json" in listed
    assert "{nonsense" in listed
    said = call("dead-letters", "show", letter["letter_id"], "--data-dir", str(bad_day)).output
    assert "the body is not JSON" in said
    assert said.endswith("VALUE  9 bytes\n{nonsense\n")
    one = json.loads(call("dead-letters", "show", letter["letter_id"], "--json", "--data-dir", str(bad_day)).output)
    assert one == letter
    nothing = call("dead-letters", "list", "--reason", "other", "--data-dir", str(bad_day)).output
    assert nothing == "No dead letters.\n"


def test_a_dead_letter_that_is_not_known(bad_day: Path) -> None:
    for command in ("show", "retry"):
        answer = call("dead-letters", command, "x:0:0:0", "--data-dir", str(bad_day))
        assert answer.exit_code == 2
        assert "no dead letter is called 'x:0:0:0'" in answer.stderr


def test_a_retry_puts_the_bytes_back_where_they_were_refused(pipeline: Pipeline) -> None:
    pipeline.raw(b'[{"labels":{"alertname":"Old","severity":"critical"}}]', source="new-source")
    pipeline.advance(minutes=1)
    pipeline.close()
    (letter,) = SqliteDesk(pipeline.folder).dead_letters()
    assert letter.reason == "unknown_source"
    answer = call("dead-letters", "retry", letter.letter_id, "--data-dir", str(pipeline.folder))
    assert answer.output == "1 dead letter put back. No pipeline runs here now: it counts from the next start on.\n"
    again = Pipeline(pipeline.folder)
    again.clock.advance(timedelta(hours=1))
    again.run()
    record = again.journal.read("alerts.raw", 0, 1, 1)[0]
    again.close()
    assert (record.value, record.headers["source"]) == (letter.value, b"new-source")
    assert record.now == T0 + timedelta(hours=1)
    assert len(SqliteDesk(pipeline.folder).dead_letters()) == 2


def test_all_of_a_reason_are_retried_oldest_first(pipeline: Pipeline) -> None:
    for number in range(203):
        pipeline.raw(b"{%d" % number)
    pipeline.raw(b"{}", source="other")
    pipeline.close()
    asked = call("dead-letters", "retry", "--all", "--data-dir", str(pipeline.folder))
    assert asked.exit_code == 2
    assert "204 dead letters will be processed once more" in asked.stderr
    done = call("dead-letters", "retry", "--all", "--reason", "not_json", "--yes", "--data-dir", str(pipeline.folder))
    assert done.output.startswith("203 dead letters put back.")
    again = Pipeline(pipeline.folder)
    again.run()
    back = [record.value for record in again.journal.read("alerts.raw", 0, 204, 1000)]
    again.close()
    assert back == [b"{%d" % number for number in range(203)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param([], "name one dead letter, or give --all", id="none named"),
        pytest.param(["x", "--all"], "name one dead letter, or give --all", id="one and all"),
        pytest.param(["x", "--reason", "y"], "--reason goes with --all", id="a reason for one"),
        pytest.param(["--all", "--reason", "y"], "no dead letter can be retried: there are none", id="none of it"),
    ],
)
def test_a_retry_that_says_nothing(bad_day: Path, arguments: list[str], said: str) -> None:
    answer = call("dead-letters", "retry", *arguments, "--data-dir", str(bad_day))
    assert answer.exit_code == 2
    assert said in answer.stderr


def test_what_was_too_large_for_a_dead_letter_cannot_be_retried(pipeline: Pipeline) -> None:
    pipeline.raw(b"\xff" * 6_500_000)
    pipeline.advance(minutes=1)
    pipeline.close()
    (letter,) = SqliteDesk(pipeline.folder).dead_letters()
    assert letter.left_out == 6_500_000
    answer = call("dead-letters", "retry", letter.letter_id, "--data-dir", str(pipeline.folder))
    assert answer.exit_code == 2
    assert f"no dead letter can be retried: {letter.letter_id} was too large to be kept" in answer.stderr


def test_plain_text_is_neither_padded_nor_wrapped() -> None:
    assert plain("x" * 500) == "x" * 500 + "\n"
