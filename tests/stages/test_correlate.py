from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.event import Wake
from streamproc.core.fold import Overlay
from streamproc.core.step import ACTIVE, Step
from streamproc.core.table import Table
from streamproc.events.alert import Alert, Episode, EpisodeChange, Severity
from streamproc.events.canary import LABEL, NAME
from streamproc.events.incident import Incident, IncidentChange
from streamproc.stages.correlate import CROWD, MOST_LOOKED_AT, MOST_NEAR, STAGE, Config, Reason, step
from streamproc.state import INCIDENT, MEMBER, IncidentRow, MemberRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
OPENED, CHANGED, RESOLVED = EpisodeChange
SHOP = {"services": {"web": {"depends_on": ["api"]}, "api": {"depends_on": ["db"], "aliases": ["gateway"]}, "db": {}}}


def minute(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


def alert(who: str, /, **changes: Any) -> Alert:
    given_ = {
        "fingerprint": f"fp:v1:{who}",
        "alert_id": who,
        "source": "test",
        "status": "firing",
        "name": "Down",
        "severity": "error",
        "summary": f"{who} is down",
        "description": f"{who}-one {who}-two {who}-three",  # texts that have little in common
        "scope": "prod:eu",
        "starts_at": T0,
        "at": T0,
    }
    return Alert.model_validate({**given_, **changes})


def episode(change: EpisodeChange, who: str, /, **changes: Any) -> Episode:
    status = "resolved" if change is RESOLVED else "firing"
    said = alert(who, status=status, **changes)
    return Episode(scope=said.scope, change=change, alert=said)


def rows(catalogue: Mapping[str, Any] = SHOP) -> Overlay:
    return rows_of(artifacts={"catalogue": (1, json.dumps(catalogue))})


def play(held: Overlay, now: float, event: Episode | Wake, config: Config | None = None) -> Step:
    taken = step(event, held, minute(now), config or Config())
    commit(held, taken)
    return taken


def told(taken: Step) -> Incident:
    (incident,) = taken.emit
    assert isinstance(incident, Incident)
    return incident


def incidents(held: Overlay) -> dict[str, IncidentRow]:
    found = {**dict(held._base.raw()), **held.batch}
    return {
        key.key: row for key in found if key.table == INCIDENT.name and (row := held.get(INCIDENT, key.key)) is not None
    }


def members(held: Overlay) -> dict[str, MemberRow]:
    return {key.key: row for key in held.batch if key.table == MEMBER.name and (row := held.get(MEMBER, key.key))}


GROUP = {"group": "g"}
WEB, API, DB, BATCH = ({"service": name} for name in ("web", "api", "db", "batch"))
STAGED = {"scope": "staging:eu"}

NEW = {"name": "Down", "fingerprint": "fp:v1:new"}
SAID_BY_BOTH = "disk latency of the storage backend rises"

Said = tuple[float, EpisodeChange, str, dict[str, Any], Reason, str]
"""Minute, what happened to which alert, what it says, the reason, and the alert that opened its incident."""

CASES = [
    pytest.param(
        [(0, OPENED, "a", {}, Reason.OPENED, "a"), (1, OPENED, "b", {"name": "Slow"}, Reason.OPENED, "b")],
        id="nothing in common but the time: an incident each",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {}, Reason.OPENED, "a"),
            (5, OPENED, "b", {}, Reason.SAME_KIND, "a"),
            (10.1, OPENED, "c", {}, Reason.OPENED, "c"),
        ],
        id="one kind without a service, until none came for five minutes",
    ),
    pytest.param(
        [
            (0, OPENED, "a0", {}, Reason.OPENED, "a0"),
            *chain.from_iterable(
                (
                    (at, OPENED, f"a{at}", {}, Reason.SAME_KIND, "a0"),
                    (at, RESOLVED, f"a{at - 5}", {}, Reason.MEMBER_RESOLVED, "a0"),
                )
                for at in range(5, 61, 5)
            ),
            (61, OPENED, "b", {}, Reason.OPENED, "b"),
        ],
        id="one kind without a service, until the incident is an hour old",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {"description": SAID_BY_BOTH}, Reason.OPENED, "a"),
            (1, OPENED, "b", {"name": "Slow", "description": SAID_BY_BOTH}, Reason.OPENED, "b"),
            (1, OPENED, "c", {"description": SAID_BY_BOTH, **NEW}, Reason.ALIKE, "a"),
        ],
        id="the same text at the same time, by the same rule",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {"service": "queue"}, Reason.OPENED, "a"),
            (1, OPENED, "b", {"service": "mailer", "description": "mailer cannot reach queue"}, Reason.NAMED, "a"),
        ],
        id="its text names a service of the incident, which no catalogue knows",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {**DB, "description": "db fails since batch writes"}, Reason.OPENED, "a"),
            (1, OPENED, "b", BATCH, Reason.NAMED, "b"),
        ],
        id="a text of the incident names its service, which is likelier the cause",
    ),
    pytest.param(
        [(0, OPENED, "a", WEB, Reason.OPENED, "a"), (1, OPENED, "b", BATCH, Reason.OPENED, "b")],
        id="services that nothing connects",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {**DB, "labels": {"namespace": "shop"}}, Reason.OPENED, "a"),
            (1, OPENED, "b", {**DB, "labels": {"namespace": "bank"}}, Reason.OPENED, "b"),
            (2, OPENED, "c", {**API, "labels": {"namespace": "apis"}}, Reason.NEIGHBOUR, "b"),
        ],
        id="other places are strangers, but for dependencies",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {**BATCH, "description": "gateway refuses"}, Reason.OPENED, "a"),
            (1, OPENED, "b", {"service": "gateway", "name": "Slow"}, Reason.NAMED, "b"),
        ],
        id="named before it told itself, by an alias",
    ),
    pytest.param(
        [(0, OPENED, "a", GROUP, Reason.OPENED, "a"), (59, OPENED, "b", GROUP, Reason.SAME_GROUP, "a")],
        id="the same source group, without a window",
    ),
    pytest.param(
        [(0, OPENED, "a", WEB, Reason.OPENED, "a"), (20, OPENED, "b", WEB, Reason.SAME_SERVICE, "a")],
        id="the same service, on the window's edge",
    ),
    pytest.param(
        [(0, OPENED, "a", WEB, Reason.OPENED, "a"), (20.1, OPENED, "b", WEB, Reason.OPENED, "b")],
        id="the same service, after the window",
    ),
    pytest.param(
        [
            (0, OPENED, "a", WEB, Reason.OPENED, "a"),
            (15, OPENED, "b", WEB, Reason.SAME_SERVICE, "a"),
            (30, OPENED, "c", WEB, Reason.SAME_SERVICE, "a"),
        ],
        id="the window rolls",
    ),
    pytest.param(
        [
            (0, OPENED, "a", DB, Reason.OPENED, "a"),
            (1, OPENED, "b", API, Reason.NEIGHBOUR, "a"),
            (2, OPENED, "c", WEB, Reason.NEIGHBOUR, "a"),
        ],
        id="a cascade along dependencies, each a neighbour of one that is in it",
    ),
    pytest.param(
        [(0, OPENED, "a", DB, Reason.OPENED, "a"), (1, OPENED, "b", WEB, Reason.NEIGHBOUR, "a")],
        id="two hops",
    ),
    pytest.param(
        [(0, OPENED, "a", DB, Reason.OPENED, "a"), (1, OPENED, "b", {"service": "gateway"}, Reason.NEIGHBOUR, "a")],
        id="a neighbour by another name",
    ),
    pytest.param(
        [(0, OPENED, "a", DB, Reason.OPENED, "a"), (30, OPENED, "b", API, Reason.OPENED, "b")],
        id="a neighbour after the window",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {**GROUP, **BATCH}, Reason.OPENED, "a"),
            (1, OPENED, "b", WEB, Reason.OPENED, "b"),
            (2, OPENED, "c", {**GROUP, **WEB}, Reason.SAME_GROUP, "a"),
        ],
        id="the group stands before the service",
    ),
    pytest.param(
        [
            (0, OPENED, "a", DB, Reason.OPENED, "a"),
            (30, OPENED, "b", DB, Reason.OPENED, "b"),
            (31, OPENED, "c", DB, Reason.SAME_SERVICE, "b"),
        ],
        id="the newest of several open ones",
    ),
    pytest.param(
        [
            (0, OPENED, "a", GROUP, Reason.OPENED, "a"),
            (1440, OPENED, "b", GROUP, Reason.SAME_GROUP, "a"),
            (1440.1, OPENED, "c", GROUP, Reason.OPENED, "c"),
            (1441, RESOLVED, "b", GROUP, Reason.MEMBER_RESOLVED, "a"),
            (1442, RESOLVED, "a", GROUP, Reason.RESOLVED, "a"),
        ],
        id="an old incident takes no more, and stays open until its members resolve",
    ),
    pytest.param(
        [
            (0, OPENED, "a", GROUP, Reason.OPENED, "a"),
            (1, OPENED, "b", GROUP, Reason.SAME_GROUP, "a"),
            (2, OPENED, "c", GROUP, Reason.SAME_GROUP, "a"),
            (3, OPENED, "d", GROUP, Reason.OVERFULL, "d"),
            (4, OPENED, "e", GROUP, Reason.SAME_GROUP, "d"),
            (5, RESOLVED, "a", GROUP, Reason.MEMBER_RESOLVED, "a"),
        ],
        id="a full incident: the next alert opens another (three members at most)",
    ),
    pytest.param(
        [
            (0, OPENED, "a", WEB, Reason.OPENED, "a"),
            (1, OPENED, "b", {**WEB, **STAGED}, Reason.OPENED, "b"),
            (2, OPENED, "c", {**WEB, **STAGED}, Reason.SAME_SERVICE, "b"),
        ],
        id="another scope never meets",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {**GROUP, "scope": "a:b", "group": "c"}, Reason.OPENED, "a"),
            (1, OPENED, "b", {"scope": "a", "group": "b:c"}, Reason.OPENED, "b"),
        ],
        id="scopes and groups with colons",
    ),
    pytest.param(
        [
            (0, OPENED, "a", WEB, Reason.OPENED, "a"),
            (1, RESOLVED, "a", WEB, Reason.RESOLVED, "a"),
            (6, OPENED, "a", WEB, Reason.REOPENED, "a"),
            (7, RESOLVED, "a", WEB, Reason.RESOLVED, "a"),
        ],
        id="comes back on the edge of reopen_within",
    ),
    pytest.param(
        [
            (0, OPENED, "a", WEB, Reason.OPENED, "a"),
            (1, RESOLVED, "a", WEB, Reason.RESOLVED, "a"),
            (6.1, OPENED, "b", WEB, Reason.OPENED, "b"),
        ],
        id="comes back after reopen_within",
    ),
    pytest.param(
        [
            (0, OPENED, "a", WEB, Reason.OPENED, "a"),
            (1, RESOLVED, "a", WEB, Reason.RESOLVED, "a"),
            (2, OPENED, "b", {**WEB, "name": "Slow"}, Reason.REOPENED, "a"),
        ],
        id="another kind of the same service reopens",
    ),
    pytest.param(
        [
            (0, OPENED, "a", WEB, Reason.OPENED, "a"),
            (1, RESOLVED, "a", WEB, Reason.RESOLVED, "a"),
            (2, OPENED, "b", {"name": "Slow", **BATCH}, Reason.OPENED, "b"),
            (3, OPENED, "c", {"name": "Slow", **BATCH}, Reason.SAME_SERVICE, "b"),
        ],
        id="a stranger does not reopen",
    ),
    pytest.param(
        [
            (0, OPENED, "a", {}, Reason.OPENED, "a"),
            (1, CHANGED, "a", {"severity": "critical"}, Reason.MEMBER_CHANGED, "a"),
            (2, RESOLVED, "a", {"severity": "critical"}, Reason.RESOLVED, "a"),
        ],
        id="a member changes",
    ),
    pytest.param(
        [(0, CHANGED, "a", {}, Reason.OPENED, "a")],
        id="a change of an alert that is not known opens",
    ),
    pytest.param(
        [
            (0, OPENED, "a", WEB, Reason.OPENED, "a"),
            (1, OPENED, "b", WEB, Reason.SAME_SERVICE, "a"),
            (2, RESOLVED, "a", WEB, Reason.MEMBER_RESOLVED, "a"),
            (40, OPENED, "a", WEB, Reason.SAME_ALERT, "a"),
            (41, RESOLVED, "b", WEB, Reason.MEMBER_RESOLVED, "a"),
            (42, RESOLVED, "a", WEB, Reason.RESOLVED, "a"),
        ],
        id="the root fires again, while the incident that it opened goes on without it",
    ),
    pytest.param([(0, RESOLVED, "a", {}, Reason.UNKNOWN_MEMBER, "")], id="a resolve of what is not known"),
]


