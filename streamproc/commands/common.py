"""Options and answers that several commands share."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamproc.core.errors import StreamprocError, Unusable

if TYPE_CHECKING:  # whoever looks at a data directory needs no settings, and they take a third of a second to load
    from streamproc.settings import Settings

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Where the pipeline keeps its log and its rows.", file_okay=False)
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; ./streamproc.yaml where there is one.", dir_okay=False),
]
TopologyFile = Annotated[
    Path | None, typer.Option("--topology", help="Which services depend on which, as JSON.", dir_okay=False)
]
FeedbackFile = Annotated[
    Path | None, typer.Option("--feedback", help="What people said of alerts, as JSON lines.", dir_okay=False)
]
Until = Annotated[str | None, typer.Option("--to", help="The moment before which it ends, likewise.")]
PrometheusStep = Annotated[str | None, typer.Option("--step", help="Between two looks at a Prometheus; 1m by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON for a program instead of text for a person.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port of the gateway; over `gateway.port`. 0 takes a free one.")
]
Host = Annotated[str | None, typer.Option(help="Address of the gateway; over `gateway.host`.")]
Url = Annotated[
    str, typer.Option("--url", help="Where the gateway answers; as the settings say by default.", show_default=False)
]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="STREAMPROC_TOKEN", help="Token of the operations API; better in STREAMPROC_TOKEN.",
        show_default=False,
    ),
]  # fmt: skip
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


def gateway_at(settings: Settings, host: str | None, port: int | None) -> Settings:
    """Return the settings with the gateway where options say."""
    changed = {name: value for name, value in (("port", port), ("host", host)) if value is not None}
    return settings.model_copy(update={"gateway": settings.gateway.model_copy(update=changed)})


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
