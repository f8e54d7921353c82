"""What is kept beside, when the report is due, and what webhooks tell."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamproc.beside.book import FILE, PAUSE, Book
from streamproc.beside.hearing import Hearer, heard
from streamproc.beside.making import make
from streamproc.beside.schedule import Schedule
from streamproc.beside.theirs import LATER, TheirPage
from streamproc.core.errors import Unusable
from streamproc.events.feedback import FeedbackKind
from streamproc.gateway.pagerduty import Foreign, foreign
from streamproc.settings import Beside
from tests.beside.nights import MINUTE, T0, at, page

DAY = timedelta(days=1)


def test_pages_are_kept_and_forgotten(tmp_path: Path) -> None:
    book = Book(tmp_path / "new")
    book.put([page(5, incident_id="Q2"), page(0, ended=1)], T0)
    assert [one.incident_id for one in book.pages(T0, at(9))] == ["Q1", "Q2"]
    assert [one.incident_id for one in book.pages(at(1), at(9))] == ["Q2"]
    assert (book.page("Q2"), book.page("Q9")) == (page(5, incident_id="Q2"), None)
    assert [one.incident_id for one in book.unread()] == ["Q1", "Q2"]
    book.put([page(0, ended=1)], at(1) + LATER)
    assert [one.incident_id for one in book.unread()] == ["Q2"]
    book.close_page("Q2")
    assert book.unread() == []
    book.forget(at(3))
    assert [one.incident_id for one in Book(tmp_path / "new").pages(T0, at(9))] == ["Q2"]
    assert (tmp_path / "new" / FILE).stat().st_mode & 0o077 == 0


def test_a_page_is_changed_or_left(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.update("Q1", lambda known: page() if known is None else None, T0)
    book.update("Q1", lambda known: None, T0)
    book.update("Q1", lambda known: known and known.model_copy(update={"title": "b"}), T0)
    assert [one.title for one in book.pages(T0, T0)] == ["b"]


def test_facts_are_noted_and_forgotten(tmp_path: Path) -> None:
    book = Book(tmp_path)
    assert (book.fact("error"), book.moment("read")) == ("", None)
    book.set("error", "no")
    book.mark("read", at(3))
    assert (book.fact("error"), book.moment("read")) == ("no", at(3))
    book.set("error", "")
    assert book.fact("error") == ""


def test_when_it_did_not_run_is_known(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.begin(T0)
    book.live(T0 + PAUSE)
    for minute in (60, 65):
        book.live(at(minute))
    assert book.moment("began") == T0
    assert book.away(T0, at(65)) == [(at(10), at(60))]
    assert book.away(at(-30), at(100)) == [(at(-30), T0), (at(10), at(60)), (at(65), at(100))]
    assert book.away(at(20), at(30)) == [(at(20), at(30))]
    book.begin(at(66))
    assert book.moment("began") == T0


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="cannot be written"):
        Book(tmp_path / "file")
    Book(tmp_path / "new")
    with sqlite3.connect(tmp_path / "new" / FILE) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(Unusable, match="newer streamproc"):
        Book(tmp_path / "new")
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(Unusable, match="delete it"):
        Book(tmp_path)


@pytest.mark.parametrize(
    ("text", "now", "last"),
    [
        pytest.param("monday 09:00 UTC", T0, T0, id="now"),
        pytest.param("monday 09:00", at(-1), T0 - 7 * DAY, id="a minute before, in UTC by default"),
        pytest.param("Fri 16:30 Europe/Berlin", T0, datetime(2026, 11, 13, 15, 30, tzinfo=UTC), id="in Berlin"),
        pytest.param(
            "friday 16:30 Europe/Berlin", datetime(2026, 7, 10, 14, 30, tzinfo=UTC),
            datetime(2026, 7, 10, 14, 30, tzinfo=UTC), id="in its summer",
        ),
        pytest.param(
            "sunday 02:30 Europe/Berlin", datetime(2026, 3, 29, 12, tzinfo=UTC),
            datetime(2026, 3, 29, 1, 30, tzinfo=UTC), id="an hour that is left out",
        ),
        pytest.param(
            "monday 23:30 America/New_York", T0, datetime(2026, 11, 10, 4, 30, tzinfo=UTC), id="another day there"
        ),
    ],
)  # fmt: skip
def test_when_a_report_was_due(text: str, now: datetime, last: datetime) -> None:
    assert Schedule.of(text).last(now) == last


def test_each_report_is_due_once() -> None:
    weekly = Schedule(0, time(9), UTC)
    began = T0 - 3 * DAY
    assert weekly.due(None, began, at(-1)) is None
    assert weekly.due(None, began, at(500)) == T0
    assert weekly.due(T0, began, at(500)) is None
    assert weekly.due(T0, began, at(500) + 14 * DAY) == T0 + 14 * DAY


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("09:00", "not a weekday", id="no day"),
        pytest.param("t 09:00", "not a weekday", id="two days"),
        pytest.param("monday 9", "not a weekday", id="no time"),
        pytest.param("monday 25:00", "hour must be", id="no such hour"),
        pytest.param("monday 09:00 Mars/Base", "there is no time zone Mars/Base", id="no such zone"),
        pytest.param("monday 09:00 ../etc", "there is no time zone", id="no name of a zone"),
    ],
)
def test_a_schedule_that_cannot_be_read(given: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Beside(report_at=given)


def webhook(
    kind: str, data: dict[str, Any] | None = None, agent: dict[str, str] | None = None, minutes: float = 1
) -> bytes:
    shown = {
        "id": "Q1",
        "number": 7,
        "title": "Down",
        "status": "triggered",
        "incident_key": "abc",
        "created_at": T0.isoformat(),
        "html_url": None,
        "service": {"summary": "DB"},
    }
    event = {
        "id": "E",
        "event_type": f"incident.{kind}",
        "occurred_at": at(minutes).isoformat(),
        "agent": agent,
        "data": shown | (data or {}),
    }
    return json.dumps({"event": event}).encode()


DANA = {"type": "user_reference", "summary": "Dana"}
NOTE = {"incident": {"id": "Q1"}, "content": "hm"}


def story(*bodies: bytes, page_: TheirPage | None = None) -> TheirPage | None:
    for body in bodies:
        told = foreign(body)
        assert told is not None
        page_ = heard(page_, told)
    return page_


def test_webhooks_tell_a_story() -> None:
    told = story(
        webhook("triggered"),
        webhook("acknowledged", {"status": "acknowledged"}, DANA, 2),
        webhook("acknowledged", {"status": "acknowledged"}, DANA, 2),
        webhook("annotated", NOTE, DANA, 3),
        webhook("priority_updated", {"status": "acknowledged"}, DANA, 4),
        webhook("resolved", {"status": "resolved"}, {"type": "integration_reference", "summary": "x"}, 9),
    )
    assert told is not None
    assert [deed.what for deed in told.deeds] == ["acknowledged", "annotated", "priority"]
    assert (told.status, told.ended_at, told.service, told.source) == ("resolved", at(9), "DB", "webhook")
    assert (told.deeds_known, told.by_hand, told.acted, told.details_known) == (True, False, True, False)


def test_one_that_was_open_before_may_have_been_acted_upon() -> None:
    told = story(webhook("resolved", {"status": "resolved"}))
    assert told is not None
    assert told.acted is None


def test_an_older_webhook_changes_no_status() -> None:
    told = story(webhook("resolved", {"status": "resolved"}, minutes=9), webhook("acknowledged", agent=DANA, minutes=2))
    assert told is not None
    assert (told.status, [deed.at for deed in told.deeds]) == ("resolved", [at(2)])


def test_what_a_person_made_is_by_hand_and_what_rest_told_goes_first() -> None:
    made = story(webhook("triggered", agent=DANA))
    assert made is not None
    assert made.by_hand
    assert story(webhook("resolved", {"status": "resolved"}), page_=page()) == page()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{", id="no JSON"),
        pytest.param(webhook("workflow.started"), id="a kind without use"),
        pytest.param(webhook("triggered", {"created_at": "never"}), id="no moment"),
        pytest.param(webhook("triggered").replace(b'"occurred_at"', b'"other"'), id="nothing happened"),
        pytest.param(webhook("annotated", {"incident": {"id": None}}), id="names nothing"),
    ],
)
def test_what_a_webhook_does_not_tell(body: bytes) -> None:
    assert foreign(body) is None


async def test_what_is_heard_is_kept_and_a_note_on_nothing_is_not(tmp_path: Path) -> None:
    book = Book(tmp_path)
    hearer = Hearer(book, lambda: at(5))
    await hearer(Foreign(FeedbackKind.ANNOTATED, "Q9", T0, "Dana", person=True, incident=None))
    told = foreign(webhook("triggered"))
    assert told is not None
    await hearer(told)
    assert [one.incident_id for one in book.pages(T0, T0)] == ["Q1"]
    assert book.moment("heard") == at(5)


class Nothing:
    """A pipeline that nothing has reached."""

    def status(self) -> Any:
        raise NotImplementedError

    def publications(self, since: datetime) -> Any:
        return iter(())


def gaps(book: Book, since: float = 0, until: float = 10_000) -> tuple[str, ...]:
    return make(book, Nothing(), (at(since), at(until)), at(until), lambda stage, reason: reason).gaps


def test_all_that_is_missing_is_named(tmp_path: Path) -> None:
    book = Book(tmp_path)
    assert gaps(book) == (
        "streamproc has not run beside yet: start `streamproc run --beside`.",
        "PagerDuty's incidents were never read; set PAGERDUTY_API_KEY, a read-only one will do.",
        "No alert has reached streamproc at all: let Alertmanager post to it, see docs/beside.md.",
    )
    book.begin(at(120))
    book.mark("read", at(130))
    book.put([page(125, details_known=False, by=None)], at(130))
    assert gaps(book, until=300)[-2:] == (
        "No alert has reached streamproc at all: let Alertmanager post to it, see docs/beside.md.",
        "It tells of the time since 2026-11-16 11:00 UTC: before, streamproc did not run beside.",
    )
    assert gaps(book, until=300)[:-2] == (
        "PagerDuty's incidents are known until 2026-11-16 11:10 UTC.",
        "streamproc did not run for 3 h of it.",
        "Of 1 of PagerDuty's incidents the alerts and the log could not be read yet.",
    )
    book.set("error", "401")
    assert "the last list is of 2026-11-16 11:10 UTC: 401" in gaps(book, until=300)[0]
    assert MINUTE.total_seconds() == 60