@pytest.mark.parametrize("said", CASES)
def test_where_alerts_belong(said: list[Said]) -> None:
    held, config = rows(), Config(max_members=3)
    for at, change, name, says, reason, root in said:
        taken = play(held, at, episode(change, name, **says), config)
        assert taken.reason is reason, (at, name)
        assert (told(taken).root.alert_id if taken.emit else "") == root, (at, name)


def test_every_reason_is_reached() -> None:
    lives = [cast("list[Said]", case.values[0]) for case in CASES]
    reached = {reason for said in lives for *_, reason, _ in said}
    assert reached | {Reason.FORGOTTEN} == set(Reason)
    assert STAGE.unintended == {Reason.UNKNOWN_MEMBER}


def test_what_a_new_incident_tells() -> None:
    taken = play(rows(), 3, episode(OPENED, "a", **WEB, **GROUP, environment="prod", cluster="eu"))
    incident = told(taken)
    assert incident.incident_id.startswith("in:v1:prod:eu:")
    assert (incident.change, incident.status, incident.new_kind) == (IncidentChange.OPENED, "open", True)
    assert (incident.environment, incident.cluster, incident.service) == ("prod", "eu", "web")
    assert incident.reopened == 0
    assert (incident.opened_at, incident.changed_at, incident.title) == (minute(3), minute(3), "a is down")
    (member,) = incident.joined
    assert (member, member.why) == (incident.root, "opened")
    assert taken.figures == {"incident": incident.incident_id, "open": 1, "total": 1}


