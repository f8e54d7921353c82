"""`streamproc status --live`: one screen that is drawn anew each second."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from streamproc.commands.console import columns, heading, lasting, listing, plain, severity
from streamproc.commands.scrape import Process, Scrape
from streamproc.commands.site import Site
from streamproc.core.errors import StreamprocError
from streamproc.gateway.operations import Incidents
from streamproc.runtime.clock import SystemClock
from streamproc.views import IncidentSummary, PipelineStatus

EVERY = 1.0
INCIDENTS, REASONS = 8, 8
"""So many are shown."""
UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class Look:
    """How the pipeline stood at one moment."""

    at: float
    """Monotonic seconds."""
    runs: bool
    status: PipelineStatus
    incidents: list[IncidentSummary]
    scrape: Scrape | None
    """None where no process answers for metrics."""


class Source(Protocol):
    """What can be looked at again and again."""

    @property
    def name(self) -> str:
        """What people call it."""

    def look(self) -> Look:
        """Return how it stands now.

        Raises:
            StreamprocError: it cannot be told.
        """

    def close(self) -> None:
        """End looking."""


class FromDesk:
    """The data directory of one machine; rates come from its process where that answers."""

    def __init__(self, site: Site, process: Process) -> None:
        self.name = site.name
        self._site = site
        self._process = process

    def look(self) -> Look:
        """Return how it stands now."""
        desk, runs = self._site.desk, self._site.desk.attended()
        scrape = self._process.scrape() if runs else None
        return Look(time.monotonic(), runs, desk.status(), desk.incidents("open", INCIDENTS), scrape)

    def close(self) -> None:
        """End looking."""
        self._process.close()


class FromGateway:
    """A gateway's operations API: the way to look at a pipeline on Kafka again and again."""

    def __init__(self, process: Process) -> None:
        self.name = process.url
        self._process = process

    def look(self) -> Look:
        """Return how it stands now."""
        status = self._process.ask("/v1/status", PipelineStatus)
        listed = self._process.ask(f"/v1/incidents?status=open&limit={INCIDENTS}", Incidents).incidents
        return Look(time.monotonic(), status.ready, status, listed, self._process.scrape())

    def close(self) -> None:
        """End looking."""
        self._process.close()


def watch(source: Source) -> None:
    """Show a source until somebody ends it: on a terminal one screen, else a snapshot after the other.

    Raises:
        StreamprocError: not even the first look succeeds.
    """
    with closing(source), suppress(KeyboardInterrupt):
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever began it may have it ignored
            follow(source, lambda shown: typer.echo(plain(shown)), _pause)
            return
        with keys() as wait, Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
            follow(source, lambda shown: live.update(shown, refresh=True), wait)


def follow(source: Source, show: Callable[[RenderableType], object], go_on: Callable[[], bool]) -> None:
    """Look and show until it is not to go on; once shown, a look that fails is said and tried again.

    Args:
        source: what is looked at.
        show: takes each screen.
        go_on: waits for the next look; False ends it.

    Raises:
        StreamprocError: the first look fails.
    """
    before, last = None, source.look()
    show(render(source.name, last, before))
    while go_on():
        try:
            before, last = last, source.look()
        except StreamprocError as error:
            failure = Text(f"\nAs of {lasting_since(last)} ago: {' '.join(str(error).split())}", "bold red")
            show(Group(render(source.name, last, None), failure))
            continue
        show(render(source.name, last, before))


def lasting_since(look: Look) -> str:
    """Return how long ago a look was."""
    return f"{max(0.0, time.monotonic() - look.at):.0f} s"


def _pause() -> bool:
    time.sleep(EVERY)
    return True


@contextmanager
def keys() -> Iterator[Callable[[], bool]]:
    """Read single keys while the context is open; yields a wait that is False once `q` or Ctrl-C was pressed.

    Ctrl-C is noted, not raised: raised in a destructor it would be lost.
    """
    interrupted: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: interrupted.append(number))
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def wait() -> bool:
        until = time.monotonic() + EVERY
        while (left := until - time.monotonic()) > 0:
            if interrupted:
                return False
            if select.select([sys.stdin], [], [], left)[0] and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
                return False
        return not interrupted

    try:
        yield wait
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        signal.signal(signal.SIGINT, handler)


# -- the screen -------------------------------------------------------------------------------------------------------


def render(name: str, look: Look, before: Look | None) -> RenderableType:
    """Return the screen of a look; rates are those since the look before."""
    shown: list[RenderableType] = [_facts(name, look, before), heading("NODES"), _nodes(look, before)]
    if look.incidents:
        shown += [heading("OPEN INCIDENTS", "latest change first"), _incidents(look.incidents)]
    if reasons := _reasons(look, before):
        shown += [heading("LATEST REASONS", "since the last look"), reasons]
    return Group(*shown, Text("\nq or Ctrl-C ends it", "dim"))


