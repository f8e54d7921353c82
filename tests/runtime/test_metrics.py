"""Metrics of the fold: every label set from the start, and counts that agree with what was folded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry

from streamproc.core.fold import UNINTENDED, FoldReason
from streamproc.core.step import Topology
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.runtime.metrics import Metrics
from streamproc.topology import TOPOLOGY
from streamproc.views import NodeStatus
from tests.support.toy import LETTERS, TOPICS, TOY, Line

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


class Counted:
    def __init__(self, topology: Topology = TOY) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(topology, self.registry)

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def test_every_label_set_stands_from_the_start() -> None:
    counted = Counted(TOPOLOGY)
    for node in TOPOLOGY:
        assert counted("streamproc_events_received_total", node=node.name) == 0
        assert counted("streamproc_step_seconds_count", node=node.name) == 0
        for name in ("streamproc_rows", "streamproc_lag_records", "streamproc_lag_seconds"):
            assert counted(name, node=node.name) == 0
        for kind in UNINTENDED:
            assert counted("streamproc_errors_total", node=node.name, kind=kind.value) == 0
        for routes in node.routes.values():
            for topic, _ in routes:
                assert counted("streamproc_events_emitted_total", node=node.name, topic=topic.name) == 0
        for stage in node.stages:
            for reason in stage.reasons:
                intended = "false" if reason.value in stage.unintended else "true"
                labels = {"stage": stage.name, "reason": reason.value, "intentional": intended}
                assert counted("streamproc_decisions_total", **labels) == 0
    for reason in FoldReason:
        intended = "false" if reason in UNINTENDED else "true"
        labels = {"stage": "fold", "reason": reason.value, "intentional": intended}
        assert counted("streamproc_decisions_total", **labels) == 0


def test_what_was_folded_is_counted() -> None:
    counted = Counted()
    memory = Memory(TOY, LETTERS, MemoryJournal(TOPICS), ManualClock(NOW), sensor=counted.metrics)
    before = {sample.name for family in counted.registry.collect() for sample in family.samples}
    memory.put("lines", Line(sender="a", text="one two ?"), "a")
    memory.put("lines", Line(sender="a", text="! no"), "a")
    memory.put("lines", Line(sender="a", text="#fails"), "a")
    memory.run()
    assert counted("streamproc_events_received_total", node="split") == 3
    assert counted("streamproc_events_emitted_total", node="split", topic="words") == 3
    assert counted("streamproc_errors_total", node="split", kind="rejected") == 2
    assert counted("streamproc_errors_total", node="tally", kind="failed") == 1
    assert counted("streamproc_decisions_total", stage="split", reason="partly", intentional="false") == 1
    assert counted("streamproc_decisions_total", stage="split", reason="split", intentional="true") == 1
    assert counted("streamproc_decisions_total", stage="fold", reason="rejected", intentional="false") == 1
    assert counted("streamproc_decisions_total", stage="fold", reason="failed", intentional="false") == 1
    assert counted("streamproc_step_seconds_count", node="split") == 1
    assert {sample.name for family in counted.registry.collect() for sample in family.samples} == before


def test_gauges_are_read_when_they_are_asked_for() -> None:
    counted = Counted()
    nodes = [
        NodeStatus(node="split", partition=0, lag=0, rows=3, now=NOW),
        NodeStatus(node="tally", partition=0, lag=0, rows=0, now=None),
    ]
    clock = ManualClock(NOW)
    counted.metrics.watch(lambda: nodes, clock.now)
    assert counted("streamproc_rows", node="split") == 3
    assert counted("streamproc_lag_seconds", node="split") == 0
    clock.advance(timedelta(seconds=90))
    assert counted("streamproc_lag_seconds", node="split") == 0
    nodes[0] = nodes[0].model_copy(update={"lag": 7, "rows": 4})
    nodes[1] = nodes[1].model_copy(update={"lag": 1})
    assert counted("streamproc_rows", node="split") == 4
    assert counted("streamproc_lag_records", node="split") == 7
    assert counted("streamproc_lag_seconds", node="split") == 90
    assert counted("streamproc_lag_records", node="tally") == 1
    assert counted("streamproc_lag_seconds", node="tally") == 0
