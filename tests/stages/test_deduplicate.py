from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamproc.core.event import Wake
from streamproc.core.fold import Overlay
from streamproc.core.step import Step
from streamproc.events.alert import Alert, Episode, EpisodeChange, Severity
from streamproc.events.canary import LABEL, NAME
from streamproc.stages.deduplicate import STAGE, Config, Reason, meaning, step
from streamproc.state import EPISODE, EpisodeRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
FP = "fp:v1:0123456789abcdef"
OPENED, CHANGED, RESOLVED = EpisodeChange


def minute(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


def alert(status: str, starts: datetime, at: datetime, **changes: Any) -> Alert:
    given_ = {
        "fingerprint": FP,
        "alert_id": "a",
        "source": "test",
        "status": status,
        "name": "Down",
        "severity": "error",
        "summary": "db-1 is down for 3 minutes",
        "scope": "prod:eu",
        "starts_at": starts,
        "ends_at": at if status == "resolved" else None,
        "at": at,
    }
    return Alert.model_validate({**given_, **changes})


def fires(start: float = 0, **changes: Any) -> Alert:
    """Alertmanager: every notification of an occurrence carries its start, which is its event time."""
    return alert("firing", minute(start), minute(start), **changes)


def ends(start: float, end: float, **changes: Any) -> Alert:
    return alert("resolved", minute(start), minute(end), **changes)


def triggers(at: float, **changes: Any) -> Alert:
    """Datadog: every notification has its own time, and a firing alert is said once."""
    return alert("firing", minute(at), minute(at), expires=False, **changes)


WATCHDOG: dict[str, Any] = {"labels": {"alertname": "Watchdog"}, "name": "Watchdog"}


def beats(**changes: Any) -> Alert:
    return fires(**{**WATCHDOG, **changes})


def stops(at: float) -> Alert:
    return ends(0, at, **WATCHDOG)


OTHER = ends(0, 1, fingerprint="fp:v1:0123")
"""Another alert of the same source: it is heard."""


def recovers(at: float, **changes: Any) -> Alert:
    return alert("resolved", minute(at), minute(at), expires=False, **changes)


def wake(rows: Overlay) -> Wake:
    row = rows.get(EPISODE, FP)
    assert row is not None
    assert row.wake_at is not None
    return Wake(table=EPISODE.name, key=FP, due=row.wake_at)


DUE, AWAY = "the timer", "the timer, after an hour in which nothing ran"
"""Stand in a case for the wake of the row, at its due time."""
WATCHFUL = Config.model_validate({"watchdogs": {"prometheus": {"matchers": ['alertname="Watchdog"']}}})
Said = tuple[float | str, Alert | None, Reason, EpisodeChange | None]
"""The minute at which the log takes it (or DUE, AWAY), the notification, and what comes of it."""

FAR = datetime(2031, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

CASES = [
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (1, fires(), Reason.REPEAT, None),
            (2, fires(summary="db-1 is down for 14.5 minutes"), Reason.REPEAT, None),
            (9, ends(0, 9), Reason.RESOLVED, RESOLVED),
        ],
        id="a life: opened, repeats that differ in numbers only, resolved",
    ),
    pytest.param(
        [(0, fires(), Reason.OPENED, OPENED), (0, fires(), Reason.REPEAT, None), (1, fires(), Reason.REPEAT, None)],
        id="both peers of a high availability pair",
    ),
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (9, ends(0, 9), Reason.RESOLVED, RESOLVED),
            (9, ends(0, 9), Reason.RESOLVED_AGAIN, None),
            (10, fires(), Reason.LATE, None),
        ],
        id="the other peer resolves too, and a firing one was overtaken",
    ),
    pytest.param(
        [(0, fires(), Reason.OPENED, OPENED), (1, fires(severity="critical"), Reason.CHANGED, CHANGED)],
        id="another severity",
    ),
    pytest.param(
        [(0, fires(), Reason.OPENED, OPENED), (1, fires(summary="db-1 burns"), Reason.CHANGED, CHANGED)],
        id="another meaning",
    ),
    pytest.param(
        [(0, fires(), Reason.OPENED, OPENED), (1, fires(service="db"), Reason.CHANGED, CHANGED)],
        id="another service, since the rules changed",
    ),
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (6, fires(5), Reason.CHANGED, CHANGED),
            (7, fires(5), Reason.REPEAT, None),
            (9, ends(5, 9), Reason.RESOLVED, RESOLVED),
        ],
        id="a new start while open: its resolve was lost",
    ),
    pytest.param(
        [
            (5, fires(5), Reason.OPENED, OPENED),
            (6, fires(0), Reason.REPEAT, None),
            (7, fires(5), Reason.REPEAT, None),
            (9, ends(0, 9), Reason.RESOLVED, RESOLVED),
        ],
        id="the start moves back: another Prometheus knows an earlier one",
    ),
    pytest.param(
        [(6, fires(6), Reason.OPENED, OPENED), (7, ends(0, 5), Reason.LATE, None)],
        id="the resolve of the occurrence before comes late",
    ),
    pytest.param(
        [
            (5, ends(0, 5), Reason.RESOLVED_UNSEEN, None),
            (6, fires(), Reason.LATE, None),
            (6, ends(0, 5), Reason.RESOLVED_AGAIN, None),
        ],
        id="the resolve overtakes the first notification",
    ),
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (5, ends(0, 5), Reason.RESOLVED, RESOLVED),
            (7, fires(), Reason.LATE, None),
            (7.1, fires(), Reason.REOPENED, OPENED),
        ],
        id="the same start again: overtaken within reorder_within, fires again after it",
    ),
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (5, ends(0, 5), Reason.RESOLVED, RESOLVED),
            (6, fires(6), Reason.REOPENED, OPENED),
        ],
        id="a new start after the resolve: at once",
    ),
    pytest.param(
        [
            (6, fires(6), Reason.OPENED, OPENED),
            (8, ends(6, 8), Reason.RESOLVED, RESOLVED),
            (60, fires(0), Reason.LATE, None),
        ],
        id="an occurrence before the resolved one, however late",
    ),
    pytest.param(
        [
            (5, ends(0, 5), Reason.RESOLVED_UNSEEN, None),
            (8, ends(6, 8), Reason.RESOLVED_AGAIN, None),
            (9, fires(6), Reason.LATE, None),
        ],
        id="the resolve of the next occurrence overtakes its firing: nothing stays open",
    ),
    pytest.param(
        [
            (8, recovers(8), Reason.RESOLVED_UNSEEN, None),
            (8, recovers(5), Reason.RESOLVED_AGAIN, None),
            (9, triggers(7), Reason.LATE, None),
        ],
        id="an older resolve does not move the tombstone back",
    ),
    pytest.param(
        [
            (0, triggers(0), Reason.OPENED, OPENED),
            (3, triggers(3), Reason.REPEAT, None),
            (4, triggers(2), Reason.LATE, None),
            (9, recovers(9), Reason.RESOLVED, RESOLVED),
            (60, triggers(8), Reason.LATE, None),
            (61, triggers(60), Reason.REOPENED, OPENED),
        ],
        id="Datadog: ordered by each notification's own time, a lost connection's copy stays late",
    ),
    pytest.param(
        [(0, triggers(0), Reason.OPENED, OPENED), (3, triggers(3, severity="critical"), Reason.CHANGED, CHANGED)],
        id="Datadog: a new start alone is no change, a severity is",
    ),
    pytest.param(
        [
            (0, alert("firing", FAR, FAR), Reason.OPENED, OPENED),
            (1, alert("firing", FAR, FAR), Reason.REPEAT, None),
            (2, alert("resolved", FAR, FAR), Reason.RESOLVED, RESOLVED),
            (5, alert("firing", FAR + timedelta(1), FAR + timedelta(1)), Reason.REOPENED, OPENED),
        ],
        id="a producer whose clock says 2031",
    ),
    pytest.param(
        [
            (0, alert("firing", FAR, FAR), Reason.OPENED, OPENED),
            (2, ends(1, 2), Reason.RESOLVED, RESOLVED),
        ],
        id="a clock that ran ahead is set right: what follows is not late",
    ),
    pytest.param(
        [
            (0, alert("firing", LONG_AGO, LONG_AGO), Reason.OPENED, OPENED),
            (1, alert("firing", LONG_AGO, LONG_AGO), Reason.REPEAT, None),
            (2, alert("resolved", LONG_AGO, LONG_AGO + timedelta(minutes=2)), Reason.RESOLVED, RESOLVED),
        ],
        id="a producer whose clock says 1970",
    ),
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (60, fires(), Reason.REPEAT, None),
            (700, OTHER, Reason.RESOLVED_UNSEEN, None),
            (DUE, None, Reason.EXPIRED, RESOLVED),
            (60 + 12 * 60, fires(), Reason.OPENED, OPENED),
        ],
        id="silent for 12 hours since it was last heard: closed, and opened when it speaks again",
    ),
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (DUE, None, Reason.PUT_OFF, None),
            (800, fires(), Reason.REPEAT, None),
            (1500, OTHER, Reason.RESOLVED_UNSEEN, None),
            (DUE, None, Reason.EXPIRED, RESOLVED),
        ],
        id="while the source itself is silent, or we were away, nothing expires",
    ),
    pytest.param(
        [
            (0, fires(), Reason.OPENED, OPENED),
            (9, ends(0, 9), Reason.RESOLVED, RESOLVED),
            (DUE, None, Reason.FORGOTTEN, None),
            (500, fires(), Reason.OPENED, OPENED),
        ],
        id="a tombstone is forgotten",
    ),
    pytest.param(
        [
            (0, beats(), Reason.HEARTBEAT, None),
            (3, beats(), Reason.HEARTBEAT, None),
            (DUE, None, Reason.SILENT, OPENED),
            (DUE, None, Reason.SILENT, None),
            (800, beats(), Reason.HEARTBEAT_BACK, RESOLVED),
            (801, beats(), Reason.HEARTBEAT, None),
            (DUE, None, Reason.SILENT, OPENED),
        ],
        id="a watchdog: nothing while it is heard, then its silence, said once",
    ),
    pytest.param(
        [
            (0, beats(), Reason.HEARTBEAT, None),
            (AWAY, None, Reason.HEARTBEAT_AWAITED, None),
            (90, beats(), Reason.HEARTBEAT, None),
            (AWAY, None, Reason.HEARTBEAT_AWAITED, None),
            (AWAY, None, Reason.SILENT, OPENED),
        ],
        id="a watchdog that we could not hear has as much time again, once",
    ),
    pytest.param(
        [
            (0, beats(), Reason.HEARTBEAT, None),
            (3, stops(3), Reason.SILENT, OPENED),
            (3, stops(3), Reason.LATE, None),
            (4, stops(4), Reason.RESOLVED_AGAIN, None),
            (5, beats(), Reason.HEARTBEAT_BACK, RESOLVED),
            (6, stops(3), Reason.LATE, None),
        ],
        id="a watchdog that its source itself resolves",
    ),
    pytest.param(
        [
            (5, triggers(5, **WATCHDOG), Reason.HEARTBEAT, None),
            (6, triggers(4, **WATCHDOG), Reason.LATE, None),
            (7, triggers(7, **WATCHDOG), Reason.HEARTBEAT, None),
        ],
        id="a notification of a watchdog with its own, older time proves nothing",
    ),
    pytest.param(
        [
            (3, stops(3), Reason.RESOLVED_UNSEEN, None),
            (4, beats(), Reason.HEARTBEAT, None),
            (DUE, None, Reason.SILENT, OPENED),
        ],
        id="a watchdog begins with the first heartbeat",
    ),
    pytest.param(
        [
            (0, fires(expires=False), Reason.OPENED, OPENED),
            (1, fires(), Reason.REPEAT, None),
            (700, OTHER, Reason.RESOLVED_UNSEEN, None),
            (DUE, None, Reason.EXPIRED, RESOLVED),
        ],
        id="a script that states a start from its second notification on",
    ),
]


