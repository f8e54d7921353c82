"""Metrics of the sender; all label sets stand from the start."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamproc.events.escalation import PageAction, Verdict

REQUEST_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
WAITING = ("urgent", "other")
Kind = Literal["stuck", "over", "refused"]
"""What people are told beside PagerDuty."""
RESULTS = ("told", "failed", "nobody")


class SenderMetrics:
    """What the sender counts, kept in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "streamproc_deliveries_total",
            "Requests to PagerDuty by what their answer means; skipped ones needed no request.",
            ("action", "verdict"),
            registry=registry,
        )
        self.seconds = Histogram(
            "streamproc_delivery_seconds",
            "Seconds of a request, its own quick retries included.",
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self.latency = Histogram(
            "streamproc_decision_latency_seconds",
            "Seconds from the decision to page (the log's time) to PagerDuty's answer.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.waiting = Gauge(
            "streamproc_waiting", "Incidents with something to send; urgent: a critical or a resolve.", ("kind",),
            registry=registry,
        )  # fmt: skip
        self.oldest = Gauge(
            "streamproc_delivery_oldest_seconds",
            "Seconds since the oldest of what waits to be sent was decided, 0 while nothing waits.",
            registry=registry,
        )
        self.alarms = Counter(
            "streamproc_alarms_total",
            "Messages to people beside PagerDuty, and what came of them.",
            ("kind", "result"),
            registry=registry,
        )
        for action in PageAction:
            for verdict in Verdict:
                self.deliveries.labels(action.value, verdict.value)
        for name in WAITING:
            self.waiting.labels(name)
        for kind in get_args(Kind):
            for result in RESULTS:
                self.alarms.labels(kind, result)
