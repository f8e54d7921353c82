"""`streamproc status`: how the pipeline of a data directory stands."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc.commands.common import DEFAULT_DATA, AsJson, DataDir
from streamproc.commands.console import at, columns, count_of, heading, lasting, listing, severity, show
from streamproc.events.feedback import ARM
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.views import IncidentSummary, PipelineStatus

SHOWN = 10


def status(data_dir: DataDir = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Show how the pipeline of a data directory stands.

    Reads the directory itself, so it works whether or not the pipeline runs; a program asks GET /v1/status.
    """
    desk = SqliteDesk(data_dir)
    stands, runs = desk.status(), desk.attended()
    if as_json:
        told = stands.model_copy(update={"why_not": "" if runs else stands.why_not})
        typer.echo(json.dumps({"running": runs, **told.model_dump(mode="json", exclude={"ready", "decisions"})}))
        return
    arm = next((policy for policy in desk.policies() if policy.policy_id == ARM and not policy.withdrawn), None)
    armed = f"since {at(arm.starts_at)} UTC, by {arm.author}" if arm is not None else ""
    show(render(data_dir, stands, desk.incidents("open", SHOWN), runs=runs, armed=armed))


def render(
    folder: Path, stands: PipelineStatus, incidents: list[IncidentSummary], *, runs: bool, armed: str
) -> RenderableType:
    """Return the status as people read it."""
    facts = columns(None, None, None)
    facts.add_row(
        "pipeline", Text("running", "bold green") if runs else Text("not running", "bold red"), Text(str(folder), "dim")
    )
    dry = Text("no: dry run, nothing pages", "bold yellow")
    facts.add_row("armed", Text("yes", "bold green") if stands.armed else dry, Text(armed or _arm_hint(stands), "dim"))
    paged = f"{stands.paged_incidents:,} of them paged" if stands.armed else f"{stands.paged_incidents:,} would page"
    facts.add_row("open incidents", f"{stands.open_incidents:,}", Text(paged, "dim"))
    facts.add_row("waiting to send", f"{stands.waiting_to_send:,}", "")
    letters = Text("`streamproc dead-letters list` shows why", "dim") if stands.dead_letters else ""
    style = "bold yellow" if stands.dead_letters else ""
    facts.add_row("dead letters", Text(f"{stands.dead_letters:,}", style), letters)
    shown: list[RenderableType] = [facts, heading("NODES"), _nodes(stands)]
    if incidents:
        more = stands.open_incidents - len(incidents)
        shown += [heading("OPEN INCIDENTS", "latest change first"), _incidents(incidents)]
        shown += [Text(f"and {more:,} more", "dim")] if more > 0 else []
    return Group(*shown)


def _arm_hint(stands: PipelineStatus) -> str:
    return "" if stands.armed else "`streamproc arm` lets pages go out"


def _nodes(stands: PipelineStatus) -> RenderableType:
    table = listing("NODE", "WAITING", "ROWS", "HAS FOLDED UP TO (UTC)")
    for node in stands.nodes:
        waiting = Text(f"{node.lag:,}", "bold yellow" if node.lag else "")
        table.add_row(node.node, waiting, f"{node.rows:,}", at(node.now) if node.now is not None else "")
    return table


def _incidents(incidents: list[IncidentSummary]) -> RenderableType:
    now = SystemClock().now()
    table = columns(None, None, None)
    for incident in incidents:
        said = Text.assemble(
            incident.title,
            (f"\n{incident.incident_id} · {count_of(incident.open_count, 'alert')} · ", "dim"),
            (f"{incident.action}{' (dry run)' if incident.dry_run else ''}: {incident.reason}", "dim"),
        )
        table.add_row(severity(incident.severity), lasting(now - incident.opened_at), said)
    return table
