"""`streamproc pagerduty`: what the account holds, and its webhooks."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.text import Text
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from streamproc import settings as configuration
from streamproc.beginning import catalogue_of
from streamproc.commands.common import ConfigFile
from streamproc.commands.console import columns, count_of, show
from streamproc.commands.pdcatalogue import PULLED, Holdings, merged, pulled, remarks
from streamproc.commands.pdreconcile import reconcile
from streamproc.commands.pdwebhook import app as webhook
from streamproc.commands.services import MARKS, STYLES, differences
from streamproc.commands.written import write_whole
from streamproc.core.errors import Unusable
from streamproc.runtime.logs import configure
from streamproc.services import Catalogue, problems
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.resources import OnCall
from streamproc.sinks.pagerduty.rest import RestClient

app = typer.Typer(no_args_is_help=True, help="PagerDuty's account: services into the catalogue, and the webhook.")
app.add_typer(webhook, name="webhook")
app.command()(reconcile)

_BASE_HEAD = """\
# What `streamproc pagerduty sync` found at PagerDuty last. Do not edit: by it the next sync tells your fields from its.
"""


@app.command()
def sync(
    config: ConfigFile = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", help="services.yaml to write; without it only the difference is shown.", dir_okay=False
        ),
    ] = None,
) -> None:
    """Pull services, teams, escalation policies and who is on call into the service catalogue.

    Fields that people wrote stay as they are, comments too. Without --write it compares with the file that the settings
    name, and changes nothing.
    """
    configure("critical", "console")  # what goes wrong is told here, once
    settings = configuration.load(config)
    file = write or settings.services
    ours, base = _read(file), _read(None if file is None else _beside(file))
    held = asyncio.run(_pull(settings))
    theirs = pulled(held, ours, _keys(settings))
    after = merged(ours, theirs, base)
    _tell(held, ours, after)
    for remark in (*remarks(held, theirs, base), *problems(after, settings.pagerduty.destinations)):
        typer.echo(f"note: {remark}")
    if write is None:
        if after != ours:
            typer.echo("Nothing is written: give --write services.yaml.")
        return
    if after != ours:
        write_whole(write, _edited(write, ours, after), private=False)
    write_whole(_beside(write), _BASE_HEAD + _text(theirs), private=False)
    done = (
        f"Wrote {write}: {count_of(len(after.services), 'service')}." if after != ours else f"{write} stays as it is."
    )
    typer.echo(f"{done} `streamproc services apply {write}` makes it count.")


async def _pull(settings: Settings) -> Holdings:
    async with RestClient(settings.pagerduty.rest) as client:
        return Holdings(
            services=await client.services(),
            policies=await client.escalation_policies(),
            schedules=await client.schedules(),
            teams=await client.teams(),
            on_calls=await client.on_calls(),
            windows=await client.maintenance_windows(),
        )


def _keys(settings: Settings) -> dict[str, list[str]]:
    return {
        name: [key.get_secret_value() for key in (one.routing_key, one.ticket_routing_key) if key is not None]
        for name, one in settings.pagerduty.destinations.items()
    }


def _tell(held: Holdings, before: Catalogue, after: Catalogue) -> None:
    table = columns(None, None, None)
    for what, name, detail in differences(before, after):
        table.add_row(Text(MARKS[what], STYLES[what]), Text(name, "bold"), Text(detail, "dim"))
    show(table)
    if before == after:
        typer.echo(f"Nothing changes: {count_of(len(held.services), 'service')} in PagerDuty, all known.")
    for one in sorted(held.on_calls, key=lambda one: (one.escalation_policy.summary, one.escalation_level)):
        typer.echo(_on_call(one))


def _on_call(one: OnCall) -> str:
    through = f" ({one.schedule.summary})" if one.schedule is not None else ""
    until = f" until {one.end.isoformat()}" if one.end is not None else ""
    return f"on call: {one.escalation_policy.summary}, level {one.escalation_level}: {one.user.summary}{through}{until}"


def _read(file: Path | None) -> Catalogue:
    return Catalogue() if file is None or not file.exists() else Catalogue.of(catalogue_of(file))


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}.pagerduty{file.suffix or '.yaml'}")


def _edited(file: Path, before: Catalogue, after: Catalogue) -> str:
    """Return the text of a catalogue file with what changed put in, all else as people wrote it."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    try:
        held: Any = (editor.load(file.read_text(encoding="utf-8")) if file.exists() else None) or {}
    except YAMLError as error:
        raise Unusable(f"{file} cannot be edited: {error}") from error
    if not isinstance(held.get("services"), dict):
        held["services"] = {}
    services = held["services"]
    for name, entry in after.services.items():
        was = before.services.get(name)
        if was == entry:
            continue
        if services.get(name) is None:
            services[name] = {}
        for field in PULLED:
            if getattr(entry, field) and (was is None or getattr(was, field) != getattr(entry, field)):
                services[name][field] = getattr(entry, field)
        if was is None and entry.aliases:
            services[name]["aliases"] = list(entry.aliases)
    out = io.StringIO()
    editor.dump(held, out)
    text = out.getvalue()
    if Catalogue.of(_json(text)) != after:
        raise Unusable(f"{file} cannot be edited without harm (anchors, merge keys?): write these fields in by hand")
    return text


def _json(text: str) -> str:
    return Catalogue.model_validate(yaml.safe_load(text) or {}).model_dump_json()


def _text(catalogue: Catalogue) -> str:
    return yaml.safe_dump(catalogue.model_dump(mode="json", exclude_defaults=True), allow_unicode=True, sort_keys=True)
