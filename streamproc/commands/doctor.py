"""`streamproc doctor`: everything that a pipeline stands on, and for each fault its mend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import typer
from rich.console import RenderableType
from rich.text import Text

from streamproc import settings as configuration
from streamproc.commands import check as settled
from streamproc.commands.common import DEFAULT_DATA, PROBLEMS, AsJson, ConfigFile, DataDir, Url
from streamproc.commands.console import columns, count_of, show
from streamproc.commands.site import OnKafka
from streamproc.core.errors import Unusable
from streamproc.doctor.finding import Check, Finding, State, examine, failed
from streamproc.doctor.machine import find_directory, find_disk, find_versions
from streamproc.doctor.outside import address_of, find_events, find_gateway, find_redis, find_rest
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.logs import configure
from streamproc.settings import Settings

MARKS = {State.OK: ("ok", "green"), State.WARN: ("warn", "yellow"), State.FAIL: ("FAIL", "bold red")}
STATES = {
    settled.Level.GOOD: State.OK,
    settled.Level.NOTE: State.WARN,
    settled.Level.PROBLEM: State.FAIL,
}
NOTE, PROBLEM = settled.Level.NOTE, settled.Level.PROBLEM
MENDS = {
    ("settings", NOTE): "`streamproc init` writes one; chmod 600 where it holds keys",
    ("settings", PROBLEM): "mend what it names; docs/settings.md has every setting",
    ("topics", PROBLEM): "install it anew: the installation itself is at fault",
    ("gateway", NOTE): "`streamproc pagerduty webhook create`, or set PAGERDUTY_WEBHOOK_SECRET",
    ("gateway", PROBLEM): "docs/operations.md, 'Ports and tokens'",
    ("destinations", PROBLEM): "copy the key of the service's Events API v2 integration (32 characters)",
    ("services", NOTE): "set `services` to a catalogue; `streamproc services check` looks at one",
    ("services", PROBLEM): "mend the file; `streamproc services check` looks at it again",
    ("channels", NOTE): "set it to a way that does not depend on PagerDuty",
    ("channels", PROBLEM): "write it as apprise wants it: https://github.com/caronc/apprise/wiki",
}
"""What to do about a finding of `streamproc check`, by its area and level."""


def doctor(
    data_dir: DataDir = DEFAULT_DATA,
    kafka: OnKafka = False,
    config: ConfigFile = None,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Look at everything that a pipeline stands on, and say for each fault its mend.

    Settings, files, versions, data directory, disk, clocks, gateway, PagerDuty; with --kafka brokers, topics, group and
    permissions. Nothing is sent or changed. Exit code 1 where something fails.
    """
    configure("critical", "console")  # what goes wrong is told here, once
    found = diagnose(data_dir, config, url, kafka=kafka)
    if as_json:
        told = [finding._asdict() for finding in found]
        typer.echo(json.dumps({"ok": not failed(found), "findings": told}))
    else:
        show(table(found))
        typer.echo(f"\n{said(found)}")
    if failed(found):
        raise typer.Exit(PROBLEMS)


def diagnose(folder: Path, config: Path | None, url: str, *, kafka: bool) -> list[Finding]:
    """Return everything that was looked at, good or bad.

    Args:
        folder: the data directory; not looked at on Kafka.
        config: the settings file.
        url: where the gateway answers; as the settings say where it is empty.
        kafka: whether the pipeline is the one on Kafka.
    """
    found = [*_settled(config), *find_versions()]
    try:
        settings = configuration.load(config)
    except Unusable:
        settings = None  # said above
    looked = asyncio.run(examine(checks(settings, folder, url, kafka=kafka)))
    once = {finding.said: finding for finding in reversed(looked)}  # a broker that is away fails five checks alike
    return [*found, *(finding for finding in looked if once[finding.said] is finding)]


def _settled(config: Path | None) -> Iterator[Finding]:
    for each in settled.findings(config):
        state = STATES[each.level]
        yield Finding(each.area, state, each.said, MENDS.get((each.area, each.level), ""))


def checks(settings: Settings | None, folder: Path, url: str, *, kafka: bool) -> Iterator[Check]:
    """Yield what is looked at side by side; without settings only what needs none."""
    if not kafka:
        yield Check("data", partial(_directory, folder), "is the disk, or a network file system, in trouble?")
    if settings is None:
        return
    now, pagerduty = SystemClock().now, settings.pagerduty
    needed = not kafka and _attended(folder)
    asked = url or address_of(settings.gateway)
    yield Check("gateway", partial(find_gateway, asked, needed=needed, now=now), "it is overloaded, or stands still")
    yield Check("pagerduty", partial(find_events, pagerduty.api, now=now), "let this machine reach PagerDuty")
    yield Check("pagerduty rest", partial(find_rest, pagerduty.rest), "let this machine reach PagerDuty")
    yield Check("redis", partial(find_redis, settings.redis, now=now), "everything goes on without it")
    if kafka:
        yield from _brokers(settings)


def _brokers(settings: Settings) -> Iterator[Check]:
    from streamproc.doctor import brokers  # noqa: PLC0415  loads Faust

    config = settings.kafka
    yield Check("kafka", partial(brokers.find_brokers, config), brokers.REACH)
    yield Check("kafka topics", partial(brokers.find_topics, config), brokers.REACH)
    yield Check("kafka group", partial(brokers.find_group, config), brokers.REACH)
    yield Check("kafka rights", partial(brokers.find_rights, config), brokers.REACH)
    yield Check("kafka clock", partial(brokers.find_broker_clock, config, SystemClock().now()), brokers.REACH)


async def _directory(folder: Path) -> Sequence[Finding]:
    return await asyncio.to_thread(lambda: [*find_directory(folder), find_disk(folder)])


def _attended(folder: Path) -> bool:
    try:
        return SqliteDesk(folder).attended()
    except Unusable:
        return False


def table(found: Sequence[Finding]) -> RenderableType:
    """Return the findings as people read them, each mend below what it mends."""
    rows = columns(5, None, None)
    for each in found:
        mark, style = MARKS[each.state]
        mend = (f"\n-> {each.mend}", "cyan") if each.mend and each.state is not State.OK else ""
        rows.add_row(Text(mark, style), Text(each.check, "dim"), Text.assemble(each.said, mend))
    return rows


def said(found: Sequence[Finding]) -> str:
    """Return the last line: how many faults, and how many are worth a look."""
    faults, doubts = failed(found), sum(each.state is State.WARN for each in found)
    look = f"{doubts} worth a look" if doubts else ""
    return f"{', '.join(filter(None, (count_of(faults, 'fault') if faults else 'No fault', look)))}."
