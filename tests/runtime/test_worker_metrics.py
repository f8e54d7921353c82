"""What a worker on Kafka tells of its partitions."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from streamproc.runtime.worker_metrics import GAUGES, PartStanding, WorkerMetrics
from tests.support import toy

STANDING = PartStanding(
    owned=True, ready=False, lag=7, commit_age=1.5, restore_read=40, restore_total=60, restore_seconds=2.5
)
EXPECTED = {
    "partition_assigned": 1.0,
    "partition_owned": 1.0,
    "partition_ready": 0.0,
    "partition_lag_records": 7.0,
    "commit_age_seconds": 1.5,
    "restore_read_records": 40.0,
    "restore_total_records": 60.0,
    "restore_seconds": 2.5,
}


@pytest.mark.parametrize(("name", "value"), [pytest.param(*each, id=each[0]) for each in EXPECTED.items()])
def test_a_partition_stands_at_what_it_is_and_others_at_0(name: str, value: float) -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(toy.TOY, registry)
    node = toy.TOY[1].name
    labels = [{"node": node, "partition": str(at)} for at in range(2)]
    assert [registry.get_sample_value(f"streamproc_{name}", each) for each in labels] == [0.0, 0.0]
    metrics.watch(lambda: {(node, 1): STANDING})
    assert [registry.get_sample_value(f"streamproc_{name}", each) for each in labels] == [0.0, value]


def test_every_gauge_is_checked() -> None:
    assert {name for name, _, _ in GAUGES} == EXPECTED.keys()


def test_counters_stand_from_the_start() -> None:
    registry = CollectorRegistry()
    WorkerMetrics(toy.TOY, registry)
    for node in toy.TOY:
        for name in ("commit_seconds_count", "commit_failures_total", "reclaims_total"):
            assert registry.get_sample_value(f"streamproc_{name}", {"node": node.name}) == 0.0
    assert registry.get_sample_value("streamproc_rebalances_total") == 0.0
