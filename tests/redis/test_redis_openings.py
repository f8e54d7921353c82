"""Open incidents in a real Redis: at once after a start, and right again after anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

import pytest

from streamproc.core.event import DeadLetter
from streamproc.events.alert import Severity
from streamproc.events.incident import Incident, IncidentChange, Member
from streamproc.runtime.redis.connection import Connection
from streamproc.runtime.redis.openings import COMPARE_EVERY, Opening, Openings, OpeningsDesk
from streamproc.state import PageRow
from streamproc.views import IncidentSummary, IncidentView, PipelineStatus
from tests.redis.servers import Server, redis_server, until
from tests.support.sending import T0

KEY = "streamproc:{open}:incidents"
State = Literal["quiet", "held", "ticketed", "paged", "closed"]


def row(incident_id: str, minute: int = 0, state: State = "paged", *, seq: int = 0) -> PageRow:
    moment = T0 + timedelta(minutes=minute)
    return PageRow(incident=incident(incident_id, moment), state=state, reason="severity", published_at=moment, seq=seq)


def incident(incident_id: str, moment: datetime) -> Incident:
    root = Member(fingerprint="fp", alert_id="a", name="Down", severity=Severity.ERROR, summary="Down", starts_at=T0)
    return Incident(
        incident_id=incident_id,
        scope="prod",
        change=IncidentChange.OPENED,
        status="open",
        title=f"{incident_id} is down",
        severity=Severity.ERROR,
        root=root,
        opened_at=T0,
        changed_at=moment,
        open_count=1,
        total_count=1,
    )


@dataclass
class Copy:
    """A gateway's own copy of the topics."""

    caught_up: bool = True
    rows: dict[str, PageRow] = field(default_factory=dict)

    def pages(self) -> Sequence[PageRow]:
        return list(self.rows.values())


@dataclass
class Shown:
    """What the own copy shows."""

    asked: list[str] = field(default_factory=list)

    def status(self) -> PipelineStatus:
        return PipelineStatus(
            ready=True,
            why_not="",
            armed=True,
            open_incidents=0,
            paged_incidents=0,
            waiting_to_send=7,
            dead_letters=3,
            nodes=(),
            decisions={},
        )

    def incidents(self, status: Literal["open", "resolved", "all"], limit: int, before: str) -> list[IncidentSummary]:
        self.asked.append(status)
        return []

    def incident(self, incident_id: str) -> IncidentView | None:
        self.asked.append(incident_id)
        return None

    def dead_letters(self, limit: int, before: str) -> list[DeadLetter]:
        self.asked.append("letters")
        return []

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        self.asked.append(letter_id)
        return None


@dataclass
class Gateway:
    """One gateway: its copy, and what it writes and reads; its turns are made by hand."""

    connection: Connection
    copy: Copy

    def __post_init__(self) -> None:
        self.openings = Openings(self.connection, self.copy)
        self.shown = Shown()
        self.desk = OpeningsDesk(self.shown, self.openings)

    async def read(self, *rows: PageRow) -> None:
        """Read from the topics, and do a turn."""
        for each in rows:
            self.copy.rows[each.incident.incident_id] = each
        self.openings.note({each.incident.incident_id: each for each in rows})
        await self.openings.step()

    def ids(self) -> list[str]:
        return [summary.incident_id for summary in self.desk.incidents("open", 100, "")]


@pytest.fixture
async def house(server: Server) -> House:
    return House(server)


