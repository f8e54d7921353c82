"""`streamproc pagerduty reconcile`: one look at what PagerDuty holds of ours, now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from streamproc import settings as configuration
from streamproc.commands.common import DEFAULT_DATA, PROBLEMS, AsJson, ConfigFile, DataDir
from streamproc.commands.console import count_of, listing, show
from streamproc.commands.site import INCIDENTS, STATUS, OnKafka, Site, opened
from streamproc.core.errors import Unusable
from streamproc.ports import Entry
from streamproc.reconcile.compare import Kind
from streamproc.reconcile.ours import Claim
from streamproc.reconcile.report import Outcome, Reconciliation
from streamproc.reconciling import destinations_of
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.logs import configure
from streamproc.runtime.reconciler import SETTLE, Reconciler
from streamproc.settings import Settings
from streamproc.sinks.pagerduty.rest import RestClient
from streamproc.views import IncidentView, PipelineStatus

NEEDED = (*STATUS, *INCIDENTS)
STYLES = {Outcome.REPAIRED: "bold green", Outcome.SEEN: "bold yellow", Outcome.LEFT: "dim", Outcome.WAITING: "yellow"}


class _Place:
    """The site of a look, as the reconciler wants it."""

    site: Site

    def status(self) -> PipelineStatus:
        return self.site.desk.status()

    def claims(self) -> dict[str, Claim]:
        return self.site.desk.claims()

    def incident(self, incident_id: str) -> IncidentView | None:
        return self.site.desk.incident(incident_id)

    async def append(self, entries: Sequence[Entry]) -> None:
        await asyncio.to_thread(self.site.append, entries)


def reconcile(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what two looks, two minutes apart, both see.")] = False,
    now: Annotated[bool, typer.Option("--now", help="With --repair: mend after one look.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the incidents that are open here with those at PagerDuty.

    Without --repair nothing is changed. A running pipeline does the same by itself, every `pagerduty.reconcile_every`
    seconds. Exit code 1 where something of ours differs that is not mended.
    """
    configure("critical", "console")  # what goes wrong is told here, once
    if now and not repair:
        raise Unusable("--now says when to mend: give --repair too")
    settings = configuration.load(config)
    report = looked(
        settings, lambda: opened(data_dir, config, NEEDED, kafka=kafka), repair=repair, at_once=now, settle=SETTLE
    )
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        _tell(report)
    if any(one.outcome is not Outcome.REPAIRED and one.kind is not Kind.UNKNOWN for one in report.found):
        raise typer.Exit(PROBLEMS)


def looked(
    settings: Settings,
    site: Callable[[], AbstractContextManager[Site]],
    *,
    repair: bool,
    at_once: bool,
    settle: timedelta,
) -> Reconciliation:
    """Look once, or twice where something is to be mended that one look does not prove; return the last look.

    Args:
        settings: say where PagerDuty is, and the key.
        site: opens the pipeline, anew for each look: what is read from Kafka is as old as its opening.
        repair: whether to mend.
        at_once: whether one look is enough for that.
        settle: between the looks.

    Raises:
        StreamprocError: there is no pipeline or none that runs, or PagerDuty does not answer.
    """
    place, client = _Place(), RestClient(settings.pagerduty.rest)
    reconciler = Reconciler(client, place, place, SystemClock(), destinations_of(settings), settle=settle)
    try:
        with site() as place.site:
            if repair and not place.site.desk.attended():
                raise Unusable(
                    f"no pipeline runs on {place.site.name}: start it, it mends by itself; or look without --repair"
                )
            report = asyncio.run(reconciler.look(mend=repair, at_once=at_once))
        if not repair or at_once or not any(one.outcome is Outcome.SEEN for one in report.found):
            return report
        found = count_of(len(report.found), "difference")
        typer.echo(f"{found}; the second look is in {settle.total_seconds():.0f} s.", err=True)
        time.sleep(settle.total_seconds())
        with site() as place.site:
            return asyncio.run(reconciler.look())
    finally:
        asyncio.run(client.aclose())


def _tell(report: Reconciliation) -> None:
    there = f"{count_of(report.open_here, 'incident')} open here, {count_of(report.open_there, 'alert')} of ours there"
    if not report.found:
        typer.echo(f"Nothing differs: {there}.")
        return
    table = listing("DIFFERS", "DONE", "WHAT", "BY", "INCIDENT", "PAGERDUTY")
    for one in report.found:
        done = Text(one.outcome, STYLES[one.outcome])
        table.add_row(Text(one.kind, "bold"), done, one.title, one.by, one.incident_id, one.there)
    show(table)
    dry = "" if report.armed else " A dry run mends nothing."
    typer.echo(f"{count_of(len(report.found), 'difference')}: {there}.{dry}")