def test_growing_tells_deltas_and_exact_counts() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", **WEB))
    grew = told(play(held, 1, episode(OPENED, "b", **WEB, severity="critical")))
    assert (grew.change, grew.severity, grew.new_kind) == (IncidentChange.GREW, Severity.CRITICAL, False)
    assert (grew.open_count, grew.total_count, grew.title) == (2, 2, "a is down (+1 more)")
    assert [(member.alert_id, member.why) for member in grew.joined] == [("b", "same_service")]
    wider = told(play(held, 2, episode(OPENED, "c", **API)))
    # What the others depend on is likelier the cause.
    assert (wider.new_kind, wider.services, wider.service) == (True, ("web", "api"), "api")
    assert (wider.root.alert_id, wider.root_candidates, wider.title) == ("c", ("c", "a"), "c is down (+2 more)")
    shrank = told(play(held, 3, episode(RESOLVED, "b", **WEB, severity="critical")))
    assert (shrank.change, shrank.severity, shrank.left) == (IncidentChange.SHRANK, Severity.ERROR, ("fp:v1:b",))
    assert (shrank.open_count, shrank.total_count, shrank.joined) == (2, 3, ())


def test_a_change_counts_the_severity_as_it_was_joined_with() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", severity="error"))
    changed = play(held, 1, episode(CHANGED, "a", severity="critical", summary="a burns"))
    incident = told(changed)
    assert (incident.change, incident.severity, incident.title) == (
        IncidentChange.CHANGED,
        Severity.CRITICAL,
        "a burns",
    )
    assert changed.figures == {"incident": incident.incident_id, "was": "error", "is": "critical"}
    assert [(member.summary, member.why) for member in incident.joined] == [("a burns", "opened")]
    (row,) = incidents(held).values()
    assert row.severities == (0, 0, 0, 1)
    # The resolve says another severity than what was last known: what was counted is taken out.
    play(held, 2, episode(RESOLVED, "a", severity="info"))
    (row,) = incidents(held).values()
    assert (row.severities, row.open_count, row.status) == ((0, 0, 0, 0), 0, "resolved")


