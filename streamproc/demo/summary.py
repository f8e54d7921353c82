"""What stands at the end: what came in, what came of it, whether the promises held, and how to look further."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamproc.demo.figures import Figures, percentile
from streamproc.demo.stage import Outlived
from streamproc.demo.verdict import Told, Verdict
from streamproc.views import IncidentView

OWN_ALERT = '{"name": "MyOwnAlert", "status": "firing", "severity": "critical", "labels": {"service": "search"}}'


def summary(figures: Figures, verdict: Verdict, webhooks: int, outlived: Outlived | None = None) -> RenderableType:
    """Return the summary of a scenario."""
    facts = _facts(figures, webhooks)
    if outlived is not None:
        facts.add_row(f"{outlived.seconds:.0f} s", _survival(outlived, verdict.pages_doubled))
    return Group(
        Text(),
        Text("What came of it", "bold cyan"),
        Text(),
        facts,
        Text(),
        _stories(verdict.stories),
        Text(),
        _promises(figures, verdict),
    )


def reasons(view: IncidentView) -> RenderableType:
    """Return the reason chain of the first decision about an incident."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for why in view.chain:
        figures = {name: value for name, value in why.figures.items() if name not in ("incident", "model_version")}
        told = ", ".join(f"{name} {value}" for name, value in figures.items() if value not in ("", None, False, 0))
        table.add_row(f"   {why.stage}", Text(why.reason, "bold"), told)
    title = Text.assemble(("Why it paged: ", "bold cyan"), f"{view.summary.service}: {view.summary.title}")
    return Group(Text(), title, table)


def explaining(stories: Iterable[Told], command: str, site: str) -> list[str]:
    """Return the commands that explain an incident of each story; `site` says by options where they look."""
    names = (told.incidents[0].rpartition(":")[2] for told in stories if told.incidents)
    return [f"{command} explain {name} {site}" for name in names]


def posting(gateway: str) -> list[str]:
    """Return the command that posts an alert, in lines."""
    head = f"curl {gateway}/v1/ingest/generic -H 'Content-Type: application/json' \\"
    return [head, f"  -d '{OWN_ALERT}'"]


def _survival(outlived: Outlived, doubled: int) -> str:
    return (
        f"from kill -9 of {outlived.victim} until {outlived.heir} had taken over everything: {outlived.waited:,} "
        f"records waited, {doubled} pages doubled"
    )


def _facts(figures: Figures, webhooks: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True, style="bold", min_width=8)
    table.add_column()
    table.add_row(f"{figures.alerts:,}", f"alerts received, firing and resolved, in {webhooks:,} webhooks")
    table.add_row(f"{figures.repeats:,}", "repeats and duplicates folded into what was known")
    table.add_row(f"{figures.late:,}", "overtaken by newer ones, set aside")
    table.add_row(f"{figures.letters:,}", "dead letters: could not be read, kept with their bytes")
    table.add_row(f"{figures.incidents:,}", "incidents")
    compression = f": {figures.compression:,.0f} alerts a page" if figures.compression else ""
    table.add_row(f"{figures.pages:,}", f"pages{compression}")
    if figures.delays:
        p50, p95 = percentile(figures.delays, 50), percentile(figures.delays, 95)
        table.add_row(
            f"{p50 * 1000:,.0f} ms", f"from the receipt of an alert to its page (p50; p95 {p95 * 1000:,.0f} ms)"
        )
    return table


def _stories(stories: Iterable[Told]) -> RenderableType:
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("   what happened")
    for title in ("alerts", "incidents", "pages"):
        table.add_column(title, justify="right")
    for told in stories:
        pages = Text(f"{told.pages}", "bold" if told.pages == told.story.pages else "bold red")
        table.add_row(f"   {told.story.name}", f"{told.alerts:,}", f"{len(told.incidents)}", pages)
    return table


def _told_once(repeated: int) -> str:
    if not repeated:
        return "PagerDuty was told everything once"
    return f"nobody was paged twice; the kill repeated {repeated} requests, which PagerDuty knew by their key"


def _promises(figures: Figures, verdict: Verdict) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for promise, kept, broken in (
        ("lost", "every alert is decided or a dead letter, every page arrived", verdict.lost),
        ("doubled", _told_once(verdict.repeated), verdict.doubled),
        ("open", f"every incident is closed, PagerDuty has {figures.open_alerts} open alerts", verdict.unclosed),
    ):
        style = "bold red" if broken else "bold green"
        count = Text(f"   {promise} = {len(broken)}", style)
        table.add_row(count, Text("; ".join(broken), "red") if broken else Text(kept))
    return table
