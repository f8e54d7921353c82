from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from streamproc.commands.spans import moment, span
from streamproc.core.errors import Unusable
from streamproc.events.feedback import Matcher, Policy, PolicyKind
from streamproc.matching import parse, written
from streamproc.runtime.embedded.desk import SqliteDesk
from tests.cli.playing import T0, Pipeline, call


@pytest.fixture
def quiet(pipeline: Pipeline) -> Path:
    """A data directory with one open incident, whose process does not run."""
    pipeline.alert("DatabaseDown", service="db")
    pipeline.close()
    return pipeline.folder


# -- arm and disarm ---------------------------------------------------------------------------------------------------


def test_arming_says_what_it_will_do_and_wants_a_yes(quiet: Path) -> None:
    answer = call("arm", "--data-dir", str(quiet))
    assert answer.exit_code == 2
    assert "1 incident open now will be adopted with one summary and no page. Arm?" in answer.stderr
    assert "give --yes" in answer.stderr
    assert not SqliteDesk(quiet).policies()


def test_arm_and_disarm_wait_for_the_next_start(quiet: Path) -> None:
    armed = call("arm", "--yes", "--author", "alice", "--data-dir", str(quiet))
    assert armed.output == "Armed (by alice). No pipeline runs here now: it counts from the next start on.\n"
    assert "Armed already, by alice" in call("arm", "--yes", "--data-dir", str(quiet)).output
    assert call("disarm", "--yes", "--author", "bob", "--data-dir", str(quiet)).output.startswith("Disarmed (by bob)")
    assert "Not armed" in call("disarm", "--data-dir", str(quiet)).output
    (policy,) = SqliteDesk(quiet).policies()
    assert (policy.version, policy.withdrawn, policy.author) == (2, True, "bob")


def test_what_waits_counts_from_the_next_start(quiet: Path) -> None:
    call("arm", "--yes", "--data-dir", str(quiet))
    call("disarm", "--yes", "--data-dir", str(quiet))
    assert not SqliteDesk(quiet).status().armed
    call("arm", "--yes", "--page-open", "--data-dir", str(quiet))
    started = Pipeline(quiet)
    started.run()
    started.close()
    assert SqliteDesk(quiet).status().armed
    (policy,) = SqliteDesk(quiet).policies()
    assert (policy.version, policy.adopt) == (3, False)


def test_arming_before_the_first_run_names_the_mend(tmp_path: Path) -> None:
    answer = call("arm", "--yes", "--data-dir", str(tmp_path))
    assert answer.exit_code == 2
    assert "holds no data yet; start `streamproc run" in answer.stderr


def test_the_author_is_the_login_name_by_default(quiet: Path) -> None:
    call("arm", "--yes", "--data-dir", str(quiet), LOGNAME="carol")
    assert SqliteDesk(quiet).policies()[0].author == "carol"


# -- silences ---------------------------------------------------------------------------------------------------------


def add(folder: Path, *more: str) -> str:
    answer = call("silence", "add", "--data-dir", str(folder), *more)
    assert answer.exit_code == 0, answer.output
    return answer.stdout.split()[0]


def listed(folder: Path, *more: str) -> list[dict[str, object]]:
    answer = call("silence", "list", "--json", "--data-dir", str(folder), *more)
    found: list[dict[str, object]] = json.loads(answer.output)
    return found


def test_a_silence_is_added_listed_and_expired(quiet: Path) -> None:
    assert call("silence", "list", "--data-dir", str(quiet)).output == "Nothing is silenced.\n"
    name = add(
        quiet, "-m", 'service="db"', "-m", "alertname=~Data.*", "--for", "2h", "--comment", "known", "--author", "al"
    )
    shown = call("silence", "list", "--data-dir", str(quiet)).output
    assert name in shown
    assert 'service="db" alertname=~"Data.*"' in shown
    assert "(1 h 59 min left)" in shown
    assert "al      known" in shown
    assert call("silence", "expire", name.partition(":")[2][:5], "--data-dir", str(quiet)).output.startswith(
        f"{name} is expired."
    )
    assert listed(quiet) == []
    assert [one["state"] for one in listed(quiet, "--all")] == ["expired"]
    assert call("silence", "expire", name, "--data-dir", str(quiet)).output == f"{name} is expired already.\n"


def test_the_pipeline_mutes_what_a_silence_matches(pipeline: Pipeline) -> None:
    pipeline.close()
    # The pipeline of this test lives at a moment of its own.
    add(pipeline.folder, "-m", "service=db", "--starts", "2026-02-22T11:00", "--ends", "2046-11-22T13:00")
    again = Pipeline(pipeline.folder)
    again.run()
    again.alert("DatabaseDown", service="db")
    again.alert("QueueFull", service="other")
    again.close()
    muted = {one.service: one.muted for one in SqliteDesk(pipeline.folder).incidents()}
    assert muted == {"db": True, "other": False}


