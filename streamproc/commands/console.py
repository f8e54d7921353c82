"""What commands write: fitted to a terminal, and plain without cuts where no terminal is."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime, timedelta

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

UNCUT = 100_000
"""Columns where nothing is read by eye: no line is wrapped."""
SEVERITY_STYLES = {"critical": "bold red", "error": "red", "warning": "yellow", "info": "cyan"}


def show(shown: RenderableType) -> None:
    """Write to standard output."""
    if sys.stdout.isatty():
        Console(highlight=False).print(shown)
        return
    sys.stdout.write(plain(shown))


def plain(shown: RenderableType) -> str:
    """Return the text alone: no colour, no line wrapped or cut."""
    held = io.StringIO()
    Console(file=held, width=UNCUT, color_system=None, highlight=False, force_terminal=False).print(shown)
    return "".join(f"{line.rstrip()}\n" for line in held.getvalue().splitlines())


def columns(*widths: int | None) -> Table:
    """Return a table without lines; a width of None takes what the others leave and wraps."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in widths:
        if width is None:
            table.add_column(overflow="fold")
        else:
            table.add_column(no_wrap=True, min_width=width)
    return table


def listing(*titles: str) -> Table:
    """Return a table with a heading line."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def heading(title: str, note: str = "") -> Text:
    """Return the heading of a section."""
    return Text.assemble("\n", (title, "bold cyan"), (f"  {note}" if note else "", "dim"))


def severity(word: str) -> Text:
    """Return a severity in its colour."""
    return Text(word, style=SEVERITY_STYLES.get(word, ""))


def at(moment: datetime) -> str:
    """Return a moment as day and time (UTC)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock_time(moment: datetime) -> str:
    """Return the time of day (UTC), to the millisecond."""
    return moment.astimezone(UTC).time().isoformat("milliseconds")


def lasting(span: timedelta) -> str:
    """Return how long something lasts, in its two largest units."""
    seconds = int(abs(span).total_seconds())
    parts = []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def count_of(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
