"""Makes a report from the book and the log, and says what is missing in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from streamproc.beside.book import Book
from streamproc.beside.judging import Period, Sentence, judge
from streamproc.beside.ours import OurIncident, ours_of
from streamproc.beside.report import Report
from streamproc.beside.telling import lasting, moment
from streamproc.beside.theirs import TheirPage
from streamproc.events.incident import Incident
from streamproc.views import PipelineStatus

CONTEXT = timedelta(days=7)
"""So much of the log before the period is read: a page of ours may stand for longer than a night."""
STALE = timedelta(hours=1)
"""PagerDuty must have been read so lately, else the report says until when it is known."""


class Desk(Protocol):
    """What is read of the pipeline; in threads."""

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands."""

    def publications(self, since: datetime) -> Iterator[Incident]:
        """Yield what was published of incidents since a moment."""


def make(book: Book, desk: Desk, span: tuple[datetime, datetime], now: datetime, sentence: Sentence) -> Report:
    """Return the report of a time.

    Args:
        book: what is known of the existing route.
        desk: what is known of ours.
        span: from when to when; cut to when streamproc has run beside.
        now: the moment.
        sentence: what a reason means, for people.

    Raises:
        Unusable: the book or the log cannot be read.
    """
    since, until = span
    began = book.moment("began")
    # Whole seconds: PagerDuty tells no others, and what was made just after the beginning counts.
    from_ = min(max(since, began or until), until).replace(microsecond=0)
    theirs = book.pages(from_ - CONTEXT, until)
    ours = ours_of(desk.publications(from_ - CONTEXT))
    away = book.away(from_, until)
    period = Period(
        since=from_,
        until=until,
        read=book.moment("read") is not None or book.moment("heard") is not None,
        gaps=tuple(_gaps(book, (from_, until), theirs, ours, away)),
        notes=tuple(_notes(since, from_, began)),
        away=tuple(away),
    )
    return judge(theirs, ours, period, now, sentence)


def _gaps(
    book: Book,
    span: tuple[datetime, datetime],
    theirs: Sequence[TheirPage],
    ours: dict[str, OurIncident],
    away: Sequence[tuple[datetime, datetime]],
) -> Iterator[str]:
    """Yield what is not known."""
    since, until = span
    if book.moment("began") is None:
        yield "streamproc has not run beside yet: start `streamproc run --beside`."
    yield from _unread(book, until)
    lost = sum((end - begin).total_seconds() for begin, end in away)
    if lost and book.moment("began") is not None:
        yield f"streamproc did not run for {lasting(lost)} of it."
    unknown = sum(not page.details_known for page in theirs if since <= page.created_at <= until)
    if unknown and book.moment("read") is not None:
        yield f"Of {unknown} of PagerDuty's incidents the alerts and the log could not be read yet."
    if not ours:
        yield "No alert has reached streamproc at all: let Alertmanager post to it, see docs/beside.md."


def _notes(asked: datetime, since: datetime, began: datetime | None) -> Iterator[str]:
    """Yield what else should be known."""
    if began is not None and since - asked > STALE:
        yield f"It tells of the time since {moment(since)} UTC: before, streamproc did not run beside."


def _unread(book: Book, until: datetime) -> Iterator[str]:
    read, heard, error = book.moment("read"), book.moment("heard"), book.fact("error")
    if read is None and heard is None:
        mend = f": {error}" if error else "; set PAGERDUTY_API_KEY, a read-only one will do."
        yield f"PagerDuty's incidents were never read{mend}"
    elif read is None:
        yield "Known from webhooks only: they tell titles and times, and no details of alerts."
    elif error:
        yield f"PagerDuty's incidents could not all be read; the last list is of {moment(read)} UTC: {error}"
    elif until - read > STALE:
        yield f"PagerDuty's incidents are known until {moment(read)} UTC."
