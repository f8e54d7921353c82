"""`streamproc history`, `rollback` and `shadow promote`: which settings count, and changing them without a restart."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.text import Text

from streamproc.commands.common import DEFAULT_DATA, AsJson, Author, ConfigFile, DataDir, login
from streamproc.commands.console import at, listing, show
from streamproc.commands.site import POLICIES, OnKafka, Site, opened, when
from streamproc.commands.verify import recorded
from streamproc.core.errors import Unusable
from streamproc.runtime.clock import SystemClock
from streamproc.shadow.candidate import body_of_candidate, everything, newest
from streamproc.shadow.history import Known, before, promotion, return_to
from streamproc.shadow.history import history as all_changes
from streamproc.versions import CHANGED, FILE

Why = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]


def promote(
    reason: Why,
    author: Author = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
) -> None:
    """Make the candidate what counts: its stages' settings, service catalogue and policies, at once and everywhere.

    Incidents that are open keep what they were opened with, so this by itself pages nobody. `streamproc rollback` goes
    back.
    """
    with opened(data_dir, config, POLICIES, kafka=kafka) as site, recorded(data_dir, config, kafka=kafka) as inboxes:
        running = newest(everything(inboxes))
        if running is None or not running.runs:
            raise Unusable("there is no candidate: `streamproc shadow start SETTINGS` begins with one")
        candidate = body_of_candidate(inboxes, running.switch.checksum)
        now = SystemClock().now()
        taken = site.append(promotion(candidate, running, _known(site), now, login(author), reason))
    typer.echo(f"{candidate.name} is promoted. {when(taken=taken)}")
    typer.echo(
        f"Write it down: put {candidate.name} in the place of the settings file. Until that is changed, a restart goes "
        "on with what was promoted."
    )


def rollback(
    reason: Why,
    number: Annotated[
        int | None, typer.Option("--to", help="A number of `streamproc history`; else the one before.")
    ] = None,
    author: Author = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
) -> None:
    """Go back to settings that counted before.

    That is stages' settings, service catalogue and policies together. They become the newest version; incidents that
    are open keep what they were opened with.
    """
    with opened(data_dir, config, POLICIES, kafka=kafka) as site, recorded(data_dir, config, kafka=kafka) as inboxes:
        change = before(all_changes(inboxes), number)
        known, now = _known(site), SystemClock().now()
        entries = return_to(change, inboxes.version, known, now, login(author), reason)
        if not entries:
            typer.echo(f"{change.number} is what counts already.")
            return
        taken = site.append(entries)
    typer.echo(f"Back to {change.number} of {at(change.at)} UTC. {when(taken=taken)}")
    typer.echo("Write it down in the settings file, too. Until that is changed, a restart goes on with this.")


def history(
    data_dir: DataDir = DEFAULT_DATA, kafka: OnKafka = False, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """List which settings counted when, who wanted them, and why."""
    with recorded(data_dir, config, kafka=kafka) as inboxes:
        found = all_changes(inboxes)[::-1]
    if as_json:
        lines = [
            {
                "number": change.number,
                "at": change.at.isoformat(),
                "author": change.author,
                "reason": change.reason,
                "changed": list(change.kinds),
                "versions": {kind: switch.version for kind, switch in change.stands.items()},
            }
            for change in found
        ]
        typer.echo(json.dumps(lines))
        return
    if not found:
        typer.echo("No settings were ever active.")
        return
    table = listing("NUMBER", "SINCE (UTC)", "AUTHOR", "CHANGED", "REASON")
    for place, change in enumerate(found):
        style = "" if place else "bold green"
        kinds = ", ".join(f"{kind} {change.stands[kind].version}" for kind in change.kinds)
        table.add_row(
            Text(str(change.number), style=style), at(change.at), Text(change.author), kinds, Text(change.reason)
        )
    show(table)


def _known(site: Site) -> Known:
    desk = site.desk
    active = {kind: row for kind in (*CHANGED, FILE) if (row := desk.active(kind)) is not None}
    file = active.get(FILE)
    return Known(active, desk.policies(), None if file is None else desk.body(file))
