"""`streamproc backtest`: what recorded traffic would have come to, in event time. Sends nothing, keeps nothing."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from streamproc import settings as configuration
from streamproc.backtest.difference import Finding
from streamproc.backtest.figures import Inputs, of
from streamproc.backtest.inputs import find, window
from streamproc.backtest.output import Output, written
from streamproc.backtest.page import render
from streamproc.backtest.reading import NAMED, Tally, judgements, with_topology
from streamproc.backtest.replay import Replay
from streamproc.beginning import read_catalogue
from streamproc.commands.against import candidate, demanded, fail, taken, tell
from streamproc.commands.against import write as write_difference
from streamproc.commands.common import ConfigFile, FeedbackFile, PrometheusStep, TopologyFile, Until
from streamproc.commands.playing import Outcome, interleave, replay, retell
from streamproc.commands.reasons import sentence
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.collector import tune

SHOWN = 3
"""Bad lines that the terminal names; report.json names more."""


def backtest(
    named: Annotated[
        str,
        typer.Option(
            "--input",
            help="A file of recorded requests, a data directory, `kafka`, `kafka:TOPIC`, or a Prometheus, http://...",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder to write.", file_okay=False)],
    topology: TopologyFile = None,
    feedback: FeedbackFile = None,
    config: ConfigFile = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="A second settings file; shows what it would page otherwise.", dir_okay=False),
    ] = None,
    fail_on: Annotated[
        list[Finding] | None,
        typer.Option("--fail-on", help="Exit with 3 where the second one does this; may be given several times."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First moment: ISO 8601, or how long ago, as 7d. Not for a file.")
    ] = None,
    until: Until = None,
    step: PrometheusStep = None,
) -> None:
    """Replay recorded traffic in event time, and show what it would have come to.

    The production topology decides, armed from the first line; nothing is sent. The folder gets incidents.jsonl,
    decisions.jsonl, pages.jsonl, report.json, and report.html for people. Ctrl-C leaves what was decided until then.

    Without other settings, a data directory and Kafka are told exactly as they decided live, from their inboxes.

    With --against the same lines are played through a second configuration too, and the difference in pages is shown
    and written to difference.json: pages that are missed, more, earlier, later, merged, split or otherwise, and why.
    """
    wanted = demanded(fail_on or (), against)
    settings = configuration.load(config)
    second = None if against is None else candidate(against, topology)
    catalogue, services = read_catalogue(settings), frozenset[str]()
    if topology is not None:
        catalogue, services = with_topology(catalogue, topology)
    now = SystemClock().now()
    within = window(since, until, now)
    source = find(named, settings, within, step, now)
    exact = source.inboxes is not None and (config, topology, feedback, against) == (None,) * 4
    tune()
    heard = Tally()
    said = judgements(feedback, heard) if feedback is not None else []
    inputs = Inputs(Tally(), heard, services, catalogue is not None)
    with written(output) as files, taken(config, second, files.folder) as both, asked_to_stop() as stop:
        if exact:
            played = retell(source, within, files, inputs, stop)
        else:
            played = replay(source, Replay(settings, catalogue, files), said, inputs, both, stop)
            interleave(played, source, within, settings, stop)
        figures = played.figures(inputs)
        _write(files, figures, played)
    found = played.found
    _say(figures, played, output)
    if source.inboxes is not None and not exact:
        typer.echo("The settings and the catalogue are those given now, and not those that the log holds.", err=True)
    if second is not None and found is None:
        typer.echo("Interrupted: the difference is not known.", err=True)
    if not played.complete or (second is not None and found is None):
        raise typer.Abort
    if found is not None:
        fail(found, wanted)


def _write(files: Output, figures: dict[str, Any], played: Outcome) -> None:
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    files.report("report.json", orjson.dumps(figures, option=pretty))
    files.report("report.html", render(figures, played.by.ledger.stories, sentence, played.found))
    if played.found is not None:
        write_difference(files, played.found)


def _say(figures: dict[str, Any], played: Outcome, output: Path) -> None:
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
    for note in played.notes:
        typer.echo(note, err=True)
    if not figures["complete"]:
        typer.echo("Interrupted: this is what was decided until then.", err=True)
    typer.echo(of(played.by.ledger))
    if played.found is not None:
        tell(played.found)
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
