"""The latency budget, from the stamps of records: how old an alert is when a node is done with it, and whose share."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from streamproc.core.event import Activated, Wake
from streamproc.core.fold import Folded
from streamproc.core.step import Topology
from streamproc.runtime.clock import Clock

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)


class NodeLatency:
    """A sensor that observes one record of each type and micro-batch: its first, which has waited the longest.

    Args:
        topology: names the nodes and what they take.
        registry: where the metrics are kept.
        clock: when a micro-batch was written.
    """

    def __init__(self, topology: Topology, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._since_receipt = Histogram(
            "streamproc_node_latency_seconds",
            "Seconds from the receipt of an alert, or of what else began it, until a node had written what came of it.",
            ("node", "event"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._own = Histogram(
            "streamproc_node_share_seconds",
            "The node's own share of it: seconds from when its inbox had the record.",
            ("node", "event"),
            buckets=BUCKETS,
            registry=registry,
        )
        for node in topology:
            for event in node.types.keys() - {Wake.TYPE, Activated.TYPE}:
                self._since_receipt.labels(node.name, event)
                self._own.labels(node.name, event)

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:  # noqa: ARG002  a sensor's signature
        """Note a micro-batch."""
        end = self._clock.now()
        for event, record in folded.oldest.items():
            self._since_receipt.labels(node, event).observe(max(0.0, (end - record.now).total_seconds()))
            self._own.labels(node, event).observe(max(0.0, (end - record.stamp).total_seconds()))
