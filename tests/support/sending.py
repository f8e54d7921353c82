"""A sender in virtual time: the real `deliver` stage behind a log in memory, and a PagerDuty that obeys."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, Outcome, Page, PageAction, PageText, Verdict
from streamproc.ports import Entry, Overloaded, Traces
from streamproc.runtime.allowance import Allowance
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.sender import Config, Sender
from streamproc.sinks.notify.channels import Notifier
from streamproc.sinks.pagerduty.encode import Encoded
from streamproc.stages import deliver
from streamproc.state import INTENT, IntentRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOPS = 60
"""Turns of the event loop, more than any chain of tasks here needs."""


async def settle() -> None:
    """Let everything happen that can happen without time passing."""
    for _ in range(HOPS):
        await asyncio.sleep(0)


class VirtualTiming:
    """Time that passes only in `advance`."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._begun = clock.now()
        self._waiters: list[tuple[datetime, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return (self._clock.now() - self._begun).total_seconds()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if seconds is not None:
            # A pause shorter than the clock can tell would never end.
            due = self._clock.now() + timedelta(microseconds=max(1, math.ceil(seconds * 1e6)))
            self._waiters.append((due, passed))
        happened = asyncio.ensure_future(event.wait())
        either: list[asyncio.Future[Any]] = [happened, passed]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            happened.cancel()
            passed.cancel()

    async def advance(self, seconds: float) -> None:
        until = self._clock.now() + timedelta(seconds=seconds)
        await settle()
        while (due := self._next()) is not None and due <= until:
            self._clock.set(max(due, self._clock.now()))
            for moment, passed in self._waiters:
                if moment <= due and not passed.done():
                    passed.set_result(None)
            await settle()
        self._clock.set(until)
        await settle()

    def _next(self) -> datetime | None:
        self._waiters = [waiter for waiter in self._waiters if not waiter[1].done()]
        return min((due for due, _ in self._waiters), default=None)


@dataclass(frozen=True)
class Answer:
    """What a request comes to."""

    verdict: Verdict = Verdict.DELIVERED
    status: int | None = 202
    message: str = "Event processed"
    attempts: int = 1
    retry_after: float | None = None


TAKEN = Answer()
DOWN = Answer(Verdict.AGAIN, 503, "Service Unavailable")
REFUSED = Answer(Verdict.REFUSED, 400, "Event object is invalid")


@dataclass(frozen=True)
class Request:
    """A request as PagerDuty saw it."""

    seconds: float
    path: str
    body: Mapping[str, Any]

    @property
    def said(self) -> str:
        """`action key`, or the summary of a change event."""
        if "event_action" in self.body:
            return f"{self.body['event_action']} {self.body['dedup_key']}"
        return str(self.body["payload"]["summary"])


class FakePagerDuty:
    """Answers as `answer` says, `latency` seconds later."""

    def __init__(self, timing: VirtualTiming) -> None:
        self._timing = timing
        self._never = asyncio.Event()
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda _: TAKEN
        self.latency = 0.0
        self.flying: list[str] = []
        self.most_flying = 0

    @property
    def said(self) -> list[str]:
        return [request.said for request in self.requests]

    async def send(self, encoded: Encoded, /, wanted: Callable[[], bool]) -> Answer:
        self.wanted = wanted
        request = Request(self._timing.monotonic(), encoded.path, json.loads(encoded.body))
        self.requests.append(request)
        key = str(request.body.get("dedup_key", ""))
        assert key == "" or key not in self.flying, "two requests for one incident at once"
        self.flying.append(key)
        self.most_flying = max(self.most_flying, len(self.flying))
        try:
            if self.latency:
                await self._timing.wait(self._never, self.latency)
            return self.answer(request)
        finally:
            self.flying.remove(key)


class FakeLog:
    """The inlet, and deliver behind it: what is appended is folded at once, and the changed rows are offered."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.rows = rows_of()
        self.keys: set[str] = set()
        self.offer: Callable[[Mapping[str, IntentRow | None]], None] = lambda _: None
        self.outcomes: list[Outcome] = []
        self.digests: list[Escalation] = []
        self.pages: list[Page] = []
        self.overloads = 0
        self.batches: list[int] = []
        self.broken: Exception | None = None
        self.traceparents: list[bytes | None] = []

    async def append(self, entries: Sequence[Entry]) -> None:
        if self.broken is not None:
            raise self.broken
        if self.overloads:
            self.overloads -= 1
            raise Overloaded("full", retry_after=3.0)
        self.batches.append(len(entries))
        for entry in entries:
            assert entry.topic == "escalations"
            if entry.headers["type"] == Outcome.TYPE.encode():
                self.traceparents.append(entry.headers.get("traceparent"))
                outcome = Outcome.decode(entry.value, entry.headers)
                assert entry.key == outcome.routing_key.encode()
                self.outcomes.append(outcome)
                self.fold(outcome)
            else:
                digest = Escalation.decode(entry.value, entry.headers)
                assert entry.key == digest.routing_key.encode()
                self.digests.append(digest)
                self.fold(digest)

    def fold(self, *events: Escalation | Outcome) -> None:
        """Fold a micro-batch and offer what it changed."""
        changes: dict[str, IntentRow | None] = {}
        for event in events:
            step = deliver.step(event, self.rows, self._clock.now(), None)
            commit(self.rows, step)
            self.pages.extend(page for page in step.emit if isinstance(page, Page))
            for address, row in step.changes.items():
                assert row is None or isinstance(row, IntentRow)
                changes[address.key] = row
                self.keys.add(address.key)
        if changes:
            self.offer(changes)

    def standing(self) -> dict[str, IntentRow | None]:
        found = ((key, self.rows.get(INTENT, key)) for key in sorted(self.keys))
        return {key: row for key, row in found if row is not None}


class FakeNotifier:
    """Takes messages, or does not."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.tried = 0
        self.takes = True

    @property
    def titles(self) -> list[str]:
        return [title for title, _ in self.told]

    async def tell(self, title: str, body: str) -> bool:
        await asyncio.sleep(0)
        self.tried += 1
        if self.takes:
            self.told.append((title, body))
        return self.takes


@dataclass
class World:
    """One sender and everything around it. `begin` again for the next process over the same log."""

    config: Config = field(default_factory=Config)
    clock: ManualClock = field(default_factory=lambda: ManualClock(T0))
    account: Allowance | None = None

    def __post_init__(self) -> None:
        self.timing = VirtualTiming(self.clock)
        self.log = FakeLog(self.clock)
        self.pagerduty = FakePagerDuty(self.timing)
        self.notifier = FakeNotifier()
        self.channel: Notifier | None = self.notifier
        self.seq = 0
        self.traces: Traces | None = None

    async def begin(self, *, jitter: float = 0.0) -> None:
        """Start a process: the rows that stand are offered first."""
        self.registry = CollectorRegistry()
        self.sender = Sender(
            self.config,
            self.pagerduty,
            self.log,
            self.clock,
            self.channel,
            self.registry,
            timing=self.timing,
            jitter=lambda: jitter,
            traces=self.traces,
            account=self.account,
        )
        self.log.offer = self.sender.offer
        self.sender.offer(self.log.standing())
        self.running = asyncio.create_task(self.sender.run())
        await settle()

    async def end(self) -> None:
        """Stop with grace for as long as virtual time needs."""
        stopping = asyncio.create_task(self.sender.stop())
        await self.timing.advance(10.0)
        await stopping
        await self.running
        self.log.offer = lambda _: None

    async def crash(self) -> None:
        """End the process as kill -9 does: nothing is reported."""
        self.log.broken = RuntimeError("dead")
        self.log.offer = lambda _: None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await settle()
        self.log.broken = None

    def say(
        self,
        key: str,
        action: PageAction = PageAction.TRIGGER,
        severity: Severity = Severity.ERROR,
        *,
        routing_key: str = "K1",
        summary: str = "",
    ) -> Escalation:
        """Return an escalation that is decided now."""
        self.seq += 1
        speaks = action in (PageAction.TRIGGER, PageAction.CHANGE)
        text = PageText(summary=summary or f"{key} is down", source=key, severity=severity) if speaks else None
        return Escalation(
            incident_id=key,
            scope="prod",
            destination="default",
            routing_key=routing_key,
            dedup_key=key,
            action=action,
            seq=self.seq,
            text=text,
            at=self.clock.now(),
        )

    async def want(self, *wanted: Escalation) -> None:
        """Fold escalations in one micro-batch, and let what follows at once happen."""
        self.log.fold(*wanted)
        await settle()

    async def trigger(self, key: str, severity: Severity = Severity.ERROR, *, routing_key: str = "K1") -> None:
        await self.want(self.say(key, severity=severity, routing_key=routing_key))

    async def resolve(self, key: str, *, routing_key: str = "K1") -> None:
        await self.want(self.say(key, PageAction.RESOLVE, routing_key=routing_key))

    def metric(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"no {name} {labels}"
        return value

    def verdicts(self) -> list[str]:
        return [f"{outcome.action} {outcome.dedup_key} {outcome.verdict}" for outcome in self.log.outcomes]
