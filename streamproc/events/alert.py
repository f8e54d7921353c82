"""Alert: one firing or resolved alert of any producer, in our own words. Episode: its life, without the repeats."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import AwareDatetime

from streamproc.core.event import Explained, Frozen

Status = Literal["firing", "resolved"]


class Severity(StrEnum):
    """PagerDuty's four, which all others are mapped to."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """3 for critical down to 0 for info."""
        return _RANK[self]


_RANK = {Severity.CRITICAL: 3, Severity.ERROR: 2, Severity.WARNING: 1, Severity.INFO: 0}


class Link(Frozen):
    """A link for the responder."""

    href: str
    text: str = ""


class Alert(Explained):
    """One notification about one alert, normalised."""

    TYPE: ClassVar[str] = "alert.v1"

    fingerprint: str
    """`fp:v1:<hex>`: the same for every notification about this alert, whatever its wording."""
    alert_id: str
    """What the producer calls this occurrence: Alertmanager `fingerprint@startsAt` verbatim, Datadog the event's id."""
    source: str
    status: Status
    name: str
    severity: Severity
    summary: str
    description: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    environment: str = ""
    cluster: str = ""
    service: str = ""
    team: str = ""
    resource: str = ""
    scope: str
    """Alerts of different scopes never meet: `environment:cluster` by default."""
    group: str = ""
    """The producer's own group, empty where it groups by nothing."""
    starts_at: AwareDatetime
    ends_at: AwareDatetime | None = None
    at: AwareDatetime
    """Event time of this notification: when it started, or ended, or the producer's own stamp."""
    runbook: str = ""
    links: tuple[Link, ...] = ()
    expires: bool = True
    """False where silence of the source says nothing (Datadog sends a firing alert once)."""


class EpisodeChange(StrEnum):
    """What happened to an episode."""

    OPENED = "opened"
    CHANGED = "changed"
    RESOLVED = "resolved"


class Episode(Explained):
    """An alert's life from firing to resolve: opened once, changed where it matters, resolved once."""

    TYPE: ClassVar[str] = "episode.v1"

    scope: str
    change: EpisodeChange
    alert: Alert
    repeats: int = 0
    """Notifications that said nothing new since the episode opened."""
    expired: bool = False
    """True where the episode closed because its source fell silent."""
