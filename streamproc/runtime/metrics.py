"""Metrics of the fold, uniform for every node and stage; all label sets stand from the start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamproc.core.fold import FOLD, UNINTENDED, Folded, FoldReason
from streamproc.core.step import Topology
from streamproc.views import NodeStatus

BUCKETS = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1)


class Metrics:
    """A sensor that counts into a registry.

    Args:
        topology: names the nodes, stages and reasons.
        registry: where the metrics are kept.
    """

    def __init__(self, topology: Topology, registry: CollectorRegistry) -> None:
        self.received = Counter("streamproc_events_received_total", "Records folded.", ("node",), registry=registry)
        self.emitted = Counter(
            "streamproc_events_emitted_total", "Records emitted.", ("node", "topic"), registry=registry
        )
        self.decisions = Counter(
            "streamproc_decisions_total",
            "Decisions by stage and reason; intentional=false says that something outside went wrong.",
            ("stage", "reason", "intentional"),
            registry=registry,
        )
        self.errors = Counter(
            "streamproc_errors_total", "Input that became a dead letter.", ("node", "kind"), registry=registry
        )
        self.seconds = Histogram(
            "streamproc_step_seconds",
            "Seconds to fold and write one record, averaged over its micro-batch.",
            ("node",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.rows = Gauge("streamproc_rows", "Rows of state.", ("node",), registry=registry)
        self.lag = Gauge("streamproc_lag_records", "Records of the inbox that wait.", ("node",), registry=registry)
        self.behind = Gauge(
            "streamproc_lag_seconds",
            "Age of the last folded record's stamp while records wait, else 0.",
            ("node",),
            registry=registry,
        )
        self._nodes = tuple(node.name for node in topology)
        for node in topology:
            self.received.labels(node.name)
            self.seconds.labels(node.name)
            for gauge in (self.rows, self.lag, self.behind):
                gauge.labels(node.name)
            for kind in UNINTENDED:
                self.errors.labels(node.name, kind.value)
            for routes in node.routes.values():
                for topic, _ in routes:
                    self.emitted.labels(node.name, topic.name)
            for stage in node.stages:
                for reason in stage.reasons:
                    self.decisions.labels(stage.name, reason.value, _flag(reason.value not in stage.unintended))
        for reason in FoldReason:
            self.decisions.labels(FOLD, reason.value, _flag(reason not in UNINTENDED))

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:  # noqa: ARG002
        """Note a micro-batch."""
        self.received.labels(node).inc(count)
        self.seconds.labels(node).observe(seconds / count)
        for outgoing in folded.emits:
            self.emitted.labels(node, outgoing.topic).inc()
        for letter in folded.dead_letters:
            kind = letter.reason if letter.reason in _KINDS else FoldReason.REJECTED.value
            self.errors.labels(node, kind).inc()
        for seen, times in folded.observations.items():
            self.decisions.labels(seen.stage, seen.reason, _flag(seen.intentional)).inc(times)

    def watch(self, nodes: Callable[[], Sequence[NodeStatus]], now: Callable[[], datetime]) -> None:
        """Read the gauges of nodes whenever metrics are asked for.

        Args:
            nodes: how each stands now; which partitions there are may change.
            now: the moment.
        """

        def read(name: str, of: Callable[[NodeStatus], float]) -> Callable[[], float]:
            return lambda: sum(of(node) for node in nodes() if node.node == name)

        def behind(node: NodeStatus) -> float:
            return (now() - node.now).total_seconds() if node.lag and node.now is not None else 0.0

        for node in self._nodes:
            self.rows.labels(node).set_function(read(node, lambda status: status.rows))
            self.lag.labels(node).set_function(read(node, lambda status: status.lag))
            self.behind.labels(node).set_function(read(node, behind))


_KINDS = frozenset(kind.value for kind in UNINTENDED)


def _flag(value: bool) -> str:  # noqa: FBT001  a label value
    return "true" if value else "false"
