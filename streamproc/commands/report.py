"""What a report of a pipeline's health holds, and how it is written: JSON, and one HTML page that loads nothing."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from platform import python_version

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup
from pydantic import AwareDatetime, BaseModel, ConfigDict

from streamproc import __version__
from streamproc.commands.scrape import Scrape
from streamproc.commands.site import Site
from streamproc.core.event import DeadLetter
from streamproc.core.fold import CONFIG
from streamproc.doctor.finding import Finding, State
from streamproc.events.escalation import Verdict
from streamproc.gateway import console
from streamproc.learning.linear import MODEL
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.services import CATALOGUE
from streamproc.views import IncidentSummary, IncidentView, PipelineStatus

HERE = Path(__file__).parent / "templates"
SPAN = timedelta(hours=24)
PAGE = 500
MOST = 5_000
"""Incidents, and dead letters, that are looked at."""
NOISIEST, REFUSALS = 20, 20
"""So many are told."""


class Part(BaseModel):
    """Base of the report's parts."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Noise(Part):
    """One rule, and how much of it there was."""

    rule: str
    alerts: int
    """Different alerts of it that joined an incident; repeats of an alert are not counted."""
    incidents: int
    pages: int
    """Incidents with it that paged, or would have in a dry run."""


class RefusedPage(Part):
    """A request that PagerDuty refused."""

    incident_id: str
    at: AwareDatetime
    action: str
    destination: str
    status: int | None
    message: str


class Counted(Part):
    """A reason, and how often."""

    reason: str
    count: int


class Rates(Part):
    """What the running process did meanwhile."""

    seconds: float
    """How long it was watched."""
    alerts_in: float
    """Alerts taken, a second."""
    requests_out: float
    """Requests to PagerDuty, a second."""
    decisions: float
    """Decisions, a second."""


class Told(Part):
    """A finding of the doctor."""

    check: str
    state: State
    said: str
    mend: str


class Health(Part):
    """How a pipeline stands."""

    made_at: AwareDatetime
    site: str
    running: bool
    status: PipelineStatus
    rates: Rates | None
    """None where no process answered for its metrics."""
    oldest_waiting_seconds: float | None
    """Age of the oldest page that waits, None where no process answered for its metrics."""
    since: AwareDatetime
    """What follows is of incidents that changed after this moment, the dead letters apart."""
    incidents: int
    noisiest: tuple[Noise, ...]
    refused_pages: tuple[RefusedPage, ...]
    dead_letters: tuple[Counted, ...]
    """All that are kept, by reason."""
    complete: bool
    """False where there is more than was looked at."""
    versions: dict[str, str]
    findings: tuple[Told, ...]
    """What `streamproc doctor` said; empty without --full."""

    @property
    def well(self) -> bool:
        """Whether nothing fails."""
        return self.running and all(finding.state is not State.FAIL for finding in self.findings)


def gather(
    site: Site,
    now: datetime,
    findings: Sequence[Finding] = (),
    scrapes: tuple[Scrape, Scrape, float] | None = None,
) -> Health:
    """Return how a pipeline stands.

    Args:
        site: where to look.
        now: the moment of the report.
        findings: the doctor's.
        scrapes: two of the running process, and the seconds between them.
    """
    desk, since = site.desk, now - SPAN
    runs, status = site.desk.attended(), desk.status()
    recent, all_read = _recent(desk, since)
    views = [view for one in recent if (view := desk.incident(one.incident_id)) is not None]
    letters = list(_letters(desk))
    return Health(
        made_at=now,
        site=site.name,
        running=runs,
        status=status if status.workers or not runs else status.model_copy(update={"why_not": ""}),
        rates=None if scrapes is None else _rates(*scrapes),
        oldest_waiting_seconds=None if scrapes is None else scrapes[1].total("streamproc_delivery_oldest_seconds"),
        since=since,
        incidents=len(recent),
        noisiest=noisiest(views, since),
        refused_pages=_refused(views, since),
        dead_letters=tuple(
            Counted(reason=reason, count=count)
            for reason, count in Counter(letter.reason for letter in letters).most_common()
        ),
        complete=all_read and len(letters) < MOST,
        versions=_versions(desk),
        findings=tuple(Told(**finding._asdict()) for finding in findings),
    )


