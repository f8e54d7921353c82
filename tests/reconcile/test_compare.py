"""Ours beside theirs, each kind of difference; and what is said in the log about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.events.escalation import Escalation, PageAction
from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.reconcile.compare import Difference, Kind, compare
from streamproc.reconcile.ours import Claim
from streamproc.reconcile.repair import TOLD, repairs
from streamproc.reconcile.theirs import Deed, Held, Theirs

T0 = datetime(2026, 11, 22, 12, 0, 0, 500_000, tzinfo=UTC)
NOW = T0 + timedelta(minutes=10)
SETTLE = timedelta(minutes=2)
ID = "in:v1:prod:eu:0123456789abcdef"
SECOND, WORSE = f"{ID}/2", f"{ID}/critical"
KEY, LEADS, TICKETS = "key", "leads-key", "ticket-key"
SERVICES = {KEY: "P1", LEADS: "P2", TICKETS: "P3"}
FIRST_SAID, SECOND_SAID, WORSE_SAID = ("default", KEY, ID), ("leads", LEADS, SECOND), ("default", KEY, WORSE)
TICKET_SAID = ("default", TICKETS, ID)


def claim(**changes: Any) -> Claim:
    base = Claim(ID, "paged", "db is down", 3, T0, T0, said=(FIRST_SAID,), pinned=FIRST_SAID)
    return replace(base, **changes)


def deed(seconds: float = 60, by: str = "Dana", value: str = "") -> Deed:
    return Deed(by, T0 + timedelta(seconds=seconds), value)


def alert(key: str = ID, service: str = "P1", **changes: Any) -> Held:
    return replace(Held(key, service, "Q1", open=True), **changes)


def theirs(*alerts: Held, asked: tuple[str, ...] = (ID,), silent: frozenset[str] = frozenset()) -> Theirs:
    keys = dict.fromkeys([*asked, *(one.key for one in alerts)])
    return Theirs({key: tuple(one for one in alerts if one.key == key) for key in keys}, SERVICES, silent)


def found(ours: Claim | None, told: Theirs, now: datetime = NOW) -> list[tuple[Kind, str]]:
    differs = compare({} if ours is None else {ID: ours}, told, now, SETTLE)
    return [(one.kind, one.key) for one in differs]


CASES = [
    pytest.param(claim(), theirs(alert()), [], id="open here and there"),
    pytest.param(claim(), theirs(), [(Kind.MISSING, ID)], id="nothing there"),
    pytest.param(claim(), theirs(asked=()), [], id="nobody asked"),
    pytest.param(claim(), theirs(alert(open=False)), [(Kind.MISSING, ID)], id="resolved by nobody"),
    pytest.param(claim(muted=True), theirs(), [], id="muted: nothing would be said"),
    pytest.param(claim(), theirs(silent=frozenset({"P1"})), [], id="its service opens nothing now"),
    pytest.param(claim(pending=True), theirs(), [], id="something waits to be sent"),
    pytest.param(claim(said_at=NOW - timedelta(minutes=1)), theirs(), [], id="said just now"),
    pytest.param(claim(state="quiet", said=()), theirs(), [], id="never said"),
    pytest.param(claim(state="held"), theirs(alert(open=False)), [], id="a person resolved it, and that is known"),
    pytest.param(claim(state="closed", said=()), theirs(), [], id="over here and there"),
    pytest.param(claim(state="closed", said=()), theirs(alert()), [(Kind.STRAY, ID)], id="over here, open there"),
    pytest.param(claim(state="closed", said=()), theirs(alert(open=False)), [], id="over, and resolved there"),
    pytest.param(
        claim(state="closed", said=()),
        theirs(alert(), alert(SECOND, "P2")),
        [(Kind.STRAY, ID), (Kind.STRAY, SECOND)],
        id="two strays",
    ),
    pytest.param(None, theirs(alert(), asked=()), [(Kind.UNKNOWN, ID)], id="nothing is known here"),
    pytest.param(None, theirs(alert(open=False), asked=()), [], id="nothing is known, and it is over"),
    pytest.param(None, theirs(alert("deploy-17"), asked=()), [], id="another tool's"),
    pytest.param(claim(), theirs(alert(open=False, resolved=deed())), [(Kind.RESOLVED, ID)], id="a person resolved it"),
    pytest.param(
        claim(), theirs(alert(open=False, resolved=deed(-0.3))), [(Kind.RESOLVED, ID)], id="in the second of its page"
    ),
    pytest.param(
        claim(),
        theirs(alert(open=False, resolved=deed(-60))),
        [(Kind.MISSING, ID)],
        id="a person resolved what was there before",
    ),
    pytest.param(
        claim(),
        theirs(alert(open=False, resolved=deed(-60)), alert(incident="Q2", open=False, resolved=deed())),
        [(Kind.RESOLVED, ID)],
        id="the last of several counts",
    ),
    pytest.param(claim(), theirs(alert(acknowledged=deed())), [(Kind.ACKNOWLEDGED, ID)], id="acknowledged there"),
    pytest.param(
        claim(), theirs(alert(acknowledged=deed(-60))), [(Kind.ACKNOWLEDGED, ID)], id="before the page was renewed"
    ),
    pytest.param(claim(acknowledged=True), theirs(alert(acknowledged=deed())), [], id="acknowledged, and known"),
    pytest.param(claim(), theirs(alert(merged=deed())), [(Kind.MERGED, ID)], id="merged there"),
    pytest.param(
        claim(),
        theirs(alert(merged=deed(), acknowledged=deed())),
        [(Kind.MERGED, ID)],
        id="merged goes before acknowledged",
    ),
    pytest.param(claim(awaits=True), theirs(alert(reassigned=deed())), [(Kind.REASSIGNED, ID)], id="reassigned there"),
    pytest.param(claim(awaits=True), theirs(alert(reassigned=deed(-60))), [], id="reassigned before this page"),
    pytest.param(claim(), theirs(alert(reassigned=deed())), [], id="reassigned, and nobody else is awaited"),
    pytest.param(
        claim(said=(FIRST_SAID, WORSE_SAID), pinned=WORSE_SAID),
        theirs(alert(acknowledged=deed(-60)), alert(WORSE)),
        [],
        id="acknowledged before it grew: the growth is not",
    ),
    pytest.param(
        claim(said=(FIRST_SAID, WORSE_SAID), pinned=WORSE_SAID),
        theirs(alert(acknowledged=deed()), alert(WORSE)),
        [(Kind.ACKNOWLEDGED, ID)],
        id="acknowledged after it grew",
    ),
    pytest.param(
        claim(said=(FIRST_SAID, WORSE_SAID), pinned=WORSE_SAID),
        theirs(alert(open=False, resolved=deed(-60)), alert(WORSE)),
        [],
        id="resolved before it grew: the growth stands",
    ),
    pytest.param(
        claim(said=(FIRST_SAID, SECOND_SAID)),
        theirs(alert(), asked=(ID, SECOND)),
        [(Kind.MISSING, SECOND)],
        id="the second destination lost it",
    ),
    pytest.param(
        claim(said=(FIRST_SAID, SECOND_SAID)),
        theirs(alert(acknowledged=deed()), asked=(ID, SECOND)),
        [(Kind.ACKNOWLEDGED, ID)],
        id="what a person did goes first",
    ),
    pytest.param(
        claim(said=(TICKET_SAID, FIRST_SAID)),
        theirs(alert(service="P3")),
        [(Kind.MISSING, ID)],
        id="the ticket is there, the page with the same key is not",
    ),
    pytest.param(
        claim(said=(TICKET_SAID, FIRST_SAID)), theirs(alert(service="P3"), alert(service="P1")), [], id="both are there"
    ),
    pytest.param(claim(), theirs(alert(service="P9")), [], id="one key: in whatever service it is"),
    pytest.param(
        claim(state="ticketed", said=(TICKET_SAID,), pinned=("default", "", "")),
        theirs(alert(service="P3", acknowledged=deed(-60))),
        [(Kind.ACKNOWLEDGED, ID)],
        id="a ticket is not pinned",
    ),
]


@pytest.mark.parametrize(("ours", "told", "expected"), CASES)
def test_what_differs(ours: Claim | None, told: Theirs, expected: list[tuple[Kind, str]]) -> None:
    assert found(ours, told) == expected


def test_every_kind_is_reached() -> None:
    assert {kind for case in CASES for kind, _ in case.values[2]} == set(Kind)  # type: ignore[union-attr]


def test_a_key_of_an_unknown_service_is_found_anywhere() -> None:
    twice = claim(said=(("default", "hidden", ID), FIRST_SAID))
    assert found(twice, theirs(alert())) == []


@pytest.mark.parametrize("kind", [pytest.param(kind, id=str(kind)) for kind in TOLD])
def test_what_is_told_is_what_a_webhook_would_tell(kind: Kind) -> None:
    done = None if kind is Kind.MISSING else deed(by="D" * 600, value="other")
    one = Difference(kind, ID, ID, 3, "Q1", "P1", done)
    (said,) = repairs(one, theirs(), {KEY: "default"}, NOW)
    assert isinstance(said, Feedback)
    assert (said.incident_id, said.kind) == (ID, TOLD[kind])
    if done is None:
        assert (said.kind, said.person, said.at) == (FeedbackKind.MISSING, False, NOW)
    else:
        assert (len(said.by), said.value, said.person, said.at) == (500, "other", True, done.at)
    assert repairs(one, theirs(), {}, NOW + SETTLE)[0].model_copy(update={"at": said.at}) == said


def test_a_difference_has_a_name_of_its_own_until_something_is_said() -> None:
    one = Difference(Kind.MISSING, ID, ID, 3)
    others = [
        Difference(Kind.STRAY, ID, ID, 3),
        Difference(Kind.MISSING, ID, SECOND, 3),
        Difference(Kind.MISSING, ID, ID, 4),
        Difference(Kind.MISSING, ID, ID, 3, deed=deed()),
    ]
    assert len({each.identity for each in (one, *others)}) == 5


@pytest.mark.parametrize(
    ("stray", "services", "keys"),
    [
        pytest.param(Difference(Kind.STRAY, ID, ID, 3, "Q1", "P1"), SERVICES, [KEY], id="by its service"),
        pytest.param(
            Difference(Kind.STRAY, ID, ID, 3, "Q1", "P1", pinned=("default", LEADS)),
            SERVICES,
            [KEY],
            id="its service goes before where it was paged",
        ),
        pytest.param(
            Difference(Kind.STRAY, ID, ID, 3, "Q1", "P1", pinned=("default", KEY)), {}, [KEY], id="where it was paged"
        ),
        pytest.param(
            Difference(Kind.STRAY, ID, ID, 3, "Q1", "P9", pinned=("default", KEY)),
            SERVICES,
            [],
            id="paged elsewhere: nothing leads there",
        ),
        pytest.param(Difference(Kind.STRAY, ID, ID, 3, "Q1", "P9"), SERVICES, [], id="no key leads there"),
        pytest.param(Difference(Kind.UNKNOWN, ID, ID, 0, "Q1", "P1"), SERVICES, [], id="unknown is only told"),
    ],
)
def test_where_a_stray_is_resolved(stray: Difference, services: dict[str, str], keys: list[str]) -> None:
    said = repairs(stray, Theirs({}, services), {KEY: "default", LEADS: "leads", TICKETS: "default"}, NOW)
    for one in said:
        assert isinstance(one, Escalation)
        assert (one.action, one.seq, one.repair, one.scope) == (PageAction.RESOLVE, 3, True, "prod:eu")
    assert [one.routing_key for one in said if isinstance(one, Escalation)] == keys


# -- the law: what is mended differs no more --------------------------------------------------------------------------

deeds = st.none() | st.builds(deed, st.integers(-300, 300))
places = st.builds(
    lambda open_, acted, resolved, merged, moved: alert(
        open=open_,
        acknowledged=acted if open_ else None,
        resolved=None if open_ else resolved,
        merged=merged if open_ else None,
        reassigned=moved if open_ else None,
    ),
    st.booleans(),
    deeds,
    deeds,
    deeds,
    deeds,
)
saids = st.lists(st.sampled_from([FIRST_SAID, SECOND_SAID, WORSE_SAID]), min_size=1, unique=True)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Claim, dict[str, Held]]:
    said = tuple(draw(saids))
    state = draw(st.sampled_from(["quiet", "held", "ticketed", "paged", "closed"]))
    ours = claim(
        state=state,
        said=() if state == "closed" else said,
        pinned=draw(st.sampled_from(said)),
        acknowledged=draw(st.booleans()),
        awaits=draw(st.booleans()),
        muted=draw(st.booleans()),
    )
    held = {key: replace(draw(places), key=key) for _, _, key in said if draw(st.booleans())}
    return ours, held


def told(held: dict[str, Held]) -> Theirs:
    return Theirs({key: (held[key],) if key in held else () for key in (ID, SECOND, WORSE)}, SERVICES)


def mended(ours: Claim, held: dict[str, Held], one: Difference, now: datetime) -> tuple[Claim, dict[str, Held]]:
    """Do what escalate, deliver and PagerDuty do with what is said about a difference."""
    if one.kind is Kind.STRAY:
        return ours, {**held, one.key: replace(held[one.key], open=False)}
    if one.kind is Kind.MISSING:
        again = {key: held[key] if key in held and held[key].open else alert(key) for _, _, key in ours.said}
        changed = replace(ours, acknowledged=False, awaits=True, seq=ours.seq + 1, triggered_at=now, said_at=now)
        return changed, {**held, **again}
    if one.kind is Kind.REASSIGNED:
        return replace(ours, awaits=False), held
    if one.kind is Kind.RESOLVED:
        shut = {key: replace(place, open=False) for key, place in held.items()}
        return replace(ours, state="held", acknowledged=True, awaits=False), shut
    return replace(ours, acknowledged=True, awaits=False), held


@given(worlds())
def test_what_is_mended_differs_no_more(world: tuple[Claim, dict[str, Held]]) -> None:
    (ours, held), now = world, NOW
    for _ in range(8):
        differs = compare({ID: ours}, told(held), now, SETTLE)
        if not differs:
            break
        assert len({one.identity for one in differs}) == len(differs)
        for one in differs:
            ours, held = mended(ours, held, one, now)
        now += SETTLE
    assert compare({ID: ours}, told(held), now, SETTLE) == ()


@given(worlds())
def test_nothing_is_told_of_what_is_not_at_rest(world: tuple[Claim, dict[str, Held]]) -> None:
    ours, held = world
    assert compare({ID: replace(ours, pending=True)}, told(held), NOW, SETTLE) == ()
    assert compare({ID: ours}, told(held), T0 + SETTLE / 2, SETTLE) == ()