def test_an_ended_silence_is_shown_only_when_all_are(pipeline: Pipeline) -> None:
    matchers = (Matcher(name="service", op="=", value="db"),)
    begins = T0 - timedelta(hours=2)
    ends = T0 - timedelta(hours=1)
    old = Policy(policy_id="old", kind=PolicyKind.SILENCE, version=1, matchers=matchers, starts_at=begins, ends_at=ends)
    pipeline.put("policies", old)
    pipeline.close()
    assert listed(pipeline.folder) == []
    assert [one["state"] for one in listed(pipeline.folder, "--all")] == ["ended"]


def test_a_maintenance_window_may_begin_later(quiet: Path) -> None:
    begins = datetime.now(UTC) + timedelta(days=1)
    name = add(quiet, "-m", "service=db", "--starts", begins.isoformat(), "--for", "1h", "--maintenance")
    assert name.startswith("maintenance:")
    (one,) = listed(quiet)
    assert (one["kind"], one["state"]) == ("maintenance", "pending")
    assert "left" not in call("silence", "list", "--data-dir", str(quiet)).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["-m", "service=db"], "say how long", id="without an end"),
        pytest.param(["-m", "service=db", "--for", "1h", "--ends", "2046-01-01"], "one of them", id="two ends"),
        pytest.param(["-m", "service=db", "--for", "soon"], "'soon' is no span of time", id="no span"),
        pytest.param(["-m", "service=db", "--ends", "soon"], "'soon' is no moment", id="no moment"),
        pytest.param(["-m", "service=db", "--ends", "2020-01-01"], "needs an end after its start", id="ends before"),
        pytest.param(
            ["-m", "service=db", "--starts", "2020-01-01", "--for", "1h"],
            "ended at 2020-01-01 01:00:00",
            id="long over",
        ),
        pytest.param(["-m", "service", "--for", "1h"], "'service' is no matcher", id="no matcher"),
        pytest.param(["-m", "a=~(", "--for", "1h"], "does not compile", id="no regular expression"),
        pytest.param(["--for", "1h"], "Missing option '--matcher'", id="mutes everything"),
    ],
)
def test_an_unsafe_or_unreadable_silence_is_refused(quiet: Path, arguments: list[str], said: str) -> None:
    answer = call("silence", "add", "--data-dir", str(quiet), *arguments)
    assert answer.exit_code == 2
    assert said in answer.stderr
    assert listed(quiet, "--all") == []


def test_expiring_wants_one_that_is_known(quiet: Path) -> None:
    add(quiet, "-m", "service=db", "--for", "1h")
    add(quiet, "-m", "service=web", "--for", "1h")
    both = call("silence", "expire", "silence", "--data-dir", str(quiet))
    assert both.exit_code == 2
    assert "2 begin with 'silence'" in both.stderr
    none = call("silence", "expire", "xyz", "--data-dir", str(quiet))
    assert "none is called 'xyz'" in none.stderr


@pytest.mark.parametrize(
    ("text", "matcher"),
    [
        pytest.param('service="checkout"', ("service", "=", "checkout"), id="quoted"),
        pytest.param("service=checkout", ("service", "=", "checkout"), id="plain"),
        pytest.param(' env != "dev" ', ("env", "!=", "dev"), id="spaces"),
        pytest.param('alertname=~"Node.*|Disk.+"', ("alertname", "=~", "Node.*|Disk.+"), id="regular expression"),
        pytest.param("pod!~canary", ("pod", "!~", "canary"), id="not matching"),
        pytest.param("team=", ("team", "=", ""), id="empty: the label is missing"),
        pytest.param(r'path="C:\\x \"y\"\n"', ("path", "=", 'C:\\x "y"\n'), id="escapes"),
        pytest.param('"app.kubernetes.io/name"=x', ("app.kubernetes.io/name", "=", "x"), id="a quoted name"),
        pytest.param('summary="a=b, c~d {e}"', ("summary", "=", "a=b, c~d {e}"), id="operators within quotes"),
    ],
)
def test_matchers_as_alertmanager_writes_them(text: str, matcher: tuple[str, str, str]) -> None:
    name, op, value = matcher
    assert parse(text) == Matcher.model_validate({"name": name, "op": op, "value": value})
    assert parse(written(parse(text))) == parse(text)


@pytest.mark.parametrize("text", ["", "service", "=x", "a==b", 'a="b', "a=b c", "{a=b}", "a=b,c=d", "a<b"])
def test_what_is_no_matcher(text: str) -> None:
    with pytest.raises(Unusable, match="is no matcher"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("30m", 1800, id="minutes"),
        pytest.param("1d12h", 129_600, id="two units"),
        pytest.param("2w", 1_209_600, id="weeks"),
        pytest.param(" 90s ", 90, id="spaces"),
    ],
)
def test_spans(text: str, seconds: int) -> None:
    assert span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2h30", "0m", "999999999w", "1.5h"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(Unusable):
        span(text)


def test_a_moment_without_an_offset_is_utc() -> None:
    assert moment("2026-12-24T18:00") == datetime(2026, 12, 24, 18, tzinfo=UTC)
    assert moment("2026-12-24T18:00+01:00") == datetime(2026, 12, 24, 17, tzinfo=UTC)