def test_the_root_stays_where_another_member_changes() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", **GROUP))
    play(held, 1, episode(OPENED, "b", **GROUP))
    assert told(play(held, 2, episode(CHANGED, "b", **GROUP, summary="b burns"))).root.summary == "a is down"


def test_a_resolved_incident_waits_for_its_reopening_and_is_forgotten() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", **WEB))
    closed = play(held, 1, episode(RESOLVED, "a", **WEB))
    incident = told(closed)
    assert (incident.change, incident.status, incident.resolved_at) == (IncidentChange.RESOLVED, "resolved", minute(1))
    (wake,) = closed.wake
    assert (wake.table, wake.due) == (INCIDENT.name, minute(6))
    reopened = told(play(held, 2, episode(OPENED, "b", **WEB)))
    assert (reopened.change, reopened.reopened, reopened.resolved_at) == (IncidentChange.REOPENED, 1, None)
    (row,) = incidents(held).values()
    assert row.wake_at is None
    (wake,) = play(held, 3, episode(RESOLVED, "b", **WEB)).wake
    gone = play(held, 8, wake)
    assert (gone.reason, incidents(held)) == (Reason.FORGOTTEN, {})


def test_each_incident_has_an_id_of_its_own() -> None:
    """Also where an alert fires again with its old start, and where the log's time stands still."""
    held, config = rows(), Config(reopen_within=timedelta(0))
    ids = []
    for at in (0, 0.1, 0.1, 70):
        ids.append(told(play(held, at, episode(OPENED, "a"), config)).incident_id)
        play(held, at, episode(RESOLVED, "a"), config)
        held.record = {
            INCIDENT.at(key): row.model_copy(update={"resolved_at": minute(-1)}) for key, row in incidents(held).items()
        }
        held.keep()
    assert len(set(ids)) == 4


