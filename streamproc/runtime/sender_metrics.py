"""Metrics of the sender; all label sets stand from the start."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamproc.core.event import Why
from streamproc.events.escalation import Escalation, PageAction, Verdict

REQUEST_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
RECEIPT_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
WAITING = ("urgent", "other")
STATUSES = ("2xx", "3xx", "4xx", "429", "5xx", "none")
"""Classes of an answer's status; 429 by itself, since it asks for patience, and `none` where there was no answer."""
OTHER = "other"
"""Stands for a destination that the settings name no longer."""
RETRIES = ("made", "denied")
FIRST_STAGE = "normalise"
Kind = Literal["stuck", "over", "refused"]
"""What people are told beside PagerDuty."""
RESULTS = ("told", "failed", "nobody")


class SenderMetrics:
    """What the sender counts, kept in `registry`.

    Args:
        registry: where the metrics are kept.
        destinations: names that the settings have; all others are one.
    """

    def __init__(self, registry: CollectorRegistry, destinations: Collection[str] = ("default",)) -> None:
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
        self.receipt = Histogram(
            "streamproc_receipt_to_page_seconds",
            "Seconds from the receipt of the alert that a page was decided on to PagerDuty's answer.",
            buckets=RECEIPT_BUCKETS,
            registry=registry,
        )
        self.answers = Counter(
            "streamproc_delivery_answers_total",
            "Requests to PagerDuty by the class of the last attempt's HTTP status.",
            ("destination", "status"),
            registry=registry,
        )
        self.retries = Counter(
            "streamproc_delivery_retries_total",
            "Quick retries of requests: made, or denied since too many of all requests were retries.",
            ("result",),
            registry=registry,
        )
        self.silent = Gauge(
            "streamproc_delivery_circuit_open",
            "1 while PagerDuty does not answer a destination's routing key, and something waits for it.",
            ("destination",),
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
        self._destinations = frozenset((*destinations, OTHER))
        for destination in self._destinations:
            self.silent.labels(destination)
            for status in STATUSES:
                self.answers.labels(destination, status)
        for result in RETRIES:
            self.retries.labels(result)
        for name in WAITING:
            self.waiting.labels(name)
        for kind in get_args(Kind):
            for result in RESULTS:
                self.alarms.labels(kind, result)

    def note_answer(self, said: Escalation, verdict: Verdict, status: int | None, seconds: float) -> None:
        """Count a request that took so many seconds, whatever came of it."""
        self.seconds.observe(seconds)
        self.deliveries.labels(said.action.value, verdict.value).inc()
        self.answers.labels(self._known(said.destination), status_class(status)).inc()

    def note_page(self, said: Escalation, answered: datetime) -> None:
        """Note that PagerDuty answered a trigger for good."""
        self.latency.observe(max(0.0, (answered - said.at).total_seconds()))
        if (received := received_at(said.trail)) is not None:
            self.receipt.observe(max(0.0, (answered - received).total_seconds()))

    def note_retry(self, *, allowed: bool) -> bool:
        """Count a quick retry that the budget was asked for; return what it said."""
        self.retries.labels("made" if allowed else "denied").inc()
        return allowed

    def note_silent(self, silent: Collection[str]) -> None:
        """Show which destinations have a routing key that is not answered."""
        found = {self._known(name) for name in silent}
        for name in self._destinations:
            self.silent.labels(name).set(name in found)

    def _known(self, destination: str) -> str:
        return destination if destination in self._destinations else OTHER


def status_class(status: int | None) -> str:
    """Return the class of an HTTP status, one of `STATUSES`."""
    if status is None:
        return "none"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "429"
    named = f"{status // 100}xx"
    return named if named in STATUSES else "none"


def received_at(trail: Sequence[Why]) -> datetime | None:
    """Return when the alert was received that a page was decided on; None where a timer or a person made it due.

    The chain of such a page begins at the raw alert, and the last record in it was decided on by several stages: what
    a timer or a person brings comes to the last stage alone, however old the alert is by then.
    """
    if len(trail) < 2 or trail[0].stage != FIRST_STAGE or trail[-1].origin != trail[-2].origin:  # noqa: PLR2004  a pair
        return None
    return trail[0].now
