"""The span of a node for each record of a trace that it folded; made once the runtime has written what came of it."""

from __future__ import annotations

from datetime import datetime

from streamproc.core.fold import Folded
from streamproc.core.trace import Attribute, Decision, Followed, Moment, Span
from streamproc.ports import Traces
from streamproc.runtime.clock import Clock


class SpanSensor:
    """A sensor that tells `traces` of every record of a trace.

    Args:
        traces: where spans go.
        clock: when a micro-batch was over.
    """

    def __init__(self, traces: Traces, clock: Clock) -> None:
        self._traces = traces
        self._clock = clock

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:  # noqa: ARG002  a sensor's signature
        """Note a micro-batch."""
        if folded.followed:
            end = self._clock.now()
            for followed in folded.followed:
                self._traces.add(node_span(node, followed, end))


def node_span(node: str, followed: Followed, end: datetime) -> Span:
    """Return the span of a node: from when its inbox had the record until what came of it was written."""
    record = followed.record
    attributes: dict[str, Attribute] = {
        "streamproc.node": node,
        "streamproc.reasons": tuple(f"{made.stage}/{made.reason}" for made in followed.decisions),
        "messaging.operation.type": "process",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }
    if followed.incident_id:
        attributes["streamproc.incident_id"] = followed.incident_id
    wrong = (f"{made.stage}/{made.reason}" for made in followed.decisions if not made.intentional)
    return Span(
        name=node,
        kind="consumer",
        trace=followed.span,
        parent=followed.parent,
        start=min(record.stamp, end),  # another machine may have stamped it
        end=end,
        attributes=attributes,
        moments=tuple(_moment(made, end) for made in followed.decisions),
        error=next(wrong, ""),
    )


def _moment(made: Decision, at: datetime) -> Moment:
    return Moment(f"{made.stage}/{made.reason}", at, made.figures)
