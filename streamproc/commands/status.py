"""`streamproc status`: how the pipeline stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc.commands.common import DEFAULT_DATA, AsJson, ConfigFile, DataDir, Token, Url
from streamproc.commands.console import at, columns, count_of, heading, lasting, listing, severity, show
from streamproc.commands.site import STATUS, OnKafka, opened
from streamproc.events.feedback import ARM
from streamproc.runtime.clock import SystemClock
from streamproc.views import IncidentSummary, NodeStatus, PipelineStatus

SHOWN = 10


def status(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
    live: Annotated[bool, typer.Option("--live", help="Draw it anew each second, with rates; q ends it.")] = False,
    url: Url = "",
    token: Token = "",
) -> None:
    """Show how the pipeline stands.

    Reads the data directory or the topics themselves, so it works whether or not the pipeline runs; a program asks GET
    /v1/status. --live takes rates from the metrics of a running process, and on Kafka all from a gateway.
    """
    if live:
        _live(data_dir, config, url, token, kafka=kafka)
        return
    with opened(data_dir, config, STATUS, kafka=kafka) as site:
        stands, runs, desk = site.desk.status(), site.desk.attended(), site.desk
        if as_json:
            quiet = runs and not kafka  # on Kafka the group itself tells whether it is ready
            told = stands.model_copy(update={"why_not": ""} if quiet else {})
            typer.echo(json.dumps({"running": runs, **told.model_dump(mode="json", exclude={"ready", "decisions"})}))
            return
        arm = next((policy for policy in desk.policies() if policy.policy_id == ARM and not policy.withdrawn), None)
        armed = f"since {at(arm.starts_at)} UTC, by {arm.author}" if arm is not None else ""
        show(render(site.name, stands, desk.incidents("open", SHOWN), runs=runs, armed=armed))


def _live(data_dir: Path, config: Path | None, url: str, token: str, *, kafka: bool) -> None:
    from streamproc import settings as configuration  # noqa: PLC0415  takes a second to load with the next ones
    from streamproc.commands.live import FromDesk, FromGateway, watch  # noqa: PLC0415  likewise
    from streamproc.commands.scrape import Process  # noqa: PLC0415  likewise
    from streamproc.doctor.outside import address_of  # noqa: PLC0415  likewise

    process = Process(url or address_of(configuration.load(config).gateway), token)
    if kafka:
        watch(FromGateway(process))
        return
    with opened(data_dir, config, STATUS, kafka=False) as site:
        watch(FromDesk(site, process))


def render(
    name: str, stands: PipelineStatus, incidents: list[IncidentSummary], *, runs: bool, armed: str
) -> RenderableType:
    """Return the status as people read it."""
    facts = columns(None, None, None)
    facts.add_row(
        "pipeline", Text("running", "bold green") if runs else Text("not running", "bold red"), Text(name, "dim")
    )
    if stands.workers:
        said = "ready" if stands.ready else stands.why_not
        facts.add_row("workers", f"{len(stands.workers):,}", Text(said, "dim" if stands.ready else "bold yellow"))
    dry = Text("no: dry run, nothing pages", "bold yellow")
    facts.add_row("armed", Text("yes", "bold green") if stands.armed else dry, Text(armed or _arm_hint(stands), "dim"))
    paged = f"{stands.paged_incidents:,} of them paged" if stands.armed else f"{stands.paged_incidents:,} would page"
    facts.add_row("open incidents", f"{stands.open_incidents:,}", Text(paged, "dim"))
    facts.add_row("waiting to send", f"{stands.waiting_to_send:,}", "")
    letters = Text("`streamproc dead-letters list` shows why", "dim") if stands.dead_letters else ""
    style = "bold yellow" if stands.dead_letters else ""
    facts.add_row("dead letters", Text(f"{stands.dead_letters:,}", style), letters)
    shown: list[RenderableType] = [facts, heading("NODES"), _nodes(stands)]
    if stands.workers:
        shown += [heading("WORKERS"), _workers(stands)]
    if incidents:
        more = stands.open_incidents - len(incidents)
        shown += [heading("OPEN INCIDENTS", "latest change first"), _incidents(incidents)]
        shown += [Text(f"and {more:,} more", "dim")] if more > 0 else []
    return Group(*shown)


def _arm_hint(stands: PipelineStatus) -> str:
    return "" if stands.armed else "`streamproc arm` lets pages go out"


def _nodes(stands: PipelineStatus) -> RenderableType:
    table = listing("NODE", "WAITING", "ROWS", "HAS FOLDED UP TO (UTC)")
    for node in _summed(stands.nodes):
        waiting = Text(f"{node.lag:,}", "bold yellow" if node.lag else "")
        table.add_row(node.node, waiting, f"{node.rows:,}", at(node.now) if node.now is not None else "")
    return table


def _summed(nodes: tuple[NodeStatus, ...]) -> Iterator[NodeStatus]:
    """Yield each node with all its partitions; it has folded up to where the last of those that hold anything has."""
    for _, group in groupby(nodes, key=lambda node: node.node):
        parts = list(group)
        behind = [part.now for part in parts if part.now is not None and (part.lag or len(parts) == 1)]
        done = max((part.now for part in parts if part.now is not None), default=None)
        yield parts[0].model_copy(
            update={
                "lag": sum(part.lag for part in parts),
                "rows": sum(part.rows for part in parts),
                "now": min(behind, default=done),
            }
        )


def _workers(stands: PipelineStatus) -> RenderableType:
    table = listing("WORKER", "HOST", "PARTITIONS")
    for worker in stands.workers:
        table.add_row(worker.name, worker.host, f"{worker.partitions:,}")
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
