"""How `streamproc advise` tells what it found, on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rich.console import RenderableType
from rich.text import Text

from streamproc.advise.evidence import Evidence, count_of
from streamproc.advise.telling import change, headline, misses, refused, saves, sure
from streamproc.advise.weighing import Verdict, Weighed, ranked
from streamproc.commands.console import at, columns, heading, lasting, show

SHOWN_REFUSED = 5
MINUTES = len("2026-03-01 12:00")
STYLES = {Verdict.CONFIRMED: "bold green", Verdict.TIDY: "bold cyan"}


@dataclass(slots=True)
class Advice:
    """What was found."""

    evidence: Evidence
    notes: list[str]
    weighed: list[Weighed] = field(default_factory=list)
    whole: Weighed | None = None
    """Everything at once."""
    complete: bool = True

    @property
    def kept(self) -> list[Weighed]:
        """What is proposed, in order."""
        return ranked(self.weighed)


def hint(advice: Advice, tries: Sequence[tuple[str, str]]) -> None:
    """Say how to try a proposal; the commands stand on lines of their own, to be copied."""
    if tries:
        show(heading("TRY", "on this recording, then on live traffic"))
        typer.echo("\n".join(tries[0]))
    elif advice.kept:
        typer.echo("\n--write DIR leaves a settings file of each proposal, to be tried with")
        typer.echo("`streamproc backtest --against FILE` and `streamproc shadow start FILE`.")


def told(advice: Advice, files: Sequence[Path]) -> Iterator[RenderableType]:
    """Yield what is shown; `files` are those that were written, in the order of the proposals."""
    evidence, kept = advice.evidence, advice.kept
    span = lasting(evidence.last_at - evidence.first_at)
    yield Text.assemble(
        (count_of(len(kept), "proposal"), "bold"),
        f" from {span} and {count_of(len(evidence.pages), 'page')}, {evidence.acted:,} of them acted upon",
    )
    first, split, last = (at(each)[:MINUTES] for each in (evidence.first_at, evidence.split, evidence.last_at))
    yield Text(f"{first} to {last} UTC, the last third from {split} on", "dim")
    for number, each in enumerate(kept, 1):
        yield from _proposal(number, each, files[number - 1] if files else None)
    if advice.whole is not None:
        yield from _whole(advice.whole, files[-1] if files and advice.whole.kept else None)
    lost = [each for each in advice.weighed if not each.kept]
    if lost:
        yield heading("NOT PROPOSED", "tried, and refused by the backtest")
        table = columns(None, None)
        for each in lost[:SHOWN_REFUSED]:
            table.add_row(Text(each.candidate.title), Text(refused(each), "dim"))
        yield table
        if len(lost) > SHOWN_REFUSED:
            yield Text(f"and {len(lost) - SHOWN_REFUSED} more: --json", "dim")
    for note in advice.notes:
        yield Text(f"\n{note}", "yellow")


def _proposal(number: int, each: Weighed, file: Path | None) -> Iterator[RenderableType]:
    candidate = each.candidate
    table = columns(8, None)
    titled = Text.assemble((headline(each), STYLES.get(each.verdict, "bold yellow")), "  ", (candidate.title, "bold"))
    table.add_row(Text(f"\n{number}", "bold"), Text.assemble("\n", titled))
    table.add_row(Text("why", "dim"), Text(" ".join(candidate.why)))
    table.add_row(Text("saves", "dim"), Text(saves(each)))
    table.add_row(Text("misses", "dim"), Text(misses(each)))
    table.add_row(Text("sure", "dim"), Text(sure(candidate)))
    if candidate.at_source:
        table.add_row(Text("or else", "dim"), Text(candidate.at_source))
    table.add_row(Text("change", "dim"), Text(change(each), "cyan"))
    if file is not None:
        table.add_row(Text("file", "dim"), Text(str(file)))
    yield table


def _whole(whole: Weighed, file: Path | None) -> Iterator[RenderableType]:
    yield heading("ALL AT ONCE", "one more backtest, since savings overlap")
    table = columns(8, None)
    if whole.kept:
        table.add_row(Text("saves", "dim"), Text.assemble((headline(whole), "bold green"), f": {saves(whole)}"))
        table.add_row(Text("misses", "dim"), Text(misses(whole)))
    else:
        table.add_row(Text("refused", "dim"), Text(refused(whole)))
    if file is not None:
        table.add_row(Text("file", "dim"), Text(str(file)))
    yield table
