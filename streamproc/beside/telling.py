"""A report in a few lines of text, for a chat or a mail, and the words that all its forms share. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from streamproc.beside.report import Fate, Judged, Report

NAMED = 5
"""Pages that the text names."""
FATES = {
    Fate.OURS_TOO: "we would have paged, too",
    Fate.MERGED: "would have been part of a page that was there already",
    Fate.QUIET: "would have been held, muted or a ticket",
    Fate.UNKNOWN: "never reached streamproc",
}
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def lasting(seconds: float) -> str:
    """Return how long something lasts, in its two largest units."""
    left, parts = round(abs(seconds)), []
    for name, size in UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def later(seconds: float) -> str:
    """Return how much later, or sooner, something would have come."""
    if round(seconds) == 0:
        return "at the same time"
    return f"{lasting(seconds)} {'later' if seconds > 0 else 'sooner'}"


def moment(at: datetime) -> str:
    """Return a moment (UTC) to the minute."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def period(report: Report) -> str:
    """Return of when a report tells."""
    return f"{moment(report.since)} to {moment(report.until)} UTC"


def lead_line(report: Report) -> str:
    """Return how much sooner or later our pages would have come; empty where none did."""
    lead = report.lead
    if lead is None:
        return ""
    if lead.count == 1:
        return f"The one that both paged would have come {later(lead.median)}."
    middle = f"ours would have come {later(lead.median)} in the median"
    return f"Of {lead.count} that both paged, {middle}, at worst {later(lead.latest)}."


def counted(report: Report) -> Iterator[tuple[int, str]]:
    """Yield their pages by what they would have been with us."""
    counts = report.counts
    for fate in Fate:
        yield getattr(counts, fate.value), FATES[fate]


def needless_line(report: Report) -> str:
    """Return on how many nobody acted."""
    counts = report.counts
    unread = f" (of {counts.unread} it is not known)" if counts.unread else ""
    if not counts.theirs:
        return "You were not paged at all."
    if counts.acted == counts.theirs:
        return f"People acted upon all of your {counts.theirs}."
    ours = f"; we would have paged {counts.needless_ours_too} of those, too" if counts.needless else ""
    return f"Nobody acted upon {counts.needless} of your {counts.theirs}{unread}{ours}."


def because(one: Judged) -> str:
    """Return why one of theirs would not have been a page with us, and the mend where there is one."""
    return " ".join(filter(None, (one.why, one.mend)))


def text(report: Report, place: str = "") -> str:
    """Return the report as a message.

    Args:
        report: the report.
        place: where the whole of it is, empty where nowhere.
    """
    lines = [report.headline]
    if report.known:
        lines += [f"{count:>5}  {what}" for count, what in counted(report)]
        lines += [line for line in (needless_line(report), lead_line(report)) if line]
        for one in (*report.missed, *report.doubtful)[:NAMED]:
            lines.append(f"#{one.number} {one.title} ({one.acts or 'not known whether anybody acted'}): {because(one)}")
    lines += [f"Missing: {gap}" for gap in report.gaps]
    lines.append(f"{period(report)}. Nothing was delivered.{f' All of it: {place}' if place else ''}")
    return "\n".join(lines)
