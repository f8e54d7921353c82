"""Metrics of what stands in the rows: open incidents by state, and the versions that count. Read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from streamproc.core.fold import CONFIG
from streamproc.core.step import ACTIVE, ActiveRow
from streamproc.core.table import RowStore
from streamproc.learning.linear import KIND as MODEL
from streamproc.runtime.engine import Part
from streamproc.services import CATALOGUE
from streamproc.state import OPEN_STATES, PAGE, open_index

KINDS = (CATALOGUE.name, CONFIG, MODEL)


class StandingMetrics(Collector):
    """Gauges of the partitions of `decide` that this process folds; counted by an index, so asking costs nothing.

    Args:
        parts: the node partitions of this process; asked from other threads.
        registry: where the metrics are kept.
    """

    def __init__(self, parts: Callable[[], Iterable[Part]], registry: CollectorRegistry) -> None:
        self._parts = parts
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges; every label set, whatever stands."""
        stores = [part.rows for part in self._parts() if PAGE in part.node.tables]
        incidents = GaugeMetricFamily(
            "streamproc_open_incidents", "Open incidents by what was decided about them.", labels=("state",)
        )
        for state in OPEN_STATES:
            count = sum(len(rows.under(PAGE.name, open_index(state))) for rows in stores)
            incidents.add_metric((state,), count)
        yield incidents
        versions = GaugeMetricFamily(
            "streamproc_active_version", "Version that decisions are made with; the lowest where partitions differ.",
            labels=("kind",),
        )  # fmt: skip
        for kind in KINDS:
            versions.add_metric((kind,), min((_version(rows, kind) for rows in stores), default=0))
        yield versions


def _version(rows: RowStore, kind: str) -> int:
    row = rows.get(ACTIVE.at(kind))
    return row.version if isinstance(row, ActiveRow) else 0
