"""How many events a second does the sender get out, and what does it add itself? The real sender and client, one loop.

The endpoint takes everything at once, in a process of its own; paces are out of the way. Half of the events are pages
as the pipeline writes them, half the resolves of these. Reference: the same bodies through httpx alone, with its own
connections, as many at once.
Our own overhead is the time from the offer of an intent until its request has come to the endpoint, whatever waits for
a connection, for the event loop or for the other process included.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO

import httpx
import orjson
from prometheus_client import CollectorRegistry

from bench.kafka import ANSWERED, median, quick
from bench.load import BEGAN, bodies
from bench.profiling import hottest
from streamproc.beginning import arming
from streamproc.events.escalation import Escalation, PageAction
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock, SystemClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.runtime.sender import Config, Sender
from streamproc.sinks.pagerduty.client import EventsClient
from streamproc.sinks.pagerduty.config import ApiConfig
from streamproc.sinks.pagerduty.encode import encode
from streamproc.stages.deliver import intent_key
from streamproc.state import IntentRow
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

KEYS = (1, 100, 1000)
RATES = (100, 400, 800)
AT_ONCE = 64
TICK = 0.01
PACE = 10_000_000
"""Requests a minute: no bound here."""
NUMBERED = b'"dedup_key":"bench:'


@dataclass
class Log:
    """What the sender reports goes back to it as a row, as deliver's fold would write it."""

    rows: dict[str, Escalation] = field(default_factory=dict)
    paged: deque[str] = field(default_factory=deque)
    """Incidents whose page was taken, and which are not resolved yet."""
    answered: int = 0
    sender: Sender | None = None

    async def append(self, entries: Sequence[Entry]) -> None:
        """Take outcomes."""
        changes: dict[str, IntentRow | None] = {}
        for entry in entries:
            outcome = orjson.loads(entry.value)
            dedup_key = outcome["dedup_key"]
            said = self.rows[dedup_key]
            key = intent_key(said.routing_key, dedup_key)
            resolved = outcome["action"] == PageAction.RESOLVE
            changes[key] = None if resolved else IntentRow(triggered=True, last=said, title="")
            if not resolved:
                self.paged.append(dedup_key)
            self.answered += 1
        if self.sender is not None:
            self.sender.offer(changes)


class Offers:
    """Offers intents and remembers when."""

    def __init__(self, sender: Sender, log: Log, keys: int, first: int) -> None:
        self._sender = sender
        self._log = log
        self._keys = keys
        self._page = page()
        self._number = first
        self.began: dict[str, float] = {}

    def offer(self, pages: int, resolves: int) -> None:
        """Offer so many pages, and as many resolves of earlier ones as there are."""
        changes: dict[str, IntentRow | None] = {}
        for _ in range(pages):
            named = {"dedup_key": f"bench:{self._number:08d}", "routing_key": f"{self._number % self._keys:032d}"}
            self._number += 1
            self._say(self._page.model_copy(update={**named, "at": SystemClock().now()}), changes)
        for _ in range(min(resolves, len(self._log.paged))):
            was = self._log.rows[self._log.paged.popleft()]
            said = {"action": PageAction.RESOLVE, "text": None, "seq": 2, "at": SystemClock().now()}
            self._say(was.model_copy(update=said), changes)
        self._sender.offer(changes)

    def _say(self, said: Escalation, changes: dict[str, IntentRow | None]) -> None:
        self._log.rows[said.dedup_key] = said
        row = IntentRow(
            pending=(said,),
            triggered=said.action is PageAction.RESOLVE,
            last=said,
            title=said.text.summary if said.text else "",
        )
        changes[intent_key(said.routing_key, said.dedup_key)] = row
        self.began[f"{said.dedup_key}:{said.action.value}"] = time.monotonic()

    async def settle(self, count: int) -> None:
        """Return once so many are answered and reported."""
        while self._log.answered < count:  # noqa: ASYNC110  answers come from outside
            await asyncio.sleep(TICK)


def page() -> Escalation:
    """Return a page as the pipeline writes it."""
    clock = ManualClock(BEGAN + timedelta(hours=1))
    runtime = Memory(TOPOLOGY, LETTERS, MemoryJournal(TOPICS), clock)
    runtime.put("policies", arming(1, clock.now(), author="bench", adopt=False))
    runtime.append([Entry("alerts.raw", b"", bodies(1, 1)[0], {"source": b"alertmanager"})])
    runtime.advance(timedelta(hours=1))
    record = next(record for record in runtime.records("escalations") if b'"trigger"' in record.value)
    return Escalation.decode(record.value, record.headers)


# -- the endpoint ----------------------------------------------------------------------------------------------------