def _recent(desk: SqliteDesk, since: datetime) -> tuple[list[IncidentSummary], bool]:
    found: list[IncidentSummary] = []
    while len(found) < MOST:
        page = desk.incidents("all", PAGE, found[-1].incident_id if found else "")
        found += [one for one in page if one.changed_at >= since]
        if len(page) < PAGE or page[-1].changed_at < since:
            return found, True
    return found, False


def _letters(desk: SqliteDesk) -> Iterator[DeadLetter]:
    before, count = "", 0
    while count < MOST:
        page = desk.dead_letters(PAGE, before)
        yield from page
        count += len(page)
        if len(page) < PAGE:
            return
        before = page[-1].letter_id


def noisiest(views: Sequence[IncidentView], since: datetime) -> tuple[Noise, ...]:
    """Return the rules with the most alerts that began after a moment, the noisiest first."""
    alerts: Counter[str] = Counter()
    incidents: Counter[str] = Counter()
    pages: Counter[str] = Counter()
    for view in views:
        rules = Counter(one.member.name for one in view.members if one.member.starts_at >= since)
        alerts.update(rules)
        incidents.update(rules.keys())
        if view.summary.action == "page" and not view.summary.adopted:
            pages.update(rules.keys())
    listed = sorted(alerts, key=lambda rule: (-alerts[rule], -incidents[rule], rule))[:NOISIEST]
    return tuple(Noise(rule=r, alerts=alerts[r], incidents=incidents[r], pages=pages[r]) for r in listed)


def _refused(views: Sequence[IncidentView], since: datetime) -> tuple[RefusedPage, ...]:
    found = [
        RefusedPage(
            incident_id=view.summary.incident_id,
            at=page.sent_at,
            action=page.action,
            destination=page.destination,
            status=page.status,
            message=page.message,
        )
        for view in views
        for page in view.pages
        if page.verdict is Verdict.REFUSED and page.sent_at >= since
    ]
    return tuple(sorted(found, key=lambda page: page.at, reverse=True)[:REFUSALS])


def _rates(before: Scrape, after: Scrape, seconds: float) -> Rates:
    def a_second(metric: str) -> float:
        return round(after.grown(before, metric).get((), 0.0) / seconds, 3)

    return Rates(
        seconds=round(seconds, 3),
        alerts_in=a_second("streamproc_ingest_alerts_total"),
        requests_out=a_second("streamproc_deliveries_total"),
        decisions=a_second("streamproc_decisions_total"),
    )


def _versions(desk: SqliteDesk) -> dict[str, str]:
    found = {"streamproc": __version__, "python": python_version(), "sqlite": sqlite3.sqlite_version}
    for kind in (CONFIG, CATALOGUE.name, MODEL.name):
        active = desk.active(kind)
        found[f"active {kind}"] = "none" if active is None else str(active.version)
    return found


def write(health: Health, folder: Path) -> list[Path]:
    """Write a report as health.json and health.html; return the files. Alert text is in them.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = []
    for name, text in (("health.json", f"{health.model_dump_json(indent=2)}\n"), ("health.html", page(health))):
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(text, encoding="utf-8")
        written.append(file)
    return written


def page(health: Health) -> str:
    """Return a report as one HTML page that loads nothing. Alert text is hostile: it is escaped."""
    pages = SandboxedEnvironment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    style = (console.TEMPLATES / "page.css").read_text("utf-8") + (HERE / "health.css").read_text("utf-8")
    pages.filters.update(ago=console.ago)
    rendered: str = pages.get_template("health.html").render(
        health=health,
        status=health.status,
        now=health.made_at,
        style=Markup(style),  # noqa: S704  files of this package, not input
    )
    return rendered
