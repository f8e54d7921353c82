"""`streamproc shadow`: a candidate beside production, on live traffic; it delivers nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from prometheus_client import start_http_server
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc import settings as configuration
from streamproc.beginning import read_catalogue
from streamproc.commands.common import DEFAULT_DATA, AsJson, Author, ConfigFile, DataDir, login
from streamproc.commands.console import at, clock_time, columns, count_of, heading, lasting, listing, show
from streamproc.commands.history import promote
from streamproc.commands.reasons import sentence
from streamproc.commands.site import POLICIES, OnKafka, opened, when
from streamproc.commands.verify import recorded
from streamproc.core.errors import Transient, Unusable
from streamproc.core.event import Why
from streamproc.events.feedback import ARM
from streamproc.events.shadow import Difference, DifferingPage
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.collector import tune
from streamproc.runtime.embedded.spool import submit
from streamproc.runtime.logs import configure
from streamproc.service import process_registry
from streamproc.services import Catalogue, problems
from streamproc.shadow.candidate import begun, candidate_of, ended, everything, newest
from streamproc.shadow.follower import Follower
from streamproc.shadow.metrics import ShadowMetrics
from streamproc.shadow.telling import Told, told

log = structlog.get_logger(__name__)

app = typer.Typer(
    no_args_is_help=True, help="A candidate beside production, on live traffic: start, look, stop, promote."
)

Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded.")]
EMBEDDED_BEHIND, KAFKA_BEHIND = timedelta(seconds=1), timedelta(seconds=10)
"""A follower stays so far behind the clock. On Kafka records of one moment come from many partitions."""
EMBEDDED_POLL, KAFKA_POLL = 0.5, 5.0
LOW_PRIORITY = 10
NOBODY = "no page"


@app.command()
def start(
    settings_file: Annotated[Path, typer.Argument(metavar="SETTINGS", help="The settings to try.", dir_okay=False)],
    reason: Reason = "",
    author: Author = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
) -> None:
    """Let a settings file decide beside the current settings, on the same traffic; it delivers nothing.

    Its stages' settings, service catalogue and policies count. `streamproc run` follows it by a process of its own; on
    Kafka that is a deployment: `streamproc shadow follow --kafka`. One candidate runs at a time.
    """
    settings = configuration.load(settings_file)
    catalogue = read_catalogue(settings)
    candidate = candidate_of(str(settings_file), settings, catalogue)
    if catalogue is not None:
        for doubt in problems(Catalogue.of(catalogue), settings.pagerduty.destinations):
            typer.echo(f"{settings.services}: {doubt}", err=True)
    with opened(data_dir, config, POLICIES, kafka=kafka) as site, recorded(data_dir, config, kafka=kafka) as inboxes:
        entries = begun(candidate, newest(everything(inboxes)), login(author), reason)
        if not entries:
            typer.echo(f"{candidate.name} runs as the candidate already.")
            return
        taken = site.append(entries)
        armed = any(policy.policy_id == ARM and not policy.withdrawn for policy in site.desk.policies())
    typer.echo(f"{candidate.name} is the candidate. {when(taken=taken)} `streamproc shadow status` shows how it does.")
    if not armed:
        typer.echo("The pipeline is not armed: nothing pages, so there is nothing to compare yet.", err=True)


@app.command()
def stop(
    reason: Reason = "",
    author: Author = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
) -> None:
    """End the candidate; what it came to stays to be looked at."""
    with opened(data_dir, config, (), kafka=kafka) as site, recorded(data_dir, config, kafka=kafka) as inboxes:
        entries = ended(newest(everything(inboxes)), login(author), reason)
        if not entries:
            typer.echo("There is no candidate.")
            return
        taken = site.append(entries)
    typer.echo(f"The candidate is ended. {when(taken=taken)}")


@app.command()
def status(
    data_dir: DataDir = DEFAULT_DATA, kafka: OnKafka = False, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Show how the candidate does: pages of both sides, differences, and how far behind it is."""
    with recorded(data_dir, config, kafka=kafka) as inboxes:
        found = told(inboxes)
    if as_json:
        typer.echo(json.dumps(None if found is None else _dumped(found)))
    elif found is None:
        typer.echo("There never was a candidate: `streamproc shadow start SETTINGS` begins with one.")
    else:
        show(_standing(found, SystemClock().now()))


@app.command()
def diff(
    about: Annotated[str, typer.Argument(metavar="[ID]", help="One difference, with both reason chains.")] = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List where the candidate's pages differ from those of the current settings, or show one difference in full."""
    with recorded(data_dir, config, kafka=kafka) as inboxes:
        found = told(inboxes)
    differences = () if found is None else found.differences
    if about:
        differences = tuple(one for one in differences if one.about.startswith(about))
        if len(differences) != 1:
            raise Unusable(f"{len(differences)} differences begin with {about!r}: `streamproc shadow diff` lists them")
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in differences]))
    elif not differences:
        typer.echo("No difference is settled so far.")
    else:
        show(_story(differences[0]) if about else _list(differences))


