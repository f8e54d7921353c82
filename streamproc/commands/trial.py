"""`streamproc try`: what would page, from what a real Alertmanager has firing now. Reads, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc import settings as configuration
from streamproc.beginning import catalogue_of, read_catalogue
from streamproc.commands.alertmanager import Firing, fetch
from streamproc.commands.common import AsJson, ConfigFile
from streamproc.commands.console import columns, count_of, severity, show
from streamproc.commands.judging import Judged, judge
from streamproc.commands.story import ACTIONS, because
from streamproc.events.incident import Action
from streamproc.runtime.clock import SystemClock
from streamproc.stages.escalate import DEFAULT
from streamproc.views import IncidentView

NAMED = 4
"""Kinds of alerts that are named for one incident."""


def trial(
    alertmanager: Annotated[
        str, typer.Option("--alertmanager", metavar="URL", help="Its address, as in the browser; user:password@ works.")
    ],
    config: ConfigFile = None,
    services: Annotated[
        Path | None, typer.Option("--services", help="A services.yaml, over the one of the settings.", dir_okay=False)
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", help="'Name: value' to send along, for example Authorization.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for it.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Show what would page, from what a real Alertmanager has firing now.

    Asks it once for its alerts and decides in memory, as if the pipeline were armed. Nothing is sent or kept.
    """
    settings = configuration.load(config)
    catalogue = catalogue_of(services) if services is not None else read_catalogue(settings)
    firing = fetch(alertmanager, header or [], timeout)
    judged = judge(firing.groups, settings, catalogue, SystemClock().now())
    if as_json:
        typer.echo(json.dumps(_dumped(firing, judged)))
        return
    show(render(firing, judged))


def render(firing: Firing, judged: Judged) -> RenderableType:
    """Return the outcome as people read it."""
    said: list[RenderableType] = [*_incidents(judged), Text(summary(firing, judged), "bold")]
    if firing.left_out:
        was = "is" if firing.left_out == 1 else "are"
        said.append(Text(f"{count_of(firing.left_out, 'alert')} that Alertmanager itself mutes {was} left out.", "dim"))
    said += [Text(note, "yellow") for note in judged.notes]
    if judged.incidents:
        said.append(Text("Nothing was sent or kept. Next: `streamproc init` shows how to let it listen.", "dim"))
    return Group(*said)


def summary(firing: Firing, judged: Judged) -> str:
    """Return the whole outcome in one line."""
    if not firing.count:
        return "Nothing is firing: no incidents, no pages. Enjoy the quiet, and try again when something fires."
    counts = dict.fromkeys(Action, 0)
    for view in judged.incidents:
        counts[view.summary.action] += 1
    parts = [
        count_of(counts[Action.PAGE], "page"),
        count_of(counts[Action.TICKET], "ticket"),
        f"{counts[Action.NONE] + counts[Action.HOLD]} nothing",
    ]
    incidents = count_of(len(judged.incidents), "incident")
    return f"{count_of(firing.count, 'alert')} firing -> {incidents} -> {', '.join(parts)}"


def _incidents(judged: Judged) -> list[RenderableType]:
    if not judged.incidents:
        return []
    table = columns(7, 8, None)
    for view in judged.incidents:
        word, style = ACTIONS[view.summary.action]
        said = Text.assemble((view.summary.title, "bold"), ("\n" + _of(view), "dim"), ("\n" + _why(view), "dim"))
        table.add_row(Text(word, style), severity(view.summary.severity), said)
    return [table, Text("")]


def _of(view: IncidentView) -> str:
    """Return what an incident is made of: how many alerts of which kinds, and the services."""
    names = [one.member.name for one in view.members]
    kinds = sorted(set(names), key=lambda name: (-names.count(name), name))
    named = ", ".join(f"{name} x{names.count(name)}" if names.count(name) > 1 else name for name in kinds[:NAMED])
    more = f" and {count_of(len(kinds) - NAMED, 'more kind')}" if len(kinds) > NAMED else ""
    services = ", ".join(view.summary.services) or "no service named"
    return f"{count_of(len(names), 'alert')}: {named}{more} · {services}"


def _why(view: IncidentView) -> str:
    joined = dict.fromkeys(one.member.why.replace("_", " ") for one in view.members if one.member.why != "opened")
    together = f"Together by {', '.join(joined)}." if joined else ""
    to = f" Goes to {view.summary.destination}." if view.summary.destination not in ("", DEFAULT) else ""
    return f"{because(view)}{to} {together}".rstrip()


def _dumped(firing: Firing, judged: Judged) -> dict[str, object]:
    pages = sum(view.summary.action is Action.PAGE for view in judged.incidents)
    tickets = sum(view.summary.action is Action.TICKET for view in judged.incidents)
    return {
        "alertmanager": firing.address,
        "firing": firing.count,
        "left_out": firing.left_out,
        "pages": pages,
        "tickets": tickets,
        "nothing": len(judged.incidents) - pages - tickets,
        "notes": list(judged.notes),
        "incidents": [view.model_dump(mode="json") for view in judged.incidents],
    }
