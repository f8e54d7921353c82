"""Open incidents in Redis: a gateway that has just begun shows them at once, while its own copy still catches up.

Every gateway that has caught up writes what it reads, all of them the same: the newer of two states of an incident
wins, whoever comes first. What is in Redis is never needed: without it a gateway shows what its own copy has so far.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, Protocol, Self

import structlog
from pydantic import ValidationError
from redis.asyncio import Redis

from streamproc.core.event import DeadLetter
from streamproc.ports import Desk
from streamproc.runtime.redis.connection import UNKNOWN, Connection, end
from streamproc.state import PageRow
from streamproc.views import IncidentSummary, IncidentView, PipelineStatus, View

log = structlog.get_logger(__name__)

EVERY = 1.0
"""Seconds between writes, and between looks while the own copy catches up."""
LOOK_EVERY = 5
"""Of these turns each that many looks whether Redis still has what was written."""
COMPARE_EVERY = 60
"""And each that many compares everything: a gateway that died may have left what is not so any more."""
AT_ONCE = 200
KEPT = 24 * 3600
"""Seconds after the last write in which Redis forgets all of it."""
WRITE = """
local life = redis.call('GET', KEYS[2])
if not life then
  local time = redis.call('TIME')
  life = time[1] .. '.' .. time[2]
end
redis.call('SET', KEYS[2], life, 'EX', ARGV[1])
for i = 2, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  elseif not known or string.sub(known, 1, (string.find(known, '\\n', 1, true) or 1) - 1) <= ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1] .. '\\n' .. ARGV[i + 2])
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return life
"""


class Opening(View):
    """One open incident, as it stands in Redis."""

    state: str
    """Whether it is paged, held, ...: the state of its row."""
    summary: IncidentSummary


class Copied(Protocol):
    """The gateway's own copy of the topics."""

    @property
    def caught_up(self) -> bool:
        """Whether it has everything that stood when it began."""

    def pages(self) -> Sequence[PageRow]:
        """Return the rows of all incidents. Blocking."""


class Openings:
    """What Redis holds of open incidents, and the writing of it. Use it as an async context manager, on one event loop.

    Args:
        connection: to Redis.
        copied: the own copy.
        every: seconds of a turn.
    """

    def __init__(self, connection: Connection, copied: Copied, *, every: float = EVERY) -> None:
        self._connection = connection
        self._copied = copied
        self._every = every
        self._key = f"{connection.prefix}:{{open}}:incidents"
        self._life_key = f"{connection.prefix}:{{open}}:life"
        self._life = ""
        self._whole = False
        """True once Redis holds all of the own copy, but for what is noted since."""
        self._noting = False
        self._noted: dict[str, PageRow | None] = {}
        self._standing: Mapping[str, Opening] | None = None
        self._turn = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.step()
        self._task = asyncio.create_task(self._run(), name="streamproc-openings")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    @property
    def standing(self) -> Mapping[str, Opening] | None:
        """What Redis holds, by incident id; None where the own copy is to be asked."""
        return None if self._copied.caught_up else self._standing

    def note(self, changes: Mapping[str, PageRow | None]) -> None:
        """Take changed rows of the own copy, once it has caught up; None where a row is forgotten."""
        if self._noting:
            self._noted.update({key: row for key, row in changes.items() if row is None or not row.incident.canary})

    async def step(self) -> None:
        """Do one turn: read while the own copy catches up, write once it has."""
        if not self._copied.caught_up:
            self._forget()
            found = await self._read()
            self._standing = self._standing if found is None else found
            return
        self._standing = None
        if self._whole and self._turn % COMPARE_EVERY:
            if self._noted or not self._turn % LOOK_EVERY:
                await self._write_noted()
        else:
            await self._write_all()
        self._turn += 1

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.step()

    # -- Redis -------------------------------------------------------------------------------------------------------

    async def _read(self) -> dict[str, Opening] | None:
        """Return what Redis holds, None where it does not answer or holds nothing."""
        found: dict[str, Opening] = {}
        if await self._connection.ask("openings", self._exists) in (UNKNOWN, 0):
            return None
        cursor = 0
        while True:
            page = await self._connection.ask("openings", partial(self._scan, cursor))
            if page is UNKNOWN:
                return None
            cursor, some = page
            for incident_id, value in some.items():
                with contextlib.suppress(ValidationError):  # of another version, or not ours
                    found[incident_id] = Opening.model_validate_json(value.partition("\n")[2])
            if not cursor:
                return found

    async def _exists(self, client: Redis) -> int:
        return int(await client.exists(self._life_key))

    async def _scan(self, cursor: int, client: Redis) -> tuple[int, dict[str, str]]:
        found: Any = await client.hscan(self._key, cursor, count=AT_ONCE)
        return int(found[0]), dict(found[1])

    async def _ids(self) -> set[str] | None:
        found = await self._connection.ask("openings", self._keys)
        return None if found is UNKNOWN else found

    async def _keys(self, client: Redis) -> set[str]:
        return {str(key) for key in await client.hkeys(self._key)}

    async def _write_noted(self) -> None:
        noted, self._noted = self._noted, {}
        if not await self._write(noted):
            self._forget()

    async def _write_all(self) -> None:
        """Make Redis hold what the own copy holds; what is read meanwhile is noted, and follows."""
        there = await self._ids()
        if there is None:
            self._forget()
            return
        self._noting = True
        self._noted.clear()
        pages = await asyncio.to_thread(self._copied.pages)
        rows = {row.incident.incident_id: row for row in pages if not row.incident.canary}
        self._life = ""
        left: dict[str, PageRow | None] = dict.fromkeys(there - rows.keys())
        self._whole = await self._write({**left, **rows})
        if not self._whole:
            self._forget()

    def _forget(self) -> None:
        """Note nothing until all of the own copy is written: it is what counts then."""
        self._whole = self._noting = False
        self._noted.clear()

    async def _write(self, rows: Mapping[str, PageRow | None]) -> bool:
        """Write states; return whether Redis took all of them, and has lost nothing since the last time."""
        entries = list(rows.items())
        for begin in range(0, max(1, len(entries)), AT_ONCE):
            some = [part for each in entries[begin : begin + AT_ONCE] for part in _written(*each)]
            life = await self._connection.ask("openings", partial(self._put, some))
            if life is UNKNOWN or (self._life and life != self._life):
                return False
            self._life = life
        return True

    async def _put(self, some: Iterable[str], client: Redis) -> str:
        script = client.register_script(WRITE)
        return str(await script(keys=[self._key, self._life_key], args=[KEPT, *some]))


