"""What people are told beside PagerDuty: that pages wait too long, that it is over, and that a page was refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from streamproc.events.alert import Severity
from streamproc.runtime.sender_metrics import Kind, SenderMetrics
from streamproc.sinks.notify.channels import Notifier

log = structlog.get_logger(__name__)

REFUSALS_EVERY = 60.0
"""Seconds between messages about refused pages, the first goes at once."""
TRY_AGAIN = 60.0
"""Seconds after which a message that nobody took is tried again."""
SHOWN = 10
KEPT = 200


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell."""

    kind: Kind
    title: str
    body: str
    refusals: int = 0
    """How many refused pages it names."""
    more: int = 0
    """How many it only counts."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A page that waits."""

    title: str
    severity: Severity
    decided: datetime
    """When it was first decided."""
    since: float
    """Since when this process knows of it, in monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How sending stands."""

    waiting: Sequence[Waiting]
    unreachable: bool
    """True while a routing key with something to send is not answered."""
    error: str
    """PagerDuty's last words, empty while it answers."""


class Alarm:
    """Decides what is told and when: once an outage, and at most one message a minute about refused pages.

    Args:
        fallback_after: seconds that a trigger may wait.
        notifier: who tells people; without one the log does, and the metric `streamproc_alarms_total` counts it.
        metrics: where it is counted.
    """

    def __init__(self, fallback_after: float, notifier: Notifier | None, metrics: SenderMetrics) -> None:
        self._fallback_after = fallback_after
        self._notifier = notifier
        self._metrics = metrics
        self._said = False
        self._survey = Survey((), unreachable=False, error="")
        self._stuck_at = 0.0
        self._refusals: deque[str] = deque()
        self._refused_more = 0
        self._refused_at = 0.0

    def refused(self, title: str, destination: str, message: str) -> None:
        """Note a page that PagerDuty will never take."""
        if len(self._refusals) < KEPT:
            self._refusals.append(f"{title} ({destination}: {message})")
        else:
            self._refused_more += 1

    def look(self, survey: Survey) -> None:
        """Take in how sending stands."""
        self._survey = survey

    def due(self, now: float) -> float | None:
        """Return when there is something to tell of what is known by now, None where there is nothing."""
        moments = [self._refused_at] if self._refusals else []
        if self._survey.waiting and not self._said:
            moments.append(max(self._overdue_at(), self._stuck_at))
        elif self._over(now):
            moments.append(self._stuck_at)
        return min(moments, default=None)

    def next(self, now: float, moment: datetime) -> Message | None:
        """Return what to tell now, None where there is nothing.

        Args:
            now: monotonic seconds.
            moment: the same as a moment.
        """
        if self._refusals and now >= self._refused_at:
            return self.refusal()
        if now >= self._stuck_at and not self._said and self._survey.waiting and now >= self._overdue_at():
            return self._stuck(moment)
        if now >= self._stuck_at and self._over(now):
            return Message("over", "PagerDuty takes pages again", "No page waits for long any more.")
        return None

    def refusal(self) -> Message | None:
        """Return the message about refused pages, whether it is due or not; None where there are none."""
        if not self._refusals:
            return None
        count, more = len(self._refusals), self._refused_more
        lines = [f"- {line}" for line in list(self._refusals)[:SHOWN]]
        rest = [f"- and {count + more - SHOWN:,} more"] if count + more > SHOWN else []
        body = "\n".join(["Nobody was paged for:", *lines, *rest])
        return Message("refused", f"{_pages(count + more)} refused", body, refusals=count, more=more)

    async def tell(self, message: Message) -> bool:
        """Tell it; True where it was taken, or where there is nobody but the log."""
        if self._notifier is None:
            result, told = "nobody", True
            log.error("There is no channel to tell people by.", kind=message.kind, title=message.title)
        else:
            told = await self._notifier.tell(message.title, message.body)
            result = "told" if told else "failed"
        self._metrics.alarms.labels(message.kind, result).inc()
        return told

    def done(self, message: Message, now: float, *, told: bool) -> None:
        """Note what came of a message; what was not taken is told again later."""
        if message.kind == "refused":
            self._refused_at = now + REFUSALS_EVERY
            if told:
                for _ in range(message.refusals):
                    self._refusals.popleft()
                self._refused_more -= message.more
        elif told:
            self._said = message.kind == "stuck"
        else:
            self._stuck_at = now + TRY_AGAIN

    def _overdue_at(self) -> float:
        return min(page.since for page in self._survey.waiting) + self._fallback_after

    def _over(self, now: float) -> bool:
        if not self._said or self._survey.unreachable:
            return False
        return not self._survey.waiting or now < self._overdue_at()

    def _stuck(self, moment: datetime) -> Message:
        worst = sorted(self._survey.waiting, key=lambda page: (-page.severity.rank, page.decided, page.title))
        count, first = len(worst), min(page.decided for page in worst)
        error = self._survey.error
        why = f"PagerDuty does not take them ({error})" if error else "more come than PagerDuty takes in a minute"
        minutes = int((moment - first).total_seconds() // 60)
        lines = [f"- {page.severity}: {page.title}" for page in worst[:SHOWN]]
        more = [f"- and {count - SHOWN:,} more"] if count > SHOWN else []
        head = f"The first since {first.isoformat(timespec='seconds')} ({minutes} min): {why}. They are tried on."
        return Message("stuck", f"{_pages(count)} not delivered", "\n".join([head, *lines, *more]))


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count:,} pages"
