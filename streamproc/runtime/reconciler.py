"""Looks at PagerDuty again and again, and mends what differs, through the log. Harms nothing where it cannot.

Runs on one event loop beside the pipeline; what is read here is read in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from streamproc.core.errors import Rejected, Transient, Unusable
from streamproc.core.identity import incident_of
from streamproc.events.escalation import Escalation
from streamproc.events.feedback import Feedback
from streamproc.ports import Entry, Inlet
from streamproc.reconcile.compare import Difference, Kind, compare
from streamproc.reconcile.ours import Claim, closed_long_ago
from streamproc.reconcile.repair import repairs
from streamproc.reconcile.report import Found, Outcome, Reconciliation, ReconciliationStatus
from streamproc.reconcile.theirs import Theirs
from streamproc.runtime.asking import ask
from streamproc.runtime.clock import Clock
from streamproc.runtime.pace import LoopTiming, Timing
from streamproc.runtime.reconcile_metrics import ReconcileMetrics, Result
from streamproc.sinks.pagerduty.rest import PagerDutyRest
from streamproc.views import IncidentView, PipelineStatus

SETTLE = timedelta(minutes=2)
"""Two looks so far apart must see a difference; of which nothing was said for so long. Webhooks come within a minute,
and PagerDuty answers 202 before the alert can be found."""
AGAIN_AFTER = timedelta(hours=1)
"""What was mended and still differs is mended again after this: a service may drop what it is sent by a rule, and each
repair begins the time to the second destination anew."""
SOONEST = 10.0
"""Seconds between looks at least, however often PagerDuty comes and goes."""
MOST_REMEMBERED = 200
"""Incidents without a row that the log is asked for in one look."""

log = structlog.get_logger(__name__)


class Books(Protocol):
    """What is known here; its methods are called in threads."""

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands."""

    def claims(self) -> dict[str, Claim]:
        """Return how each incident stands, by its id."""

    def incident(self, incident_id: str) -> IncidentView | None:
        """Return one incident as the log tells it, or None."""