@pytest.mark.parametrize("said", CASES)
def test_lives(said: list[Said]) -> None:
    rows = rows_of()
    for at, event, reason, change in said:
        took = event or wake(rows)
        now = took.due if isinstance(took, Wake) else minute(float(at))
        if isinstance(took, Wake):
            took = took.model_copy(update={"fired": now + timedelta(hours=at == AWAY)})
        taken = step(took, rows, now, WATCHFUL)
        assert (taken.reason, *changes(taken)) == ((reason, change) if change else (reason,)), at
        commit(rows, taken)


def changes(taken: Step) -> list[EpisodeChange]:
    return [episode.change for episode in taken.emit if isinstance(episode, Episode)]


def after(rows: Overlay, *said: tuple[float, Alert]) -> tuple[Step, EpisodeRow]:
    for at, event in said:
        taken = step(event, rows, minute(at), Config())
        commit(rows, taken)
    row = rows.get(EPISODE, FP)
    assert row is not None
    return taken, row


def test_every_reason_is_reached() -> None:
    lives = [cast("list[Said]", case.values[0]) for case in CASES]
    reached = {reason for said in lives for _, _, reason, _ in said}
    assert reached == set(Reason)
    assert STAGE.unintended == {Reason.LATE}


def test_what_an_episode_tells() -> None:
    rows = rows_of()
    opened, row = after(rows, (0, fires(severity="warning")))
    (episode,) = opened.emit
    assert isinstance(episode, Episode)
    assert (episode.scope, episode.repeats, episode.expired) == ("prod:eu", 0, False)
    assert opened.figures == {"repeats": 0, "severity": "warning"}
    assert (row.status, row.severity, row.starts_at, row.seen_at) == ("firing", Severity.WARNING, T0, T0)
    assert [(each.table, each.key, each.due) for each in opened.wake] == [(EPISODE.name, FP, row.wake_at)]
    changed, row = after(rows, (1, fires(severity="warning")), (2, fires()))
    (episode,) = changed.emit
    assert isinstance(episode, Episode)
    assert (episode.repeats, row.repeats, row.severity) == (2, 2, Severity.ERROR)
    resolved, row = after(rows, (3, fires()), (9, ends(0, 9)))
    (episode,) = resolved.emit
    assert isinstance(episode, Episode)
    assert (episode.repeats, episode.alert.status, row.status, row.alert) == (3, "resolved", "resolved", "")
    assert row.wake_at == minute(9) + Config().forget_after