def test_a_member_whose_incident_is_gone() -> None:
    held = rows_of({MEMBER.at("fp:v1:a"): MemberRow(incident_id="in:v1:-:gone", member=some_member())})
    lost = play(held, 0, episode(RESOLVED, "a"))
    assert (lost.reason, lost.emit, lost.changes) == (Reason.UNKNOWN_MEMBER, (), {MEMBER.at("fp:v1:a"): None})
    held = rows_of({MEMBER.at("fp:v1:a"): MemberRow(incident_id="in:v1:-:gone", member=some_member())})
    assert play(held, 0, episode(CHANGED, "a")).reason is Reason.OPENED


def some_member() -> Any:
    return told(play(rows(), 0, episode(OPENED, "a"))).root


def test_without_a_catalogue_or_hops_there_are_no_neighbours() -> None:
    for held, config in ((rows_of(), Config()), (rows(), Config(hops=0))):
        play(held, 0, episode(OPENED, "a", **DB))
        assert play(held, 1, episode(OPENED, "b", **API), config).reason is Reason.OPENED


def test_two_hops_where_wanted() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", **DB))
    assert play(held, 1, episode(OPENED, "b", **WEB), Config(hops=2)).reason is Reason.NEIGHBOUR


AM_GROUP = '{}:{alertname="Down",cluster="eu"}'
BY_SERVICE = '{}/{team="a"}:{alertname="Down",service="batch"}'


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        pytest.param(AM_GROUP, Reason.OPENED, id="rule and cluster: strangers share it"),
        pytest.param(BY_SERVICE, Reason.SAME_GROUP, id="its service"),
        pytest.param("monitor 17", Reason.SAME_GROUP, id="another producer's own"),
    ],
)
def test_what_a_group_is_worth(group: str, reason: Reason) -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", **BATCH, group=group))
    assert play(held, 30, episode(OPENED, "b", **BATCH, group=group)).reason is reason