class Reconciler:
    """Compares our open incidents with PagerDuty's.

    Args:
        rest: asks PagerDuty.
        books: what is known here.
        inlet: the way into the log.
        clock: moments.
        destinations: name of the destination of each routing key of the settings.
        metrics: what counts looks; None where nobody reads them.
        every: seconds between looks.
        settle: see `SETTLE`.
        timing: seconds, and waiting for them.
    """

    def __init__(
        self,
        rest: PagerDutyRest,
        books: Books,
        inlet: Inlet,
        clock: Clock,
        destinations: Mapping[str, str],
        metrics: ReconcileMetrics | None = None,
        *,
        every: float = 300.0,
        settle: timedelta = SETTLE,
        timing: Timing | None = None,
    ) -> None:
        self._rest = rest
        self._books = books
        self._inlet = inlet
        self._clock = clock
        self._destinations = destinations
        self._metrics = metrics
        self._every = every
        self._settle = settle
        self._timing = timing or LoopTiming()
        self._soon = asyncio.Event()
        self._never = asyncio.Event()
        self._seen: dict[str, datetime] = {}
        self._mended: dict[str, datetime] = {}
        self._last: Reconciliation | None = None
        self._error = ""
        self._since = clock.now()
        if metrics is not None:
            metrics.watch(self._age)

    def status(self) -> ReconciliationStatus:
        """Return how it stands."""
        return ReconciliationStatus(enabled=True, error=self._error, last=self._last)

    def look_soon(self) -> None:
        """Look before it is time: PagerDuty answers again. On the event loop."""
        self._soon.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self._soon.clear()
            began = self._timing.monotonic()
            pause = await self._try()
            await self._timing.wait(self._soon, pause)
            too_soon = began + SOONEST - self._timing.monotonic()
            if too_soon > 0:
                await self._timing.wait(self._never, too_soon)

    async def look(self, *, mend: bool = True, at_once: bool = False) -> Reconciliation:
        """Look once.

        Args:
            mend: whether what two looks saw is mended; never in a dry run.
            at_once: whether one look is enough.

        Raises:
            Transient: PagerDuty, or the log, did not answer; or the pipeline is not ready.
            Unusable: the API key, or what it may do, is at fault; or what is known here cannot be read.
            Rejected: PagerDuty will never take what was asked.
        """
        now, began = self._clock.now(), self._timing.monotonic()
        status = await asyncio.to_thread(self._books.status)
        ours = await asyncio.to_thread(self._books.claims)
        keys = self._keys(ours)
        theirs = await ask(self._rest, ours, keys)
        # Asking takes a while. What was said meanwhile is later than `now`, so it is not at rest.
        ours = await asyncio.to_thread(self._books.claims)
        ours |= await asyncio.to_thread(self._remembered, ours, theirs)
        differences = compare(ours, theirs, now, self._settle)
        self._forget(differences, now)
        found: list[Found] = []
        for one in differences:
            outcome = Outcome.LEFT
            if status.armed:
                outcome = await self._mend(one, theirs, keys, now, mend=mend, at_once=at_once)
            found.append(Found.of(one, outcome))
        report = _report(now, self._timing.monotonic() - began, ours, theirs, found, armed=status.armed)
        self._last, self._error = report, ""
        if self._metrics is not None:
            self._metrics.looked(report)
        return report

    async def _try(self) -> float:
        """Look once, whatever comes of it; return the seconds until the next look."""
        try:
            if not (await asyncio.to_thread(self._books.status)).ready:
                return min(SOONEST, self._every)
            report = await self.look()
        except Transient as error:
            self._failed(error, "unanswered")
            return max(self._every, error.retry_after or 0.0)
        except Unusable as error:
            self._failed(error, "unusable")
            return self._every
        except Rejected as error:
            self._failed(error, "refused")
            return self._every
        waits = any(one.outcome is Outcome.SEEN for one in report.found)
        return min(self._every, self._settle.total_seconds()) if waits else self._every

    def _failed(self, error: Exception, result: Result) -> None:
        if str(error) != self._error:
            log.warning("What PagerDuty holds could not be compared with ours.", error=str(error))
        self._error = str(error)
        if self._metrics is not None:
            self._metrics.failed(result)

    async def _mend(
        self, one: Difference, theirs: Theirs, keys: Mapping[str, str], now: datetime, *, mend: bool, at_once: bool
    ) -> Outcome:
        first = self._seen.setdefault(one.identity, now)
        said = repairs(one, theirs, keys, now)
        if not said:
            return Outcome.LEFT
        again = first < now and now - first >= self._settle
        if not mend or not (at_once or again):
            return Outcome.SEEN
        mark = f"{one.kind}:{one.incident_id}" if one.kind is Kind.MISSING else one.identity
        if mark in self._mended:
            return Outcome.WAITING
        await self._inlet.append([_entry(event) for event in said])
        self._mended[mark] = now
        log.warning(
            "PagerDuty differed from what is known here; it is mended.",
            kind=one.kind.value,
            incident_id=one.incident_id,
            dedup_key=one.key,
            there=one.there,
            by=one.deed.by if one.deed is not None else "",
        )
        return Outcome.REPAIRED

    def _forget(self, differences: tuple[Difference, ...], now: datetime) -> None:
        stand = {one.identity for one in differences}
        self._seen = {name: at for name, at in self._seen.items() if name in stand}
        self._mended = {name: at for name, at in self._mended.items() if now - at < AGAIN_AFTER}

    def _keys(self, ours: Mapping[str, Claim]) -> dict[str, str]:
        """Return the name of the destination of every routing key that is ours; those of the settings go first."""
        said = {key: name for claim in ours.values() for name, key, _ in (*claim.said, claim.pinned) if key}
        return {**said, **self._destinations}

    def _remembered(self, ours: Mapping[str, Claim], theirs: Theirs) -> dict[str, Claim]:
        """Return the claims of incidents that are over for so long that only the log tells of them."""
        open_ = {incident_of(one.key) for alerts in theirs.alerts.values() for one in alerts if one.open}
        unknown = sorted(open_ - ours.keys() - {""})[:MOST_REMEMBERED]
        found = (closed_long_ago(self._books.incident(incident)) for incident in unknown)
        return {claim.incident_id: claim for claim in found if claim is not None}

    def _age(self) -> float:
        last = self._since if self._last is None else self._last.at
        return max(0.0, (self._clock.now() - last).total_seconds())


def _entry(event: Feedback | Escalation) -> Entry:
    if isinstance(event, Feedback):
        return Entry.of("feedback", event, event.incident_id)
    return Entry.of("escalations", event, event.routing_key)


def _report(
    at: datetime, seconds: float, ours: Mapping[str, Claim], theirs: Theirs, found: list[Found], *, armed: bool
) -> Reconciliation:
    counted: dict[Kind, int] = {}
    repaired: dict[Kind, int] = {}
    for one in found:
        counted[one.kind] = counted.get(one.kind, 0) + 1
        if one.outcome is Outcome.REPAIRED:
            repaired[one.kind] = repaired.get(one.kind, 0) + 1
    return Reconciliation(
        at=at,
        seconds=round(seconds, 3),
        armed=armed,
        open_here=sum(claim.lives for claim in ours.values()),
        open_there=sum(one.open for alerts in theirs.alerts.values() for one in alerts),
        differences=counted,
        repaired=repaired,
        found=tuple(found),
    )
