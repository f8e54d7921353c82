"""What became of an alert, and which smallest change would have paged: by table, and by folding nights again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamproc.backtest.answering import Answer, Finding, ask
from streamproc.backtest.changing import beside_with, line_with
from streamproc.backtest.heard import find
from streamproc.backtest.reading import Beside, Line
from streamproc.backtest.recorded import EmbeddedInboxes
from streamproc.backtest.slices import cut
from streamproc.backtest.whynot import MADE_UP_KEY, Change, Facts, candidates, pairs
from streamproc.core.fold import CONFIG
from streamproc.events.alert import Alert, Severity
from streamproc.events.escalation import Verdict
from streamproc.events.feedback import ARM, Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.events.raw import RawAlert
from streamproc.learning.linear import LinearModel
from streamproc.ports import Entry
from streamproc.sources import SOURCES, recognise
from streamproc.versions import activation
from tests.backtest.nights import SETTINGS, Night, count, edited, incident, number, trim
from tests.cli.playing import KEY, T0

HEARD = datetime(2026, 3, 1, 12, 3, 7, tzinfo=UTC)
PAGING = {"escalate": {"destinations": {"default": {"routing_key": KEY}}}}


def alert(severity: Severity = Severity.WARNING, **labels: str) -> Alert:
    return Alert(
        fingerprint="fp:v1:00",
        alert_id="00@x",
        source="alertmanager",
        status="firing",
        name="DiskFull",
        severity=severity,
        summary="",
        labels={"alertname": "DiskFull", **labels},
        scope="prod:-",
        service="db",
        starts_at=HEARD,
        at=HEARD,
    )


def silence(policy_id: str = "abc", **more: Any) -> Policy:
    given: dict[str, Any] = {
        "policy_id": policy_id,
        "kind": PolicyKind.SILENCE,
        "version": 1,
        "matchers": (Matcher(name="service", op="=", value="db"),),
        "starts_at": HEARD - timedelta(hours=1),
        "ends_at": HEARD.replace(hour=14, minute=0),
        "author": "Ann",
    }
    return Policy.model_validate({**given, **more})


def facts(severity: Severity = Severity.CRITICAL, *reasons: tuple[str, str], **more: Any) -> Facts:
    given = {"config": PAGING, **more}
    return Facts(alert(severity), HEARD, frozenset(reasons), **given)


ANSWER = Feedback(
    feedback_id="w1", incident_id="in:v1:x", kind=FeedbackKind.RESOLVED, by="ann", at=HEARD - timedelta(minutes=2)
)
WATCHED = {
    **PAGING,
    "deduplicate": {"watchdogs": {"dead": {"matchers": ['alertname="DiskFull"']}, "b": {"matchers": ["a=b"]}}},
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(facts(), [], id="nothing kept it back that is known"),
        pytest.param(
            facts(policies=(silence(),)), ["if silence `abc` (by Ann, until 14:00) had not stood"], id="a silence"
        ),
        pytest.param(
            facts(policies=(silence(author="", ends_at=HEARD + timedelta(days=2), kind=PolicyKind.MAINTENANCE),)),
            ["if maintenance window `abc` (by nobody named, until 2026-03-03 12:03) had not stood"],
            id="a window that ends another day",
        ),
        pytest.param(
            facts(Severity.WARNING),
            ["if it had said severity=error", "if `escalate.page` had `warning`"],
            id="a severity that does not page",
        ),
        pytest.param(
            facts(Severity.WARNING, config={"escalate": {"page": ["critical"]}}),
            ["if it had said severity=critical", "if `escalate.page` had `warning`"],
            id="the least severity that pages",
        ),
        pytest.param(
            facts(Severity.INFO, config={"escalate": {"page": []}}), ["if `escalate.page` had `info`"], id="none pages"
        ),
        pytest.param(
            facts(Severity.ERROR, ("escalate", "learned_quiet")),
            ["if `escalate.learned_may_quiet` had been without `error`"],
            id="learned",
        ),
        pytest.param(
            facts(Severity.ERROR, ("escalate", "reopened"), ("correlate", "reopened")),
            ["if `escalate.reopen_hold` had been 0", "if `pagerduty.incidents.auto_resolve_threshold` had been 0"],
            id="held because it reopened",
        ),
        pytest.param(facts(dry_run=True), ["if the pipeline had been armed"], id="not armed"),
        pytest.param(facts(adopted=True), ["if arming had not adopted what fired already"], id="adopted"),
        pytest.param(
            facts(answers=(ANSWER,)), ["if ann had not resolved it at PagerDuty at 12:01"], id="a person resolved it"
        ),
        pytest.param(
            facts(answers=(ANSWER.model_copy(update={"by": ""}),)),
            ["if somebody had not resolved it at PagerDuty at 12:01"],
            id="somebody resolved it",
        ),
        pytest.param(
            facts(Severity.CRITICAL, ("deduplicate", "late")),
            [
                "if it had said that it began at 12:03:07, when it came in, and not before",
                "if `deduplicate.reorder_within` had been 0",
            ],
            id="too late",
        ),
        pytest.param(facts(config=WATCHED), ["if `deduplicate.watchdogs` had no watchdog `dead`"], id="a watchdog"),
        pytest.param(
            facts(Severity.CRITICAL, ("correlate", "neighbour"), dependencies=(("checkout", "db"),)),
            [
                "if the service catalogue had not said that checkout depends on db",
                "if `correlate.window` had been 1 s",
                "if `correlate.join` had been 1",
                "if `correlate.hops` had been 0",
            ],
            id="it joined a neighbour",
        ),
        pytest.param(
            facts(Severity.CRITICAL, ("correlate", "same_service"), dependencies=(("checkout", "db"),)),
            ["if `correlate.window` had been 1 s", "if `correlate.join` had been 1"],
            id="it joined its own service",
        ),
        pytest.param(
            facts(Severity.CRITICAL, ("correlate", "same_kind")),
            ["if `correlate.kind_gap` had been 0"],
            id="it joined those of its name",
        ),
        pytest.param(
            facts(keyless=True, config={}), ["if `pagerduty.destinations` had a routing key for `default`"], id="no key"
        ),
    ],
)
def test_the_candidates(given: Facts, expected: list[str]) -> None:
    assert [change.words for change in candidates(given)] == expected


def test_the_smallest_come_first_and_pairs_say_nothing_twice() -> None:
    found = candidates(facts(Severity.WARNING, ("correlate", "same_service"), policies=(silence(), silence("xyz"))))
    assert [change.name for change in found] == [
        "silence:abc",
        "silence:xyz",
        "label:severity=error",
        "setting:escalate.page",
        "setting:correlate.window",
        "setting:correlate.join",
    ]
    both = [(one.name, other.name) for one, other in pairs(found)]
    assert both[0] == ("silence:abc", "silence:xyz")
    assert ("label:severity=error", "setting:escalate.page") not in both
    assert len(both) == 14


# -- what a change does ------------------------------------------------------------------------------------------------


def played(*entries: Entry) -> list[Beside]:
    return [Beside(HEARD, tuple(entries))]


def put(event: Policy | Feedback) -> Entry:
    return Entry.of("policies", event)


ARMED = Policy(policy_id=ARM, kind=PolicyKind.ARM, version=3, starts_at=HEARD)


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param(Change("", "", 1), ["abc", ARM, "w1"], id="nothing"),
        pytest.param(Change("", "", 1, policy="abc"), [ARM, "w1"], id="a silence"),
        pytest.param(Change("", "", 1, armed=True), ["abc", "w1"], id="armed all the time: as a replay is by itself"),
        pytest.param(Change("", "", 1, feedback="w1"), ["abc", ARM], id="what a person did"),
    ],
)
def test_what_came_in_beside_is_left_out(change: Change, left: list[str]) -> None:
    found = beside_with(played(put(silence()), put(ARMED), put(ANSWER)), [change])
    values = [orjson.loads(entry.value) for came in found for entry in came.entries]
    assert [value.get("policy_id") or value.get("feedback_id") for value in values] == left


def test_feedback_that_cannot_be_read_is_played_as_it_is() -> None:
    broken = Entry("feedback", b"", b"{", {"type": b"feedback.v1"})
    foreign = Entry("feedback", b"", b"{")
    assert beside_with(played(broken, foreign), [Change("", "", 1, feedback="w1")]) == played(broken, foreign)


def test_nothing_is_left_of_what_is_left_out_alone() -> None:
    assert beside_with(played(put(silence())), [Change("", "", 1, policy="abc")]) == []


@pytest.mark.parametrize(
    ("kind", "body", "change", "expected"),
    [
        pytest.param(
            CONFIG,
            {"escalate": {"page": ["critical"], "ticket": []}},
            Change("", "", 1, settings=(("escalate", "page", ["error"]), ("correlate", "hops", 0))),
            {"escalate": {"page": ["error"], "ticket": []}, "correlate": {"hops": 0}},
            id="settings",
        ),
        pytest.param(
            "catalogue",
            {"services": {"a": {"depends_on": ["b", "c"], "owner": "x"}, "b": {}}},
            Change("", "", 1, dependency=("a", "b")),
            {"services": {"a": {"depends_on": ["c"], "owner": "x"}, "b": {}}},
            id="a dependency",
        ),
        pytest.param("catalogue", {"services": {"a": {}}}, Change("", "", 1), {"services": {"a": {}}}, id="nothing"),
        pytest.param("model", {"bias": 1}, Change("", "", 1, dependency=("a", "b")), {"bias": 1}, id="of another kind"),
    ],
)
def test_a_version_is_changed_and_switched_to(kind: str, body: Any, change: Change, expected: Any) -> None:
    (came,) = beside_with(played(*activation(kind, json.dumps(body), None, "x", "x")), [change])
    artifact, switch = (orjson.loads(entry.value) for entry in came.entries)
    assert json.loads(artifact["body"]) == expected
    assert (switch["checksum"], switch["version"]) == (artifact["checksum"], 1)


AM = {"status": "firing", "labels": {"alertname": "A", "severity": "info"}, "startsAt": "2026-03-01T11:00:00Z"}
OTHER = {**AM, "labels": {"alertname": "B", "severity": "info"}}
GENERIC = {"name": "A", "status": "firing", "severity": "info", "starts_at": "2026-03-01T11:00:00Z"}
DATADOG = {"alert_id": "7", "title": "Disk", "alert_transition": "Warn", "date": "1772366400000"}


@pytest.mark.parametrize(
    ("source", "body", "first"),
    [
        pytest.param("alertmanager", {"alerts": [OTHER, AM]}, 1, id="Alertmanager's webhook"),
        pytest.param("alertmanager", [{**AM, "fingerprint": "abcdef0123456789"}, OTHER], 0, id="its list"),
        pytest.param("alertmanager", AM, 0, id="one alert of it"),
        pytest.param("generic", GENERIC, 0, id="one generic alert"),
        pytest.param("generic", {"alerts": [GENERIC]}, 0, id="several generic alerts"),
        pytest.param("datadog", DATADOG, 0, id="a warning of Datadog"),
        pytest.param("datadog", {**DATADOG, "alert_transition": "Triggered"}, 0, id="an alert of Datadog"),
    ],
)
def test_an_alert_says_something_else_and_stays_itself(source: str, body: Any, first: int) -> None:
    before, _ = SOURCES[source].read(body, HEARD)
    line = Line(HEARD, 1, source, orjson.dumps(body))
    change = [Change("", "", 1, severity=Severity.CRITICAL), Change("", "", 1, starts_at=HEARD)]
    changed = line_with(line, before[first].fingerprint, change)
    named, told = recognise(RawAlert(body=changed.body, source=source))
    after, _ = SOURCES[named].read(told, HEARD)
    assert [one.fingerprint for one in after] == [one.fingerprint for one in before]
    assert [one.severity_text == "critical" for one in after] == [at == first for at in range(len(after))]
    if source != "datadog":  # it says when something happened, not when it began
        assert after[first].starts_at == HEARD


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        pytest.param(b"{nonsense", [Change("", "", 1, severity=Severity.CRITICAL)], id="no JSON"),
        pytest.param(orjson.dumps(AM), [Change("", "", 1, policy="abc")], id="nothing of the alert changes"),
    ],
)
def test_a_request_stays_as_it_is(body: bytes, changes: list[Change]) -> None:
    line = Line(HEARD, 1, "alertmanager", body)
    assert line_with(line, "fp:v1:00", changes) is line


def test_only_the_start_changes() -> None:
    for source, body in (("datadog", DATADOG), ("generic", GENERIC), ("alertmanager", AM)):
        (before,), _ = SOURCES[source].read(body, HEARD)
        changed = line_with(
            Line(HEARD, 1, source, orjson.dumps(body)), before.fingerprint, [Change("", "", 1, starts_at=HEARD)]
        )
        (after,), _ = SOURCES[source].read(orjson.loads(changed.body), HEARD)
        assert after.severity_text == before.severity_text


# -- nights ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    made = Night(tmp_path / "data")
    yield made
    made.close()


def begin(night: Night, settings: dict[str, Any] | None = None, *, armed: bool = True) -> None:
    night.activate("config", settings or SETTINGS)
    night.activate("catalogue", {"services": {"checkout": {"depends_on": ["db"]}, "db": {}}})
    if armed:
        night.arm()
    night.advance(minutes=1)


def mute(night: Night, policy_id: str = "abc", service: str = "db") -> None:
    now = night.clock.now()
    matchers = (Matcher(name="service", op="=", value=service),)
    given = silence(policy_id, starts_at=now, ends_at=now + timedelta(hours=2), matchers=matchers)
    night.put("policies", given)
    night.advance(minutes=1)


def asked(night: Night, text: str = "") -> Answer:
    with EmbeddedInboxes(night.folder) as inboxes:
        records = list(inboxes.records("alerts", 0, inboxes.start("alerts", 0)))
        alerts = [Alert.decode(one.value, {}) for one in records if one.headers["type"] == b"alert.v1"]
        return ask(inboxes, text or alerts[-1].alert_id)


def muted(night: Night) -> None:
    begin(night)
    mute(night)
    night.alert("DiskFull", service="db")
    night.advance(minutes=10)


def muted_twice(night: Night) -> None:
    begin(night)
    mute(night)
    mute(night, "xyz")
    mute(night, "another", service="mail")
    night.alert("DiskFull", service="db")
    night.advance(minutes=10)


def muted_and_a_warning(night: Night) -> None:
    begin(night)
    mute(night)
    night.alert("DiskFull", service="db", severity="warning")
    night.advance(minutes=10)


def a_warning(night: Night) -> None:
    begin(night)
    night.alert("DiskFull", service="db", severity="warning")
    night.advance(minutes=10)


def not_armed(night: Night) -> None:
    begin(night, armed=False)
    night.alert("DiskFull", service="db")
    night.advance(minutes=1)


def adopted(night: Night) -> None:
    begin(night, armed=False)
    night.advance(minutes=10)
    armed = Policy(policy_id=ARM, kind=PolicyKind.ARM, version=1, starts_at=night.clock.now(), adopt=True)
    night.put("policies", armed)
    night.advance(minutes=1)
    night.alert("DiskFull", service="db")  # it says that it began before
    night.advance(minutes=5)


def reopened(night: Night) -> None:
    begin(night)
    night.alert("DiskFull", service="db", severity="error")
    night.advance(minutes=10)
    night.alert("DiskFull", "resolved", service="db", severity="error")
    night.advance(minutes=3)
    night.alert("DiskFull", service="db", severity="error")
    night.tell()
    night.advance(minutes=1)
    night.alert("DiskFull", "resolved", service="db", severity="error")
    night.advance(minutes=10)


def resolved_by_a_person(night: Night) -> None:
    begin(night)
    night.alert("DatabaseDown", service="db", severity="error")
    night.tell()
    night.feedback(incident(night.folder), FeedbackKind.RESOLVED)
    night.advance(minutes=1)
    night.alert("HighErrorRate", service="checkout", severity="error")
    night.advance(minutes=5)


def too_late(night: Night) -> None:
    begin(night)
    night.alert("DiskFull", service="db", severity="error")
    night.tell()
    night.advance(minutes=3)
    night.alert("DiskFull", "resolved", service="db", severity="error")
    night.tell()
    night.advance(seconds=30)
    night.alert("DiskFull", service="db", severity="error")
    night.advance(minutes=10)


def taken_for_a_watchdog(night: Night) -> None:
    begin(night, {**SETTINGS, "deduplicate": {"watchdogs": {"all": {"matchers": ['service="db"'], "within": "PT10M"}}}})
    night.alert("DiskFull", service="db")
    night.advance(minutes=1)


def a_ticket_of_its_own(night: Night) -> None:
    keys = {"default": {"routing_key": KEY, "ticket_routing_key": "T" * 32}}
    begin(night, {"escalate": {"destinations": keys}})
    night.put("feedback", ANSWER, "in:v1:x")
    night.append([Entry("feedback", b"", b"{", {"type": b"feedback.v1"})])
    night.advance(minutes=1)
    night.alert("DiskFull", service="db", severity="warning")
    night.advance(minutes=1)


def learned_quiet(night: Night) -> None:
    begin(night)
    model = LinearModel(weights={}, bias=-9.0, labels=99, pages=9, trust=((0.5, 0.99),))
    night.activate("model", json.loads(model.model_dump_json()))
    night.advance(minutes=1)
    night.alert("DiskFull", service="db", severity="error")
    night.advance(minutes=5)


def without_a_key(night: Night) -> None:
    begin(night, {"escalate": {"page": ["critical", "error"]}})
    night.alert("DiskFull", service="db")
    night.advance(minutes=1)


@pytest.mark.parametrize(
    ("play", "reason", "expected"),
    [
        pytest.param(muted, "muted", [["silence:abc"]], id="a silence"),
        pytest.param(muted_twice, "muted", [["silence:abc", "silence:xyz"]], id="two silences, lifted together"),
        pytest.param(
            muted_and_a_warning, "muted", [["silence:abc", "label:severity=error"]], id="muted, and a warning"
        ),
        pytest.param(a_warning, "severity", [["label:severity=error"], ["setting:escalate.page"]], id="a warning"),
        pytest.param(
            a_ticket_of_its_own,
            "severity",
            [["label:severity=error"], ["setting:escalate.page"]],
            id="a ticket at PagerDuty is no page",
        ),
        pytest.param(not_armed, "severity", [["armed"]], id="a dry run"),
        pytest.param(adopted, "adopted", [["adopted"]], id="adopted"),
        pytest.param(
            reopened,
            "reopened",
            [["setting:escalate.reopen_hold"], ["setting:pagerduty.incidents.auto_resolve_threshold"]],
            id="held because it reopened",
        ),
        pytest.param(
            resolved_by_a_person,
            "handled",
            [
                ["feedback:w1"],
                ["dependency:checkout>db"],
                ["setting:correlate.window"],
                ["setting:correlate.join"],
                ["setting:correlate.hops"],
            ],
            id="it joined what a person had resolved",
        ),
        pytest.param(
            too_late, "late", [["label:start"], ["setting:deduplicate.reorder_within"]], id="too late to be believed"
        ),
        pytest.param(taken_for_a_watchdog, "heartbeat", [["setting:deduplicate.watchdogs"]], id="a watchdog's rule"),
        pytest.param(learned_quiet, "learned_quiet", [["setting:escalate.learned_may_quiet"]], id="the learned model"),
        pytest.param(without_a_key, "no_routing_key", [["setting:pagerduty.destinations"]], id="no routing key"),
    ],
)
def test_what_would_have_paged(
    night: Night, play: Callable[[Night], None], reason: str, expected: list[list[str]]
) -> None:
    play(night)
    night.tell()
    answer = asked(night)
    assert (answer.finding, answer.reason[1]) == (Finding.NOT_PAGED, reason)
    assert answer.reproduced
    assert [[change.name for change in one.changes] for one in answer.found] == expected
    assert all(one.seen.whole for one in answer.found)
    # Whether there is a routing key is no decision: nothing of the reason chain says it.
    assert [one.parting is None for one in answer.found] == [reason == "no_routing_key"] * len(answer.found)


# -- what needs no change ----------------------------------------------------------------------------------------------


def test_what_paged_is_said(night: Night) -> None:
    begin(night)
    night.alert("DatabaseDown", service="db")
    night.tell()
    answer = asked(night)
    assert (answer.finding, answer.tried) == (Finding.PAGED, 0)
    assert answer.page is not None
    assert answer.page.decided_at == T0 + timedelta(minutes=1)


def test_the_page_that_covers_it_is_named(night: Night) -> None:
    begin(night)
    night.alert("DatabaseDown", service="db")
    night.tell()
    night.advance(minutes=1)
    night.alert("HighErrorRate", service="checkout", severity="warning")
    night.tell()
    answer = asked(night)
    assert answer.finding is Finding.COVERED
    assert answer.page is not None
    assert (answer.page.seq, answer.page.dedup_key) == (1, incident(night.folder))


def test_a_page_that_is_over_covers_nothing(night: Night) -> None:
    too_late(night)
    night.advance(minutes=3)
    night.alert("DiskFull", service="db", severity="error", pod="x")
    night.tell()
    assert asked(night).finding is Finding.PAGED


def test_a_page_that_pagerduty_refused_is_said(night: Night) -> None:
    begin(night)
    night.alert("DatabaseDown", service="db")
    night.tell(verdict=Verdict.REFUSED)
    assert asked(night).finding is Finding.UNDELIVERED


def test_what_resolved_before_it_was_seen_firing_is_said(night: Night) -> None:
    begin(night)
    night.alert("DatabaseDown", "resolved", service="db")
    answer = asked(night)
    assert (answer.finding, answer.reason) == (Finding.NOT_PAGED, ("deduplicate", "resolved_unseen"))
    assert not answer.found


def test_what_was_refused_is_a_dead_letter(night: Night) -> None:
    begin(night)
    odd = {"labels": {"alertname": "X"}, "status": "odd", "fingerprint": "feed1234"}
    night.raw(json.dumps({"alerts": [odd]}).encode())
    answer = asked(night, "feed1234")
    assert answer.finding is Finding.REFUSED
    assert answer.letter is not None
    assert answer.letter.reason == "bad_status"


@pytest.mark.parametrize("text", [pytest.param("@", id="no fingerprint"), pytest.param("fp:v1:", id="nothing of it")])
def test_a_text_that_names_nothing_finds_no_dead_letter(night: Night, text: str) -> None:
    begin(night)
    night.raw(b"{nonsense")
    assert asked(night, text).finding is Finding.NEVER_HEARD


def test_what_never_came_is_said_with_where_it_was_looked_for(night: Night) -> None:
    begin(night)
    night.alert("DatabaseDown", service="db")
    answer = asked(night, "00000000")
    assert answer.finding is Finding.NEVER_HEARD
    assert [topic for topic, _, _ in answer.looked] == ["alerts.raw", "alerts", "dead-letters"]
    assert answer.looked[0][2] == T0


@pytest.mark.parametrize("plain", [pytest.param(True, id="as Alertmanager writes it"), pytest.param(False, id="ours")])
def test_an_alert_is_found_by_its_fingerprint(night: Night, plain: bool) -> None:  # noqa: FBT001  a case
    a_warning(night)
    body = {"labels": {"alertname": "X", "environment": "prod"}, "status": "firing", "fingerprint": "feed1234"}
    night.raw(json.dumps({"alerts": [body]}).encode())
    night.alert("Else", service="mail")
    with EmbeddedInboxes(night.folder) as inboxes:
        target = find(inboxes, "feed1234" if plain else "fp:v1:feed1234")
        assert target is not None
        assert (target.alert.name, find(inboxes, "feed")) == ("X", None)


def test_an_alert_is_found_by_reading_the_requests_again(night: Night) -> None:
    begin(night)
    body = {"labels": {"alertname": "X", "severity": "warning"}, "status": "firing", "fingerprint": "feed1234"}
    night.raw(json.dumps({"alerts": [body]}).encode())
    night.raw(b"{nonsense")
    night.advance(minutes=1)
    night.alert("Later", service="mail")
    trim(night.folder, "alerts", count(night.folder, "alerts") - 1)
    answer = asked(night, "feed1234")
    assert (answer.finding, bool(answer.found)) == (Finding.NOT_PAGED, True)


def test_what_kept_it_back_may_be_gone(night: Night) -> None:
    muted(night)
    with edited(night.folder) as db:
        db.execute("DELETE FROM log WHERE topic=? AND CAST(value AS TEXT) LIKE '%silence%'", (number(db, "policies"),))
    answer = asked(night)
    assert answer.bound is not None
    assert (answer.reproduced, answer.tried, answer.found) == (False, 0, ())
    assert answer.bound.since < T0 - timedelta(hours=12)  # it was looked for as far back as an incident may reach


def test_why_it_opened_nothing_may_be_gone(night: Night) -> None:
    too_late(night)
    with EmbeddedInboxes(night.folder) as inboxes:
        named = json.loads(list(inboxes.records("alerts", 0, 0))[-1].value)["alert_id"]
    night.alert("Later", service="mail")
    trim(night.folder, "alerts", count(night.folder, "alerts") - 1)
    answer = asked(night, named)
    assert (answer.finding, answer.reason) == (Finding.NOT_PAGED, ("deduplicate", ""))


def test_so_many_changes_are_tried_at_most(night: Night) -> None:
    muted_twice(night)
    with EmbeddedInboxes(night.folder) as inboxes:
        alert_id = Alert.decode(list(inboxes.records("alerts", 0, 0))[-1].value, {}).alert_id
        answer = ask(inboxes, alert_id, most=2)
    assert (answer.tried, answer.untried, answer.found) == (2, 1, ())


def test_requests_of_other_scopes_are_left_out_and_too_many(night: Night) -> None:
    begin(night)
    for at in range(6):
        night.alert("DiskFull" if at == 4 else f"Other{at}", service="db", severity="warning")
        night.alert("Elsewhere", cluster="eu-2")
        night.advance(seconds=10)
    with EmbeddedInboxes(night.folder) as inboxes:
        target = find(inboxes, json.loads(list(inboxes.records("alerts", 0, 0))[10].value)["alert_id"])
        assert target is not None
        whole = cut(inboxes, target, T0)
        some = cut(inboxes, target, T0, most=3)
    assert (whole.bound.requests, whole.bound.left_out) == (6, 6)
    assert (some.bound.requests, some.bound.left_out) == (3, 9)
    assert [named for _, named in some.lines] == [False, True, False]


def test_it_is_going_to_page_when_the_silence_ends(night: Night) -> None:
    muted(night)
    answer = asked(night)
    assert answer.base is not None
    assert answer.base.heard_at == T0 + timedelta(hours=2, minutes=1)


def test_the_made_up_key_is_none_of_anybody() -> None:
    assert set(MADE_UP_KEY) == {"0"}
