"""`streamproc advise`: what to change, on the evidence of recorded traffic, each proposal backtested on it."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamproc.advise.evidence import Evidence, count_of
from streamproc.advise.proposing import propose
from streamproc.advise.telling import as_json, everything, head, remarks, slug
from streamproc.advise.trying import Lines, Present, Trials
from streamproc.advise.weighing import Verdict
from streamproc.backtest.inputs import find, window
from streamproc.backtest.reading import Line, Tally, judgements
from streamproc.commands.advised import Advice, hint, told
from streamproc.commands.backtest import asked_to_stop
from streamproc.commands.common import (
    DEFAULT_DATA,
    AsJson,
    ConfigFile,
    FeedbackFile,
    PrometheusStep,
    TopologyFile,
    Until,
)
from streamproc.commands.console import show
from streamproc.commands.progress import counted, shown
from streamproc.core.errors import Unusable
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.collector import tune

MOST = 20
"""Candidates that are backtested by default."""
ALL = 1000
"""More candidates than there ever are."""
STEP = 500
"""Lines between two moves of the bar."""


def advise(
    named: Annotated[
        str,
        typer.Option(
            "--input",
            help="A data directory, a file of recorded requests, `kafka`, `kafka:TOPIC`, or a Prometheus, http://...",
        ),
    ] = str(DEFAULT_DATA),
    topology: TopologyFile = None,
    feedback: FeedbackFile = None,
    config: ConfigFile = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First moment: ISO 8601, or how long ago, as 30d. Not for a file.")
    ] = None,
    until: Until = None,
    step: PrometheusStep = None,
    most: Annotated[int, typer.Option(min=1, max=100, help="Candidates to backtest at most.")] = MOST,
    write: Annotated[
        Path | None, typer.Option("--write", help="Folder for a settings file of each proposal.", file_okay=False)
    ] = None,
    as_json_: AsJson = False,
) -> None:
    """Propose changes from recorded traffic, each one backtested on it.

    The first two thirds of the recording propose, the last third confirms. Nothing is proposed that misses a page
    which people acted upon. Nothing is sent or changed; --write leaves files to try with `backtest` and `shadow`.

    Every candidate is one more replay. Ctrl-C leaves what was found until then.
    """
    present = Present.of(config, topology)
    now = SystemClock().now()
    within = window(since, until, now)
    source = find(named, present.settings, within, step, now)
    said = judgements(feedback, Tally()) if feedback is not None else []
    _refuse_full(write)
    tune()
    with tempfile.TemporaryDirectory() as folder, asked_to_stop() as stop:
        trials = Trials(present, Path(folder))
        evidence = trials.observe(source, said, _replaying, stop)
        if evidence is None:
            typer.echo("Interrupted: nothing is known yet.", err=True)
            raise typer.Abort
        advice = _tried(trials, evidence, present, most, stop)
    _faults(trials.tally)
    files = [] if write is None else written(advice, present, write)
    given = {"--topology": topology, "--feedback": feedback, "--config": config, "--from": since, "--to": until}
    tries = [_tries(named, given, file) for file in files]
    if as_json_:
        found = as_json(evidence, advice.weighed, advice.kept, advice.whole, advice.notes)
        more = [{"file": str(file), "try": each} for file, each in zip(files, tries, strict=True)]
        typer.echo(json.dumps({"complete": advice.complete, **found, "files": more}, indent=2))
    else:
        show(Group(*told(advice, files)))
        hint(advice, tries)
    if not advice.complete:
        typer.echo("Interrupted: this is what was found until then.", err=True)
        raise typer.Abort


def _refuse_full(write: Path | None) -> None:
    if write is not None and write.exists() and (not write.is_dir() or any(write.iterdir())):
        raise Unusable(f"{write} holds something already: name a folder that is empty or does not exist")


@contextmanager
def _replaying(total: float, unit: str) -> Iterator[Lines]:
    with shown(total, unit) as moved:
        yield lambda lines: counted(lines, moved)


def _faults(tally: Tally) -> None:
    if tally.bad:
        first = tally.faults[0]
        typer.echo(f"{count_of(tally.bad, 'bad line')} left out; the first, line {first.line}: {first.why}", err=True)


def _tried(trials: Trials, evidence: Evidence, present: Present, most: int, stop: Callable[[], bool]) -> Advice:
    """Backtest every candidate, then all that is proposed at once."""
    found = propose(evidence, present.settings, present.services, ALL)
    candidates = found[:most]
    advice = Advice(evidence, [*trials.notes, *remarks(evidence, len(candidates), len(found))])
    with _bar(len(candidates) + 1, trials.count) as of:
        for candidate in candidates:
            weighed = trials.attempt(candidate, of(), stop)
            if weighed is None:
                advice.complete = False
                return advice
            advice.weighed.append(weighed)
        taken = [each for each in advice.kept if each.verdict is not Verdict.NOT_CONFIRMED]
        if sum(each.saved > 0 for each in taken) > 1:
            whole = everything(taken)
            advice.whole = trials.attempt(whole, of(), stop)
            advice.complete = advice.whole is not None
    return advice


@contextmanager
def _bar(replays: int, lines: int) -> Iterator[Callable[[], Lines]]:
    """Show how far the backtests are and the time that is left, where standard error is a terminal."""
    parts = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task, done = bar.add_task("", total=replays * lines), 0

        def of() -> Lines:
            nonlocal done
            done += 1
            return lambda played: _moving(played, bar, task, (done - 1) * lines, f"backtest {done} of {replays}")

        yield of


def _moving(played: Iterable[Line], bar: Progress, task: TaskID, before: int, words: str) -> Iterator[Line]:
    for number, line in enumerate(played):
        if number % STEP == 0:
            bar.update(task, completed=before + number, description=words)
        yield line


def written(advice: Advice, present: Present, folder: Path) -> list[Path]:
    """Write a whole settings file for each proposal, and one for all at once where that is proposed, too.

    Raises:
        Unusable: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = [
            present.written(folder, slug(number, each.candidate), each.candidate.change, head(each))
            for number, each in enumerate(advice.kept, 1)
        ]
        if advice.whole is not None and advice.whole.kept:
            files.append(present.written(folder, "all", advice.whole.candidate.change, head(advice.whole)))
    except OSError as error:
        raise Unusable(f"{folder} cannot be written: {error}") from error
    return files


def _tries(named: str, given: Mapping[str, object], file: Path) -> tuple[str, str]:
    """Return the commands that try a file: on the recording, and on live traffic."""
    name = shlex.quote(os.fspath(file))
    words = ["streamproc backtest --input", shlex.quote(named)]
    words += [f"{option} {shlex.quote(str(value))}" for option, value in given.items() if value is not None]
    return " ".join([*words, "--against", name, "--output report"]), f"streamproc shadow start {name}"
