"""A report as one HTML page that loads nothing: light and dark. Texts of alerts are hostile, they are escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from streamproc.beside import telling
from streamproc.beside.report import Fate, Report

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 500
"""Pages that are listed; the JSON has all."""


def page(report: Report) -> str:
    """Return the page."""
    pages = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(moment=telling.moment, later=telling.later, because=telling.because, link=link)
    most = max(1, report.counts.theirs)
    bars = [(fate.value, getattr(report.counts, fate.value), telling.FATES[fate]) for fate in Fate]
    rendered: str = pages.get_template("beside.html").render(
        report=report,
        counts=report.counts,
        period=telling.period(report),
        lead=telling.lead_line(report),
        needless=telling.needless_line(report),
        bars=[(name, count, what, round(100 * count / most, 2)) for name, count, what in bars],
        shown=report.judged[:SHOWN],
        style=Markup((TEMPLATES / "beside.css").read_text("utf-8")),  # noqa: S704  a file of this package, not input
    )
    return rendered


def link(url: str) -> str:
    """Return a web address, empty where it is none: a `javascript:` one would run in the page."""
    return url if url.startswith(("https://", "http://")) else ""
