"""Runs beside: reads PagerDuty again and again, and tells people once a week what came of it. Delivers nothing.

Harms nothing where it cannot: alerts are taken and decided on without it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from streamproc.beside import page, telling
from streamproc.beside.book import Book
from streamproc.beside.judging import Sentence
from streamproc.beside.making import Desk, make
from streamproc.beside.reading import Reader
from streamproc.beside.report import Report
from streamproc.beside.schedule import Schedule
from streamproc.core.errors import Unusable
from streamproc.runtime.clock import Clock
from streamproc.runtime.pace import LoopTiming, Timing
from streamproc.sinks.notify.channels import Notifier

WEEK = timedelta(days=7)
TICK = 60.0
"""Seconds between signs of life."""
FOLDER = "beside-reports"
ARMED = "streamproc runs --beside: it delivers nothing, and somebody armed it"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When what is done."""

    schedule: Schedule
    read_every: timedelta
    keep: timedelta
    """How long pages and reports are kept."""


class Watch:
    """Watches the existing route.

    Args:
        book: what is known of it.
        desk: what is known of ours; in threads.
        reader: reads PagerDuty; None where webhooks tell.
        notifier: tells people; None where none is set.
        clock: moments.
        rhythm: when what is done.
        folder: where the reports go.
        sentence: what a reason means, for people.
        timing: seconds, and waiting for them.
    """

    def __init__(
        self,
        book: Book,
        desk: Desk,
        reader: Reader | None,
        notifier: Notifier | None,
        clock: Clock,
        rhythm: Rhythm,
        folder: Path,
        sentence: Sentence,
        timing: Timing | None = None,
    ) -> None:
        self._book = book
        self._desk = desk
        self._reader = reader
        self._notifier = notifier
        self._clock = clock
        self._rhythm = rhythm
        self._folder = folder
        self._sentence = sentence
        self._timing = timing or LoopTiming()
        self._never = asyncio.Event()
        self._error = ""
        self._read_at: datetime | None = None
        self._told_armed = False

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self.tick()
            except (
                Unusable,
                OSError,
            ) as error:  # OSError: the report cannot be written; tried again with the next tick
                log.warning("What is known of the existing route could not be kept.", error=str(error))
            await self._timing.wait(self._never, TICK)

    async def tick(self) -> None:
        """Do what is due now.

        Raises:
            Unusable: the book or the log cannot be used.
        """
        now = self._clock.now()
        await asyncio.to_thread(self._book.live, now)
        await self._look_at_arming()
        if self._read_at is None or now - self._read_at >= self._rhythm.read_every:
            await self._read(now)
        began = await asyncio.to_thread(self._book.moment, "began")
        reported = await asyncio.to_thread(self._book.moment, "reported")
        due = self._rhythm.schedule.due(reported, began or now, now)
        if due is not None:
            await self._read(now)
            await self._report(due, now)

    async def _read(self, now: datetime) -> None:
        self._read_at = now
        await asyncio.to_thread(self._book.forget, now - self._rhythm.keep)
        if self._reader is None:
            return
        error = await self._reader.read(now)
        if error and error != self._error:
            log.warning("PagerDuty's incidents could not be read.", error=error)
        self._error = error

    async def _look_at_arming(self) -> None:
        armed = (await asyncio.to_thread(self._desk.status)).armed
        if armed and not self._told_armed:
            log.error("This pipeline is armed but runs --beside: nothing is delivered. Start it without --beside.")
            if self._notifier is not None:
                await self._notifier.tell(ARMED, "Nothing is paged by it. Start it without --beside, or disarm it.")
        self._told_armed = armed

    async def _report(self, due: datetime, now: datetime) -> None:
        report = await asyncio.to_thread(make, self._book, self._desk, (due - WEEK, due), now, self._sentence)
        file = await asyncio.to_thread(self._write, report)
        await asyncio.to_thread(self._book.mark, "reported", due)
        log.info("The week beside was reported.", headline=report.headline, file=str(file))
        if self._notifier is None:
            log.warning("Nobody was told of it: pagerduty.notifications.channels is empty.")
        elif not await self._notifier.tell("streamproc beside: the week", telling.text(report, str(file))):
            log.error("The report of the week reached nobody.", file=str(file))

    def _write(self, report: Report) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in sorted(self._folder.glob("beside-*.html"))[: -_kept(self._rhythm.keep)]:
            old.unlink(missing_ok=True)
        file = self._folder / f"beside-{report.until:%Y-%m-%d}.html"
        file.touch(mode=0o600)
        file.write_text(page.page(report), encoding="utf-8")
        return file


def _kept(keep: timedelta) -> int:
    """Return how many weekly reports are kept."""
    return max(1, keep // WEEK)


def require_way_in(*, key: bool, webhooks: bool) -> None:
    """Refuse where nothing could be compared.

    Raises:
        Unusable: there is neither a key nor a way for webhooks.
    """
    if not (key or webhooks):
        raise Unusable(
            "--beside compares with PagerDuty's incidents: set PAGERDUTY_API_KEY (a read-only one will do), or let "
            "PagerDuty's webhooks in (PAGERDUTY_WEBHOOK_SECRET)"
        )
