"""When the weekly report is due: a weekday and a time of day in a time zone, summer time and all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from streamproc.settings import report_at

WEEK = 7


@dataclass(frozen=True, slots=True)
class Schedule:
    """Once a week."""

    weekday: int
    """0 for Monday."""
    at: time
    zone: tzinfo

    @classmethod
    def of(cls, text: str) -> Schedule:
        """Return the schedule of the setting `beside.report_at`.

        Raises:
            ValueError: it cannot be read.
        """
        return cls(*report_at(text))

    def last(self, now: datetime) -> datetime:
        """Return when it was due last, at or before a moment (UTC)."""
        local = now.astimezone(self.zone)
        day = local.date() - timedelta(days=(local.weekday() - self.weekday) % WEEK)
        due = datetime.combine(day, self.at, self.zone).astimezone(UTC)
        if due <= now:
            return due
        return datetime.combine(day - timedelta(days=WEEK), self.at, self.zone).astimezone(UTC)

    def due(self, reported: datetime | None, began: datetime, now: datetime) -> datetime | None:
        """Return when a report was due that was not made yet, None where none was.

        Args:
            reported: when the last report was due.
            began: since when streamproc has run beside: nothing is due before.
            now: the moment.
        """
        last = self.last(now)
        return last if last > (reported or began) else None
