"""Producers' payloads to alerts: one file a producer. Pure; every fault of an input is a Rejected, nothing else."""

from __future__ import annotations

from typing import Any

import orjson

from streamproc.core.errors import Rejected
from streamproc.events.raw import RawAlert
from streamproc.sources import alertmanager, datadog, generic
from streamproc.sources.foreign import Envelope, ForeignAlert, Refusal, Refused, Source

__all__ = ["SOURCES", "Envelope", "ForeignAlert", "Refusal", "Refused", "Source", "envelope", "recognise"]

SOURCES: dict[str, Source] = {source.name: source for source in (alertmanager.SOURCE, datadog.SOURCE, generic.SOURCE)}
"""By name, in the order in which shapes are tried: generic last, since it claims the least."""


def recognise(raw: RawAlert) -> tuple[str, Any]:
    """Return the name of the source and the parsed body: by the header `source`, else by the shape.

    Raises:
        Rejected: not JSON, a source that nobody knows, or a shape that no source has.
    """
    body = _parse(raw.body)
    if raw.source:
        return _named(raw.source).name, body
    for name, source in SOURCES.items():
        if source.looks_like(body):
            return name, body
    message = f"the record has no header `source`, and its body is of no known shape ({', '.join(SOURCES)})"
    raise Rejected(Refused.UNKNOWN_SHAPE, message)


def envelope(source: str, body: bytes) -> Envelope:
    """Return how many alerts a body holds and its group: the check at the door, which validates no alert.

    Args:
        source: `alertmanager`, `datadog` or `generic`.
        body: the bytes as posted.

    Raises:
        Rejected: not JSON, no such source, or no envelope of that source.
    """
    return _named(source).envelope(_parse(body))


def _named(name: str) -> Source:
    source = SOURCES.get(name)
    if source is None:
        raise Rejected(Refused.UNKNOWN_SOURCE, f"there is no source {name[:40]!r}; known are {', '.join(SOURCES)}")
    return source


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected(Refused.NOT_JSON, f"the body is not JSON: {error.msg[:120]} at byte {error.pos}") from error