class House:
    """Gateways over one Redis."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def gateway(self, *rows: PageRow, caught_up: bool = True) -> Gateway:
        connection = await self.stack.enter_async_context(self.server.connection())
        made = Gateway(connection, Copy(caught_up, {each.incident.incident_id: each for each in rows}))
        await made.openings.step()
        return made

    async def held(self) -> Mapping[str, Opening]:
        """Return what Redis holds, as a gateway sees it that has just begun."""
        return (await self.gateway(caught_up=False)).openings.standing or {}


async def test_a_gateway_that_begins_shows_what_others_wrote_until_its_own_copy_has_it(house: House) -> None:
    async with house:
        await house.gateway(row("a", 1), row("b", 2, "held"), row("c", 0), row("gone", 3, "closed"))
        begun = await house.gateway(caught_up=False)
        assert begun.ids() == ["b", "a", "c"]
        assert [summary.title for summary in begun.desk.incidents("open", 1, "b")] == ["a is down"]
        status = begun.desk.status()
        assert (status.open_incidents, status.paged_incidents) == (3, 2)
        assert (status.waiting_to_send, status.dead_letters) == (7, 3)
        begun.desk.incidents("all", 10, "")
        begun.desk.incident("a")
        begun.desk.dead_letters(1, "")
        begun.desk.dead_letter("l")
        assert begun.shown.asked == ["all", "a", "letters", "l"]
        begun.copy.caught_up = True
        assert begun.ids() == []
        assert begun.shown.asked[-1] == "open"
        assert begun.desk.status().open_incidents == 0


async def test_changes_follow_and_what_closes_goes(house: House) -> None:
    async with house:
        one = await house.gateway(row("a"), row("b"))
        await one.read(row("a", 5, "held"), row("b", 1, "closed"), row("c", 2))
        held = await house.held()
        assert {name: opening.state for name, opening in held.items()} == {"a": "held", "c": "paged"}
        one.openings.note({"c": None})
        await one.openings.step()
        assert set(await house.held()) == {"a"}


async def test_a_canary_is_no_incident_of_anybody(house: House) -> None:
    def canary(name: str) -> PageRow:
        real = row(name)
        return real.model_copy(update={"incident": real.incident.model_copy(update={"canary": True})})

    async with house:
        one = await house.gateway(row("a"), canary("mine"))
        await one.read(canary("theirs"), row("b"))
        assert set(await house.held()) == {"a", "b"}


async def test_the_newer_of_two_states_wins_whoever_comes_first(house: House) -> None:
    async with house:
        one, other = await house.gateway(row("a")), await house.gateway(row("a"))
        await one.read(row("a", 5, "held", seq=2))
        await other.read(row("a", 4, "paged", seq=9))
        assert (await house.held())["a"].state == "held"
        await other.read(row("a", 5, "ticketed", seq=3))
        assert (await house.held())["a"].state == "ticketed"


async def test_a_flush_is_noticed_and_mended_by_the_next_look(house: House) -> None:
    async with house:
        one = await house.gateway(row("a"), row("b"))
        await house.server.flush()
        begun = await house.gateway(caught_up=False)
        assert begun.openings.standing is None, "nothing is known, which is not that nothing is open"
        begun.desk.incidents("open", 1, "")
        assert begun.shown.asked == ["open"]

        async def mended() -> bool:
            await one.openings.step()
            return set(await house.held()) == {"a", "b"}

        await until(mended)


async def test_what_changes_while_redis_is_stopped_is_there_afterwards(house: House) -> None:
    async with house:
        one = await house.gateway(row("a"), row("b"))
        house.server.stop()
        await one.read(row("a", 3, "closed"), row("c", 4))
        assert one.ids() == []
        await house.server.start()

        async def mended() -> bool:
            await one.openings.step()
            return set(await house.held()) == {"b", "c"}

        await until(mended)


async def test_what_a_gateway_left_that_died_behind_the_others_is_removed(house: House) -> None:
    async with house:
        one = await house.gateway(row("a"))
        late = await house.gateway(row("a"), row("closed long ago"))
        assert set(await house.held()) == {"a", "closed long ago"}
        del late
        for _ in range(COMPARE_EVERY):
            await one.openings.step()
        assert set(await house.held()) == {"a"}


async def test_more_than_fits_into_one_request(house: House) -> None:
    async with house:
        await house.gateway(*(row(f"i{n:04}", n % 7) for n in range(900)))
        assert len(await house.held()) == 900


async def test_what_cannot_be_read_is_left_out(house: House) -> None:
    async with house:
        one = await house.gateway(row("a"))
        await one.connection.ask("watch", lambda client: client.hset(KEY, "odd", "no such thing"))
        assert set(await house.held()) == {"a"}


async def test_a_copy_that_is_built_anew_is_no_reason_to_forget(house: House) -> None:
    async with house:
        one = await house.gateway(row("a"), row("b"))
        one.copy.caught_up = False
        one.copy.rows.clear()
        await one.openings.step()
        assert sorted(one.ids()) == ["a", "b"]
        one.copy.caught_up = True
        one.copy.rows["b"] = row("b")
        await one.openings.step()
        assert set(await house.held()) == {"b"}


async def test_without_redis_the_own_copy_is_shown(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        async with House(server) as house:
            begun = await house.gateway(caught_up=False)
            assert begun.openings.standing is None


async def test_does_its_turns_by_itself(house: House) -> None:
    async with house:
        connection = await house.stack.enter_async_context(house.server.connection())
        copy = Copy(rows={"a": row("a")})
        async with Openings(connection, copy, every=0.05) as openings:
            openings.note({"b": row("b")})

            async def written() -> bool:
                return set(await house.held()) == {"a", "b"}

            await until(written)
