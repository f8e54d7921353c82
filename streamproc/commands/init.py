"""`streamproc init`: the settings file, a test page, and what to paste beside what a team already has."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from streamproc.commands.common import DEFAULT_DATA, DataDir, interactive
from streamproc.commands.fields import Path_, settings_tree
from streamproc.commands.pasting import ALERTMANAGER, DATADOG
from streamproc.commands.settingsfile import settings_file
from streamproc.commands.testpage import RoutingKey, checked, send_test_page
from streamproc.core.errors import Unusable
from streamproc.settings import DEFAULT_FILE, Settings, load
from streamproc.sources.datadog import TEMPLATE

PLACE: Path_ = ("pagerduty", "destinations", "default", "routing_key")


def init(
    config: Annotated[Path, typer.Option("--config", help="Settings file to write.", dir_okay=False)] = DEFAULT_FILE,
    data_dir: DataDir = DEFAULT_DATA,
    routing_key: RoutingKey = "",
    test_page: Annotated[
        bool | None, typer.Option("--test-page/--no-test-page", help="Send a test page; asked for on a terminal.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented settings file, and show what to paste into Alertmanager.

    Asks for a PagerDuty routing key where there is a terminal. Nothing pages before `streamproc arm`.
    """
    if config.exists() and not force:
        raise Unusable(f"{config} exists; --force overwrites it, --config names another")
    key = checked(routing_key or _asked())
    _write(config, settings_file(settings_tree(), {PLACE: key} if key else {}))
    typer.echo(f"Wrote {config}{'' if key else ' (without a routing key: nothing can page yet)'}.")
    if test_page and not key:
        raise Unusable("a test page needs a routing key: give --routing-key")
    settings = load(config)
    if key and (test_page or (test_page is None and _wanted())):
        typer.echo(send_test_page(settings, key, keep=False))
    _show_next(settings, config, data_dir)


def _asked() -> str:
    if not interactive():
        return ""
    typer.echo("A routing key is the Integration Key of an Events API v2 integration of a PagerDuty service.")
    given: str = typer.prompt("Routing key (empty to skip)", default="", show_default=False, hide_input=True)
    return given


def _wanted() -> bool:
    return interactive() and typer.confirm("Send a test page now, and resolve it at once?", default=True)


def _write(file: Path, text: str) -> None:
    """Write the file whole or not at all, readable by its owner alone."""
    try:
        handle, made = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(made).replace(file)
    except OSError as error:
        raise Unusable(f"{file} cannot be written: {error.strerror}") from error


def _show_next(settings: Settings, config: Path, data_dir: Path) -> None:
    url = f"http://{settings.gateway.host}:{settings.gateway.port}"
    typer.echo(ALERTMANAGER.format(url=url))
    typer.echo(DATADOG.format(template=TEMPLATE))
    named = "" if config == DEFAULT_FILE else f" --config {config}"
    where = "" if data_dir == DEFAULT_DATA else f" --data-dir {data_dir}"
    typer.echo("Next:")
    typer.echo(f"  streamproc check{named}")
    typer.echo(f"  streamproc run{named}{where}")
    typer.echo(f"  streamproc arm{where}        once `streamproc status{where}` shows what you expect")