def test_an_expiry_makes_up_the_resolve_of_the_alert_that_was_passed_on() -> None:
    rows = rows_of()
    after(rows, (0, fires(summary="old")), (30, fires(summary="new")), (60, fires(summary="new")), (700, OTHER))
    taken = step(wake(rows), rows, minute(60 + 720), Config())
    (episode,) = taken.emit
    assert isinstance(episode, Episode)
    assert (episode.expired, episode.repeats, episode.alert.summary) == (True, 2, "new")
    assert (episode.alert.status, episode.alert.ends_at, episode.alert.at) == ("resolved", minute(780), minute(780))
    assert taken.figures == {"silent_hours": 12.0}


def test_a_change_is_passed_on_without_the_chain_of_the_one_before() -> None:
    _, row = after(rows_of(), (0, fires()))
    assert "trail" not in Alert.model_validate_json(row.alert).model_dump(exclude_defaults=True)


def test_what_never_expires_has_no_timer() -> None:
    _, row = after(rows_of(), (0, triggers(0)), (3, triggers(3)))
    assert (row.wake_at, row.alert) == (None, "")
    _, row = after(rows_of(), (0, triggers(0)), (3, triggers(3, severity="critical")))
    assert (row.wake_at, row.starts_at, row.at) == (None, minute(0), minute(3))


