"""A candidate beside a scenario: what differs, when it is settled, and that production knows nothing of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from streamproc.core.event import Activated
from streamproc.core.record import Record
from streamproc.events.shadow import Difference
from streamproc.ports import Entry
from streamproc.shadow.candidate import Standing, begun, ended, everything, newest
from streamproc.shadow.telling import told
from tests.shadow.shadowing import Shadowed, candidate
from tests.support.play import T0, alert

DB = alert("db-1 down", "db")
SLOW = alert("db-1 slow", "db", "error")
SEARCH = alert("search down", "search")
GROUP = {"job": "db"}


def what(one: Difference) -> tuple[str, list[str], list[str]]:
    return one.relation, [page.rule for page in one.a], [page.rule for page in one.b]


def test_a_candidate_that_is_the_same_differs_in_nothing() -> None:
    beside = Shadowed()
    beside.begin(candidate())
    beside.at("1m").push(DB)
    beside.at("2m").push(SLOW, SEARCH)
    beside.at("10m").push(DB.resolved, SLOW.resolved, SEARCH.resolved)
    beside.at("40m")
    assert beside.differences == []
    told = beside.progress
    assert (told.pages_current, told.pages_candidate, told.agreed, told.open) == (2, 2, 2, 0)
    assert (told.incidents_current, told.incidents_candidate, told.requests) == (2, 2, 3)
    assert told.until == beside.play.now


def test_a_page_that_the_candidate_does_not_make_is_missed_once_its_incident_is_over() -> None:
    beside = Shadowed()
    beside.begin(candidate(escalate={"page": ["critical"]}))
    beside.at("1m").push(SLOW)
    beside.at("5m").push(SLOW.resolved)
    beside.at("19m")
    assert beside.differences == []
    beside.at("21m")
    (one,) = beside.differences
    assert what(one) == ("only_a", ["db_1_slow"], [])
    assert (len(one.missed), one.parted_at) == (1, "escalate")
    assert [why.stage for why in one.why_a][-1] == [why.stage for why in one.why_b][-1] == "escalate"
    assert (beside.progress.missed, beside.progress.differences) == (1, {"only_a": 1})


def test_a_page_more_is_settled_after_an_hour_while_its_incident_is_open() -> None:
    beside = Shadowed()
    beside.begin(candidate(escalate={"page": ["critical", "error", "warning"]}))
    beside.at("1m").push(alert("disk filling", "db", "warning"))
    beside.at("60m")
    assert beside.differences == []
    beside.at("62m")
    assert [what(one) for one in beside.differences] == [("only_b", [], ["disk_filling"])]


@pytest.mark.parametrize(
    ("sections", "relation", "changes", "delay"),
    [
        pytest.param({"catalogue": {"db": {"depends_on": ["search"]}}}, "merged", (), 0.0, id="a dependency merges"),
        pytest.param(
            {"catalogue": {"db": {"destination": "database"}}}, "same", ("destination",), 0.0, id="other destination"
        ),
    ],
)
def test_what_differs(sections: dict[str, object], relation: str, changes: tuple[str, ...], delay: float) -> None:
    beside = Shadowed()
    beside.begin(candidate(**sections))  # type: ignore[arg-type]
    beside.at("1m").push(DB)
    beside.at("2m").push(SEARCH)
    beside.at("5m").push(DB.resolved, SEARCH.resolved)
    beside.at("21m")
    (one,) = beside.differences
    assert (one.relation, one.changes, one.delay_seconds) == (relation, changes, delay)


def test_a_page_that_is_made_after_it_was_settled_changes_the_difference() -> None:
    beside = Shadowed()
    beside.begin(candidate(escalate={"page": ["critical"]}))
    beside.at("1m").push(SLOW, group=GROUP)
    beside.at("62m")
    assert [what(one)[0] for one in beside.differences] == ["only_a"]
    beside.at("63m").push(DB, group=GROUP)
    beside.at("65m")
    (one,) = beside.differences
    assert (one.relation, one.delay_seconds, one.missed) == ("same", 3720.0, ())
    assert beside.progress.differences == {"same": 1}
    assert beside.progress.missed == 0


def test_differences_that_become_one_leave_the_other_withdrawn() -> None:
    beside = Shadowed()
    beside.begin(candidate({"db": {"depends_on": ["search"]}}, escalate={"page": ["critical"]}))
    beside.at("1m").push(SLOW, group=GROUP)
    beside.at("2m").push(alert("search slow", "search", "error"))
    beside.at("63m")
    assert [(what(one)[0], one.withdrawn) for one in beside.differences] == [("only_a", False)] * 2
    beside.at("64m").push(DB, group=GROUP)
    beside.at("66m")
    assert sorted((what(one)[0], one.withdrawn) for one in beside.differences) == [
        ("merged", False),
        ("only_a", True),
    ]
    assert beside.progress.differences == {"merged": 1}


def test_what_is_over_is_forgotten() -> None:
    beside = Shadowed()
    beside.begin(candidate())
    beside.at("1m").push(DB)
    beside.at("2m").push(DB.resolved)
    beside.at("30m")
    shadow = beside.follower._shadow
    assert shadow is not None
    assert shadow._a.incident_of
    beside.at("124m").push(SEARCH)
    beside.at("126m")
    assert list(shadow._a.incident_of.values()) == list(shadow._b.incident_of.values())
    assert len(shadow._a._seen) == len(shadow._b._seen) == 1


def test_where_a_candidate_has_no_catalogue_that_of_production_counts() -> None:
    beside = Shadowed()
    beside.play.services(db={"destination": "database"})
    beside.begin(candidate())
    beside.at("1m").push(DB)
    beside.at("2m").services(search={"destination": "database"})
    beside.at("3m").push(SEARCH)
    beside.at("65m").push(DB.resolved, SEARCH.resolved)
    beside.at("90m")
    assert beside.differences == []
    assert beside.progress.agreed == 2


def test_what_cannot_be_read_is_passed_over() -> None:
    beside = Shadowed()
    beside.begin(candidate())
    bad = {"type": b"raw-alert.v1", "source": b"alertmanager", "now": b"yesterday"}
    beside.memory.append([Entry("alerts.raw", b"", b"{}", bad), Entry("feedback", b"", b"{", {})])
    gone = Activated(kind="model", version=1, checksum="0" * 64)
    beside.memory.journal.logs["policies", 0].append(
        Record("policies", 0, beside.inboxes.end("policies", 0), gone.encode(), T0, b"", {"type": gone.TYPE.encode()})
    )
    with capture_logs() as logs:
        beside.follower.step()
    assert [each["event"] for each in logs][-1].startswith("A version is no longer held")
    assert beside.progress.requests == 1


def test_incidents_that_were_open_when_the_candidate_began_are_no_part() -> None:
    beside = Shadowed()
    beside.at("1m").push(SLOW)
    beside.at("10m")
    beside.begin(candidate(escalate={"page": ["critical"]}))
    beside.at("11m").push(alert("db-1 sluggish", "db", "error"))
    beside.at("12m").push(alert("web slow", "web", "error"))
    beside.at("90m")
    assert [what(one) for one in beside.differences] == [("only_a", ["web_slow"], [])]
    assert (beside.progress.pages_current, beside.progress.incidents_candidate) == (1, 1)


def test_silences_and_answers_of_people_count_for_the_candidate_too() -> None:
    beside = Shadowed()
    beside.play.services(db={"second_destination": "second"})
    beside.begin(candidate(correlate={"hops": 0}))
    beside.play.silence("s-1", until="1h", service="web")
    beside.at("1m").push(DB, alert("web down", "web"))
    beside.at("2m").respond("db-1")
    beside.at("25m")
    assert beside.differences == []
    assert (beside.progress.pages_current, beside.progress.pages_candidate, beside.progress.unheard) == (1, 1, 0)


def test_an_answer_about_what_the_candidate_does_not_know_is_counted() -> None:
    beside = Shadowed(warm=timedelta(0))
    beside.at("1m").push(DB)
    beside.at("2m")
    beside.begin(candidate())
    beside.at("3m").respond("db-1")
    beside.at("4m")
    assert beside.progress.unheard == 1


def test_a_follower_that_starts_anew_comes_to_the_same() -> None:
    beside = Shadowed()
    beside.at("1m").push(SEARCH)
    beside.begin(candidate(escalate={"page": ["critical"]}, catalogue={"db": {"depends_on": ["search"]}}))
    beside.at("5m").push(SLOW)
    beside.at("30m").push(SLOW.resolved)
    beside.at("50m").push(alert("web slow", "web", "error"))
    beside.at("125m")
    before, stood = beside.differences, beside.progress
    assert len(before) == 2
    beside.follower = beside.another()
    beside.follower.step()
    assert (beside.differences, beside.progress) == (before, stood)


def test_production_knows_nothing_of_a_candidate() -> None:
    def told(*, shadowed: bool) -> Shadowed:
        beside = Shadowed()
        if shadowed:
            beside.begin(candidate(escalate={"page": ["critical"]}))
        beside.at("1m").push(SLOW, SEARCH)
        beside.at("9m").respond("search")
        beside.at("20m").push(SLOW.resolved)
        beside.at("90m")
        return beside

    alone, beside = told(shadowed=False), told(shadowed=True)
    assert beside.differences
    assert beside.log() == alone.log()
    assert beside.memory.journal.rows == alone.memory.journal.rows


def test_the_end_of_a_candidate_and_the_next_one() -> None:
    beside = Shadowed()
    beside.begin(candidate(escalate={"page": ["critical"]}))
    beside.at("1m")
    assert beside.follower.follows
    beside.memory.append(ended(newest(everything(beside.inboxes)), "ann", ""))
    beside.at("2m").push(SLOW)
    assert not beside.follower.follows
    beside.at("70m").push(SLOW.resolved)
    assert beside.differences == []
    beside.begin(candidate())
    beside.at("71m")
    assert (beside.progress.version, beside.progress.pages_current) == (3, 0)


@pytest.mark.parametrize("looks_between", [True, False])
def test_of_candidates_that_took_one_number_the_last_counts(*, looks_between: bool) -> None:
    beside = Shadowed()
    first, second = candidate(escalate={"page": ["critical"]}), candidate(escalate={"page": ["warning"]})
    for one in (first, second):
        beside.memory.append(begun(one, None, "ann", ""))  # while nothing runs, neither command sees the other
        if looks_between:
            beside.at("1m")
    beside.at("2m").push(alert("disk filling", "db", "warning"))
    beside.at("3m")
    found = told(beside.inboxes)
    assert found is not None
    assert (found.candidate, found.ended) == (second, None)
    assert found.progress == beside.progress
    assert (beside.progress.pages_current, beside.progress.pages_candidate) == (0, 1)
    last = newest(everything(beside.inboxes))
    assert last == found.began
    beside.memory.append(ended(None if last is None else replace(last, switch=begun_before(last)), "ann", ""))
    beside.at("4m")
    assert not beside.follower.follows


def begun_before(standing: Standing) -> Activated:
    """Return a switch that a command saw which knew nothing of the last one."""
    return standing.switch.model_copy(update={"version": standing.switch.version - 1})


def test_a_log_that_was_cut_is_compared_from_where_it_begins() -> None:
    beside = Shadowed()
    beside.begin(candidate(escalate={"page": ["critical"]}))
    beside.at("1m").push(SLOW)
    beside.at("2m").push(SLOW.resolved)
    beside.at("5m").push(alert("web slow", "web", "error"))
    beside.inboxes.starts = {"alerts.raw": 3}
    beside.follower = beside.another()
    beside.at("90m")
    assert beside.progress.since == beside.play.start + timedelta(minutes=5)
    assert [what(one) for one in beside.differences] == [("only_a", ["web_slow"], [])]
