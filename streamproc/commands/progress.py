"""A bar of how much was replayed, its rate and the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from streamproc.backtest.reading import Line

STEPS = 500
"""The bar moves so often at most."""
RATES: dict[str, Callable[[float], str]] = {
    "bytes": lambda speed: f"{speed / 1e6:,.1f} MB/s",
    "records": lambda speed: f"{speed:,.0f} records/s",
    "seconds": lambda speed: f"{speed / 3600:,.1f} hours of history/s",
}


class _Rate(ProgressColumn):
    """How much a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._told = RATES[unit]

    def render(self, task: Task) -> Text:
        """Return the rate so far."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else self._told(speed), style="dim")


@contextmanager
def shown(total: float, unit: str) -> Iterator[Callable[[float], None]]:
    """Show a bar where standard error is a terminal; what is yielded moves it.

    Args:
        total: where it ends.
        unit: of the total: `bytes`, `records` or `seconds` of history.
    """
    columns = (TextColumn("replaying"), BarColumn(), TaskProgressColumn(), _Rate(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task, last = bar.add_task("", total=total), 0.0

        def move(done: float) -> None:
            nonlocal last
            if done - last > total / STEPS:
                last = done
                bar.update(task, completed=done)

        yield move


def counted(lines: Iterable[Line], moved: Callable[[float], None]) -> Iterator[Line]:
    """Yield lines, and move the bar by how far they were read."""
    for line in lines:
        moved(line.read)
        yield line