class OpeningsDesk:
    """What people look at: open incidents from Redis while the own copy catches up, all else from that copy.

    Args:
        desk: over the own copy.
        openings: what Redis holds.
    """

    def __init__(self, desk: Desk, openings: Openings) -> None:
        self._desk = desk
        self._openings = openings

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands."""
        status, standing = self._desk.status(), self._openings.standing
        if standing is None:
            return status
        paged = sum(opening.state == "paged" for opening in standing.values())
        return status.model_copy(update={"open_incidents": len(standing), "paged_incidents": paged})

    def incidents(self, status: Literal["open", "resolved", "all"], limit: int, before: str) -> list[IncidentSummary]:
        """Return incidents, the latest change first."""
        standing = self._openings.standing
        if standing is None or status != "open":
            return self._desk.incidents(status, limit, before)
        after = standing.get(before)
        found = sorted((opening.summary for opening in standing.values()), key=_rank, reverse=True)
        return [each for each in found if after is None or _rank(each) < _rank(after.summary)][:limit]

    def incident(self, incident_id: str) -> IncidentView | None:
        """Return one incident, or None."""
        return self._desk.incident(incident_id)

    def dead_letters(self, limit: int, before: str) -> list[DeadLetter]:
        """Return dead letters, the newest first."""
        return self._desk.dead_letters(limit, before)

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        return self._desk.dead_letter(letter_id)


def _rank(summary: IncidentSummary) -> tuple[datetime, str]:
    return summary.changed_at, summary.incident_id


def _written(incident_id: str, row: PageRow | None) -> tuple[str, str, str]:
    """Return id, rank and value of an incident; no rank where it is not open any more."""
    if row is None or row.state == "closed":
        return incident_id, "", ""
    opening = Opening(state=row.state, summary=IncidentSummary.of(row.incident))
    moments = (f"{moment:%Y-%m-%dT%H:%M:%S.%f}" for moment in (row.incident.changed_at, row.published_at))
    return incident_id, "|".join((*moments, f"{row.seq:010}")), opening.model_dump_json()
