"""Metrics of the reconciliation; all label sets stand from the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from streamproc.reconcile.compare import Kind
from streamproc.reconcile.report import Outcome, Reconciliation

Result = Literal["done", "unanswered", "unusable", "refused"]
"""How a look ended."""


class ReconcileMetrics:
    """What the reconciliation counts, kept in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._found = Counter(
            "streamproc_reconcile_total",
            "Differences from PagerDuty, at every look, by what was done about them.",
            ("kind", "outcome"),
            registry=registry,
        )
        self._differences = Gauge(
            "streamproc_reconcile_differences",
            "Differences from PagerDuty that the last look found.",
            ("kind",),
            registry=registry,
        )
        self._looks = Counter(
            "streamproc_reconcile_looks_total", "Looks at PagerDuty by how they ended.", ("result",), registry=registry
        )
        self._age = Gauge(
            "streamproc_reconcile_age_seconds",
            "Seconds since the last look that succeeded, or since the start; 0 where none are made.",
            registry=registry,
        )
        for kind in Kind:
            self._differences.labels(kind.value)
            for outcome in Outcome:
                self._found.labels(kind.value, outcome.value)
        for result in get_args(Result):
            self._looks.labels(result)

    def watch(self, age: Callable[[], float]) -> None:
        """Show an age in seconds whenever it is asked for."""
        self._age.set_function(age)

    def looked(self, report: Reconciliation) -> None:
        """Note a look that succeeded."""
        self._looks.labels("done").inc()
        for kind in Kind:
            self._differences.labels(kind.value).set(report.differences.get(kind, 0))
        for one in report.found:
            self._found.labels(one.kind.value, one.outcome.value).inc()

    def failed(self, result: Result) -> None:
        """Note a look that failed."""
        self._looks.labels(result).inc()
