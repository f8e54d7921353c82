"""`streamproc scrub`: recordings that exist already, redacted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamproc.commands.common import PROBLEMS
from streamproc.commands.console import count_of
from streamproc.commands.redacting import Keep, Key, KeyFile, Redact, redactor
from streamproc.core.errors import Unusable
from streamproc.recording.scrubbing import Scrubbed, scrub

SHOWN = 5
"""Numbers of bad lines that are named."""


def scrub_files(
    files: Annotated[list[Path], typer.Argument(help="Recorded requests or feedback; gzip is read too.", exists=True)],
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of the redacted files, by the same names.", file_okay=False)
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Put them where the files are.")] = False,
    redact: Redact = None,
    keep: Keep = None,
    key_file: KeyFile = None,
    key: Key = "",
) -> None:
    """Redact recorded traffic: stable pseudonyms in place of what it names.

    Equal values stay equal and different ones different, so a backtest of the redacted recording groups and decides as
    before, unless settings or policies name a value that is redacted. Exit code 1 where lines could not be read.
    """
    if (output is None) is not in_place:
        raise Unusable("say where the redacted files go: --output FOLDER, or --in-place")
    doubled = {file.name for file in files if sum(file.name == each.name for each in files) > 1}
    if output is not None and doubled:
        raise Unusable(f"two files are called {min(doubled)}: scrub them into different folders")
    redacting = redactor(redact, keep, key_file, key)
    if output is not None:
        _make(output)
    bad = 0
    for file in files:
        into = file if output is None else output / file.name
        if output is not None and into.exists() and into.samefile(file):
            raise Unusable(f"{into} is the file itself: give --in-place, or another folder")
        done = scrub(file, into, redacting)
        bad += done.bad
        _say(file, into, done)
    if bad:
        raise typer.Exit(PROBLEMS)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"{folder} cannot be made: {error.strerror}") from error


def _say(file: Path, into: Path, done: Scrubbed) -> None:
    typer.echo(f"{into}: {count_of(done.lines, 'line')}")
    if done.bad:
        named = ", ".join(map(str, done.named[:SHOWN]))
        typer.echo(f"{file}: {count_of(done.bad, 'line')} could not be read and say nothing now: {named}", err=True)
