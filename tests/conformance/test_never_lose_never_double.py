"""The law of escalate and deliver, over whatever happens, with PagerDuty's own rules on the other side.

Never a resolve for what was not triggered; after the close every destination that was told hears of it; numbers rise;
and what deserves a page, unmuted and armed, is open there once everything rests, in one alert at its destination.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.event import iso
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction
from streamproc.state import INCIDENT, MEMBER, MUTE, PAGE, IncidentRow, PageRow
from tests.conformance.play import DESTINATIONS, SHOP, Play

ALERTS = ["a", "b", "c", "d"]
SERVICES = {"a": "web", "b": "web", "c": "db", "d": "x"}
"""The first two are of one incident while its window is open; the first has a second destination."""
SEVERITIES = list(Severity)
PAGING = (Severity.CRITICAL, Severity.ERROR)

doings = st.lists(
    st.one_of(
        st.tuples(st.just("fire"), st.sampled_from(ALERTS), st.sampled_from(SEVERITIES)),
        st.tuples(st.just("again"), st.sampled_from(ALERTS), st.sampled_from(SEVERITIES)),
        st.tuples(st.just("resolve"), st.sampled_from(ALERTS)),
        st.tuples(st.just("wait"), st.sampled_from([0.005, 0.5, 1, 2.5, 16, 45])),
        st.tuples(st.just("send"), st.integers(1, 3)),
        st.tuples(st.just("mute"), st.sampled_from(["web", "db"]), st.booleans()),
        st.tuples(st.just("feedback"), st.sampled_from(["acknowledged", "unacknowledged", "annotated"])),
        st.tuples(st.just("rename"), st.integers(0, 1)),
    ),
    max_size=25,
)
"""What happens. `again` is Alertmanager's: the same start as the time before."""
solving = st.lists(st.tuples(st.just("solve")), max_size=2)
disarming = st.lists(st.tuples(st.just("arm"), st.booleans(), st.booleans()), max_size=3)


class World:
    """Our pipeline, a sender, and PagerDuty: an alert there is open from a trigger to a resolve."""

    def __init__(self) -> None:
        self.play = Play()
        self.play.configure()
        self.play.activate("catalogue", SHOP)
        self.play.arm(adopt=False)
        self.starts: dict[str, Any] = {}
        self.open: set[tuple[str, str]] = set()
        self.triggered: set[tuple[str, str]] = set()
        """Open, or resolved there by a person."""
        self.versions: dict[str, int] = {}
        self.count = 0

    def do(self, what: str, *given_: Any) -> None:
        self.count += 1
        getattr(self, what)(*given_)

    def fire(self, name: str, severity: Severity) -> None:
        self.starts[name] = self.play.now
        self.again(name, severity)

    def again(self, name: str, severity: Severity) -> None:
        start = iso(self.starts.setdefault(name, self.play.now)).decode()
        self.play.fire(name, severity=severity, service=SERVICES[name], starts_at=start)

    def resolve(self, name: str) -> None:
        start = iso(self.starts.get(name, self.play.now)).decode()
        self.play.resolve(name, service=SERVICES[name], starts_at=start)

    def wait(self, minutes: float) -> None:
        self.play.wait(minutes)

    def mute(self, service: str, withdrawn: bool) -> None:  # noqa: FBT001
        self.play.silence(service, 10, self.count, withdrawn=withdrawn)

    def feedback(self, kind: str) -> None:
        for incident in self.pages():
            self.play.feedback(kind, self.count, incident)
            return

    def solve(self) -> None:
        """A person resolves at PagerDuty what may still fire."""
        for alert in sorted(self.open):
            self.open.discard(alert)
            self.play.feedback("resolved", self.count, alert[1].removesuffix("/2"))
            return

    def rename(self, which: int) -> None:
        """The routing keys change while incidents are open."""
        new = {name: {"routing_key": f"{keys['routing_key']}{which}"} for name, keys in DESTINATIONS.items()}
        self.play.configure(escalate={"destinations": new})

    def arm(self, withdrawn: bool, adopt: bool) -> None:  # noqa: FBT001
        self.play.arm(self.count + 1, withdrawn=withdrawn, adopt=adopt)

    def send(self, requests: int) -> None:
        """Send so many requests; what PagerDuty cannot have heard of is skipped."""
        for said in list(self.play.waiting())[:requests]:
            row = self.play.intents()[f"{said.routing_key}|{said.dedup_key}"]
            if said.action is PageAction.RESOLVE and not row.triggered:
                self.play.answer(said, "skipped")
                continue
            alert = (said.routing_key, said.dedup_key)
            if said.action is PageAction.TRIGGER:
                self.open.add(alert)
                self.triggered.add(alert)
            elif said.action is PageAction.RESOLVE:
                assert alert in self.triggered
                self.open.discard(alert)
            self.play.answer(said)

    def rest(self) -> None:
        """Let holds and throttles pass, and everything be sent."""
        self.play.wait(5)
        while list(self.play.waiting()):
            self.send(10)

    def pages(self) -> dict[str, PageRow]:
        return dict(self.play.memory.engine.part("decide").rows.scan(PAGE))

    def incidents(self) -> dict[str, IncidentRow]:
        return dict(self.play.memory.engine.part("decide").rows.scan(INCIDENT))

    def unmuted(self, incident: str) -> list[Severity]:
        """Return the severities that fire in an incident; none where all of it is muted."""
        rows = self.play.memory.engine.part("decide").rows
        inside = {name: row.member for name, row in rows.scan(MEMBER) if row.incident_id == incident}
        muted = {name for name, _ in rows.scan(MUTE)}
        return [] if inside.keys() <= muted else [member.severity for member in inside.values()]

    def said(self) -> dict[str, list[Escalation]]:
        found: dict[str, list[Escalation]] = {}
        for record in self.play.memory.records("escalations"):
            if record.headers["type"] == Escalation.TYPE.encode():
                escalation = Escalation.model_validate_json(record.value)
                found.setdefault(escalation.incident_id, []).append(escalation)
        return found


