"""Metrics of a worker on Kafka: what it owns, restores and commits; all label sets stand from the start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from streamproc.core.step import Topology

COMMIT_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REBALANCE_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True, slots=True)
class PartStanding:
    """How one node partition that the group has assigned to this worker stands."""

    assigned: bool = True
    owned: bool = False
    """It is claimed, and its rows are restored."""
    ready: bool = False
    """What had waited when it was claimed is folded too."""
    lag: int = 0
    """Records of the inbox that are not folded yet."""
    commit_age: float = 0.0
    """Seconds since its last commit while records wait, else 0."""
    restore_read: int = 0
    """Records of its state topic that are read so far, 0 where it is not being restored."""
    restore_total: int = 0
    """Records of its state topic to be read, likewise; known once its restore has begun."""
    restore_seconds: float = 0.0
    """Seconds that its last restore took."""


Standing = dict[tuple[str, int], PartStanding]
"""By node and partition; those that are assigned, no others."""
GAUGES: Sequence[tuple[str, str, Callable[[PartStanding], float]]] = (
    ("partition_assigned", "1 where the group has assigned the partition to this worker.", lambda part: part.assigned),
    ("partition_owned", "1 where this worker has claimed and restored it.", lambda part: part.owned),
    ("partition_ready", "1 where it is caught up too.", lambda part: part.ready),
    ("partition_lag_records", "Records of its inbox that wait.", lambda part: part.lag),
    ("commit_age_seconds", "Seconds since its last commit while records wait, else 0.", lambda part: part.commit_age),
    ("restore_read_records", "Records read so far of a restore under way.", lambda part: part.restore_read),
    ("restore_total_records", "Records that a restore under way has to read.", lambda part: part.restore_total),
    ("restore_seconds", "Seconds that its last restore took.", lambda part: part.restore_seconds),
)


class WorkerMetrics(Collector):
    """What a worker counts, kept in `registry`.

    Args:
        topology: names the nodes and their partitions.
        registry: where the metrics are kept; one of its own where nobody looks.
    """

    def __init__(self, topology: Topology = (), registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self.rebalances = Counter(
            "streamproc_rebalances_total", "Assignments of partitions by the group.", registry=registry
        )
        self.rebalance_seconds = Histogram(
            "streamproc_rebalance_seconds",
            "Seconds from giving partitions up until all that are assigned are claimed and restored.",
            buckets=REBALANCE_BUCKETS,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "streamproc_commit_seconds",
            "Seconds of a Kafka transaction that was committed: one micro-batch of one partition.",
            ("node",),
            buckets=COMMIT_BUCKETS,
            registry=registry,
        )
        self.commit_failures = Counter(
            "streamproc_commit_failures_total",
            "Transactions that are not known to be committed.",
            ("node",),
            registry=registry,
        )
        self.reclaims = Counter(
            "streamproc_reclaims_total",
            "Partitions that were claimed anew without a rebalance, after a failed commit or a rival's claim.",
            ("node",),
            registry=registry,
        )
        for node in topology:
            for metric in (self.commit_seconds, self.commit_failures, self.reclaims):
                metric.labels(node.name)
        self._places = [(node.name, partition) for node in topology for partition in range(node.inbox.partitions)]
        self._standing: Callable[[], Standing] = dict
        registry.register(self)

    def watch(self, standing: Callable[[], Standing]) -> None:
        """Read how partitions stand whenever metrics are asked for, from another thread."""
        self._standing = standing

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges of every partition of every node: 0 where another worker has it."""
        standing = self._standing()
        for name, meaning, value in GAUGES:
            family = GaugeMetricFamily(f"streamproc_{name}", meaning, labels=("node", "partition"))
            for node, partition in self._places:
                part = standing.get((node, partition))
                family.add_metric((node, str(partition)), 0 if part is None else float(value(part)))
            yield family
