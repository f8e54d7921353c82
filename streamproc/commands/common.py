"""Options and answers that several commands share."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from streamproc.core.errors import StreamprocError, Unusable
from streamproc.ports import Entry
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.spool import submit

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where the pipeline keeps its log and its rows.", file_okay=False)
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; ./streamproc.yaml where there is one.", dir_okay=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for a program instead of text for a person.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Author = Annotated[str, typer.Option(help="Who wants it; your login name by default.", show_default=False)]

DEFAULT_DATA = Path("streamproc-data")
PROBLEMS = 1
"""Exit code of a check that found problems."""


class OutsideRefused(StreamprocError):
    """The outside answered, and refused what the command asked of it."""


def interactive() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def login(author: str) -> str:
    """Return the author as given, else the login name."""
    if author:
        return author
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as containers have
        return "command line"


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `yes`.

    Raises:
        Unusable: nobody can be asked.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not interactive():
        raise Unusable(f"{question} Nobody can be asked here: give --yes")
    typer.confirm(question, abort=True)


def spool(folder: Path, entries: Sequence[Entry]) -> bool:
    """Give entries to the pipeline of a data directory; True once its process has taken them.

    Raises:
        Unusable: the directory holds no data, or cannot be written.
    """
    return submit(folder, entries, wait=5.0 if SqliteDesk(folder).attended() else 0.0)


def when(*, taken: bool) -> str:
    """Return from when on something that was given to the pipeline counts."""
    return "The running pipeline has it." if taken else "No pipeline runs here now: it counts from the next start on."
