"""Escalation: what shall be said to whom. Outcome: what came of it. Page: the public record of both."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Literal, Self

from pydantic import AwareDatetime, Field

from streamproc.core.event import Event, Explained, Frozen, Scalar
from streamproc.core.trace import TRACEPARENT, parse
from streamproc.events.alert import Link, Severity


class PageAction(StrEnum):
    """Events API v2's actions, and the change event, which never notifies."""

    TRIGGER = "trigger"
    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"
    CHANGE = "change"


class PageText(Frozen):
    """What a responder reads; the encoder cuts it to PagerDuty's limits."""

    summary: str
    source: str
    severity: Severity
    component: str = ""
    group: str = ""
    kind: str = ""
    """Events API v2's `class`."""
    details: dict[str, Scalar | list[str]] = {}
    links: tuple[Link, ...] = ()
    images: tuple[Link, ...] = ()


class Receipt(Frozen):
    """What a page was decided on, so that it can be derived again."""

    inbox: str
    """SHA-256 over what the incident's members said, in the order they were folded."""
    config_version: int = 0
    catalogue_version: int = 0
    model_version: int = 0


class Escalation(Explained):
    """One thing to say about one incident to one destination. Keyed by routing key, so that one owner paces it."""

    TYPE: ClassVar[str] = "escalation.v1"

    incident_id: str
    scope: str
    destination: str
    routing_key: str
    """Pinned when the incident is first triggered, and used until it is resolved."""
    dedup_key: str
    """Pinned likewise; at most 255 characters."""
    action: PageAction
    seq: int
    """Rises with every escalation of an incident."""
    text: PageText | None = None
    """Absent for acknowledge and resolve."""
    at: AwareDatetime
    """When it was decided (the log's time)."""
    receipt: Receipt | None = None
    repair: bool = Field(default=False, exclude_if=lambda told: not told)
    """True where PagerDuty is known to have the alert: its resolve was lost, and is sent whatever is known here."""
    traceparent: str = Field(default="", exclude_if=lambda told: not told)
    """The span that the request to PagerDuty continues, kept in the row of what waits. Decides nothing."""

    @classmethod
    def decode(cls, value: bytes, headers: Mapping[str, bytes]) -> Self:
        """Return the escalation of a record, with the trace that it belongs to."""
        event = super().decode(value, headers)
        trace = headers.get(TRACEPARENT)
        if trace is None or parse(trace) is None:
            return event
        return event.model_copy(update={"traceparent": trace.decode()})

    @property
    def urgent(self) -> bool:
        """True where it must never wait behind a storm: resolves, and criticals."""
        if self.action is PageAction.RESOLVE:
            return True
        return self.text is not None and self.text.severity is Severity.CRITICAL and self.action is PageAction.TRIGGER


class Verdict(StrEnum):
    """What an answer of PagerDuty means."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    """Never to be sent again as it is (400 and other 4xx but 429)."""
    SKIPPED = "skipped"
    """Not sent: the incident resolved before PagerDuty could hear of it."""
    AGAIN = "again"
    """429, 5xx, or no answer."""


class Outcome(Event):
    """What came of a request, reported by the sender to deliver's own inbox."""

    TYPE: ClassVar[str] = "outcome.v1"

    routing_key: str
    dedup_key: str
    incident_id: str
    destination: str
    action: PageAction
    seq: int
    verdict: Literal[Verdict.DELIVERED, Verdict.REFUSED, Verdict.SKIPPED]
    status: int | None = None
    """HTTP status, None where there was none."""
    message: str = ""
    attempts: int = 1
    sent_at: AwareDatetime
    body: str = ""
    """The request body as sent, routing key left out."""
    delayed_seconds: float = 0.0
    decided_at: AwareDatetime | None = None
    """When it was decided to say it: by the time of the answer, something newer may be wanted."""
    severity: Severity | None = None
    summary: str = ""


class Page(Explained):
    """Public: what was sent about an incident and what came back."""

    TYPE: ClassVar[str] = "page.v1"

    incident_id: str
    destination: str
    routing_key_hint: str
    """Last four characters of the routing key."""
    dedup_key: str
    action: PageAction
    seq: int
    verdict: Verdict
    status: int | None = None
    message: str = ""
    attempts: int = 1
    decided_at: AwareDatetime
    sent_at: AwareDatetime
    severity: Severity | None = None
    summary: str = ""
    body: str = ""
    receipt: Receipt | None = None
