from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.event import Wake
from streamproc.core.fold import Overlay
from streamproc.core.step import Step
from streamproc.core.table import Row, RowKey
from streamproc.events.feedback import Matcher, Policy, PolicyKind
from streamproc.events.incident import Incident, IncidentChange, Member, Reconsider
from streamproc.matching import matches
from streamproc.stages.suppress import AT_ONCE, WITHDRAWN_FOR, Reason, mutes, step
from streamproc.state import INCIDENT, MEMBER, MUTE, PAGE, POLICY, IncidentRow, MemberRow, MuteRow, PageRow, PolicyRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
OUTAGE, OTHER = "in:v1:prod:eu:1", "in:v1:prod:eu:2"
ON_DB = (Matcher(name="service", op="=", value="db"),)
ON_WEB = (Matcher(name="service", op="=", value="web"),)


def minute(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


def member(name: str, service: str = "db") -> Member:
    return Member(
        fingerprint=name,
        alert_id=name,
        name="Down",
        severity="error",
        summary=f"{name} is down",
        service=service,
        labels={"service": service},
        starts_at=T0,
    )


def silence(name: str = "night", ends: float = 60, **changes: Any) -> Policy:
    given_ = {
        "policy_id": name,
        "kind": "silence",
        "version": 1,
        "matchers": ON_DB,
        "starts_at": T0,
        "ends_at": minute(ends),
        "author": "kim",
    }
    return Policy.model_validate({**given_, **changes})


def arm(version: int = 1, **changes: Any) -> Policy:
    return Policy(policy_id="arm", kind=PolicyKind.ARM, version=version, starts_at=T0, **changes)


def row_of(incident: str, *members: Member) -> IncidentRow:
    return IncidentRow(
        incident_id=incident,
        scope="prod:eu",
        status="open" if members else "resolved",
        root=member("root"),
        opened_at=T0,
        joined_at=T0,
        open_count=len(members),
        total_count=len(members),
    )


def standing(incident: str, *members: Member) -> dict[RowKey, Row]:
    """What correlate and escalate hold of an incident."""
    row = row_of(incident, *members)
    told = row.event(IncidentChange.OPENED, T0)
    page = PageRow(incident=told, state="paged" if members else "closed", reason="severity", published_at=T0)
    held: dict[RowKey, Row] = {INCIDENT.at(incident): row, PAGE.at(incident): page}
    return {
        **held,
        **{MEMBER.at(each.fingerprint): MemberRow(incident_id=incident, member=each) for each in members},
    }


def event(
    change: IncidentChange, *members: Member, joined: Iterable[Member] = (), left: Iterable[str] = (), id_: str = OUTAGE
) -> Incident:
    """An incident in which `members` fire."""
    told = row_of(id_, *members).event(change, T0)
    return told.model_copy(update={"joined": tuple(joined), "left": tuple(left)})


def play(rows: Overlay, now: float, said: Incident | Policy | Reconsider | Wake) -> Step:
    taken = step(said, rows, minute(now), None)
    commit(rows, taken)
    return taken


def told(taken: Step) -> Incident:
    (incident,) = taken.emit
    assert isinstance(incident, Incident)
    return incident


def wake(rows: Overlay, address: RowKey) -> Wake:
    row = rows.find(address)
    assert row is not None
    assert row.wake_at is not None
    return Wake(table=address.table, key=address.key, due=row.wake_at)


A, B, WEB = member("a"), member("b"), member("w", "web")
GREW, OPENED, SHRANK = IncidentChange.GREW, IncidentChange.OPENED, IncidentChange.SHRANK


@pytest.mark.parametrize(
    ("op", "value", "label", "holds"),
    [
        pytest.param("=", "db", "db", True, id="equal"),
        pytest.param("=", "db", "web", False, id="equal, another value"),
        pytest.param("=", "", None, True, id="equal to nothing, missing"),
        pytest.param("!=", "db", "web", True, id="unequal"),
        pytest.param("!=", "db", "db", False, id="unequal, the same value"),
        pytest.param("!=", "db", None, True, id="unequal, missing"),
        pytest.param("=~", "d.", "db", True, id="like"),
        pytest.param("=~", "d.", "db-1", False, id="like, the whole value"),
        pytest.param("=~", ".*", None, True, id="like anything, missing"),
        pytest.param("!~", "d.|web", "api", True, id="unlike"),
        pytest.param("!~", "d.|web", "web", False, id="unlike, the second choice"),
        pytest.param("!~", ".+", None, True, id="unlike something, missing"),
    ],
)
def test_matchers(op: Any, value: str, label: str | None, *, holds: bool) -> None:
    matcher = Matcher(name="x", op=op, value=value)
    assert matches(matcher, label or "") is holds
    labels = {} if label is None else {"x": label}
    assert mutes(silence(matchers=(matcher,)), A.model_copy(update={"labels": labels})) is holds


def test_no_expression_takes_for_ever() -> None:
    """Python's own engine would need 2^50,000 steps for this one."""
    matcher = Matcher(name="x", op="=~", value="(a+)+$")
    assert not matches(matcher, "a" * 50_000 + "!")


BACKTRACKS = Matcher(name="service", op="=~", value=r"(d)b|\1")
"""What a version that used Python's engine took, and left in the log."""


def test_a_policy_with_an_expression_of_an_older_version_mutes_nothing() -> None:
    old = silence("old", matchers=(BACKTRACKS,))
    rows = rows_of(standing(OUTAGE, A))
    taken = play(rows, 0, old)
    assert taken.reason is Reason.POLICY_UNUSABLE
    marked = play(rows, 1, event(OPENED, A, joined=[A]))
    assert (marked.reason, told(marked).muted, told(marked).muted_count) == (Reason.POLICY_UNUSABLE, False, 0)
    play(rows, 2, silence())
    marked = play(rows, 3, event(OPENED, A, joined=[A]))
    assert (marked.reason, told(marked).joined[0].muted_by) == (Reason.MUTED, "night")
    assert play(rows, 4, silence("old", matchers=(BACKTRACKS,), version=2, withdrawn=True)).reason is (
        Reason.POLICY_WITHDRAWN
    )


def test_all_matchers_must_hold() -> None:
    both = silence(matchers=(*ON_DB, Matcher(name="pod", op="=", value="p")))
    assert not mutes(both, A)
    assert mutes(both, A.model_copy(update={"labels": {"service": "db", "pod": "p"}}))


def test_a_policy_without_matchers_mutes_nothing() -> None:
    assert not mutes(silence(matchers=()), A)


MARKS = [
    pytest.param([], event(OPENED, A, joined=[A]), Reason.CLEAR, (0, False), {"a": ""}, id="no policy"),
    pytest.param(
        [silence()], event(OPENED, A, joined=[A]), Reason.MUTED, (1, True), {"a": "night"}, id="all that fires is muted"
    ),
    pytest.param(
        [silence()],
        event(GREW, A, WEB, joined=[A, WEB]),
        Reason.PARTLY_MUTED,
        (1, False),
        {"a": "night", "w": ""},
        id="one of two",
    ),
    pytest.param(
        [silence(), silence("day", kind="maintenance", matchers=ON_WEB)],
        event(GREW, A, WEB, joined=[A, WEB]),
        Reason.MUTED,
        (2, True),
        {"a": "night", "w": "day"},
        id="two policies together, a maintenance window among them",
    ),
    pytest.param(
        [silence(), silence("longer", ends=90), silence("short", ends=30)],
        event(OPENED, A, joined=[A]),
        Reason.MUTED,
        (1, True),
        {"a": "longer"},
        id="the policy that lasts longest is named",
    ),
    pytest.param(
        [silence(starts_at=minute(20))],
        event(OPENED, A, joined=[A]),
        Reason.CLEAR,
        (0, False),
        {"a": ""},
        id="not begun yet",
    ),
    pytest.param(
        [silence(starts_at=minute(10))],
        event(OPENED, A, joined=[A]),
        Reason.MUTED,
        (1, True),
        {"a": "night"},
        id="begins now",
    ),
    pytest.param([silence(ends=10)], event(OPENED, A, joined=[A]), Reason.CLEAR, (0, False), {"a": ""}, id="ends now"),
    pytest.param(
        [silence(withdrawn=True)], event(OPENED, A, joined=[A]), Reason.CLEAR, (0, False), {"a": ""}, id="withdrawn"
    ),
    pytest.param(
        [silence(ends_at=None)], event(OPENED, A, joined=[A]), Reason.CLEAR, (0, False), {"a": ""}, id="without an end"
    ),
    pytest.param([arm()], event(OPENED, A, joined=[A]), Reason.CLEAR, (0, False), {"a": ""}, id="arming mutes nothing"),
    pytest.param(
        [silence()],
        event(IncidentChange.RESOLVED, left=["a"]),
        Reason.RESOLVED,
        (0, False),
        {},
        id="a resolve always passes",
    ),
]


@pytest.mark.parametrize(("policies", "said", "reason", "muted", "marks"), MARKS)
def test_marks(
    policies: list[Policy], said: Incident, reason: Reason, muted: tuple[int, bool], marks: dict[str, str]
) -> None:
    rows = rows_of()
    for policy in policies:
        play(rows, 0, policy)
    taken = play(rows, 10, said)
    passed = told(taken)
    assert (taken.reason, (passed.muted_count, passed.muted)) == (reason, muted)
    assert {each.fingerprint: each.muted_by for each in passed.joined} == marks
    assert passed == said.model_copy(
        update={"joined": passed.joined, "muted": passed.muted, "muted_count": passed.muted_count}
    )
    assert taken.figures == {"muted": muted[0], "open": said.open_count}
    assert rows.count(MUTE, f"incident:{OUTAGE}") == muted[0]
    assert {each.key: each.due for each in taken.wake} == {
        name: row.wake_at for name in marks if (row := rows.get(MUTE, name)) is not None
    }


def test_a_muted_member_that_leaves_is_counted_out() -> None:
    rows = rows_of()
    play(rows, 0, silence())
    play(rows, 1, event(GREW, A, B, WEB, joined=[A, B, WEB]))
    left = play(rows, 2, event(SHRANK, A, WEB, left=["b"]))
    assert (left.reason, told(left).muted_count, rows.get(MUTE, "b")) == (Reason.PARTLY_MUTED, 1, None)
    last = play(rows, 3, event(SHRANK, A, left=["w"]))
    assert (last.reason, told(last).muted) == (Reason.MUTED, True)
    over = play(rows, 4, event(IncidentChange.RESOLVED, left=["a"]))
    assert (over.reason, told(over).muted_count, rows.count(MUTE, f"incident:{OUTAGE}")) == (Reason.RESOLVED, 0, 0)


def test_a_member_that_no_policy_matches_any_more_is_unmuted_when_it_changes() -> None:
    rows = rows_of()
    play(rows, 0, silence())
    play(rows, 1, event(OPENED, A, joined=[A]))
    moved = A.model_copy(update={"labels": {"service": "web"}})
    taken = play(rows, 2, event(IncidentChange.CHANGED, moved, joined=[moved]))
    assert (taken.reason, taken.changes) == (Reason.CLEAR, {MUTE.at("a"): None})


def test_a_policy_asks_to_decide_open_incidents_anew() -> None:
    rows = rows_of({**standing(OUTAGE, A), **standing(OTHER)})
    taken = play(rows, 1, silence())
    asked = Reconsider(scope="prod:eu", incident_id=OUTAGE, reason="policy_taken")
    assert (taken.reason, taken.emit) == (Reason.POLICY_TAKEN, (asked,))
    assert taken.figures == {"policy": "night", "version": 1, "author": "kim"}
    assert wake(rows, POLICY.at("night")).due == minute(60)
    muted = play(rows, 1, asked)
    incident = told(muted)
    assert (muted.reason, incident.change, incident.muted) == (Reason.MUTED, IncidentChange.RECONSIDERED, True)
    assert [(each.fingerprint, each.muted_by) for each in incident.joined] == [("a", "night")]
    again = play(rows, 2, asked)
    assert (again.reason, told(again).joined) == (Reason.MUTED, ())


def test_a_large_incident_is_marked_piece_by_piece() -> None:
    many = [A.model_copy(update={"fingerprint": f"a{at:05}"}) for at in range(2 * AT_ONCE + 1)]
    rows = rows_of(standing(OUTAGE, *many))
    asked = cast("Reconsider", play(rows, 1, silence()).emit[0])
    whole, pieces = [], 0
    while True:
        taken = play(rows, 1, asked)
        pieces += 1
        assert len(taken.changes) <= AT_ONCE
        whole.append(taken.reason)
        assert isinstance(taken.emit[0], Incident)
        if len(taken.emit) == 1:
            break
        asked = cast("Reconsider", taken.emit[1])
    assert (pieces, rows.count(MUTE, f"incident:{OUTAGE}")) == (3, len(many))
    assert whole == [Reason.PARTLY_MUTED, Reason.PARTLY_MUTED, Reason.MUTED]


@pytest.mark.parametrize("rows", [rows_of(), rows_of(standing(OUTAGE))], ids=["forgotten", "resolved"])
def test_asking_about_what_is_over(rows: Overlay) -> None:
    taken = play(rows, 0, Reconsider(scope="prod:eu", incident_id=OUTAGE))
    assert (taken.reason, taken.changes, taken.emit) == (Reason.GONE, {}, ())


def test_a_policy_that_begins_later() -> None:
    rows = rows_of(standing(OUTAGE, A))
    play(rows, 0, silence(starts_at=minute(30)))
    begins = wake(rows, POLICY.at("night"))
    assert begins.due == minute(30)
    started = play(rows, 30, begins)
    assert started.reason is Reason.POLICY_STARTED
    assert started.emit == (Reconsider(scope="prod:eu", incident_id=OUTAGE, reason="policy_started"),)
    ends = wake(rows, POLICY.at("night"))
    assert ends.due == minute(60)
    ended = play(rows, 60, ends)
    assert (ended.reason, ended.changes, ended.emit) == (Reason.POLICY_ENDED, {POLICY.at("night"): None}, ())


def test_a_policy_whose_row_is_gone_has_ended() -> None:
    taken = play(rows_of(), 0, Wake(table=POLICY.name, key="night", due=T0))
    assert taken.reason is Reason.POLICY_ENDED


def test_a_withdrawal_is_remembered_against_older_versions() -> None:
    rows = rows_of(standing(OUTAGE, A))
    play(rows, 0, silence())
    play(rows, 1, Reconsider(scope="prod:eu", incident_id=OUTAGE))
    gone = play(rows, 2, silence(version=2, withdrawn=True))
    (asked,) = gone.emit
    assert (gone.reason, asked) == (
        Reason.POLICY_WITHDRAWN,
        Reconsider(scope="prod:eu", incident_id=OUTAGE, reason="policy_withdrawn"),
    )
    clear = play(rows, 2, Reconsider(scope="prod:eu", incident_id=OUTAGE))
    assert (clear.reason, [each.muted_by for each in told(clear).joined]) == (Reason.CLEAR, [""])
    for version in (1, 2):
        old = play(rows, 3, silence(version=version))
        assert (old.reason, old.changes, old.figures) == (
            Reason.POLICY_OLD,
            {},
            {"policy": "night", "version": version},
        )
    forgets = wake(rows, POLICY.at("night"))
    assert forgets.due == minute(2) + WITHDRAWN_FOR
    assert play(rows, 2000, forgets).reason is Reason.POLICY_ENDED


def test_a_shorter_version_takes_the_place_of_a_longer_one() -> None:
    rows = rows_of(standing(OUTAGE, A))
    play(rows, 0, silence())
    play(rows, 1, Reconsider(scope="prod:eu", incident_id=OUTAGE))
    play(rows, 2, silence(version=2, ends=5))
    play(rows, 2, Reconsider(scope="prod:eu", incident_id=OUTAGE))
    assert wake(rows, MUTE.at("a")).due == minute(5)


def test_a_mute_that_ends() -> None:
    rows = rows_of(standing(OUTAGE, A, WEB))
    play(rows, 0, silence())
    play(rows, 1, event(GREW, A, WEB, joined=[A, WEB]))
    taken = play(rows, 60, wake(rows, MUTE.at("a")))
    assert (taken.reason, taken.changes) == (Reason.UNMUTED, {MUTE.at("a"): None})
    assert [(each.fingerprint, each.muted_by) for each in told(taken).joined] == [("a", "")]


def test_a_mute_that_ends_while_another_policy_goes_on() -> None:
    rows = rows_of(standing(OUTAGE, A))
    play(rows, 0, silence())
    play(rows, 1, event(OPENED, A, joined=[A]))
    play(rows, 2, silence("later", ends=90))  # its request to decide anew has not been folded yet
    taken = play(rows, 60, wake(rows, MUTE.at("a")))
    assert taken.reason is Reason.MUTED
    assert [(each.fingerprint, each.muted_by) for each in told(taken).joined] == [("a", "later")]
    assert wake(rows, MUTE.at("a")).due == minute(90)


@pytest.mark.parametrize("member_stands", [True, False], ids=["without its incident", "without its member"])
def test_a_mute_of_what_is_gone(*, member_stands: bool) -> None:
    held: dict[RowKey, Row] = {MUTE.at("a"): MuteRow(incident_id=OUTAGE, policy_id="night", until=T0)}
    if member_stands:
        held[MEMBER.at("a")] = MemberRow(incident_id=OUTAGE, member=A)
    taken = play(rows_of(held), 0, Wake(table=MUTE.name, key="a", due=T0))
    assert (taken.reason, taken.changes) == (Reason.GONE, {MUTE.at("a"): None})


ARMING = [
    pytest.param(arm(), [PolicyKind.ARM], Reason.POLICY_TAKEN, id="adopting: passed on, nothing is decided anew"),
    pytest.param(
        arm(adopt=False), [PolicyKind.ARM, OUTAGE], Reason.POLICY_TAKEN, id="as new: what is open is decided anew"
    ),
    pytest.param(arm(withdrawn=True), [PolicyKind.ARM], Reason.POLICY_WITHDRAWN, id="disarmed"),
]


@pytest.mark.parametrize(("policy", "passed", "reason"), ARMING)
def test_arming(policy: Policy, passed: list[str], reason: Reason) -> None:
    taken = play(rows_of(standing(OUTAGE, A)), 0, policy)
    assert taken.reason is reason
    assert [each.kind if isinstance(each, Policy) else each.incident_id for each in taken.emit] == passed  # type: ignore[attr-defined]
    assert bool(taken.wake) is policy.withdrawn


conditions = st.builds(
    Matcher,
    name=st.sampled_from(["service", "severity", "team", "zone"]),
    op=st.sampled_from(["=", "!=", "=~", "!~"]),
    value=st.sampled_from(["", "a", "b", "a|b"]),
)


@given(
    st.lists(st.lists(conditions, min_size=1, max_size=3).map(tuple), max_size=8),
    st.dictionaries(st.sampled_from(["service", "severity", "team", "zone"]), st.sampled_from(["a", "b", "a|b", ""])),
)
def test_a_policy_is_found_whatever_it_asks_for(asked: list[tuple[Matcher, ...]], labels: dict[str, str]) -> None:
    said = [silence(f"p{at}", ends=10 + at, matchers=matchers) for at, matchers in enumerate(asked)]
    rows = rows_of({POLICY.at(policy.policy_id): PolicyRow(policy=policy) for policy in said})
    one = member("a").model_copy(update={"labels": labels})
    rows.record = dict(standing(OUTAGE, one))
    rows.keep()
    play(rows, 0, event(GREW, joined=[one]))
    held = rows.get(MUTE, one.fingerprint)
    wanted = [policy.policy_id for policy in said if mutes(policy, one)]
    assert (held.policy_id if held else None) == (wanted[-1] if wanted else None), "the one that lasts longest"


Doing = tuple[str, int, int]
doings = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "silence", "withdraw", "wake"]), st.integers(0, 5), st.integers(1, 30)),
    max_size=40,
)


