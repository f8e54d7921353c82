"""`streamproc graph`: the pipeline, drawn from the one tuple that also runs it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from streamproc.graph import mermaid, text
from streamproc.topology import TOPOLOGY


class Form(StrEnum):
    """How the pipeline is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"


def graph(form: Annotated[Form, typer.Option("--format", help="What to draw it in.")] = Form.TEXT) -> None:
    """Draw the pipeline.

    Drawn from the tuple that the runtimes run, so it cannot be out of date. Mermaid is what GitHub and most wikis show.
    """
    typer.echo(mermaid(TOPOLOGY) if form is Form.MERMAID else text(TOPOLOGY), nl=False)