def test_an_old_incident_does_not_take_its_own_alert_again() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", **WEB))
    play(held, 1, episode(OPENED, "b", **WEB))
    play(held, 2, episode(RESOLVED, "a", **WEB))
    assert play(held, 25 * 60, episode(OPENED, "a", **WEB)).reason is Reason.OPENED


def test_the_root_is_the_likeliest_cause_that_still_fires() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "web", **WEB))
    play(held, 1, episode(OPENED, "api", **API))
    play(held, 1, episode(RESOLVED, "api", **API))
    play(held, 1, episode(OPENED, "again", **API, name="Slow"))
    joined = told(play(held, 2, episode(OPENED, "db", **DB)))
    assert joined.root.alert_id == "db"
    again = told(play(held, 3, episode(OPENED, "more", **BATCH, description="db fails", name="Late")))
    assert (again.root.alert_id, again.root_candidates[0], len(again.root_candidates)) == ("db", "db", 3)
    back = told(play(held, 3, episode(CHANGED, "again", **API, name="Slow", summary="slower")))
    assert back.root.alert_id == "db"


def test_a_member_that_becomes_the_likeliest_cause_is_the_root() -> None:
    held = rows(catalogue={})
    for at, name in enumerate(("mail", "queue")):
        play(held, at, episode(OPENED, name, **GROUP, service=name, starts_at=minute(at)))
    assert next(iter(incidents(held).values())).root.alert_id == "mail"
    for at in range(2):
        said = {"service": f"x{at}", "description": "queue is away"}
        named = told(play(held, 2, episode(OPENED, f"x{at}", **GROUP, **said, starts_at=minute(2))))
    assert (named.root.alert_id, named.root_candidates[0]) == ("queue", "queue")
    gone = rows(catalogue={})
    play(gone, 0, episode(OPENED, "mail", **GROUP, service="mail"))
    play(gone, 0, episode(OPENED, "other", **GROUP, service="mail", name="Slow"))
    play(gone, 1, episode(RESOLVED, "mail", **GROUP, service="mail"))
    assert told(play(gone, 2, episode(OPENED, "x", **GROUP, service="x", starts_at=minute(2)))).root.alert_id == "mail"


def test_an_incident_is_told_by_its_first_and_its_latest_kinds() -> None:
    held = rows()
    for at in range(30):
        play(held, 0, episode(OPENED, f"k{at}", **GROUP, name=f"Kind{at}"))
    play(held, 1, episode(OPENED, "again", **GROUP, name="Kind0", starts_at=minute(1)))
    (row,) = incidents(held).values()
    assert [spot.name for spot in row.spots] == [f"Kind{at}" for at in (*range(8), *range(14, 30))]
    assert (row.spots[0].since, row.spots[0].at, row.spots[0].alert_id) == (T0, minute(1), "k0")


def test_only_so_many_incidents_are_compared() -> None:
    held = rows()
    for at in range(MOST_LOOKED_AT + 5):
        play(held, 0, episode(OPENED, f"a{at}", **BATCH), Config(join=1))
    assert len(incidents(held)) == MOST_LOOKED_AT + 5
    assert play(held, 1, episode(OPENED, "b", **BATCH)).reason is Reason.SAME_SERVICE