@app.command()
def follow(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    host: Annotated[str, typer.Option(help="Address of metrics.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of metrics; none by default.")] = None,
    supervised: Annotated[
        int | None, typer.Option("--supervised", hidden=True, metavar="PID", help="End with this parent process.")
    ] = None,
) -> None:
    """Follow the candidate: play what production gets through it, and publish the differences. Waits for one.

    `streamproc run` starts it by itself. It reads the log, and writes to the topic `shadow` alone.
    """
    settings = configuration.load(config)
    configure(settings.logs.level, settings.logs.form)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    os.nice(LOW_PRIORITY)
    tune()
    clock = SystemClock()
    metrics = None
    if port is not None:
        registry = process_registry()
        metrics = ShadowMetrics(registry, clock)
        start_http_server(port, host, registry)
    publish = _to_kafka(settings) if kafka else lambda entries: submit(data_dir, entries, wait=0.0)
    behind, poll = (KAFKA_BEHIND, KAFKA_POLL) if kafka else (EMBEDDED_BEHIND, EMBEDDED_POLL)
    with recorded(data_dir, config, kafka=kafka) as inboxes:
        follower = Follower(inboxes, publish, clock, behind, metrics)
        while supervised is None or os.getppid() == supervised:
            try:
                follower.step()
            except Transient as error:
                log.warning("The candidate waits for the log.", error=str(error))
            time.sleep(poll)


def _to_kafka(settings: configuration.Settings) -> Callable[[Sequence[Entry]], object]:
    from streamproc.distributed import append_to  # noqa: PLC0415  loads Faust

    return lambda entries: asyncio.run(append_to(settings, entries))


# -- what is shown -----------------------------------------------------------------------------------------------------


def _dumped(found: Told) -> dict[str, Any]:
    began, progress = found.began, found.progress
    return {
        "candidate": None if found.candidate is None else found.candidate.name,
        "version": began.switch.version,
        "checksum": began.switch.checksum,
        "since": began.at.isoformat(),
        "author": began.switch.author,
        "reason": began.switch.reason,
        "ended": None if found.ended is None else found.ended.at.isoformat(),
        "progress": None if progress is None else progress.model_dump(mode="json"),
    }


def _standing(found: Told, now: datetime) -> RenderableType:
    began, progress = found.began, found.progress
    name = began.switch.checksum[:12] if found.candidate is None else found.candidate.name
    runs = f"for {lasting(now - began.at)}" if found.ended is None else f"ended {at(found.ended.at)} UTC"
    by = " · ".join(filter(None, (f"since {at(began.at)} UTC", began.switch.author, began.switch.reason)))
    head = Text.assemble((f"CANDIDATE {began.switch.version}  {name}", "bold"), f"  {runs}\n{by}")
    if progress is None:
        return Group(head, Text("Nothing is played yet: no follower has come so far.", style="yellow"))
    rows = columns(12, None)
    rows.add_row("compared", f"{count_of(progress.requests, 'request')} since {at(progress.since)} UTC")
    rows.add_row("pages", f"{progress.pages_current:,} now, {progress.pages_candidate:,} by the candidate")
    rows.add_row("incidents", f"{progress.incidents_current:,} now, {progress.incidents_candidate:,} by the candidate")
    kinds = ", ".join(f"{count:,} {relation}" for relation, count in progress.differences.items())
    rows.add_row("differences", f"{kinds or 'none'}; {count_of(progress.agreed, 'page')} alike")
    missed = Text(
        f"{progress.missed:,} with alerts that nobody would be paged for", style="red" if progress.missed else ""
    )
    rows.add_row("missed", missed)
    rows.add_row("open", f"{count_of(progress.open, 'page')} not settled yet")
    if found.ended is None:
        rows.add_row("behind", lasting(now - progress.until))
    return Group(head, rows)


def _list(differences: Sequence[Difference]) -> RenderableType:
    table = listing("ID", "WHEN (UTC)", "WHAT", "ALERT", "SERVICE", "NOW", "CANDIDATE", "PARTED AT")
    for one in differences:
        first = (*one.a, *one.b)[0]
        style = "red" if one.missed else ""
        what = Text(_what(one), style=style)
        cells = (at(first.at), what, Text(first.rule), Text(first.service), _pages(one.a), _pages(one.b), one.parted_at)
        table.add_row(one.about, *cells)
    return table


def _what(one: Difference) -> str:
    if one.relation != "same":
        return {"only_a": "no page any more", "only_b": "a page more"}.get(one.relation, one.relation)
    moved = ""
    if abs(one.delay_seconds) >= 1:
        moved = f"{lasting(timedelta(seconds=one.delay_seconds))} {'later' if one.delay_seconds > 0 else 'earlier'}"
    return ", ".join(filter(None, (moved, *(f"other {change}" for change in one.changes)))) or "other alerts"


def _pages(pages: Sequence[DifferingPage]) -> str:
    if not pages:
        return NOBODY
    first = pages[0]
    return f"{f'{len(pages)} pages, ' if len(pages) > 1 else ''}{first.severity} to {first.destination}"


def _story(one: Difference) -> RenderableType:
    parts: list[RenderableType] = [_list([one])]
    for name, alerts in (("missed", one.missed), ("only the candidate's", one.gained)):
        if alerts:
            parts.append(Text(f"{name}: {', '.join(alerts)}"))
    for title, chain in (("NOW", one.why_a), ("CANDIDATE", one.why_b)):
        parts += [heading(title, "" if chain else "it took the alert into no incident"), _chain(chain, one.parted_at)]
    return Group(*parts)


def _chain(chain: Sequence[Why], parted_at: str) -> RenderableType:
    rows = columns(12, 12, None)
    for why in chain:
        style = "bold" if why.stage == parted_at else ""
        rows.add_row(
            clock_time(why.now), Text(why.stage, style=style), Text(sentence(why.stage, why.reason), style=style)
        )
    return rows


app.command()(promote)