def test_a_start_that_moves_back_keeps_the_episode_alive() -> None:
    """Else every repeat would be late, and the expiry would close a live outage."""
    _, row = after(rows_of(), (5, fires(5)), (240, fires(0)))
    assert (row.seen_at, row.wake_at) == (minute(240), minute(240) + Config().expire_after)
    assert row.at == minute(5)


def test_an_open_episode_stays_in_its_scope() -> None:
    rows = rows_of()
    repeat, _ = after(rows, (0, fires()), (1, fires(scope="prod:eu-1")))
    assert repeat.reason is Reason.REPEAT
    resolved, row = after(rows, (9, ends(0, 9, scope="prod:eu-1")))
    (episode,) = resolved.emit
    assert isinstance(episode, Episode)
    assert (episode.scope, episode.alert.scope, row.scope) == ("prod:eu", "prod:eu", "prod:eu")
    again, _ = after(rows, (20, fires(20, scope="prod:eu-1")))
    (episode,) = again.emit
    assert isinstance(episode, Episode)
    assert (episode.scope, episode.alert.scope) == ("prod:eu-1", "prod:eu-1")


def test_a_resolve_that_both_peers_tell_writes_once() -> None:
    rows = rows_of()
    after(rows, (0, fires()), (9, ends(0, 9)))
    again, row = after(rows, (9, ends(0, 9)))
    assert (again.changes, row.seen_at) == ({}, minute(9))
    newer, row = after(rows, (11, ends(0, 10)))
    assert (newer.reason, row.at, row.seen_at) == (Reason.RESOLVED_AGAIN, minute(10), minute(11))


