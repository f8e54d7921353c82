"""`streamproc check`: what is wrong with the settings and the files beside them, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import typer
from rich.console import RenderableType
from rich.text import Text

from streamproc import settings as configuration
from streamproc.beginning import read_catalogue
from streamproc.commands.common import PROBLEMS, AsJson, ConfigFile
from streamproc.commands.console import columns, count_of, show
from streamproc.core.errors import Unusable
from streamproc.core.step import Everywhere, Topology
from streamproc.core.topic import Topic
from streamproc.gateway.config import check_binding
from streamproc.runtime.clock import SystemClock
from streamproc.service import channels
from streamproc.services import Catalogue, problems
from streamproc.settings import Settings
from streamproc.stages.escalate import DEFAULT
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

KEY = 32
"""Characters of a routing key."""


class Level(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    NOTE = "note"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Level
    area: str
    said: str


MARKS = {Level.GOOD: ("ok", "green"), Level.NOTE: ("note", "yellow"), Level.PROBLEM: ("PROBLEM", "bold red")}


def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Check settings, files and services, without the network.

    Exit code 1 where something would not work; notes are worth a look, and do not fail.
    """
    found = list(findings(config))
    bad = sum(finding.level is Level.PROBLEM for finding in found)
    if as_json:
        typer.echo(json.dumps({"ok": not bad, "findings": [finding._asdict() for finding in found]}))
    else:
        show(_table(found))
        typer.echo(f"\n{count_of(bad, 'problem')}." if bad else "\nAll is well.")
    if bad:
        raise typer.Exit(PROBLEMS)


def findings(config: Path | None) -> Iterator[Finding]:
    """Yield everything that was looked at, good or bad, in order of what a start needs first."""
    yield from agreement(TOPOLOGY, TOPICS)
    try:
        settings = configuration.load(config)
    except Unusable as error:
        yield Finding(Level.PROBLEM, "settings", str(error))
        return
    file = config or configuration.DEFAULT_FILE
    yield from _file(file)
    yield from _gateway(settings)
    yield from _destinations(settings)
    yield from _services(settings)
    yield from _channels(settings)


BESIDE = ("shadow",)
"""Topics that commands and the follower of a candidate use, and no node does."""


def agreement(topology: Topology, topics: Mapping[str, Topic]) -> Iterator[Finding]:
    """Yield where the catalogue of topics and the topology do not fit together."""
    bad = False
    for node in topology:
        for name in set(node.inbox.events) - set(node.types):
            bad = True
            said = f"{node.inbox.name} may hold {name}, which {node.name} does not take"
            yield Finding(Level.PROBLEM, "topics", said)
    used = {LETTERS.name, *BESIDE}
    for node in topology:
        written = (one.topic if isinstance(one, Everywhere) else one for one in node.writes)
        used |= {node.inbox.name, *(topic.name for topic in written)}
    for name in topics:
        if name not in used:
            bad = True
            yield Finding(Level.PROBLEM, "topics", f"no node reads or writes {name}")
    if not bad:
        yield Finding(Level.GOOD, "topics", f"{len(topics)} topics and {len(topology)} nodes agree")


def _file(file: Path) -> Iterator[Finding]:
    if not file.is_file():
        yield Finding(Level.NOTE, "settings", f"there is no {file}: defaults and the environment are used")
        return
    yield Finding(Level.GOOD, "settings", str(file))
    if file.stat().st_mode & 0o077:
        yield Finding(Level.NOTE, "settings", f"others may read {file}, which may hold keys: chmod 600 {file}")


def _gateway(settings: Settings) -> Iterator[Finding]:
    gateway = settings.listening()
    try:
        check_binding(gateway)
    except Unusable as error:
        yield Finding(Level.PROBLEM, "gateway", str(error))
    else:
        who = "with a token" if gateway.ingest_tokens else "from this machine alone, without a token"
        yield Finding(Level.GOOD, "gateway", f"{gateway.host}:{gateway.port}, {who}")
    if not gateway.webhook_secrets and settings.pagerduty.security.webhook_validation:
        said = "gateway.webhook_secrets is empty: what responders do in PagerDuty is not heard"
        yield Finding(Level.NOTE, "gateway", said)


def _destinations(settings: Settings) -> Iterator[Finding]:
    named = settings.pagerduty.destinations
    if DEFAULT not in named:
        mend = "set PAGERDUTY_ROUTING_KEY, or pagerduty.destinations.default.routing_key"
        yield Finding(Level.PROBLEM, "destinations", f"`{DEFAULT}` has no routing key, so pages go nowhere: {mend}")
    for name, destination in named.items():
        length = len(destination.routing_key.get_secret_value())
        if length == KEY:
            yield Finding(Level.GOOD, "destinations", f"{name} at {settings.pagerduty.api.base_url}")
        else:
            said = f"the routing key of {name} has {length} characters, PagerDuty's have {KEY}"
            yield Finding(Level.PROBLEM, "destinations", said)


def _services(settings: Settings) -> Iterator[Finding]:
    try:
        body = read_catalogue(settings)
    except Unusable as error:
        yield Finding(Level.PROBLEM, "services", str(error))
        return
    if body is None:
        yield Finding(Level.NOTE, "services", f"no catalogue is set: every page goes to `{DEFAULT}`")
        return
    catalogue = Catalogue.of(body)
    yield Finding(Level.GOOD, "services", f"{settings.services}: {count_of(len(catalogue.services), 'service')}")
    for doubt in problems(catalogue, settings.pagerduty.destinations):
        yield Finding(Level.NOTE, "services", doubt)


def _channels(settings: Settings) -> Iterator[Finding]:
    try:
        way = channels(settings, SystemClock())
    except Unusable as error:
        yield Finding(Level.PROBLEM, "channels", str(error))
        return
    if way is None:
        said = "pagerduty.notifications.channels is empty: nobody is told when PagerDuty, or streamproc itself, fails"
        yield Finding(Level.NOTE, "channels", said)
        return
    count = count_of(len(settings.pagerduty.notifications.channels), "way")
    yield Finding(Level.GOOD, "channels", f"{count} to people beside PagerDuty")


def _table(found: Sequence[Finding]) -> RenderableType:
    table = columns(7, None, None)
    for finding in found:
        mark, style = MARKS[finding.level]
        table.add_row(Text(mark, style), Text(finding.area, "dim"), Text(finding.said))
    return table