def _facts(name: str, look: Look, before: Look | None) -> RenderableType:
    status = look.status
    rows = columns(None, None, None)
    state = Text("running", "bold green") if look.runs else Text("not running", "bold red")
    rows.add_row("pipeline", state, Text(name, "dim"))
    if status.why_not and (not look.runs or status.workers):
        rows.add_row("", Text("not ready", "bold yellow"), Text(status.why_not, "dim"))
    armed = Text("yes", "bold green") if status.armed else Text("no", "bold yellow")
    rows.add_row("armed", armed, "" if status.armed else Text("dry run, nothing pages", "dim"))
    paged = "paged" if status.armed else "would page"
    rows.add_row("open incidents", f"{status.open_incidents:,}", Text(f"{status.paged_incidents:,} {paged}", "dim"))
    rows.add_row("alerts in", _rate(look, before, "streamproc_ingest_alerts_total"), "")
    rows.add_row("requests to PagerDuty", _rate(look, before, "streamproc_deliveries_total"), _verdicts(look, before))
    rows.add_row("waiting to send", f"{status.waiting_to_send:,}", _circuit(look, before))
    letters = Text(f"{status.dead_letters:,}", "bold yellow" if status.dead_letters else "")
    rows.add_row("dead letters", letters, "")
    slowest = _slowest(look, before)
    rows.add_row("slowest node", slowest[0] if slowest else UNKNOWN, Text(slowest[1] if slowest else "", "dim"))
    return rows


def _rate(look: Look, before: Look | None, metric: str) -> str:
    if before is None or before.scrape is None or look.scrape is None:
        return UNKNOWN
    grown = look.scrape.grown(before.scrape, metric).get(())
    return UNKNOWN if grown is None else f"{grown / max(look.at - before.at, 0.001):,.1f}/s"


def _verdicts(look: Look, before: Look | None) -> Text:
    if before is None or before.scrape is None or look.scrape is None:
        return Text("")
    grown = look.scrape.grown(before.scrape, "streamproc_deliveries_total", "verdict")
    return Text(", ".join(f"{verdict} {count:.0f}" for (verdict,), count in sorted(grown.items()) if count), "dim")


def _circuit(look: Look, before: Look | None) -> Text:
    """Return whether PagerDuty answers, as far as the sender's figures tell."""
    if look.scrape is None:
        return Text("")
    oldest = look.scrape.total("streamproc_delivery_oldest_seconds") or 0.0
    again = 0.0
    if before is not None and before.scrape is not None:
        again = look.scrape.grown(before.scrape, "streamproc_deliveries_total", "verdict").get(("again",), 0.0)
    told = [f"the oldest for {oldest:,.0f} s"] if oldest >= 1 else []
    told += ["PagerDuty does not answer, or asks to wait"] if again else []
    return Text(", ".join(told), "bold red" if again else "dim")


def _slowest(look: Look, before: Look | None) -> tuple[str, str] | None:
    if before is None or before.scrape is None or look.scrape is None:
        return None
    found = look.scrape.slowest(before.scrape)
    return None if found is None else (found[0], f"{found[1] * 1e6:,.0f} µs a record")


def _nodes(look: Look, before: Look | None) -> RenderableType:
    table = listing("NODE", "WAITING", "ROWS", "RECORDS/S")
    rates: dict[tuple[str, ...], float] = {}
    if before is not None and before.scrape is not None and look.scrape is not None:
        grown = look.scrape.grown(before.scrape, "streamproc_events_received_total", "node")
        rates = {key: count / max(look.at - before.at, 0.001) for key, count in grown.items()}
    for name in dict.fromkeys(node.node for node in look.status.nodes):
        parts = [node for node in look.status.nodes if node.node == name]
        lag = sum(part.lag for part in parts)
        waiting = Text(f"{lag:,}", "bold yellow" if lag else "")
        rate = f"{rates[name,]:,.1f}" if (name,) in rates else UNKNOWN
        table.add_row(name, waiting, f"{sum(part.rows for part in parts):,}", rate)
    return table


def _incidents(incidents: list[IncidentSummary]) -> RenderableType:
    now = SystemClock().now()
    table = columns(None, None, None, None)
    for one in incidents:
        decided = Text(f"{one.action}{' (dry run)' if one.dry_run else ''}: {one.reason}", "dim")
        table.add_row(severity(one.severity), lasting(now - one.opened_at), Text(one.title), decided)
    return table


def _reasons(look: Look, before: Look | None) -> RenderableType | None:
    if before is None or before.scrape is None or look.scrape is None:
        return None
    grown = look.scrape.grown(before.scrape, "streamproc_decisions_total", "stage", "reason", "intentional")
    told = sorted(((count, key) for key, count in grown.items() if count), reverse=True)[:REASONS]
    if not told:
        return None
    table = columns(None, None, None)
    for count, (stage, reason, intentional) in told:
        table.add_row(stage, Text(reason, "bold red" if intentional == "false" else ""), f"{count:,.0f}")
    return table
