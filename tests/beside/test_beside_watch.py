"""The watch over the existing route: it reads, lives, and reports once a week, whatever PagerDuty does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamproc.beside.book import Book
from streamproc.beside.reading import CHUNK, Reader
from streamproc.beside.schedule import Schedule
from streamproc.beside.watch import FOLDER, Rhythm, Watch, require_way_in
from streamproc.core.errors import Transient, Unusable
from streamproc.events.incident import Action, Incident
from streamproc.runtime.clock import ManualClock
from streamproc.sinks.pagerduty.resources import Incident as Resource
from streamproc.sinks.pagerduty.resources import IncidentQuery
from tests.beside.nights import T0, at, member, told

WEEK = timedelta(days=7)


class Rest:
    """PagerDuty, with so many incidents."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.queries: list[IncidentQuery] = []
        self.gone = False
        self.fails = ""

    def resource(self, number: int) -> Resource:
        return Resource.model_validate(
            {"id": f"Q{number}", "number": number, "title": "DatabaseDown db", "status": "triggered",
             "created_at": at(-60), "service": {"id": "S"}, "incident_key": "k"}
        )  # fmt: skip

    async def incidents(self, query: IncidentQuery) -> AsyncIterator[Resource]:
        self.queries.append(query)
        if self.fails:
            raise Transient(self.fails)
        for number in range(self.count):
            yield self.resource(number)

    async def incident(self, incident_id: str) -> Resource | None:
        return None if self.gone else self.resource(int(incident_id[1:]))

    async def alerts(self, incident_id: str) -> tuple[Any, ...]:
        return ()

    async def log_entries(self, incident_id: str) -> tuple[Any, ...]:
        return ()


class Desk:
    """A pipeline with one incident that would have paged."""

    def __init__(self) -> None:
        self.armed = False

    def status(self) -> Any:
        return SimpleNamespace(armed=self.armed)

    def publications(self, since: datetime) -> Iterator[Incident]:
        yield told(-61, Action.PAGE, "severity", joined=(member(),))


class People:
    """Who is told."""

    def __init__(self, *, taken: bool = True) -> None:
        self.told: list[tuple[str, str]] = []
        self.taken = taken

    async def tell(self, title: str, body: str) -> bool:
        self.told.append((title, body))
        return self.taken


class Stand:
    def __init__(self, folder: Path, people: People | None = None, rest: Rest | None = None) -> None:
        self.book, self.desk, self.folder = Book(folder), Desk(), folder
        self.clock, self.people, self.rest = ManualClock(at(-120)), people, rest
        self.rhythm = Rhythm(Schedule.of("monday 09:00 UTC"), timedelta(minutes=15), timedelta(days=21))
        self.book.begin(self.clock.now())

    def watch(self, timing: Any = None) -> Watch:
        reader: Any = None if self.rest is None else Reader(self.rest, self.book)  # type: ignore[arg-type]  # a part of it
        return Watch(
            self.book, self.desk, reader, self.people, self.clock, self.rhythm, self.folder / FOLDER,
            lambda stage, reason: reason, timing,
        )  # fmt: skip

    @property
    def reports(self) -> list[str]:
        return sorted(file.name for file in (self.folder / FOLDER).glob("*"))


async def test_the_week_is_reported_once_whatever_restarts(tmp_path: Path) -> None:
    people = People()
    stand = Stand(tmp_path, people, Rest())
    watch = stand.watch()
    await watch.tick()
    assert people.told == []
    stand.clock.set(at(1))
    await watch.tick()
    await stand.watch().tick()
    ((title, body),) = people.told
    assert title == "streamproc beside: the week"
    assert "you were paged 1 time; we would have paged 1; we would have missed none" in body
    assert body.endswith(f"All of it: {tmp_path / FOLDER / 'beside-2026-11-16.html'}")
    assert stand.reports == ["beside-2026-11-16.html"]


