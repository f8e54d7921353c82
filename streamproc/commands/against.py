"""`streamproc backtest --against`: the same lines through a second configuration, and the difference in pages."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from streamproc import __version__
from streamproc import settings as configuration
from streamproc.backtest.calls import CallLog
from streamproc.backtest.contrast import Contrast, contrast
from streamproc.backtest.difference import Finding
from streamproc.backtest.output import Output
from streamproc.backtest.reading import Beside, Judgement, Line, with_topology
from streamproc.backtest.replay import Replay
from streamproc.backtest.spoken import ended, head, instead, lines, parted, summary, words
from streamproc.backtest.tape import Tape
from streamproc.beginning import read_catalogue
from streamproc.commands.console import at, listing, show
from streamproc.commands.reasons import sentence
from streamproc.core.errors import Unusable
from streamproc.settings import Settings

SHOWN = 10
"""Differences that the terminal names."""
WIDE = 120
"""Columns of a terminal from which on the why has one of its own."""
TITLE = 60
"""Characters of a page's title that the terminal shows."""
STEP = 500
"""Lines between two moves of the bar."""
FOUND = 3
"""Exit code where something was found that `--fail-on` names."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The second configuration."""

    name: str
    settings: Settings
    catalogue: str | None


def candidate(file: Path, topology: Path | None) -> Candidate:
    """Return the second configuration, with everything that it names.

    Raises:
        Unusable: it cannot be read or used.
    """
    settings = configuration.load(file)
    catalogue = read_catalogue(settings)
    if topology is not None:
        catalogue, _ = with_topology(catalogue, topology)
    return Candidate(file.name, settings, catalogue)


class Nowhere:
    """Takes lines of outputs that nobody reads."""

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Leave a line out."""


class Against:
    """Both sides of a comparison; what they note stands in a folder.

    Args:
        name: what the first configuration is called.
        second: the configuration that is played after it.
        folder: for notes.
    """

    def __init__(self, name: str, second: Candidate, folder: Path) -> None:
        self._name = name
        self._second = second
        self._tape = Tape(folder / "lines")
        self._log_a, self._log_b = CallLog(folder / "a", "a"), CallLog(folder / "b", "b")

    def follow(self, replay: Replay, played: Iterable[Line]) -> Iterator[Line]:
        """Take notes of the first side; return its lines, which are kept."""
        replay.ledger.tell(self._log_a)
        return self._tape.record(played)

    def play(self, beside: Iterable[Judgement | Beside], stop: Callable[[], bool]) -> Contrast | None:
        """Play the lines of the first side through the second one; return the difference, None where `stop` said so."""
        replay = Replay(self._second.settings, self._second.catalogue, Nowhere())
        replay.ledger.tell(self._log_b)
        with counted(self._tape.play(), self._tape.count, self._second.name) as played:
            complete = replay.run(played, beside, stop)
        self.close()
        if not complete:
            return None
        return contrast(self._log_a, self._log_b, (self._name, self._second.name))

    def close(self) -> None:
        """Close the notes."""
        self._log_a.close()
        self._log_b.close()


@contextmanager
def taken(config: Path | None, second: Candidate | None, folder: Path) -> Iterator[Against | None]:
    """Open the notes of a comparison; they are gone when the context ends."""
    if second is None:
        yield None
        return
    with tempfile.TemporaryDirectory(dir=folder) as notes:
        named = config or (configuration.DEFAULT_FILE if configuration.DEFAULT_FILE.is_file() else None)
        name = "the defaults" if named is None else named.name
        against = Against(name, second, Path(notes))
        try:
            yield against
        finally:
            against.close()


@contextmanager
def counted(played: Iterable[Line], total: int, name: str) -> Iterator[Iterator[Line]]:
    """Show how much was played, where standard error is a terminal."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"replaying with {name}", total=total)

        def shown() -> Iterator[Line]:
            for number, line in enumerate(played):
                if number % STEP == 0:
                    bar.update(task, completed=number)
                yield line

        yield shown()


def write(files: Output, found: Contrast) -> None:
    """Write `difference.json`, row by row."""
    top = {"streamproc": __version__, **head(found)}
    with (files.folder / "difference.json").open("wb") as file:
        file.write(orjson.dumps(top, option=orjson.OPT_INDENT_2)[:-2] + b',\n  "rows": [')
        for number, row in enumerate(lines(found, sentence)):
            file.write((b",\n    " if number else b"\n    ") + orjson.dumps(row))
        file.write(b"\n  ]\n}\n")


def tell(found: Contrast) -> None:
    """Show the difference on standard output."""
    rows = found.rows
    if rows:
        show(differences(found, narrow=sys.stdout.isatty() and Console().width < WIDE))
        left = len(found.difference.differing) - len(rows[:SHOWN])
        if left:
            typer.echo(f"and {left:,} more: report.html")
    typer.echo(summary(found.difference, found.names[1]))


def differences(found: Contrast, *, narrow: bool) -> Table:
    """Return the first differences as a table; a narrow one has the why below the page, and no column of its own."""
    titles = ("when (UTC)", "difference", "page, and why") if narrow else ("when (UTC)", "page", "difference", "why")
    table = listing(*titles)
    for row in found.rows[:SHOWN]:
        when = at((row.pair.a or row.pair.b)[0].at)
        style = "bold red" if row.pair.missed else "yellow" if row.pair.more or row.pair.later else ""
        because = " In the end: ".join(filter(None, (parted(row, sentence), ended(row, sentence))))
        if row.pair.missed:
            fate = found.fates.get(row.alert)
            because = f"{instead(fate, sentence).rstrip('.')}. {because}"
        page, difference, why = Text(shortened(row.title)), Text(words(row.pair), style), Text(because, "dim")
        if narrow:
            table.add_row(when, difference, Text("\n").join((page, why)))
        else:
            table.add_row(when, page, difference, why)
    return table


def shortened(title: str) -> str:
    """Return a title that leaves room for the rest of its line."""
    return title if len(title) <= TITLE else f"{title[: TITLE - 1].rstrip()}…"


def fail(found: Contrast, wanted: Iterable[Finding]) -> None:
    """End with `FOUND` where something was found that must not be.

    Raises:
        typer.Exit: it was.
    """
    hits = sorted(set(wanted) & found.difference.findings)
    if hits:
        typer.echo(f"--fail-on: found {', '.join(hits)}", err=True)
        raise typer.Exit(FOUND)


def demanded(fail_on: Iterable[Finding], against: Path | None) -> frozenset[Finding]:
    """Return what must not be found.

    Raises:
        Unusable: there is nothing to compare with.
    """
    wanted = frozenset(fail_on)
    if wanted and against is None:
        raise Unusable("--fail-on looks at a difference: name a second configuration by --against")
    return wanted