def test_a_name_that_a_crowd_has_tells_nothing_and_is_not_read() -> None:
    held, said = rows(), {"description": SAID_BY_BOTH}
    for at in range(CROWD + 1):
        play(held, 0, episode(OPENED, f"a{at}", service=f"s{at}", **said), Config(join=1))
    assert play(held, 1, episode(OPENED, "b", service="other", **said)).reason is Reason.OPENED
    assert play(held, 1, episode(OPENED, "c", service="s7", **said)).reason is Reason.SAME_SERVICE


def test_what_an_older_version_opened_is_told_by_its_root() -> None:
    held = rows()
    play(held, 0, episode(OPENED, "a", **API))
    (key,) = incidents(held)
    held.record = {INCIDENT.at(key): incidents(held)[key].model_copy(update={"spots": (), "root_candidates": ()})}
    held.keep()
    joined = play(held, 1, episode(OPENED, "b", **WEB))
    assert (joined.reason, told(joined).root.alert_id) == (Reason.NEIGHBOUR, "a")


def test_a_known_member_is_decided_by_what_its_incident_was_opened_with() -> None:
    held = rows()
    assert STAGE.pins is not None
    assert STAGE.pins(episode(OPENED, "a", **WEB), held) == {}
    assert STAGE.pins(Wake(table=INCIDENT.name, key="x", due=T0), held) == {}
    play(held, 0, episode(OPENED, "a", **WEB))
    assert STAGE.pins(episode(RESOLVED, "a", **WEB), held) == {"catalogue": held.get(ACTIVE, "catalogue")}


def test_a_wide_incident_finds_its_first_services_again() -> None:
    held, config = rows(), Config(max_services=2)
    for name in "abc":
        play(held, 0, episode(OPENED, name, **GROUP, service=f"s{name}"), config)
    (row,) = incidents(held).values()
    assert (row.services, row.groups, row.open_count) == (("sa", "sb"), ("g",), 3)


def test_beyond_the_kinds_that_are_remembered_none_is_new() -> None:
    """Else each alert of a storm over many services would be said at once."""
    held, config = rows(), Config(max_services=1)
    said = [told(play(held, 0, episode(OPENED, name, **GROUP, name=name), config)).new_kind for name in "abcdef"]
    assert said == [True, True, True, True, False, False]


def test_the_receipt_hashes_what_was_said_in_order() -> None:
    digests = []
    for names in ("ab", "ba"):
        held = rows()
        for name in names:
            play(held, 0, episode(OPENED, name, **GROUP))
        (row,) = incidents(held).values()
        digests.append(row.digest)
    assert len(set(digests)) == 2
    assert all(len(digest) == 64 for digest in digests)


Happening = tuple[int, EpisodeChange, Severity, str, str]
happenings = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(EpisodeChange),
        st.sampled_from(Severity),
        st.sampled_from(["", "web", "api"]),
        st.sampled_from(["", "g"]),
    ),
    max_size=40,
)


