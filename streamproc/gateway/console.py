"""The status page and the page of one incident, for people: rendered here, refreshed by a few lines of script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from streamproc.events.incident import Action
from streamproc.gateway.access import Gate
from streamproc.gateway.operations import find_incident
from streamproc.ports import Desk
from streamproc.views import IncidentSummary

TEMPLATES = Path(__file__).parent / "templates"
OPEN_SHOWN, RESOLVED_SHOWN, LETTERS_SHOWN, MEMBERS_SHOWN = 100, 20, 10, 200
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True, slots=True)
class Compression:
    """What became of the alerts behind a list of incidents."""

    alerts: int
    incidents: int
    pages: int

    @classmethod
    def of(cls, incidents: Iterable[IncidentSummary]) -> Self:
        """Return the figures of a list; a page of a dry run counts, since it would have been sent."""
        listed = list(incidents)
        paged = sum(incident.action is Action.PAGE and not incident.adopted for incident in listed)
        return cls(sum(incident.total_count for incident in listed), len(listed), paged)

    @property
    def ratio(self) -> str:
        """Alerts a page, as text."""
        return f"{self.alerts / self.pages:,.1f}" if self.pages else "no"


def router(desk: Desk, gate: Gate, clock: Callable[[], datetime]) -> APIRouter:
    """Return the pages. Without a token in the browser's Basic authentication they ask for one, where one is needed."""
    routes = APIRouter(include_in_schema=False, dependencies=[Depends(gate)], default_response_class=HTMLResponse)
    pages, headers = _environment()

    def show(template: str, **content: Any) -> HTMLResponse:
        return HTMLResponse(pages.get_template(template).render(now=clock(), **content), headers=headers)

    @routes.get("/")
    def overview() -> HTMLResponse:
        status = desk.status()
        opened, resolved = desk.incidents("open", OPEN_SHOWN, ""), desk.incidents("resolved", RESOLVED_SHOWN, "")
        return show(
            "status.html",
            status=status,
            opened=opened,
            resolved=resolved,
            compression=Compression.of((*opened, *resolved)),
            stages=by_stage(status.decisions),
            letters=desk.dead_letters(LETTERS_SHOWN, ""),
        )

    @routes.get("/incidents/{incident_id:path}")
    def incident(incident_id: str, request: Request) -> HTMLResponse:
        return show("incident.html", view=find_incident(desk, incident_id, request), members_shown=MEMBERS_SHOWN)

    return routes


def by_stage(decisions: Mapping[str, int]) -> dict[str, list[tuple[str, int]]]:
    """Return `stage/reason` counts by stage, stages as they come, the most frequent reason first."""
    stages: dict[str, list[tuple[str, int]]] = {}
    for name, count in decisions.items():
        stage, _, reason = name.partition("/")
        stages.setdefault(stage, []).append((reason, count))
    return {stage: sorted(reasons, key=lambda counted: (-counted[1], counted[0])) for stage, reasons in stages.items()}


def ago(moment: datetime, now: datetime) -> str:
    """Return the time from `moment` to `now` in its largest unit; a moment to come is now."""
    seconds = max(0, int((now - moment).total_seconds()))
    for length, unit in UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def web(href: str) -> str:
    """Return a link that may be followed: `http` and `https` only, else nothing. Alert text is hostile."""
    return href if href.lower().startswith(("https://", "http://")) else ""


def _environment() -> tuple[Environment, dict[str, str]]:
    """Return the templates and the headers of every page; style and script are known to the policy by their hashes."""
    style, script = (TEMPLATES / "page.css").read_text("utf-8"), (TEMPLATES / "page.js").read_text("utf-8")
    pages = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.globals.update(style=Markup(style), script=Markup(script))  # noqa: S704  files of this package, not input
    pages.filters.update(ago=ago, web=web)
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return pages, {"content-security-policy": policy, "referrer-policy": "no-referrer"}


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