@given(doings)
def test_mutes_are_counted_exactly(done: list[Doing]) -> None:
    """Members 0 to 2 are of one incident, 3 to 5 of another; a policy is about two members and lasts `length`."""
    rows = rows_of()
    firing: dict[str, Member] = {}
    versions: dict[str, int] = {}
    for now, (what, number, length) in enumerate(done):
        incident = (OUTAGE, OTHER)[number // 3]
        name = str(number)
        fire_due(rows, now)
        if what == "join":
            firing[name] = member(name, service=f"s{number % 3}")
            follow(rows, now, incident, firing, event(GREW, joined=[firing[name]], id_=incident))
        elif what == "leave" and firing.pop(name, None) is not None:
            follow(rows, now, incident, firing, event(SHRANK, left=[name], id_=incident))
        elif what in ("silence", "withdraw"):
            policy = f"p{number}"
            versions[policy] = versions.get(policy, 0) + 1
            matcher = Matcher(name="service", op="=", value=f"s{number % 3}")
            said = silence(
                policy,
                ends=now + length,
                starts_at=minute(now + number - 2),
                matchers=(matcher,),
                version=versions[policy],
                withdrawn=what == "withdraw",
            )
            for asked in play(rows, now, said).emit:
                assert isinstance(asked, Reconsider)
                play(rows, now, asked)
        check(rows, firing, now)


def follow(rows: Overlay, now: int, incident: str, firing: dict[str, Member], said: Incident) -> None:
    """Let correlate's and escalate's rows follow, then mark."""
    inside = [each for name, each in firing.items() if (OUTAGE, OTHER)[int(name) // 3] == incident]
    rows.record = dict(standing(incident, *inside)) | {MEMBER.at(name): None for name in said.left}
    rows.keep()
    told_ = row_of(incident, *inside).event(said.change, minute(now))
    play(rows, now, told_.model_copy(update={"joined": said.joined, "left": said.left}))


def fire_due(rows: Overlay, now: int) -> None:
    """Fire timers in order, and what they ask for."""
    while True:
        waits = [
            (row.wake_at, address)
            for address, row in rows.batch.items()
            if row is not None and row.wake_at is not None and row.wake_at <= minute(now)
        ]
        if not waits:
            return
        due, address = min(waits)
        taken = step(Wake(table=address.table, key=address.key, due=due), rows, due, None)
        commit(rows, taken)
        for asked in taken.emit:
            if isinstance(asked, Reconsider):
                commit(rows, step(asked, rows, due, None))


def check(rows: Overlay, firing: dict[str, Member], now: int) -> None:
    """Compare the marks with what the policies that stand say now."""
    fire_due(rows, now)
    found = [row.policy for row in rows.batch.values() if isinstance(row, PolicyRow) and not row.policy.withdrawn]
    stands = [each for each in found if each.ends_at is not None and each.starts_at <= minute(now) < each.ends_at]
    muted = {name for name, each in firing.items() if any(mutes(policy, each) for policy in stands)}
    assert {address.key for address, row in rows.batch.items() if address.table == MUTE.name and row} == muted
    for at, incident in enumerate((OUTAGE, OTHER)):
        assert rows.count(MUTE, f"incident:{incident}") == sum(int(name) // 3 == at for name in muted)