def lived(done: list[Any]) -> World:
    world = World()
    for what, *given_ in done:
        world.do(what, *given_)
    world.rest()
    return world


def lives(said: list[Escalation]) -> Iterator[list[Escalation]]:
    """Cut what was said to one destination after each resolve."""
    life: list[Escalation] = []
    for escalation in said:
        life.append(escalation)
        if escalation.action is PageAction.RESOLVE:
            yield life
            life = []
    if life:
        yield life


def between_closes(said: list[Escalation]) -> Iterator[list[Escalation]]:
    """Cut what was said about one incident where it closed: nothing but resolves is said then."""
    life: list[Escalation] = []
    for one, other in pairwise([*said, None]):
        assert one is not None
        life.append(one)
        if one.action is PageAction.RESOLVE and (other is None or other.action is not PageAction.RESOLVE):
            yield life
            life = []
    yield life


def check_what_was_said(world: World, *, solved: bool = False) -> None:
    """A person's resolve goes to the other destination too, and all of them hear of the end once more."""
    for incident, said in world.said().items():
        numbers = [escalation.seq for escalation in said]
        assert all(one < other for one, other in pairwise(numbers)), incident
        for life in between_closes(said):
            pinned = {each.routing_key for each in life if each.dedup_key == incident and each.action != "resolve"}
            assert len({key for key in pinned if key.startswith("K-")}) <= 1, life
        for alert in {(escalation.routing_key, escalation.dedup_key) for escalation in said}:
            told = [each for each in said if (each.routing_key, each.dedup_key) == alert]
            begins = [told[0]] if solved else [life[0] for life in lives(told)]
            assert {each.action for each in begins} <= {PageAction.TRIGGER, PageAction.CHANGE}, told


def check_what_is_open(world: World, *, solved: bool = False) -> None:
    pages = world.pages()
    said = {(key, dedup) for row in pages.values() for _, key, dedup in row.said}
    assert world.open <= said if solved else world.open == said
    for incident, row in world.incidents().items():
        assert (pages[incident].state == "closed") is (row.status == "resolved")
        if row.status == "resolved":
            assert not [alert for alert in world.open if alert[1].startswith(incident)]


def check_who_is_paged(world: World) -> None:
    """At rest what deserves a page and is not muted has one alert at its destination, and at most one at the second.

    What grew after somebody had acknowledged it has one more for the severity that it grew to (ADR 14).
    """
    for incident, row in world.incidents().items():
        deserves = any(severity in PAGING for severity in world.unmuted(incident))
        if deserves and row.status == "open":
            assert world.pages()[incident].state == "paged"
            paged = sorted(
                dedup for key, dedup in world.open if dedup.startswith(incident) and not key.startswith("T-")
            )
            assert paged[:1] == [incident]
            more = {f"{incident}/2", *(f"{incident}/{severity}" for severity in PAGING)}
            assert more.issuperset(paged[1:])
            assert len(set(paged)) == len(paged)


@given(doings)
def test_never_lose_never_double(done: list[Any]) -> None:
    world = lived(done)
    check_what_was_said(world)
    check_what_is_open(world)
    check_who_is_paged(world)
    for name in ALERTS:
        world.resolve(name)
    world.rest()
    check_what_was_said(world)
    check_what_is_open(world)
    assert world.open == set()
    world.play.wait(60 * 24 * 4)
    assert (world.pages(), world.incidents(), world.play.intents()) == ({}, {}, {})
    assert world.play.letters() == []


def together(*parts: st.SearchStrategy[list[Any]]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(*parts).map(lambda done: [*chain(*done)])


@given(together(doings, disarming, doings, solving, doings, disarming, doings))
def test_disarmed_and_resolved_by_hand_what_was_told_is_resolved(done: list[Any]) -> None:
    world = lived(done)
    check_what_was_said(world, solved=True)
    check_what_is_open(world, solved=True)
    for name in ALERTS:
        world.resolve(name)
    world.rest()
    check_what_is_open(world)
    assert world.open == set()
