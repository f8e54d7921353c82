"""`streamproc backtest`: what recorded traffic would have come to, in event time. Sends nothing, keeps nothing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from streamproc import settings as configuration
from streamproc.backtest.figures import Inputs, of, report
from streamproc.backtest.output import Output, written
from streamproc.backtest.page import render
from streamproc.backtest.reading import NAMED, Line, Recording, Tally, judgements, opened, traffic, with_topology
from streamproc.backtest.replay import Replay
from streamproc.commands.common import ConfigFile
from streamproc.core.errors import Unusable
from streamproc.runtime.collector import tune
from streamproc.service import read_catalogue

SHOWN = 3
"""Bad lines that the terminal names; report.json names more."""
STEPS = 500
"""The bar moves so often at most."""


def backtest(
    recorded: Annotated[
        Path, typer.Option("--input", help="Recorded requests, a JSON object a line; gzip is read too.", dir_okay=False)
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder to write.", file_okay=False)],
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Which services depend on which, as JSON.", dir_okay=False)
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option("--feedback", help="What people said of alerts, as JSON lines.", dir_okay=False)
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Replay recorded traffic in event time, and show what it would have come to.

    The production topology decides, armed from the first line; nothing is sent. The folder gets incidents.jsonl,
    decisions.jsonl, pages.jsonl, report.json, and report.html for people. Ctrl-C leaves what was decided until then.
    """
    settings = configuration.load(config)
    catalogue, named = read_catalogue(settings), frozenset[str]()
    if topology is not None:
        catalogue, named = with_topology(catalogue, topology)
    if not recorded.is_file():
        raise Unusable(f"{recorded} is no file")
    tune()
    heard = Tally()
    said = judgements(feedback, heard) if feedback is not None else []
    inputs = Inputs(Tally(), heard, named, catalogue is not None)
    with written(output) as files:
        replay = Replay(settings, catalogue, files)
        with (
            asked_to_stop() as stop,
            opened(recorded) as lines,
            counted(traffic(lines, inputs.traffic), lines) as played,
        ):
            complete = replay.run(played, said, stop)
        figures = report(replay, inputs, complete=complete)
        _write(files, figures, replay)
    _say(figures, replay, output)
    if not complete:
        raise typer.Abort


def _write(files: Output, figures: dict[str, Any], replay: Replay) -> None:
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    files.report("report.json", orjson.dumps(figures, option=pretty))
    files.report("report.html", render(figures, replay.ledger.stories))


def _say(figures: dict[str, Any], replay: Replay, output: Path) -> None:
    """Tell the outcome on standard output, and what could not be used on standard error."""
    for name, bad in (("", figures["input"]["bad_lines"]), ("feedback ", figures["feedback"]["bad_lines"])):
        for fault in bad["first"][:SHOWN]:
            typer.echo(f"{name}line {fault['line']} is left out: {fault['why']}", err=True)
        if bad["count"] > SHOWN:
            typer.echo(f"{bad['count'] - SHOWN:,} more; report.json names the first {NAMED}", err=True)
    letters, topology, unused = figures["dead_letters"], figures["topology"], figures["feedback"]["unused"]
    if letters["count"]:
        typer.echo(f"{letters['count']:,} refused by the pipeline; the first: {letters['first'][0]}", err=True)
    if topology["without_alerts"]:
        of_all = f"{topology['without_alerts']:,} of the {topology['services']:,} services of the topology"
        typer.echo(f"No alert names {of_all}, for example {topology['first_without_alerts'][0]}", err=True)
    for field, count in unused.items():
        typer.echo(f"{count:,} lines of feedback are about {field}, which nothing learns from yet", err=True)
    if not figures["complete"]:
        typer.echo("Interrupted: this is what was decided until then.", err=True)
    typer.echo(of(replay.ledger))
    typer.echo(f"The report is {output / 'report.html'}")


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C as a wish to end well; the second one breaks off."""
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


class _Rate(ProgressColumn):
    """Bytes of the file a second."""

    def render(self, task: Task) -> Text:
        """Return the rate so far."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed / 1e6:,.1f} MB/s", style="dim")


@contextmanager
def counted(lines: Iterable[Line], recording: Recording) -> Iterator[Iterator[Line]]:
    """Show how much was played, its rate and the time left, where standard error is a terminal."""
    columns = (TextColumn("replaying"), BarColumn(), TaskProgressColumn(), _Rate(), TimeRemainingColumn())
    size = recording.file.stat().st_size
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=size)

        def shown() -> Iterator[Line]:
            told = 0
            for line in lines:
                if line.read - told > size // STEPS:
                    told = line.read
                    bar.update(task, completed=told)
                yield line

        yield shown()
