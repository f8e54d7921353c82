"""`streamproc explain`: why an incident paged, or did not, from the raw alert to PagerDuty's answer."""

from __future__ import annotations

from typing import Annotated

import typer

from streamproc.commands.common import DEFAULT_DATA, AsJson, ConfigFile, DataDir
from streamproc.commands.console import show
from streamproc.commands.site import INCIDENTS, OnKafka, opened
from streamproc.commands.story import tell
from streamproc.core.errors import Unusable
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.views import IncidentView

MOST = 5


def explain(
    incident: Annotated[str, typer.Argument(help="Its id, how that begins, or the hash at its end.")] = "",
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
    every: Annotated[
        bool, typer.Option("--all", help="All alerts, all of the timeline and all reason chains, however long.")
    ] = False,
    why_not: Annotated[
        str,
        typer.Option(
            "--why-not",
            metavar="ALERT",
            help="The smallest change that would have paged an alert: its fingerprint, its id, or an incident's.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Show why an incident paged, or did not: from the raw alert to the page.

    Reads the data directory or the topics themselves, so it works whether or not the pipeline runs.

    With --why-not: what became of an alert, and which change would have paged, by folding its requests again in memory.
    """
    if why_not:
        if incident:
            raise Unusable("give an incident to explain, or --why-not ALERT, not both")
        from streamproc.commands import whynot  # noqa: PLC0415  it folds: whoever only looks needs none of that

        whynot.why_not(why_not, data_dir, config, kafka=kafka, as_json=as_json, chains=every)
        return
    if not incident:
        raise Unusable("which incident? `streamproc status` lists the open ones; --why-not ALERT asks about an alert")
    with opened(data_dir, config, INCIDENTS, kafka=kafka) as site:
        view = found(site.desk, incident)
    if as_json:
        typer.echo(view.model_dump_json())
        return
    show(tell(view, SystemClock().now(), most=None if every else 12))


def found(desk: SqliteDesk, text: str) -> IncidentView:
    """Return the incident that a person means.

    Raises:
        Unusable: there is none, or the text could mean several.
    """
    if (view := desk.incident(text)) is not None:
        return view
    names = desk.matching(text, MOST)
    views = [view for name in names[:2] if (view := desk.incident(name)) is not None]
    if len(views) == 1:
        return views[0]
    if not views:
        raise Unusable(f"no incident is called {text!r}; `streamproc status` lists the open ones")
    more = " and more" if len(names) == MOST else ""
    raise Unusable(f"{text!r} could be {', '.join(names)}{more}: give more of it")
