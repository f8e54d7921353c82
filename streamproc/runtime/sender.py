"""The sender: works through intents outside the fold and reports what came of each to deliver's own inbox.

One request at a time for each intent row, the next one only after the outcome of the last is durable: so a crash may
repeat the last request of an incident, never an older one. Nothing is given up: what PagerDuty does not answer is tried
again for ever, always in the newest state of its row. Runs on one event loop; nothing here is thread-safe.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry
from pydantic import Field

from streamproc.core.step import StageConfig
from streamproc.events.escalation import Escalation, Outcome, Page, PageAction, Verdict
from streamproc.ports import Entry, Inlet, Overloaded, Traces
from streamproc.runtime import reports
from streamproc.runtime.alarm import Alarm, Message
from streamproc.runtime.allowance import Allowance
from streamproc.runtime.clock import Clock
from streamproc.runtime.intents import Intents
from streamproc.runtime.lanes import Began, Lane
from streamproc.runtime.outside import Client, Encode, Sent
from streamproc.runtime.pace import LoopTiming, Timing, backoff
from streamproc.runtime.retries import RetryBudget
from streamproc.runtime.sender_metrics import SenderMetrics
from streamproc.runtime.traces.sending import SendSpan
from streamproc.runtime.work import Work
from streamproc.sinks.notify.channels import Notifier
from streamproc.sinks.pagerduty.encode import encode
from streamproc.state import IntentRow

log = structlog.get_logger(__name__)

DELAYED = timedelta(seconds=60)
"""A page that is sent later than this after its decision says so."""
SURVEY_EVERY = 1.0
"""Seconds between looks at all that waits."""
CHUNK = 500
"""Outcomes that are appended at once."""
HINT = 4


class Config(StageConfig):
    """How fast and how much at once."""

    rate_limit: int = Field(default=120, ge=1)
    """Requests a minute for each routing key; PagerDuty takes about 120."""
    in_flight_per_key: int = Field(default=16, ge=1)
    """Requests of one routing key at once."""
    in_flight: int = Field(default=64, ge=1)
    """Requests at once."""
    fallback_after: timedelta = Field(default=timedelta(minutes=5), gt=timedelta(0))
    """A page that waits longer than this is told to people in another way."""
    destinations: tuple[str, ...] = ("default",)
    """Names that metrics tell apart."""


class Sender:
    """Sends what the rows of `deliver` want.

    Args:
        config: how fast.
        client: sends one request.
        inlet: the way into the log, for outcomes.
        clock: moments.
        notifier: tells people while PagerDuty does not answer; None where no channel is set.
        registry: where metrics are kept.
        encode: writes one request.
        timing: seconds, and waiting for them.
        jitter: 0 to 1, spreads retries.
        account: what all routing keys may send together; None for no bound of that kind.
        traces: where spans of requests go; None where none are made.
    """

    def __init__(
        self,
        config: Config,
        client: Client,
        inlet: Inlet,
        clock: Clock,
        notifier: Notifier | None,
        registry: CollectorRegistry,
        *,
        encode: Encode = encode,
        timing: Timing | None = None,
        jitter: Callable[[], float] = random.random,
        account: Allowance | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._config = config
        self._client = client
        self._inlet = inlet
        self._clock = clock
        self._encode = encode
        self._timing = timing or LoopTiming()
        self._jitter = jitter
        self._metrics = SenderMetrics(registry, config.destinations)
        self._retries = RetryBudget()
        self._alarm = Alarm(config.fallback_after.total_seconds(), notifier, self._metrics)
        self._account = account
        self._traces = traces
        self._intents = Intents(config.rate_limit, config.in_flight_per_key, account)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = 0
        self._telling = False
        self._offered = False
        self._survey_at: float | None = None
        self._failure: BaseException | None = None
        self._stopping = False
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._never = asyncio.Event()
        self._drained = asyncio.Event()
        self._recovered: Callable[[], None] | None = None
        if account is not None:
            account.listen(self._changed.set)

    # -- what the runtime brings -------------------------------------------------------------------------------------

    def offer(self, changes: Mapping[str, IntentRow | None], *, in_doubt: bool = False) -> None:
        """Take changed rows, after each commit; on the event loop.

        Args:
            changes: rows by key; None where a row is forgotten.
            in_doubt: True where a predecessor may have sent something of them. The first call is the rows that stand
                at the start, so it is always taken so.
        """
        now = self._timing.monotonic()
        self._intents.take(changes, now, in_doubt=in_doubt or not self._offered)
        self._offered = True
        self._look_soon(now)

    def offer_pages(self, pages: Sequence[Page]) -> None:
        """Take pages that were refused without being sent: nobody will ever be paged for them."""
        for page in pages:
            if page.verdict is Verdict.REFUSED and page.action is PageAction.TRIGGER and not page.routing_key_hint:
                self._alarm.refused(page.summary or page.incident_id, page.destination, page.message)
        self._changed.set()

    def listen(self, recovered: Callable[[], None]) -> None:
        """Call `recovered`, on the event loop, whenever PagerDuty answers a routing key again."""
        self._recovered = recovered

    async def run(self) -> None:
        """Send until `stop`.

        Raises:
            Exception: whatever the client, the encoder or the log raises against its contract.
        """
        try:
            while not self._stopping:
                self._changed.clear()
                due = self._go_on()
                await self._timing.wait(self._changed, due)
                self._check()
            await self._drained.wait()
            self._check()
        finally:
            for task in self._tasks:
                task.cancel()

    async def stop(self, grace: float = 5.0) -> None:
        """Begin nothing new, finish what is in flight within `grace` seconds, report its outcomes, and end `run`.

        What is not answered by then is broken off; its row still waits, so the next process sends it again.
        """
        self._stopping = True
        self._changed.set()
        if not self._telling and (message := self._alarm.refusal()) is not None:
            self._spawn(self._tell(message))
        if self._tasks:
            self._idle.clear()
            await self._timing.wait(self._idle, grace)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._drained.set()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def _go_on(self) -> float | None:
        """Begin everything that may begin now; return the seconds after which to look again, None for no time."""
        now = self._timing.monotonic()
        for lane in self._intents.lanes:
            if lane.settles:
                self._settle(lane, [])
        for work in self._intents.ready(now, self._config.in_flight - self._sending):
            self._begin(work, now)
        if self._survey_at is not None and self._survey_at <= now:
            self._survey(now)
        self._speak(now)
        moments = (self._intents.next_due(now), self._survey_at, None if self._telling else self._alarm.due(now))
        due = min((moment for moment in moments if moment is not None), default=None)
        return None if due is None else max(0.0, due - now)

    def _speak(self, now: float) -> None:
        """Tell people what is due, one message at a time."""
        due = self._alarm.due(now)
        if self._telling or due is None or due > now:
            return
        self._survey(now)
        if (message := self._alarm.next(now, self._clock.now())) is not None:
            self._telling = True
            self._spawn(self._tell(message))

    def _begin(self, work: Work, now: float) -> None:
        said = work.begin()
        self._spend(work.lane, now, 1)
        self._sending += 1
        self._spawn(self._deliver(work, said))

    def _spend(self, lane: Lane, now: float, count: int) -> None:
        lane.window.spend(now, count)
        if self._account is not None:
            self._account.spend(now, count)

    async def _deliver(self, work: Work, said: Escalation) -> None:
        """Send one request and report what came of it."""
        lane = work.lane
        began = Began(lane.wave, not lane.failures, self._clock.now())
        late = began.moment - said.at
        delay = late if said.action is PageAction.TRIGGER and late > DELAYED else None
        started = self._timing.monotonic()
        span = SendSpan.begin(self._traces, said, began.moment)
        try:
            encoded = self._encode(said, delayed_by=delay)
            self._retries.note(started)
            sent = await self._client.send(encoded, lambda: work.row is not None and self._may_retry())
            now = self._timing.monotonic()
            if span is not None and self._traces is not None:
                self._traces.add(span.end(sent, self._clock.now()))
            self._spend(lane, now, sent.attempts - 1)
            self._metrics.note_answer(said, sent.verdict, sent.status, now - started)
            if sent.verdict is Verdict.AGAIN:
                self._failed(work, began, sent)
                return
            outcome = reports.outcome(
                said,
                sent.verdict,
                self._clock.now(),
                status=sent.status,
                message=sent.message,
                attempts=sent.attempts,
                body=encoded.shown,
                delay=delay,
            )
            self._answered(work, said, outcome)
            trace = said.traceparent if span is None else span.trace.header().decode()
            await self._append([reports.entry(outcome, said.routing_key, trace)])
        finally:
            lane.flying -= 1
            self._sending -= 1
            self._release([work])

    def _may_retry(self) -> bool:
        return self._metrics.note_retry(allowed=self._retries.take(self._timing.monotonic()))

    def _failed(self, work: Work, began: Began, sent: Sent) -> None:
        lane = work.lane
        if not lane.failures:
            log.warning("PagerDuty does not answer for a routing key.", routing_key=_hint(lane), error=sent.message)
        now = self._timing.monotonic()
        lane.note_failure(work, began, now, sent.retry_after, sent.message, self._jitter())

    def _answered(self, work: Work, said: Escalation, outcome: Outcome) -> None:
        """Take in an answer: the routing key is in reach."""
        lane, taken = work.lane, outcome.verdict is Verdict.DELIVERED
        if lane.failures:
            log.info("PagerDuty answers again for a routing key.", routing_key=_hint(lane))
            if self._recovered is not None:
                self._recovered()
        lane.note_answer()
        work.note_answer(said, self._timing.monotonic(), taken=taken)
        if said.action is PageAction.TRIGGER:
            self._metrics.note_page(said, outcome.sent_at)
        if not taken:
            self._refused(work, said, outcome)
        if taken or lane.silent_since is None:
            self._settle(lane, self._digest(lane))

    def _refused(self, work: Work, said: Escalation, outcome: Outcome) -> None:
        log.error(
            "PagerDuty refused a request.",
            incident_id=said.incident_id,
            action=said.action.value,
            destination=said.destination,
            status=outcome.status,
            message=outcome.message,
        )
        if said.action is PageAction.TRIGGER:
            self._alarm.refused(work.title or said.incident_id, said.destination, outcome.message)

    def _digest(self, lane: Lane) -> list[Entry]:
        """Return the one summary of what came and went unheard, none where nothing did."""
        since = lane.silent_since
        if since is None:
            return []
        lane.silent_since, gone = None, lane.gone()
        if not gone:
            return []
        for work in gone:
            work.listed = True
        digest = reports.digest(gone, lane.routing_key, since, self._clock.now())
        return [reports.entry(digest, lane.routing_key)]

    def _settle(self, lane: Lane, digest: Sequence[Entry]) -> None:
        """Report what needs no request any more, with the digest that tells of it."""
        now, entries = self._clock.now(), list(digest)
        unheard = [(work, said) for work in lane.unheard.values() if (said := work.head) is not None]
        for work, said in unheard:
            entries.append(reports.entry(reports.skipped(said, now), lane.routing_key))
            self._metrics.deliveries.labels(said.action.value, Verdict.SKIPPED.value).inc()
            work.settle(said, self._timing.monotonic())
        if entries:
            self._spawn(self._report([work for work, _ in unheard], entries))

    async def _report(self, works: Sequence[Work], entries: Sequence[Entry]) -> None:
        try:
            for begin in range(0, len(entries), CHUNK):
                await self._append(entries[begin : begin + CHUNK])
        finally:
            self._release(works)

    async def _append(self, entries: Sequence[Entry]) -> None:
        """Append, and try again for as long as the log takes nothing."""
        failures = 0
        while True:
            try:
                await self._inlet.append(entries)
            except Overloaded as overload:
                failures += 1
                log.warning("The log does not take an outcome; it is tried again.", error=str(overload))
                pause = max(backoff(failures, self._jitter()), overload.retry_after or 0.0)
                await self._timing.wait(self._never, pause)
            else:
                return

    async def _tell(self, message: Message) -> None:
        told = await self._alarm.tell(message)
        self._alarm.done(message, self._timing.monotonic(), told=told)
        self._telling = False

    # -- bookkeeping -------------------------------------------------------------------------------------------------

    def _survey(self, now: float) -> None:
        """Look at all that waits: for the gauges and for the alarm."""
        figures = self._intents.figures()
        age = 0.0 if figures.oldest is None else (self._clock.now() - figures.oldest).total_seconds()
        self._metrics.waiting.labels("urgent").set(figures.urgent)
        self._metrics.waiting.labels("other").set(figures.other)
        self._metrics.oldest.set(max(0.0, age))
        self._metrics.note_silent(figures.silent)
        self._alarm.look(figures.survey)
        self._survey_at = None if figures.oldest is None else now + SURVEY_EVERY

    def _look_soon(self, now: float) -> None:
        self._survey_at = now if self._survey_at is None else self._survey_at
        self._changed.set()

    def _release(self, works: Sequence[Work]) -> None:
        self._intents.release(works)
        self._look_soon(self._timing.monotonic())

    def _spawn(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = self._failure or failure
        if not self._tasks:
            self._idle.set()
        self._changed.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def _hint(lane: Lane) -> str:
    return lane.routing_key[-HINT:]