# -- watchdogs -------------------------------------------------------------------------------------------------------


def after_watching(rows: Overlay, at: float, event: Alert | Wake, config: Config = WATCHFUL) -> Step:
    taken = step(event, rows, event.due if isinstance(event, Wake) else minute(at), config)
    commit(rows, taken)
    return taken


def episodes(taken: Step) -> list[Episode]:
    return [episode for episode in taken.emit if isinstance(episode, Episode)]


def test_what_the_silence_of_a_watchdog_tells() -> None:
    rows = rows_of()
    after_watching(rows, 0, beats(service="prometheus", group="g", severity="info"))
    silent = after_watching(rows, 0, wake(rows))
    (opened,) = episodes(silent)
    said = opened.alert
    assert (opened.scope, said.name, said.severity, said.service) == (
        "prod:eu", "WatchdogSilent", Severity.CRITICAL, "prometheus",
    )  # fmt: skip
    assert said.summary == "Watchdog has not been heard for 5 min: monitoring of prod:eu may be down"
    assert (said.status, said.group, said.expires, said.starts_at, said.at) == (
        "firing",
        "",
        False,
        minute(5),
        minute(5),
    )
    assert (said.labels, silent.figures) == ({"alertname": "Watchdog"}, {"silent_minutes": 5.0})
    assert said.fingerprint != FP
    (closed,) = episodes(after_watching(rows, 7, beats()))
    assert closed.alert.fingerprint == said.fingerprint
    assert (closed.alert.status, closed.alert.ends_at, closed.scope) == ("resolved", minute(7), "prod:eu")
    again = episodes(after_watching(rows, 9, wake(rows)))
    assert again[0].alert.fingerprint == said.fingerprint
    assert again[0].alert.alert_id != said.alert_id


def test_a_watchdog_that_resolves_says_so() -> None:
    rows = rows_of()
    after_watching(rows, 0, beats())
    (opened,) = episodes(after_watching(rows, 3, stops(3)))
    assert opened.alert.summary == (
        "Watchdog has resolved, though it must always fire: monitoring of prod:eu may be down"
    )
    assert (opened.alert.status, opened.alert.ends_at) == ("firing", None)


def test_an_absence_of_ours_does_not_count() -> None:
    rows = rows_of()
    after_watching(rows, 0, beats())
    due = wake(rows)
    back = due.model_copy(update={"fired": minute(60)})
    awaited = after_watching(rows, 0, back)
    assert awaited.figures == {"away_minutes": 55.0}
    assert wake(rows).due == minute(65)
    # Within a minute it is only the way of the timer.
    rows = rows_of()
    after_watching(rows, 0, beats())
    soon = after_watching(rows, 0, wake(rows).model_copy(update={"fired": minute(6)}))
    assert soon.reason is Reason.SILENT
    # A timer that an older version wrote says nothing of it.
    rows = rows_of()
    after_watching(rows, 0, beats())
    assert after_watching(rows, 0, wake(rows)).reason is Reason.SILENT


def test_an_open_alert_that_becomes_a_watchdog_closes() -> None:
    rows = rows_of()
    after(rows, (0, beats()), (1, beats()))
    taken = after_watching(rows, 2, beats(scope="prod:us"))
    (closed,) = episodes(taken)
    assert (taken.reason, closed.change, closed.repeats) == (Reason.HEARTBEAT, RESOLVED, 1)
    assert (closed.scope, closed.alert.scope, closed.alert.status) == ("prod:eu", "prod:eu", "resolved")


def test_a_resolved_alert_that_becomes_a_watchdog_has_nothing_to_close() -> None:
    rows = rows_of()
    after(rows, (0, beats()), (1, stops(1)))
    taken = after_watching(rows, 2, beats())
    assert (taken.reason, taken.emit) == (Reason.HEARTBEAT, ())


@pytest.mark.parametrize("silent", [pytest.param(True, id="silent"), pytest.param(False, id="heard")])
def test_what_is_no_watchdog_any_more(*, silent: bool) -> None:
    for event in (beats(), None):
        rows = rows_of()
        after_watching(rows, 0, beats())
        if silent:
            after_watching(rows, 0, wake(rows))
        taken = after_watching(rows, 6, event or wake(rows), Config())
        ended = [RESOLVED] if silent else []
        if event is None:
            assert (taken.reason, changes(taken)) == (Reason.FORGOTTEN, ended)
            assert rows.get(EPISODE, FP) is None
        else:
            assert (taken.reason, changes(taken)) == (Reason.OPENED, [*ended, OPENED])
            row = rows.get(EPISODE, FP)
            assert row is not None
            assert row.watchdog == ""


