"""How the demo looks: a live screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Self

from rich.align import Align
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from streamproc.demo.figures import Figures, Shown, percentile
from streamproc.demo.telling import Line, Verb

KEPT = 200
"""Lines that are remembered for a taller terminal."""
LEAST_WIDTH, LEAST_HEIGHT = 60, 18
"""A smaller terminal gets plain lines."""
AROUND = 12
"""Rows of the screen beside PagerDuty's and the lines of the feed."""
MOST_SHOWN = 8
"""Alerts of PagerDuty that are shown at most."""
LINE_STYLE = "dim"

STYLES = {
    Verb.SCENE: "bold cyan",
    Verb.PAGE: "bold red",
    Verb.TICKET: "magenta",
    Verb.HOLD: "bold dark_orange3",
    Verb.QUIET: "",
    Verb.JOIN: "cyan",
    Verb.SENT: "red",
    Verb.ACK: "bold blue",
    Verb.CLOSE: "green",
    Verb.FOLD: "dim",
    Verb.LATE: "dim",
    Verb.LETTER: "bold magenta",
    Verb.WORKER: "bold yellow",
}
"""Colours of the terminal's own palette, so that they can be read on dark and on light ones."""
HEADLINES = frozenset({Verb.SCENE, Verb.WORKER})
_MARKS = {"triggered": ("●", "bold red"), "acknowledged": ("◐", "bold blue"), "resolved": ("○", "green")}


class PlainScreen:
    """Writes every line as it comes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, figures: Figures, lines: Iterable[Line]) -> None:  # noqa: ARG002  the lines say it
        """Show what is new."""
        for line in lines:
            self._console.print(plain(line), markup=False, highlight=False, soft_wrap=True)


class LiveScreen:
    """Keeps the figures, what PagerDuty holds and the latest lines in view.

    Args:
        console: of a terminal.
        seconds: how long the scenario takes.
    """

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._seconds = seconds
        self._lines: deque[Line] = deque(maxlen=KEPT)
        self._live = Live(console=console, screen=True, auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, figures: Figures, lines: Iterable[Line]) -> None:
        """Show how it stands."""
        self._lines.extend(lines)
        size = self._console.size
        self._live.update(frame(figures, list(self._lines), self._seconds, size.width, size.height), refresh=True)


def fits(console: Console) -> bool:
    """Return whether a console can carry the live screen."""
    size = console.size
    capable = console.is_terminal and not console.is_dumb_terminal and console.encoding.startswith("utf")
    return capable and size.width >= LEAST_WIDTH and size.height >= LEAST_HEIGHT


def frame(figures: Figures, lines: Sequence[Line], seconds: float, width: int, height: int) -> RenderableType:
    """Return one picture of the screen.

    Args:
        figures: how it stands.
        lines: what happened, the newest last.
        seconds: how long the scenario takes.
        width: columns of the terminal.
        height: rows of it.
    """
    shown = max(2, min(MOST_SHOWN, (height - AROUND) // 4))
    room = height - AROUND - shown
    scene = next((line for line in reversed(lines) if line.verb in HEADLINES), None)
    headline = "" if scene is None else f"{scene.subject} {scene.words}".strip()
    return Group(
        _head(figures, seconds),
        _runtime(figures),
        Rule(style=LINE_STYLE),
        _tiles(figures),
        Text(),
        Text.assemble((" ▸ ", "bold cyan"), (headline, "bold"), no_wrap=True, overflow="ellipsis"),
        Text(),
        Rule(Text(f"PagerDuty: {figures.open_alerts} open"), align="left", style=LINE_STYLE),
        _alerts(figures.shown, shown),
        Text(),
        Rule("decisions and their reasons", align="left", style=LINE_STYLE),
        feed([line for line in lines if line.verb is not Verb.SCENE][-room:], width),
    )


def feed(lines: Sequence[Line], width: int) -> RenderableType:
    """Return lines of the feed as a table of full width."""
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(width=6, justify="right", no_wrap=True, style="dim")
    table.add_column(width=6, no_wrap=True)
    table.add_column(width=10 if width < WIDE else 14, no_wrap=True, overflow="ellipsis")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(width=23 if width < WIDE else 30, no_wrap=True, overflow="ellipsis", style="dim")
    for line in lines:
        words = Text.assemble(line.words, (f"  {line.more}" if line.more and width >= WIDE else "", "dim"))
        table.add_row(f"{line.at:.1f}", Text(line.verb, STYLES[line.verb]), line.subject, words, line.reason)
    return table


WIDE = 110
"""Columns from which on there is room to spare."""


def plain(line: Line) -> str:
    """Return a line as text."""
    if line.verb is Verb.SCENE:
        return f"{line.at:6.1f}  -- {line.words}"
    reason = f"  [{line.reason}]" if line.reason else ""
    more = f": {line.more}" if line.more else ""
    return f"{line.at:6.1f}  {line.verb:<6}  {line.subject:<10}  {line.words}{more}{reason}"


def _head(figures: Figures, seconds: float) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    at = min(figures.elapsed, seconds)
    table.add_row(
        Text.assemble(("streamproc", "bold"), "  one page per real incident"),
        Text.assemble(f"{at:.0f} of {seconds:.0f} s", ("  Ctrl-C stops", "dim")),
    )
    return table


def _runtime(figures: Figures) -> RenderableType:
    told = Text(f"on {figures.runtime}", "dim", no_wrap=True, overflow="ellipsis")
    for worker in figures.workers:
        told.append(f"   {worker.name} ")
        told.append(worker.words, "green" if worker.well else "bold red")
    return told


def _tiles(figures: Figures) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 1))
    compression = f"{figures.compression:,.0f}" if figures.compression else "-"
    typical = f"p50 {percentile(figures.delays, 50) * 1000:.0f} ms" if figures.delays else ""
    tiles = (
        ("alerts in", f"{figures.alerts:,}", f"{figures.rate:,.0f} a second", ""),
        ("episodes", f"{figures.episodes:,}", f"{figures.repeats:,} folded", ""),
        ("incidents", f"{figures.open_incidents}", f"open of {figures.incidents}", ""),
        ("pages", f"{figures.pages}", typical, "red"),
        ("compression", compression, "alerts/page", "green"),
        ("dead letters", f"{figures.letters}", "kept" if figures.letters else "", "magenta" if figures.letters else ""),
    )
    for _ in tiles:
        table.add_column(ratio=1, no_wrap=True)
    table.add_row(*(Text(label, "dim") for label, _, _, _ in tiles))
    table.add_row(*(Text(value, f"bold {style}".strip()) for _, value, _, style in tiles))
    table.add_row(*(Text(note, "dim") for _, _, note, _ in tiles))
    return table


def _alerts(shown: Sequence[Shown], room: int) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(width=2, justify="right")
    table.add_column(width=12, no_wrap=True)
    table.add_column(width=8, no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for alert in shown[:room]:
        mark, style = _MARKS[alert.status]
        status = f"ack by {alert.by}" if alert.status == "acknowledged" and alert.by else alert.status
        faint = "dim" if alert.status == "resolved" else ""
        table.add_row(Text(mark, style), Text(status, style), Text(alert.severity, faint), Text(alert.summary, faint))
    for _ in range(room - len(shown)):
        table.add_row("", "", "", "")
    if not shown:
        return Group(Align.left(Text("   nobody is paged yet", "dim")), *[Text() for _ in range(room - 1)])
    return table