async def test_a_report_that_was_due_while_nothing_ran_is_made_late_and_old_ones_go(tmp_path: Path) -> None:
    stand = Stand(tmp_path, None, None)
    with capture_logs() as logs:
        for week in range(6):
            stand.clock.set(T0 + week * WEEK + timedelta(days=1))
            await stand.watch().tick()
    assert stand.reports == [f"beside-{T0 + week * WEEK:%Y-%m-%d}.html" for week in (2, 3, 4, 5)]
    assert any("Nobody was told" in one["event"] for one in logs)


async def test_it_reads_as_often_as_it_shall_and_says_a_failure_once(tmp_path: Path) -> None:
    rest = Rest()
    stand = Stand(tmp_path, None, rest)
    watch = stand.watch()
    await watch.tick()
    await watch.tick()
    assert len(rest.queries) == 1
    rest.fails = "503"
    with capture_logs() as logs:
        for _ in range(2):
            stand.clock.advance(timedelta(minutes=15))
            await watch.tick()
    assert [one["error"] for one in logs] == ["503"]
    assert stand.book.fact("error") == "503"
    rest.fails = ""
    stand.clock.advance(timedelta(minutes=15))
    await watch.tick()
    assert (len(rest.queries), stand.book.fact("error")) == (4, "")
    assert rest.queries[-1].since == at(-120) - timedelta(hours=1)


async def test_people_hear_that_somebody_armed_it_and_that_the_report_did_not_arrive(tmp_path: Path) -> None:
    people = People(taken=False)
    stand = Stand(tmp_path, people)
    stand.desk.armed = True
    watch = stand.watch()
    await watch.tick()
    await watch.tick()
    assert ["delivers nothing" in title for title, _ in people.told] == [True]
    stand.clock.set(at(1))
    with capture_logs() as logs:
        await watch.tick()
    assert any("reached nobody" in one["event"] for one in logs)
    stand.people = None
    with capture_logs() as logs:
        await stand.watch().tick()
    assert any("is armed but runs --beside" in one["event"] for one in logs)


async def test_a_book_that_cannot_be_used_does_not_end_the_watch(tmp_path: Path) -> None:
    stand = Stand(tmp_path)

    class Twice:
        waited = 0

        def monotonic(self) -> float:
            raise NotImplementedError

        async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
            self.waited += 1
            if self.waited == 2:
                raise asyncio.CancelledError

    timing = Twice()
    stand.book.path.write_bytes(b"no database" * 1000)
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await stand.watch(timing).run()
    assert ["could not be kept" in one["event"] for one in logs] == [True, True]


async def test_a_report_that_cannot_be_written_is_made_with_the_next_tick(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.clock.set(at(1))
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(OSError, match="exists"):
        await stand.watch().tick()
    (tmp_path / FOLDER).unlink()
    await stand.watch().tick()
    assert stand.reports == ["beside-2026-11-16.html"]


async def test_many_are_kept_in_parts_and_what_is_gone_is_not_asked_for_again(tmp_path: Path) -> None:
    rest = Rest(CHUNK + 5)
    stand = Stand(tmp_path, None, rest)
    rest.gone = True
    reader = Reader(rest, stand.book, ["S"])  # type: ignore[arg-type]  # a part of it
    assert await reader.read(at(0)) == ""
    assert len(stand.book.pages(at(-100), T0)) == CHUNK + 5
    assert stand.book.unread() == []
    assert (rest.queries[0].since, rest.queries[0].service_ids) == (at(-180), ("S",))


@pytest.mark.parametrize(
    ("key", "webhooks"), [pytest.param(True, False, id="key"), pytest.param(False, True, id="hook")]
)
def test_one_way_in_is_enough(*, key: bool, webhooks: bool) -> None:
    require_way_in(key=key, webhooks=webhooks)
    with pytest.raises(Unusable, match="PAGERDUTY_API_KEY"):
        require_way_in(key=False, webhooks=False)
