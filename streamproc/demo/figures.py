"""How the demo stands, in figures."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shown:
    """One alert as PagerDuty has it."""

    status: str
    severity: str
    summary: str
    by: str
    """Who acknowledged it."""


@dataclass(frozen=True, slots=True)
class Process:
    """A worker of the pipeline."""

    name: str
    words: str
    """How it stands."""
    well: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """How it stands."""

    elapsed: float = 0.0
    runtime: str = ""
    """What the pipeline runs on."""
    workers: tuple[Process, ...] = ()
    """Those that share the work, where it is several."""
    alerts: int = 0
    """Notifications that were decided."""
    again: int = 0
    """Of them those that were decided more than once."""
    unfolded: int = 0
    """Records that wait for a decision."""
    rate: float = 0.0
    """Of them in a second, lately."""
    repeats: int = 0
    late: int = 0
    episodes: int = 0
    incidents: int = 0
    open_incidents: int = 0
    pages: int = 0
    """How often PagerDuty notified people."""
    requests: int = 0
    """Events that PagerDuty took."""
    letters: int = 0
    waiting: int = 0
    """Alerts at PagerDuty that something waits to be said about."""
    delays: tuple[float, ...] = ()
    """Seconds from the receipt of an alert to its page, one for each page."""
    shown: tuple[Shown, ...] = ()

    @property
    def compression(self) -> float | None:
        """Alerts a page."""
        return self.alerts / self.pages if self.pages else None

    @property
    def open_alerts(self) -> int:
        """Alerts that are open at PagerDuty."""
        return sum(alert.status != "resolved" for alert in self.shown)


def percentile(values: Iterable[float], percent: int) -> float:
    """Return a percentile, the largest value standing for all above it; at least one value."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method="inclusive")[percent - 1]
