"""`streamproc dead-letters`: input that could not be used, and its way back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from streamproc.commands.common import DEFAULT_DATA, AsJson, ConfigFile, DataDir, Yes, confirm
from streamproc.commands.console import at, columns, count_of, heading, listing, show
from streamproc.commands.site import LETTERS, OnKafka, Site, opened, when
from streamproc.core.errors import Unusable
from streamproc.core.event import DeadLetter
from streamproc.ports import Entry
from streamproc.runtime.embedded.desk import SqliteDesk

app = typer.Typer(no_args_is_help=True, help="Input that could not be used: list, show, retry.")

PAGE = 200
"""So many are read, and handed back to the pipeline, at once."""
PREVIEW = 60
Id = Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]
OfReason = Annotated[str, typer.Option("--reason", help="Only those with this reason.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    reason: OfReason = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest first."""
    with opened(data_dir, config, LETTERS, kafka=kafka) as site:
        found = list(islice(_letters(site.desk, reason), limit))
    if as_json:
        typer.echo(json.dumps([_dumped(letter) for letter in found]))
        return
    if not found:
        typer.echo("No dead letters.")
        return
    table = listing("ID", "WHEN (UTC)", "REASON", "WHAT IS WRONG", "BEGINS WITH")
    for letter in found:
        table.add_row(
            letter.letter_id,
            at(letter.now) if letter.now is not None else "",
            letter.reason,
            Text(_one_line(letter.detail)),
            Text(_one_line(letter.value[: 4 * PREVIEW].decode("utf-8", "replace"))[:PREVIEW], "dim"),
        )
    show(table)


@app.command("show")
def show_(
    letter_id: Id,
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its bytes."""
    with opened(data_dir, config, LETTERS, kafka=kafka) as site:
        letter = _found(site.desk, letter_id)
    if as_json:
        typer.echo(json.dumps(_dumped(letter)))
        return
    facts = columns(8, None)
    stage = f"{letter.node} / {letter.stage}" if letter.stage else letter.node
    place = f"{letter.topic}/{letter.partition}/{letter.offset}"
    moment = at(letter.now) if letter.now is not None else ""
    for name, told in (("reason", letter.reason), ("wrong", letter.detail), ("refused", stage), ("inbox", place)):
        facts.add_row(Text(name, "dim"), Text(told))
    facts.add_row(Text("when", "dim"), moment)
    for name, told in sorted(letter.headers.items()):
        facts.add_row(Text("header", "dim"), Text(f"{name}: {told}"))
    value = letter.value.decode("utf-8", "backslashreplace")
    show(Group(Text(letter.letter_id, "bold"), facts, heading("VALUE", f"{len(letter.value):,} bytes"), Text(value)))


@app.command()
def retry(
    letter_id: Annotated[str, typer.Argument(metavar="[ID]", help="Which one; or --all.")] = "",
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    reason: OfReason = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    yes: Yes = False,
) -> None:
    """Put dead letters into the inbox that refused them once more, after what was wrong has been mended.

    One that is refused again becomes a new dead letter; the old one stays until its retention is over.
    """
    if bool(letter_id) == every:
        raise Unusable("name one dead letter, or give --all")
    if reason and not every:
        raise Unusable("--reason goes with --all")
    with opened(data_dir, config, LETTERS, kafka=kafka) as site:
        letters = list(_letters(site.desk, reason)) if every else [_found(site.desk, letter_id)]
        _retry(site, letters, ask=every and not yes)


def _retry(site: Site, letters: list[DeadLetter], *, ask: bool) -> None:
    stuck = [
        f"{letter.letter_id} {'was too large to be kept' if letter.topic else 'came out of no inbox'}"
        for letter in letters
        if not letter.retryable
    ]
    letters = [letter for letter in reversed(letters) if letter.retryable]
    if not letters:
        said = stuck[0] if stuck else "there are none"
        raise Unusable(f"no dead letter can be retried: {said}")
    if ask:
        confirm(f"{count_of(len(letters), 'dead letter')} will be processed once more. Retry?", yes=False)
    typer.echo(f"{count_of(len(letters), 'dead letter')} put back. {when(taken=_put_back(site, letters))}")


def _put_back(site: Site, letters: list[DeadLetter]) -> bool:
    taken = True
    for first in range(0, len(letters), PAGE):
        taken = site.append([Entry.again(letter) for letter in letters[first : first + PAGE]])
    return taken


def _letters(desk: SqliteDesk, reason: str) -> Iterator[DeadLetter]:
    before = ""
    while page := desk.dead_letters(PAGE, before):
        yield from (letter for letter in page if not reason or letter.reason == reason)
        before = page[-1].letter_id


def _found(desk: SqliteDesk, letter_id: str) -> DeadLetter:
    letter = desk.dead_letter(letter_id)
    if letter is None:
        raise Unusable(f"no dead letter is called {letter_id!r}; `streamproc dead-letters list` shows them")
    return letter


def _dumped(letter: DeadLetter) -> dict[str, Any]:
    return {"letter_id": letter.letter_id, **letter.model_dump(mode="json")}


def _one_line(text: str) -> str:
    return " ".join(text.split())
