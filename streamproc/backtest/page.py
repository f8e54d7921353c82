"""The report as one page that needs nothing else: no network, no other file, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from streamproc.backtest.contrast import Contrast, Row
from streamproc.backtest.dossier import Dossier
from streamproc.backtest.spoken import FATES, Sentence, became, by_rule, ended, instead, parted, summary, words
from streamproc.core.event import Scalar
from streamproc.events.escalation import Page
from streamproc.events.incident import Incident
from streamproc.views import IncidentView, incident_view

TEMPLATES = Path(__file__).parent / "templates"
DAYS = 120
"""Days that have a bar of their own; of a longer recording the last ones are drawn."""
MEMBERS = 30
"""Alerts of an incident that are listed."""
RULES = 15
"""Rules whose pages differ that are listed."""
DIFFERENCES = 100
"""Differences that are told."""
SENT = {"trigger delivered": "PagerDuty is told", "resolve delivered": "PagerDuty is told that it is over"}
"""What was sent, in words for a timeline; everything is delivered here."""
TIMERS = frozenset({"forgotten", "put_off"})
"""Reasons of deduplicate that are about no notification."""
IDENTITIES = frozenset({"incident"})
"""Figures of a chain that the page shows anyway."""


@dataclass(frozen=True, slots=True)
class Story:
    """One incident, told in full."""

    dossier: Dossier
    view: IncidentView
    left_out: int
    """Publications of its middle that are not told."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One step of the funnel."""

    name: str
    count: int
    percent: float
    """Of the largest step."""
    note: str


@dataclass(frozen=True, slots=True)
class Told:
    """One difference in pages, in words."""

    row: Row
    what: str
    became: str
    """What became of its alert instead, where no page covers it; else empty."""
    parted: str
    ended: str
    weighs: str
    """`missed`, `more`, `later`, or empty."""


def render(
    figures: Mapping[str, Any], dossiers: Sequence[Dossier], sentence: Sentence, found: Contrast | None = None
) -> bytes:
    """Return the page.

    Args:
        figures: of `report.json`.
        dossiers: incidents to tell in full.
        sentence: what a reason of a stage means.
        found: the difference to a second configuration, None where there is none.
    """
    pages = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(moment=moment, count=count, figure=figure)
    style = Markup((TEMPLATES / "report.css").read_text("utf-8"))  # noqa: S704  a file of this package, not input
    per_day = figures["pages"]["per_day"]
    content = {
        "report": figures,
        "style": style,
        "bars": bars(figures["funnel"]),
        "days": per_day[-DAYS:],
        "days_left_out": max(0, len(per_day) - DAYS),
        "most_a_day": max((day["pages"] + day["updates"] for day in per_day), default=0),
        "stories": [told for dossier in dossiers if (told := story(dossier)) is not None],
        "members_shown": MEMBERS,
        "says": sentence,
        "hidden": IDENTITIES,
        "sent": SENT,
        "notifications": {why: n for why, n in figures["suppressed_repeats"].items() if why not in TIMERS},
        "versus": None if found is None else versus(found, sentence),
    }
    return pages.get_template("report.html").render(content).encode()


def versus(found: Contrast, sentence: Sentence) -> dict[str, Any]:
    """Return what the page says of a difference."""
    counts = found.difference.counts()
    rules = by_rule(found.difference)
    return {
        "a": found.names[0],
        "b": found.names[1],
        "counts": counts,
        "became": [(number, FATES[fate]) for fate, number in became(found).items()],
        "summary": summary(found.difference, found.names[1]),
        "share": (counts["pages_b"] - counts["pages_a"]) / counts["pages_a"] if counts["pages_a"] else None,
        "differing": len(found.difference.differing),
        "rules": rules[:RULES],
        "rules_left_out": max(0, len(rules) - RULES),
        "rows": [_told(row, found, sentence) for row in found.rows[:DIFFERENCES]],
    }


def _told(row: Row, found: Contrast, sentence: Sentence) -> Told:
    pair = row.pair
    fate = instead(found.fates.get(row.alert), sentence) if pair.missed else ""
    weighs = "missed" if pair.missed else "more" if pair.more else "later" if pair.later else ""
    return Told(row, words(pair), fate, parted(row, sentence), ended(row, sentence), weighs)


def story(dossier: Dossier) -> Story | None:
    """Return an incident as its kept publications tell it."""
    incidents = [Incident.model_validate_json(value) for value in dossier.publications.kept]
    view = incident_view(incidents, [Page.model_validate_json(value) for value in dossier.pages.kept])
    return None if view is None else Story(dossier, view, dossier.publications.count - len(incidents))


def bars(funnel: Mapping[str, Any]) -> list[Bar]:
    """Return the steps of the funnel, as shares of the first."""
    told = (
        ("notifications", "what the producers sent, repeats and resolves too"),
        ("alerts", "firing occurrences: the same alert with another start counts anew"),
        ("episodes", "lives of an alert, without its repeats"),
        ("incidents", "alerts that belong together"),
        ("pages", "somebody is called"),
    )
    most = max(1, *(funnel[name] for name, _ in told))
    return [Bar(name, funnel[name], round(100 * funnel[name] / most, 2), note) for name, note in told]


def moment(at: datetime | str | None) -> str:
    """Return a moment (UTC) to the second."""
    if at is None:
        return "none"
    read = datetime.fromisoformat(at) if isinstance(at, str) else at
    return read.strftime("%Y-%m-%d %H:%M:%S")


def count(number: int) -> str:
    """Return a number with separators."""
    return f"{number:,}"


def figure(value: Scalar) -> str:
    """Return a figure of a reason chain."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
