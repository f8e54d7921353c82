"""What the edges (gateway, commands, sender) may ask of a runtime, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from streamproc.core.errors import Transient
from streamproc.core.event import DeadLetter, Event
from streamproc.core.record import EMPTY
from streamproc.core.trace import Span
from streamproc.views import IncidentSummary, IncidentView, PipelineStatus


class Overloaded(Transient):
    """The log takes no more for now (backpressure), or is down; nothing was taken."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that an edge wants to append."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=lambda: EMPTY)
    partition: int | None = None
    """Where it belongs whatever its key says: a retry goes to the inbox that refused it."""

    @classmethod
    def of(cls, topic: str, event: Event, key: str = "") -> Entry:
        """Return the entry of an event."""
        return cls(topic, key.encode(), event.encode(), {"type": event.TYPE.encode(), **event.extra_headers()})

    @classmethod
    def again(cls, letter: DeadLetter) -> Entry:
        """Return the record of a dead letter for the inbox that refused it.

        Its stamp is not kept: the retry happens now, and time in the log never goes back.
        """
        headers = {name: text.encode() for name, text in letter.headers.items() if name != "now"}
        return cls(letter.topic, b"", letter.value, headers, letter.partition)


class Inlet(Protocol):
    """The way into the log."""

    async def append(self, entries: Sequence[Entry]) -> None:
        """Append all entries or none, in order; durable when this returns. The log stamps `now`.

        Raises:
            Overloaded: nothing was taken; try again after `retry_after`.
        """


class Desk(Protocol):
    """What people look at."""

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands."""

    def incidents(self, status: Literal["open", "resolved", "all"], limit: int, before: str) -> list[IncidentSummary]:
        """Return incidents, the latest change first.

        Args:
            status: which ones; "resolved" and "all" go back as far as the log is kept.
            limit: at most this many.
            before: an incident id; the list goes on after it. Empty for the first page.
        """

    def incident(self, incident_id: str) -> IncidentView | None:
        """Return one incident, or None."""

    def dead_letters(self, limit: int, before: str) -> list[DeadLetter]:
        """Return dead letters, the newest first; `before` is a letter id, the list goes on after it."""

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""


class Traces(Protocol):
    """Where spans go."""

    def samples(self, trace_id: str) -> bool:
        """Return whether spans of a trace that begins here are wanted."""

    def add(self, span: Span) -> None:
        """Take a span; never waits, never fails."""
