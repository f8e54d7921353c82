"""`streamproc beside`: what your existing route paged, set against what streamproc would have paged."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc import settings as configuration
from streamproc.beside import telling
from streamproc.beside.aside import watching
from streamproc.beside.book import FILE, Book
from streamproc.beside.making import make
from streamproc.beside.page import page
from streamproc.beside.reading import Reader
from streamproc.beside.report import Fate, Judged, Report
from streamproc.commands.common import DEFAULT_DATA, ConfigFile, DataDir
from streamproc.commands.console import columns, heading, plain, show
from streamproc.commands.reasons import sentence
from streamproc.commands.site import INCIDENTS, OnKafka, opened
from streamproc.core.errors import Unusable
from streamproc.runtime.clock import SystemClock
from streamproc.sinks.pagerduty.rest import RestClient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from streamproc.beside.aside import Hear
    from streamproc.settings import Settings

app = typer.Typer(no_args_is_help=True, help="What your existing route paged, against what we would have paged.")
_SPAN = re.compile(r"(?P<count>\d{1,4})(?P<unit>[hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
LISTED, SPARED = 15, 5
"""Pages of each kind that the terminal lists, and of those that nobody acted upon; HTML and JSON have more."""
STYLES = {Fate.OURS_TOO: "cyan", Fate.MERGED: "green", Fate.QUIET: "yellow", Fate.UNKNOWN: "red"}


class Output(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


@app.callback()
def beside() -> None:
    """What your existing route paged, against what we would have paged."""


@app.command("report")
def report(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    since: Annotated[str, typer.Option(help="How far back: 12h, 7d or 4w.")] = "7d",
    output: Annotated[Output, typer.Option(help="text for a terminal, json for a program, html for a browser.")] = (
        Output.TEXT
    ),
    to: Annotated[Path | None, typer.Option("--to", help="File to write; standard output without.", dir_okay=False)] = (
        None
    ),
) -> None:
    """Report what you were paged, what we would have paged, and what we would have missed.

    Reads PagerDuty's incidents first, where the settings have a key. What could not be read is named in the report.
    """
    settings = configuration.load(config)
    if not (data_dir / FILE).is_file():
        raise Unusable(f"{data_dir} holds no {FILE}: start `streamproc run --beside --data-dir {data_dir}` first")
    book, now = Book(data_dir), SystemClock().now()
    asyncio.run(read_first(settings, book, now))
    with opened(data_dir, config, INCIDENTS, kafka=kafka) as site:
        made = make(book, site.desk, (now - span_of(since), now), now, sentence)
    if output is Output.TEXT and to is None:
        show(render(made))
        return
    text = {Output.TEXT: lambda: plain(render(made)), Output.HTML: lambda: page(made), Output.JSON: lambda: dump(made)}
    if to is None:
        typer.echo(text[output](), nl=False)
        return
    write(to, text[output]())
    typer.echo(made.headline)
    typer.echo(f"Written: {to}")


def span_of(text: str) -> timedelta:
    """Return a span as people write it.

    Raises:
        Unusable: it is none.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None or int(found["count"]) == 0:
        raise Unusable(f"--since {text!r} is no span: write hours, days or weeks as 12h, 7d or 4w")
    return timedelta(**{_UNITS[found["unit"]]: int(found["count"])})


async def read_first(settings: Settings, book: Book, now: datetime) -> None:
    """Read what is new at PagerDuty, where there is a key; what goes wrong is noted in the book."""
    if not settings.pagerduty.rest.api_key.get_secret_value():
        return
    async with RestClient(settings.pagerduty.rest) as rest:
        await Reader(rest, book, settings.beside.services).read(now)


def beside_of(
    settings: Settings, folder: Path, pipeline: Callable[..., AbstractAsyncContextManager[Any]]
) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Return what runs a pipeline beside another route.

    Args:
        settings: everything that can be set.
        folder: where the book and the reports stand.
        pipeline: starts the pipeline; takes `beside` and `hear_foreign`.
    """

    def start(hear: Hear | None) -> AbstractAsyncContextManager[Any]:
        return pipeline(beside=True, hear_foreign=hear)

    return partial(watching, settings, folder, start, sentence)


def dump(made: Report) -> str:
    """Return a report as JSON."""
    return f"{made.model_dump_json(indent=2)}\n"


def write(file: Path, text: str) -> None:
    """Write a file whole or not at all; readable by its owner alone, since texts of alerts are in it.

    Raises:
        Unusable: it cannot be written.
    """
    try:
        number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(number, "w", encoding="utf-8") as opened_:
            opened_.write(text)
        Path(name).replace(file)
    except OSError as error:
        raise Unusable(f"{file} cannot be written: {error.strerror}") from error


def render(made: Report) -> RenderableType:
    """Return a report as people read it at a terminal."""
    said: list[RenderableType] = [Text(made.headline, "bold"), Text(telling.period(made), "dim")]
    said += [Text(f"Missing: {gap}", "yellow") for gap in made.gaps]
    if not made.known:
        return Group(*said)
    table = columns(7, None)
    for fate, (count, what) in zip(Fate, telling.counted(made), strict=True):
        table.add_row(Text(f"{count:>7,}", STYLES[fate]), what)
    said += [heading("Your pages, with us"), table]
    said += [Text(line) for line in (telling.needless_line(made), telling.lead_line(made)) if line]
    said += _told("What would have been missed", made.missed)
    said += _told("In doubt", made.doubtful)
    known = {one.incident_id for one in (*made.missed, *made.doubtful)}
    said += _told("Quiet with us, and nobody acted", [one for one in made.judged if _spared(one, known)], SPARED)
    if made.extra:
        said.append(heading("Pages of ours that you had none of", f"{len(made.extra)}"))
        more = columns(16, None)
        for one in made.extra[:LISTED]:
            more.add_row(Text(telling.moment(one.at), "dim"), Text(f"{one.title}\n{one.why}"))
        said.append(more)
    if not known and not made.gaps:
        said.append(Text("\nNothing would have been missed. Next: docs/beside.md, then `streamproc arm`.", "green"))
    return Group(*said)


def _spared(one: Judged, known: set[str]) -> bool:
    return one.fate in (Fate.QUIET, Fate.UNKNOWN) and one.incident_id not in known


def _told(title: str, pages: Sequence[Judged], most: int = LISTED) -> list[RenderableType]:
    if not pages:
        return []
    table = columns(16, None)
    for one in pages[:most]:
        acts = one.acts or ("nobody acted" if one.acted is False else "not known whether anybody acted")
        said = Text.assemble(
            (f"#{one.number} {one.title}", "bold"), f" ({acts})\n", (one.fate.replace("_", " "), STYLES[one.fate]), ": "
        )
        said.append(telling.because(one))
        if one.our_incident:
            said.append(f"\n{one.our_incident} ({one.confidence}, by {one.by})", "dim")
        table.add_row(Text(telling.moment(one.created_at), "dim"), said)
    more = f", {len(pages) - most} more in --output html" if len(pages) > most else ""
    return [heading(title, f"{len(pages)}{more}"), table]
