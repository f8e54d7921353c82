"""What the sender needs of a sink: the shape of a request, of the client that sends it, and of what came of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from streamproc.events.escalation import Escalation, Verdict
from streamproc.sinks.pagerduty.encode import Encoded


class Sent(Protocol):
    """What came of a request."""

    @property
    def verdict(self) -> Verdict:
        """What the answer means; never skipped."""

    @property
    def status(self) -> int | None:
        """HTTP status, None where there was no answer."""

    @property
    def message(self) -> str:
        """PagerDuty's words."""

    @property
    def attempts(self) -> int:
        """How often it was tried."""

    @property
    def retry_after(self) -> float | None:
        """Seconds that PagerDuty asked to wait, None where it named none."""


class Client(Protocol):
    """Sends one request, with bounded retries of its own."""

    async def send(self, encoded: Encoded, /, wanted: Callable[[], bool]) -> Sent:
        """Send it. Never raises for an outside failure; tries again only while `wanted` says so."""


class Encode(Protocol):
    """Writes one request."""

    def __call__(self, escalation: Escalation, /, *, delayed_by: timedelta | None) -> Encoded:
        """Return the request."""
