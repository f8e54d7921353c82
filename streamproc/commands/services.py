"""`streamproc services`: the service catalogue of a running pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from streamproc import settings as configuration
from streamproc.beginning import catalogue_of
from streamproc.commands.common import DEFAULT_DATA, PROBLEMS, Author, ConfigFile, DataDir, login
from streamproc.commands.console import columns, count_of, show
from streamproc.commands.site import POLICIES, OnKafka, Site, opened, when
from streamproc.core.errors import Unusable
from streamproc.core.step import ActiveRow
from streamproc.services import CATALOGUE, Catalogue, Service, problems
from streamproc.settings import Settings
from streamproc.versions import activation

app = typer.Typer(no_args_is_help=True, help="The service catalogue: apply, check, show.")

CatalogueFile = Annotated[Path, typer.Argument(metavar="FILE", help="services.yaml.", dir_okay=False)]
MARKS = {"added": "+", "removed": "-", "changed": "~"}
STYLES = {"added": "green", "removed": "red", "changed": "yellow"}


@app.command()
def apply(
    file: CatalogueFile,
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    author: Author = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Make a catalogue the one that decisions are made with, from the next alert on."""
    settings = configuration.load(config)
    body = catalogue_of(file)
    with opened(data_dir, config, POLICIES, kafka=kafka) as site:
        if _applied(site, settings, file, body, author, dry_run=dry_run):
            _warn_of_settings(settings, file)


def _applied(site: Site, settings: Settings, file: Path, body: str, author: str, *, dry_run: bool) -> bool:
    active, held = _active(site)
    before, after = Catalogue() if held is None else Catalogue.of(held), Catalogue.of(body)
    table = columns(None, None, None)
    for what, name, detail in differences(before, after):
        table.add_row(Text(MARKS[what], STYLES[what]), Text(name, "bold"), Text(detail, "dim"))
    show(table)
    for doubt in problems(after, settings.pagerduty.destinations):
        typer.echo(f"note: {doubt}")
    entries = activation(CATALOGUE.name, body, active, login(author), str(file))
    if not entries:
        typer.echo(f"Nothing changed: this catalogue is active already (version {active.version if active else 0}).")
        return False
    version = 1 if active is None else active.version + 1
    if dry_run:
        typer.echo(f"It would become version {version}.")
        return False
    taken = site.append(entries)
    typer.echo(f"{count_of(len(after.services), 'service')}, version {version}. {when(taken=taken)}")
    return True


def _active(site: Site) -> tuple[ActiveRow | None, str | None]:
    active = site.desk.active(CATALOGUE.name)
    return active, site.desk.body(active) if active is not None else None


@app.command()
def check(file: CatalogueFile, config: ConfigFile = None) -> None:
    """Check a catalogue: its form, dependencies, and destinations without a routing key. Exit code 1 on doubts."""
    catalogue = Catalogue.of(catalogue_of(file))
    doubts = problems(catalogue, configuration.load(config).pagerduty.destinations)
    for doubt in doubts:
        typer.echo(doubt)
    typer.echo(f"{file}: {count_of(len(catalogue.services), 'service')}, {count_of(len(doubts), 'doubt')}.")
    if doubts:
        raise typer.Exit(PROBLEMS)


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="A service, or another name of it.")],
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
) -> None:
    """Show what the active catalogue knows of a service, and its neighbours."""
    with opened(data_dir, config, POLICIES, kafka=kafka) as site:
        active, body = _active(site)
    if active is None or body is None:
        raise Unusable("no catalogue is active; `streamproc services apply services.yaml` makes one so")
    catalogue = Catalogue.of(body)
    service = catalogue.find(name)
    if service is None:
        known = ", ".join(sorted(catalogue.services)[:20]) or "none"
        raise Unusable(f"the catalogue (version {active.version}) has no service {name!r}; it has {known}")
    table = columns(18, None)
    table.add_row(Text("service", "dim"), Text(catalogue.name_of(name), "bold"))
    facts = {field: _told(value) for field, value in service}
    facts["needed by"] = ", ".join(sorted(catalogue.dependants(name)))
    for field, told in facts.items():
        if told:
            table.add_row(Text(field.replace("_", " "), "dim"), Text(told))
    table.add_row(Text("catalogue", "dim"), f"version {active.version}")
    show(table)


def differences(before: Catalogue, after: Catalogue) -> Iterator[tuple[str, str, str]]:
    """Yield what changed, service by service: added, removed or changed, the name, and what is different."""
    for name in sorted({*before.services, *after.services}):
        old, new = before.services.get(name), after.services.get(name)
        if old is None:
            yield "added", name, ""
        elif new is None:
            yield "removed", name, ""
        elif old != new:
            yield "changed", name, "; ".join(_changes(old, new))


def _changes(old: Service, new: Service) -> Iterator[str]:
    for field, value in new:
        was = getattr(old, field)
        if was != value:
            yield f"{field}: {_told(was) or 'none'} > {_told(value) or 'none'}"


def _told(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(str(getattr(one, "href", one)) for one in value)
    return str(value)


def _warn_of_settings(settings: Settings, file: Path) -> None:
    named = settings.services
    if named is not None and named.resolve() != file.resolve():
        typer.echo(f"note: the settings name {named}: the next start puts that one back", err=True)
