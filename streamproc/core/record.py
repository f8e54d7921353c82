"""Records: what a log holds, and what a fold wants to add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from types import MappingProxyType

EMPTY: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True)
class Record:
    """One record of an inbox partition, as the runtime hands it to the fold."""

    topic: str
    partition: int
    offset: int
    value: bytes
    stamp: datetime
    """When the log took it (UTC)."""
    key: bytes = b""
    headers: Mapping[str, bytes] = field(default_factory=lambda: EMPTY)

    @cached_property
    def now(self) -> datetime:
        """The moment (UTC) that counts for decisions: the header `now`, stamped once at raw; else `stamp`.

        Raises:
            ValueError: the header is not an ISO 8601 moment with an offset.
        """
        stamped = self.headers.get("now")
        if stamped is None:
            return self.stamp
        moment = datetime.fromisoformat(stamped.decode())
        if moment.tzinfo is None:
            message = "the header `now` has no UTC offset"
            raise ValueError(message)
        try:
            return moment.astimezone(UTC)
        except OverflowError as error:
            message = "the header `now` is outside the calendar in UTC"
            raise ValueError(message) from error

    @property
    def origin(self) -> str:
        """`topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record that a fold emits; `everywhere` sends it to every partition of the topic."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """How far a node has folded one inbox partition. A row like any other, committed with the rest."""

    next_offset: int
    now: datetime
    """The clamp: `now` never goes back behind it within the partition."""
    topic_id: str = ""
    """Identity of the inbox topic; another one means the topic was made anew, and the node stops."""