@pytest.mark.parametrize(
    ("matchers", "says"),
    [
        pytest.param([], "at least 1 item", id="none"),
        pytest.param(["Watchdog"], "is no matcher", id="not a matcher"),
        pytest.param(["a=~'('"], "is no matcher", id="wrong quotes"),
        pytest.param(['a=~"("'], "does not compile", id="no regular expression"),
        pytest.param(['a!="x"', 'b=~".*"'], "match every alert", id="all of them"),
    ],
)
def test_watchdogs_that_cannot_be_meant(matchers: list[str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Config.model_validate({"watchdogs": {"w": {"matchers": matchers}}})


def test_a_canary_says_nothing_of_other_alerts_of_its_source() -> None:
    """Else a script that is gone would let its alerts expire: the pipeline itself would be taken for it."""
    rows = rows_of()
    canary: dict[str, Any] = {"name": NAME, "labels": {LABEL: "gate"}, "fingerprint": "fp:v1:ca"}
    after(rows, (0, fires(source="generic")), (700, fires(700, source="generic", **canary)))
    assert step(wake(rows), rows, minute(720), Config()).reason is Reason.PUT_OFF


def test_a_canary_of_a_process_that_is_gone_expires_while_others_sing() -> None:
    rows = rows_of()
    canary: dict[str, Any] = {"name": NAME, "labels": {LABEL: "gate"}, "source": "generic"}
    after(rows, (0, fires(**canary)), (700, fires(700, **canary, fingerprint="fp:v1:ca")))
    assert step(wake(rows), rows, minute(720), Config()).reason is Reason.EXPIRED


def test_a_row_that_is_gone_is_forgotten_once_more() -> None:
    gone = step(Wake(table=EPISODE.name, key=FP, due=T0), rows_of(), T0, Config())
    assert (gone.reason, gone.changes) == (Reason.FORGOTTEN, {EPISODE.at(FP): None})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("up 3", "up 4", True, id="a number"),
        pytest.param("up 3.14", "up 12:30:59", True, id="a fraction, a time"),
        pytest.param("9,000 errors", "1 errors", True, id="thousands"),
        pytest.param("disk sda", "disk sdb", False, id="a letter"),
        pytest.param("up", "up 3", False, id="a number or none"),
    ],
)
def test_meaning_goes_beyond_numbers(one: str, other: str, *, same: bool) -> None:
    assert (meaning(fires(summary=one)) == meaning(fires(summary=other))) is same
    assert (meaning(fires(description=one)) == meaning(fires(description=other))) is same


def test_texts_do_not_run_into_one_another() -> None:
    assert meaning(fires(summary="a", description="")) != meaning(fires(summary="", description="a"))


def test_an_expiry_within_the_repeat_interval_is_refused() -> None:
    with pytest.raises(ValidationError):
        Config(expire_after=timedelta(hours=4))


Notification = tuple[bool, int, int, bool]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=30))
def test_whatever_comes_episodes_open_and_close_in_turn(said: list[Notification]) -> None:
    """Whatever order, repeats and late ones come in: opened, any changes, resolved, and then again from the start."""
    rows = rows_of()
    told: list[EpisodeChange] = []
    for now, (firing, start, length, expires) in enumerate(said):
        event = (
            fires(start, expires=expires, summary="x" * (length // 4))
            if firing
            else ends(start, start + length, expires=expires)
        )
        taken = step(event, rows, minute(now), Config())
        again = step(event, rows, minute(now), Config())
        assert taken == again
        commit(rows, taken)
        told += changes(taken)
        row = rows.get(EPISODE, FP)
        opens = told.count(OPENED) - told.count(RESOLVED)
        assert opens == (row is not None and row.status == "firing")
        if row is not None and row.status == "firing" and row.wake_at is not None:
            assert row.alert
    assert all(not (one is other and one is not CHANGED) for one, other in pairwise(told))
    assert told[:1] in ([], [OPENED])
    assert (RESOLVED, CHANGED) not in set(pairwise(told))
