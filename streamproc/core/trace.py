"""Traces: W3C's `traceparent`, and what a span tells. Pure: the span of a node follows from the record it folds.

So the fold can name its span in what it emits, and whoever exports it later, outside, names it the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from streamproc.core.event import Scalar
from streamproc.core.identity import digest
from streamproc.core.record import Record

TRACEPARENT = "traceparent"
_SHAPE = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    rb"-[0-9a-f](?P<flags>[0-9a-f])(?P<more>-[ -~]{0,200})?"
)
"""W3C Trace Context, level 1, section 3.2; later versions may say more behind, which is left out."""
_SAMPLED = 1
Attribute = Scalar | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of one trace, as others refer to it."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    sampled: bool = True
    """False where whoever began the trace wants no spans of it."""

    def header(self) -> bytes:
        """Return the `traceparent` by which others continue from this span."""
        return f"00-{self.trace_id}-{self.span_id}-{self.sampled:02d}".encode()

    def derive(self, *of: str) -> Trace:
        """Return the span of the same trace that `of` identifies."""
        return Trace(self.trace_id, digest(self.trace_id, *of)[:16], self.sampled)


def parse(header: bytes) -> Trace | None:
    """Return what a `traceparent` says, None where it is none: W3C wants that ignored."""
    found = _SHAPE.fullmatch(header)
    if found is None or (found["version"] == b"00" and found["more"] is not None):
        return None
    return Trace(found["trace"].decode(), found["span"].decode(), bool(int(found["flags"], 16) & _SAMPLED))


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on a record, and the figures it was made on."""

    stage: str
    reason: str
    intentional: bool
    figures: Mapping[str, Scalar]


@dataclass(slots=True)
class Followed:
    """A record of a trace, and what a node made of it: all that its span tells, but when it ended."""

    record: Record
    parent: Trace
    span: Trace
    """What continues from here; the parent itself where nobody wants spans."""
    decisions: list[Decision] = field(default_factory=list)
    incident_id: str = ""
    """The first incident that it came to, empty where it came to none."""

    def headers(self) -> dict[str, bytes]:
        """Return the record's headers with the span of this node, for events that keep it."""
        return {**self.record.headers, TRACEPARENT: self.span.header()}


def follow(record: Record, node: str) -> Followed | None:
    """Take up the trace of a record; None where it has none."""
    header = record.headers.get(TRACEPARENT)
    parent = None if header is None else parse(header)
    if parent is None:
        return None
    return Followed(record, parent, parent.derive(record.origin, node) if parent.sampled else parent)


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened within a span."""

    name: str
    at: datetime
    attributes: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Span:
    """One span that is over."""

    name: str
    kind: Literal["server", "consumer", "client"]
    trace: Trace
    parent: Trace | None
    start: datetime
    end: datetime
    attributes: Mapping[str, Attribute]
    moments: tuple[Moment, ...] = ()
    error: str = ""
    """What went wrong, empty where nothing did."""