@given(happenings, st.integers(1, 3), st.integers(1, 8))
def test_members_and_counts_are_exact(said: Iterable[Happening], most: int, pace: int) -> None:
    """Alerts 0 to 2 are of one scope, 3 to 5 of another."""
    held, config = rows(), Config(max_members=most, window=timedelta(minutes=10), max_age=timedelta(minutes=30))
    model: dict[str, Severity] = {}
    for at, (number, change, severity, service, group) in enumerate(said):
        scope = ("left", "right")[number // 3]
        before = incidents(held)
        event = episode(change, str(number), severity=severity, service=service, group=group, scope=scope)
        taken = play(held, at * pace, event, config)
        after = incidents(held)
        touched = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        assert all((after.get(key) or before[key]).scope == scope for key in touched)
        assert len(touched) <= 1
        for wake in taken.wake:
            assert after[wake.key].wake_at == wake.due
        if change is RESOLVED:
            model.pop(event.alert.fingerprint, None)
        else:
            model[event.alert.fingerprint] = severity
        check(held, model, most)


def check(held: Overlay, model: Mapping[str, Severity], most: int) -> None:
    """Compare rows and indexes with what a naive model holds."""
    assert {key: row.member.severity for key, row in members(held).items()} == model
    for incident, row in incidents(held).items():
        inside = held.keys(MEMBER, incident)
        assert held.count(MEMBER, incident) == len(inside) == row.open_count <= most
        ranks = [model[fingerprint].rank for fingerprint in inside]
        assert row.severities == tuple(ranks.count(rank) for rank in range(4))
        assert (row.status == "open") is bool(inside) is (row.resolved_at is None) is (row.wake_at is None)
        assert row.severity.rank == max(ranks, default=row.root.severity.rank)
        assert row.total_count >= row.open_count
    everyone = [fingerprint for incident in incidents(held) for fingerprint in held.keys(MEMBER, incident)]
    assert sorted(everyone) == sorted(model)


CANARY: dict[str, Any] = {"name": NAME, "source": "generic", "labels": {LABEL: "gate"}, "service": "web", "group": "g"}


def test_a_canary_and_real_alerts_keep_apart() -> None:
    """Even where somebody's rules give it a service or a group."""
    held = rows()
    real = told(play(held, 0, episode(OPENED, "a", service="web", group="g")))
    opened = play(held, 1, episode(OPENED, "canary", **CANARY))
    assert (opened.reason, told(opened).canary, real.canary) == (Reason.OPENED, True, False)
    joined = play(held, 2, episode(OPENED, "b", service="web"))
    assert told(joined).incident_id == real.incident_id
    play(held, 3, episode(RESOLVED, "a", service="web", group="g"))
    play(held, 3, episode(RESOLVED, "b", service="web"))
    play(held, 20, Wake(table=INCIDENT.name, key=real.incident_id, due=minute(8)))
    alone = play(held, 21, episode(OPENED, "c", service="web", group="g"))
    assert (alone.reason, told(alone).canary) == (Reason.OPENED, False)
    assert told(play(held, 22, episode(RESOLVED, "canary", **CANARY))).canary


def test_the_likeliest_cause_becomes_the_root_only_while_it_is_a_member() -> None:
    """It may have left, and be in another incident by now."""
    held, config = rows({}), Config(max_members=2)
    first = told(play(held, 0, episode(OPENED, "a", service="ledger", **GROUP), config))
    early = {"service": "queue", "name": "Full", "starts_at": T0 - timedelta(seconds=20)}
    play(held, 0.1, episode(OPENED, "c", **early, **GROUP), config)
    play(held, 0.2, episode(RESOLVED, "a", service="ledger", **GROUP), config)
    play(held, 0.3, episode(OPENED, "e", **early, **GROUP), config)
    again = play(held, 0.4, episode(OPENED, "a", service="ledger"), config)
    assert (again.reason, told(again).incident_id == first.incident_id) == (Reason.OVERFULL, False)
    play(held, 0.5, episode(RESOLVED, "e", **early, **GROUP), config)
    joined = told(play(held, 0.6, episode(OPENED, "d", service="shop", summary="ledger refuses", **GROUP), config))
    assert joined.incident_id == first.incident_id
    assert joined.root_candidates[0] == "a"
    assert joined.root.alert_id == "c"


class Counting(Overlay):
    """Rows that count how often an index is looked at."""

    looks = 0

    def keys(self, table: Table[Any], index: str) -> list[str]:
        self.looks += 1
        return super().keys(table, index)


def test_however_many_services_are_near_few_are_looked_for() -> None:
    star = {"services": {f"s{at}": {"depends_on": ["db"]} for at in range(5 * MOST_NEAR)}}
    known = rows(star)
    held = Counting(known._base, known._tables, known._lookups)
    play(held, 0, episode(OPENED, "a", service="db"))
    held.looks = 0
    joined = play(held, 1, episode(OPENED, "b", service="s7", name="Slow"))
    assert joined.reason is Reason.NEIGHBOUR
    assert MOST_NEAR < held.looks < 2 * MOST_NEAR + 20  # in this half hour and the one before
