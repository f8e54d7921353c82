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
    incident: Annotated[str, typer.Argument(help="Its id, how that begins, or the hash at its end.")],
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
    every: Annotated[bool, typer.Option("--all", help="All alerts and all of the timeline, however long.")] = False,
) -> None:
    """Show why an incident paged, or did not: from the raw alert to the page.

    Reads the data directory or the topics themselves, so it works whether or not the pipeline runs.
    """
    with opened(data_dir, config, INCIDENTS, kafka=kafka) as site:
        view = site.desk.incident(incident) or _found(site.desk, incident)
    if as_json:
        typer.echo(view.model_dump_json())
        return
    show(tell(view, SystemClock().now(), most=None if every else 12))


def _found(desk: SqliteDesk, text: str) -> IncidentView:
    found = desk.matching(text, MOST)
    views = [view for name in found[:2] if (view := desk.incident(name)) is not None]
    if len(views) == 1:
        return views[0]
    if not views:
        raise Unusable(f"no incident is called {text!r}; `streamproc status` lists the open ones")
    more = " and more" if len(found) == MOST else ""
    raise Unusable(f"{text!r} could be {', '.join(found)}{more}: give more of it")
