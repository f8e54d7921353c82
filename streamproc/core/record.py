"""Records: what a log holds, and what a fold wants to add to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from streamproc.core.event import Event

EMPTY: Mapping[str, bytes] = MappingProxyType({})


class Record(NamedTuple):
    """One record of an inbox partition, as the runtime hands it to the fold."""

    topic: str
    partition: int
    offset: int
    value: bytes
    stamp: datetime
    """When the log took it (UTC)."""
    key: bytes = b""
    headers: Mapping[str, bytes] = EMPTY
    event: Event | None = None
    """What `value` holds, where it has not left the process that made it; None where only the bytes tell."""

    @property
    def now(self) -> datetime:
        """The moment (UTC) that counts for decisions: the header `now`, stamped once at raw; else `stamp`.

        Raises:
            ValueError: the header is not an ISO 8601 moment with an offset.
        """
        stamped = self.headers.get("now")
        if stamped is None:
            return self.stamp
        return _moment(stamped)

    @property
    def origin(self) -> str:
        """`topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@lru_cache(maxsize=256)  # all that comes of one record has its stamp
def _moment(stamped: bytes) -> datetime:
    moment = datetime.fromisoformat(stamped.decode())
    if moment.tzinfo is None:
        message = "the header `now` has no UTC offset"
        raise ValueError(message)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        message = "the header `now` is outside the calendar in UTC"
        raise ValueError(message) from error


class Outgoing(NamedTuple):
    """A record that a fold emits; `everywhere` sends it to every partition of the topic."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    everywhere: bool = False
    event: Event | None = None
    """What `value` holds, where it may be handed on as it is."""


class Position(NamedTuple):
    """How far a node has folded one inbox partition. A row like any other, committed with the rest."""

    next_offset: int
    now: datetime
    """The clamp: `now` never goes back behind it within the partition."""
    topic_id: str = ""
    """Identity of the inbox topic; another one means the topic was made anew, and the node stops."""
