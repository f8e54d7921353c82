"""`streamproc health`: a report of how the pipeline stands."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from streamproc import settings as configuration
from streamproc.commands import doctor
from streamproc.commands.common import DEFAULT_DATA, PROBLEMS, AsJson, ConfigFile, DataDir, Url
from streamproc.commands.console import columns, heading, listing, show
from streamproc.commands.report import Health, gather, write
from streamproc.commands.scrape import Process, Scrape
from streamproc.commands.site import INCIDENTS, STATUS, OnKafka, opened
from streamproc.core.errors import Unusable
from streamproc.doctor.finding import Finding
from streamproc.doctor.outside import address_of
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.logs import configure

WATCHED = 1.0
"""Seconds between two looks at the metrics."""
SHOWN = 5


def health(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    full: Annotated[
        bool, typer.Option("--full", help="Also what `streamproc doctor` finds, and the rates of the running process.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder for health.json and health.html.", file_okay=False)
    ] = None,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Report how the pipeline stands: for people, programs and a bug report.

    Status, dead letters by reason, and of the last 24 hours what PagerDuty refused and which rules were noisiest. The
    files of --report hold alert text, and no keys. Exit code 1 where it does not run, or --full finds a fault.
    """
    configure("critical", "console")
    found: list[Finding] = []
    scrapes = None
    if full:
        found = doctor.diagnose(data_dir, config, url, kafka=kafka)
        scrapes = _watched(url or address_of(configuration.load(config).gateway))
    with opened(data_dir, config, (*STATUS, *INCIDENTS), kafka=kafka) as site:
        made = gather(site, SystemClock().now(), found, scrapes)
    if as_json:
        typer.echo(made.model_dump_json())
    else:
        show(_told(made, found))
    if report is not None:
        _write(made, report)
    if not made.well:
        raise typer.Exit(PROBLEMS)


def _watched(url: str) -> tuple[Scrape, Scrape, float] | None:
    """Return two looks at a process's metrics and the seconds between them, None where it does not answer."""
    with closing(Process(url)) as process:
        began = time.monotonic()
        before = process.scrape()
        if before is None:
            return None
        time.sleep(WATCHED)
        after = process.scrape()
        return None if after is None else (before, after, time.monotonic() - began)


def _write(made: Health, folder: Path) -> None:
    try:
        files = write(made, folder)
    except OSError as error:
        raise Unusable(f"{folder} cannot be written: {error.strerror}; give another --report") from error
    for file in files:
        typer.echo(f"Wrote {file}", err=True)


def _told(made: Health, found: list[Finding]) -> RenderableType:
    facts = columns(None, None)
    facts.add_row("pipeline", Text("running", "bold green") if made.running else Text("not running", "bold red"))
    facts.add_row("open incidents", f"{made.status.open_incidents:,}")
    waiting = f"{made.status.waiting_to_send:,}"
    if made.oldest_waiting_seconds:
        waiting += f", the oldest for {made.oldest_waiting_seconds:,.0f} s"
    facts.add_row("waiting to send", waiting)
    facts.add_row("records that wait", f"{sum(node.lag for node in made.status.nodes):,}")
    if made.rates is not None:
        facts.add_row("alerts in", f"{made.rates.alerts_in:,.1f}/s")
        facts.add_row("requests out", f"{made.rates.requests_out:,.1f}/s")
    facts.add_row("refused pages", f"{len(made.refused_pages):,} in 24 h")
    letters = ", ".join(f"{one.reason} {one.count:,}" for one in made.dead_letters)
    facts.add_row("dead letters", letters or "none")
    shown: list[RenderableType] = [facts]
    if made.noisiest:
        table = listing("RULE", "ALERTS", "INCIDENTS", "PAGED")
        for one in made.noisiest[:SHOWN]:
            table.add_row(one.rule, f"{one.alerts:,}", f"{one.incidents:,}", f"{one.pages:,}")
        shown += [heading("NOISIEST RULES", "last 24 hours"), table]
    if found:
        shown += [heading("FOUND BY THE DOCTOR"), doctor.table(found), Text(f"\n{doctor.said(found)}")]
    return Group(*shown)
