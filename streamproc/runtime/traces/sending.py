"""The span of one request to PagerDuty. It continues the trace of what is said, or begins one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from streamproc.core.identity import digest
from streamproc.core.trace import Attribute, Span, Trace, parse
from streamproc.events.escalation import Escalation, Verdict
from streamproc.ports import Traces
from streamproc.runtime.outside import Sent


@dataclass(frozen=True, slots=True)
class SendSpan:
    """The span of a request under way."""

    said: Escalation
    parent: Trace | None
    trace: Trace
    start: datetime

    @classmethod
    def begin(cls, traces: Traces | None, said: Escalation, now: datetime) -> SendSpan | None:
        """Return the span of the next request for `said`; None where none is wanted.

        What a timer decided belongs to no trace: its request begins one.
        """
        if traces is None:
            return None
        identity = (said.routing_key, said.dedup_key, str(said.seq))
        parent = parse(said.traceparent.encode())
        if parent is None:
            begun = digest("trace", *identity, said.at.isoformat())[:32]
            trace = Trace(begun, "", sampled=traces.samples(begun))
        else:
            trace = parent
        if not trace.sampled:
            return None
        return cls(said, parent, trace.derive("send", *identity, now.isoformat()), now)

    def end(self, sent: Sent, now: datetime) -> Span:
        """Return the span with the answer."""
        said = self.said
        attributes: dict[str, Attribute] = {
            "http.request.method": "POST",
            "streamproc.action": said.action.value,
            "streamproc.verdict": sent.verdict.value,
            "streamproc.attempts": sent.attempts,
            "streamproc.destination": said.destination,
            "streamproc.incident_id": said.incident_id,
            "streamproc.dedup_key": said.dedup_key,
            "streamproc.decided_at": said.at.isoformat(),
        }
        if sent.status is not None:
            attributes["http.response.status_code"] = sent.status
        return Span(
            name=f"send {said.action.value}",
            kind="client",
            trace=self.trace,
            parent=self.parent,
            start=self.start,
            end=now,
            attributes=attributes,
            error="" if sent.verdict is Verdict.DELIVERED else sent.message or sent.verdict.value,
        )
