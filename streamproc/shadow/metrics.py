"""What Prometheus is told of the candidate."""

from __future__ import annotations

from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge

from streamproc.backtest.difference import Relation
from streamproc.events.shadow import Progress
from streamproc.runtime.clock import Clock

SIDES = ("current", "candidate")
RELATIONS = tuple(str(relation) for relation in Relation)


class ShadowMetrics:
    """Figures of the candidate that is followed; all are 0 while there is none.

    Args:
        registry: where metrics are kept.
        clock: moments.
    """

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._until: datetime | None = None
        self._version = Gauge(
            "streamproc_shadow_candidate", "Number of the candidate that is followed; 0 for none.", registry=registry
        )
        behind = Gauge(
            "streamproc_shadow_behind_seconds",
            "Seconds between now and the moment up to which the candidate has decided.",
            registry=registry,
        )
        behind.set_function(self._behind)
        self._pages = Gauge("streamproc_shadow_pages", "Pages since the candidate began.", ["side"], registry=registry)
        self._incidents = Gauge(
            "streamproc_shadow_incidents", "Incidents since the candidate began.", ["side"], registry=registry
        )
        self._differences = Gauge(
            "streamproc_shadow_differences", "Settled differences in pages.", ["relation"], registry=registry
        )
        self._missed = Gauge(
            "streamproc_shadow_missed",
            "Settled differences with an alert that production paged and the candidate does not.",
            registry=registry,
        )
        self.show(None)

    def show(self, progress: Progress | None) -> None:
        """Tell how the candidate stands, None where there is none."""
        self._until = None if progress is None else progress.until
        figures = {} if progress is None else progress.model_dump()
        self._version.set(figures.get("version", 0))
        self._missed.set(figures.get("missed", 0))
        for side in SIDES:
            self._pages.labels(side).set(figures.get(f"pages_{side}", 0))
            self._incidents.labels(side).set(figures.get(f"incidents_{side}", 0))
        for relation in RELATIONS:
            self._differences.labels(relation).set(figures.get("differences", {}).get(relation, 0))

    def _behind(self) -> float:
        return 0.0 if self._until is None else (self._clock.now() - self._until) / timedelta(seconds=1)