class Endpoint:
    """Takes everything at once; says when each request came."""

    def __init__(self) -> None:
        self.came: dict[str, float] = {}

    async def serve(self) -> None:
        """Print the address, serve until stdin ends, and print when each request came, as JSON."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        print(orjson.dumps(self.came).decode())

    async def _talk(self, reader: asyncio.StreamReader, answering: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                now = time.monotonic()
                number = body.partition(NUMBERED)[2][:8].decode()
                action = "trigger" if b'"trigger"' in body else "resolve"
                self.came.setdefault(f"bench:{number}:{action}", now)
                answering.write(ANSWERED)
        answering.close()


@contextmanager
def endpoint() -> Iterator[tuple[str, dict[str, float]]]:
    """Run an endpoint in a process of its own; what came is known once the context is left."""
    command = [sys.executable, "-m", "bench.deliver", "--endpoint"]
    came: dict[str, float] = {}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        out, told = _pipe(process.stdout), _pipe(process.stdin)
        try:
            yield out.readline().strip(), came
        finally:
            told.close()
            came.update(orjson.loads(out.read() or "{}"))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("no pipe")
    return pipe


# -- measuring -------------------------------------------------------------------------------------------------------


async def flood(url: str, keys: int, events: int, profile: cProfile.Profile | None = None) -> tuple[float, float]:
    """Offer pages as fast as they are answered, and their resolves; return events a second and microseconds of CPU."""
    async with _sending(url) as (sender, log):
        offers = Offers(sender, log, keys, 0)
        offers.offer(AT_ONCE, 0)
        await offers.settle(AT_ONCE)  # connections stand
        if profile is not None:
            profile.enable()
        begun, cpu, done = time.perf_counter(), time.process_time(), log.answered
        offers.offer(events // 2, 0)
        await offers.settle(done + events // 2)
        offers.offer(0, events // 2)
        await offers.settle(done + events // 2 * 2)
        spent, used = time.perf_counter() - begun, time.process_time() - cpu
        if profile is not None:
            profile.disable()
    return events / spent, used / events * 1e6


async def steady(url: str, keys: int, rate: int, seconds: float) -> tuple[dict[str, float], float]:
    """Offer so many events a second; return when each was offered, and microseconds of CPU for each."""
    async with _sending(url) as (sender, log):
        warm = Offers(sender, log, keys, 90_000_000)
        warm.offer(AT_ONCE, 0)
        await warm.settle(AT_ONCE)
        offers = Offers(sender, log, keys, rate * 100_000)
        begun, cpu, sent = time.monotonic(), time.process_time(), 0
        while (spent := time.monotonic() - begun) < seconds:
            if due := int(spent * rate) - sent:
                offers.offer(due - due // 2, due // 2)
                sent += due
            await asyncio.sleep(TICK)
        await offers.settle(AT_ONCE + len(offers.began))
        used = (time.process_time() - cpu) / len(offers.began) * 1e6
    return offers.began, used


@contextlib.asynccontextmanager
async def _sending(url: str) -> AsyncIterator[tuple[Sender, Log]]:
    log = Log()
    async with EventsClient(ApiConfig(base_url=url)) as client:
        sender = Sender(Config(rate_limit=PACE), client, log, SystemClock(), None, CollectorRegistry())
        log.sender = sender
        running = asyncio.create_task(sender.run())
        yield sender, log
        await sender.stop()
        await running


async def alone(url: str, events: int) -> tuple[float, float]:
    """Return events a second of httpx alone, as many at once as the sender has, and microseconds of CPU for each."""
    said = page()
    pair = [
        encode(said.model_copy(update=changed), delayed_by=None).body
        for changed in ({"routing_key": "R" * 32}, {"routing_key": "R" * 32, "action": PageAction.RESOLVE})
    ]
    left = iter(range(events))
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=AT_ONCE)) as http:

        async def post() -> None:
            for number in left:
                await http.post(f"{url}/v2/enqueue", content=pair[number % 2])

        begun, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(post() for _ in range(AT_ONCE)))
        spent, used = time.perf_counter() - begun, time.process_time() - cpu
    return events / spent, used / events * 1e6


def main() -> None:
    """Measure and print."""
    events, seconds = (1_000, 3.0) if quick() else (10_000, 15.0)
    with endpoint() as (url, _):
        rate, cost = asyncio.run(alone(url, events))
        print(f"reference: httpx alone       {rate:8,.0f} events/s  {cost:7.0f} us of CPU an event")
        for keys in KEYS:
            found, used = asyncio.run(flood(url, keys, events))
            shown = f"{found:8,.0f} events/s  {used:7.0f} us of CPU an event  {found / rate:5.2f} x"
            print(f"{keys:>5} routing keys, flooded  {shown}")
    for paced in RATES:
        with endpoint() as (url, came):
            began, used = asyncio.run(steady(url, KEYS[1], paced, seconds))
        took = [(came[name] - moment) * 1e3 for name, moment in began.items()]
        shown = "  ".join(f"{name} {median(took, part):6.1f} ms" for name, part in (("p50", 0.5), ("p95", 0.95)))
        print(f"{paced:>5} events/s, {KEYS[1]} keys      {shown}  {used:7.0f} us of CPU an event")
    profile = cProfile.Profile()
    with endpoint() as (url, _):
        asyncio.run(flood(url, KEYS[1], events, profile))
    print(f"profile, {KEYS[1]} routing keys, flooded:")
    for name, share in hottest(profile, 12):
        print(f"{share:>12.1%}  {name}")


if __name__ == "__main__":
    asyncio.run(Endpoint().serve())
