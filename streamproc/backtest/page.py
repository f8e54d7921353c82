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

from streamproc.backtest.dossier import Dossier
from streamproc.events.escalation import Page
from streamproc.events.incident import Incident
from streamproc.views import IncidentView, incident_view

TEMPLATES = Path(__file__).parent / "templates"
DAYS = 120
"""Days that have a bar of their own; of a longer recording the last ones are drawn."""
MEMBERS = 30
"""Alerts of an incident that are listed."""


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


def render(figures: Mapping[str, Any], dossiers: Sequence[Dossier]) -> bytes:
    """Return the page."""
    pages = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(moment=moment, count=count)
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
    }
    return pages.get_template("report.html").render(content).encode()


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
