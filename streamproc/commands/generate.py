"""`streamproc generate`: schemas and reference docs, written from the code. For those who develop streamproc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from streamproc import catalog
from streamproc.commands.common import PROBLEMS
from streamproc.commands.fields import settings_tree
from streamproc.commands.reference import settings_page, topics_page, topics_readme
from streamproc.commands.schemas import events, written
from streamproc.core.errors import Unusable
from streamproc.policytest.schema import policy_tests_schema
from streamproc.topology import TOPICS, TOPOLOGY


def generate(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 where a file is out of date.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="Checkout to write into; the one this runs from by default.", file_okay=False)
    ] = None,
) -> None:
    """Write schemas and reference docs from the code."""
    where = root or catalog.folder().parent
    if root is None and not (where / "pyproject.toml").is_file():
        raise Unusable(f"{where} is no checkout of streamproc; name one with --root")
    made = {where / name: text for name, text in _files()}
    left = sorted(set((where / "schemas").glob("*.json")) - set(made))
    stale = [file for file, text in made.items() if not file.is_file() or file.read_text(encoding="utf-8") != text]
    if check:
        for file in (*stale, *left):
            typer.echo(f"{file.relative_to(where)} is out of date: run `streamproc generate`")
        if stale or left:
            raise typer.Exit(PROBLEMS)
        return
    for file in stale:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made[file], encoding="utf-8")
        typer.echo(f"wrote {file.relative_to(where)}")
    for file in left:
        file.unlink()
        typer.echo(f"removed {file.relative_to(where)}")


def _files() -> Iterator[tuple[str, str]]:
    """Yield every generated file, by its path in the checkout."""
    known = events()
    for name, kind in known.items():
        yield f"schemas/{name}.json", written(kind)
    yield "schemas/policy-test.json", policy_tests_schema()
    yield "docs/settings.md", settings_page(settings_tree())
    yield "docs/topics.md", topics_page(TOPICS, known)
    yield "topics/README.md", topics_readme(TOPICS, TOPOLOGY)
