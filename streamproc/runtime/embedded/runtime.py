"""The `embedded` runtime: one thread owns the SQLite file, folds every node, and commits in rounds.

A round takes what the edges have brought, folds what there is to fold within a bound, fires timers, and commits it all
with one disk sync; only then does an edge get its answer. Under load many requests share one sync.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import structlog
from pydantic import Field

from streamproc.core.errors import Defect, StreamprocError
from streamproc.core.step import StageConfig, Topology
from streamproc.core.table import Row, RowKey
from streamproc.core.topic import Topic
from streamproc.events.escalation import Page
from streamproc.ports import Entry, Overloaded
from streamproc.runtime.clock import Clock
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.journal import SqliteJournal, StorageFailure
from streamproc.runtime.engine import BATCH, Engine, Part, Sensor
from streamproc.runtime.tally import Tally
from streamproc.state import INTENT, IntentRow
from streamproc.views import NodeStatus, PipelineStatus

log = structlog.get_logger(__name__)

ROUND = 0.05
"""Seconds of folding in one round at most, so that a request never waits long for its answer behind a backlog."""
SLICE = 0.05
"""Seconds that one node should take of a round before the next one has its turn. With bodies of 100 alerts a request
waits at most 0.7 s behind a backlog, without this bound 3 s; a smaller one costs more than it gains, since rows that
change often are written once for each slice."""
FEW = 50
"""Records of a node's first slice, and the fewest of any."""
TRIM_EVERY = 60.0
LOOK_EVERY = 0.5
"""Seconds between looks at what commands of other processes left."""
STOP_WITHIN = 4.0
"""Seconds that the round under way may take once the runtime is to stop; then it is left to SQLite to undo it."""


class Config(StageConfig):
    """The embedded runtime."""

    synchronous: Literal["full", "normal"] = "full"
    """`full`: what was acknowledged survives a loss of power. `normal`: it survives the death of the process only."""
    queue_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """Bytes that may wait for the disk; beyond that senders are told to come again (503)."""
    backlog: int = Field(default=200_000, ge=1)
    """Records that may wait before any one node; beyond that senders are told to come again (503)."""


@dataclass(slots=True)
class _Request:
    entries: Sequence[Entry]
    size: int
    done: asyncio.Future[None]


class LiveDesk(SqliteDesk):
    """The desk of a running pipeline: what is stored, and how its process stands."""

    def __init__(self, folder: Path, runtime: Embedded) -> None:
        super().__init__(folder)
        self._runtime = runtime

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands."""
        return super().status().model_copy(update=self._runtime.standing())

    def _nodes(self, db: sqlite3.Connection) -> tuple[NodeStatus, ...]:  # noqa: ARG002  the process knows it at no cost
        return self._runtime.nodes()


class Embedded:
    """The pipeline on one machine. Start it, append to it, stop it; it stops itself where it cannot keep its promises.

    Args:
        folder: the data directory.
        on_fatal: called on the event loop with the error when the thread has stopped for good.
        trim_every: seconds between removals of what is past its retention, where the last one left nothing.
    """

    def __init__(
        self,
        folder: Path,
        topology: Topology,
        topics: Mapping[str, Topic],
        clock: Clock,
        config: Config,
        sensor: Sensor | None,
        on_fatal: Callable[[StreamprocError], None],
        *,
        trim_every: float = TRIM_EVERY,
    ) -> None:
        self._folder = folder
        self._topology = topology
        self._topics = topics
        self._clock = clock
        self._config = config
        self._on_fatal = on_fatal
        self._trim_every = trim_every
        self.tally = Tally(sensor)
        self._queue: deque[_Request] = deque()
        self._queued = 0
        self._taken: list[_Request] = []
        self._backlog = 0
        self._slices: dict[str, int] = {}
        self._wanted = threading.Condition()
        self._stopping = False
        self._failure: StreamprocError | None = None
        self._caught_up = False
        self._engine: Engine | None = None
        self._intents: dict[str, IntentRow | None] = {}
        self._kept_intents: dict[str, IntentRow | None] = {}
        self._kept_pages: list[Page] = []
        self._offer: Callable[[Mapping[str, IntentRow | None]], None] | None = None
        self._offer_pages: Callable[[Sequence[Page]], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="streamproc-engine", daemon=True)

    async def start(self, first: Callable[[Engine], Sequence[Entry]] = lambda _: ()) -> dict[str, IntentRow]:
        """Open the file, fold to the head of every inbox, and return the intents that stand then.

        Args:
            first: what to append once everything that waited is folded, before anything new is taken.

        Raises:
            StreamprocError: the file cannot be used; see `SqliteJournal` and `Engine`.
        """
        self._loop = asyncio.get_running_loop()
        started: asyncio.Future[dict[str, IntentRow]] = self._loop.create_future()
        self._first, self._started = first, started
        self._thread.start()
        intents = await started
        self._caught_up = True
        return intents

    def offer_to(
        self,
        offer: Callable[[Mapping[str, IntentRow | None]], None],
        offer_pages: Callable[[Sequence[Page]], None],
    ) -> None:
        """Tell, on the event loop, of every committed change of an intent, and of pages that have nowhere to go.

        What was committed since `start` returned is told at once, so it must know what `start` returned.
        """
        self._offer, self._offer_pages = offer, offer_pages
        self._pass_on()

    async def append(self, entries: Sequence[Entry]) -> None:
        """Append all entries or none; durable when this returns.

        Raises:
            Overloaded: nothing was taken.
            Defect: an entry names a topic that the catalogue does not have.
        """
        if self._failure is not None or self._stopping:
            raise Overloaded("the pipeline has stopped", retry_after=10)
        for entry in entries:
            if entry.topic not in self._topics:
                raise Defect(f"no topic is called {entry.topic!r}")
        size = sum(len(entry.value) + len(entry.key) for entry in entries)
        # What is larger than the whole queue goes in alone: else its sender would come again for ever.
        full = self._queued > 0 and self._queued + size > self._config.queue_bytes
        if full or self._backlog > self._config.backlog:
            raise Overloaded("more arrives than the disk or the stages can take", retry_after=2)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._wanted:
            self._queue.append(_Request(entries, size, done))
            self._queued += size
            self._wanted.notify()
        await done

    async def stop(self) -> None:
        """Finish what was taken and close the file, within `STOP_WITHIN` seconds."""
        with self._wanted:
            self._stopping = True
            self._wanted.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_WITHIN)
        if self._thread.is_alive():
            log.warning("The last round is not over and is given up; the next start repeats it.")

    def standing(self) -> dict[str, object]:
        """Return what only the process knows: whether it is ready, why not, and what it decided since it started."""
        why = "" if self._caught_up else "folding what waited in the log"
        if self._stopping:
            why = "it is told to stop"
        if self._failure is not None:
            why = str(self._failure)
        return {"ready": not why, "why_not": why, "decisions": dict(self.tally.decisions)}

    def parts(self) -> Sequence[Part]:
        """Return every node partition; none before the runtime has started. Other threads may only look."""
        return () if self._engine is None else self._engine.parts

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Return how each node stands; none before the runtime has started."""
        engine = self._engine
        return () if engine is None else tuple(_status(engine, part) for part in engine.parts)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        with ExitStack() as opened:
            try:
                journal = SqliteJournal(self._folder, self._topics, self._config.synchronous)
                opened.callback(journal.close)
                engine = self._open(journal)
                self._tell(self._begun, {} if self._stopping else dict(engine.part("deliver").rows.scan(INTENT)))
                self._work(engine, journal)
            except StreamprocError as error:
                self._fail(error)
            except BaseException as error:
                self._fail(Defect(f"{type(error).__name__}: {error}"))
                raise

    def _open(self, journal: SqliteJournal) -> Engine:
        try:
            engine = Engine(self._topology, self._topics["dead-letters"], journal, self._clock, self.tally)
        except ValueError as error:
            what = str(error).partition("\n")[0]  # the rest shows what stands there, routing keys for example
            raise StorageFailure(
                f"{self._folder}: what was kept cannot be read: {what}; see docs/operations.md, "
                "'A damaged data directory'"
            ) from None
        engine.listen("deliver", self._note)
        self._catch_up(engine, journal)
        if not self._stopping:
            with journal.transaction():
                engine.append(self._first(engine))
            self._catch_up(engine, journal)
        self._intents.clear()
        self._engine = engine
        return engine

    def _catch_up(self, engine: Engine, journal: SqliteJournal) -> None:
        while not self._stopping and (not engine.idle or self._overdue(engine)):
            with journal.transaction():
                self._fold(engine)

    def _overdue(self, engine: Engine) -> bool:
        due = engine.next_due()
        return due is not None and due <= self._clock.now()

    def _work(self, engine: Engine, journal: SqliteJournal) -> None:
        trim_at = time.monotonic() + self._trim_every
        while True:
            requests = self._take(engine)
            if requests is None:
                return
            trims = time.monotonic() >= trim_at
            if not (requests or trims or journal.spooled or self._overdue(engine)) and engine.idle:
                continue
            with journal.transaction():
                engine.append(journal.take_spool())
                for request in requests:
                    engine.append(request.entries)
                self._fold(engine)
                if trims:
                    folded = {part.node.inbox.name: part.position.next_offset for part in engine.parts}
                    more = journal.trim(self._clock.now(), folded)
                    trim_at = time.monotonic() + (LOOK_EVERY if more else self._trim_every)
            self._backlog = max(engine.lag(part) for part in engine.parts)
            self._answer(requests)

    def _take(self, engine: Engine) -> list[_Request] | None:
        """Wait for work and return the requests that have come; None once the runtime is to stop."""
        with self._wanted:
            if not (self._queue or self._stopping or self._overdue(engine)) and engine.idle:
                due = engine.next_due()
                wait = LOOK_EVERY if due is None else (due - self._clock.now()) / timedelta(seconds=1)
                self._wanted.wait(min(max(wait, 0.0), LOOK_EVERY))
            if self._stopping and not self._queue:
                return None
            self._taken = list(self._queue)
            self._queue.clear()
            self._queued = 0
            return self._taken

    def _fold(self, engine: Engine) -> None:
        """Fold until all inboxes are empty or the round is over, then fire timers."""
        until = time.perf_counter() + ROUND
        moved = True
        while moved and time.perf_counter() < until:
            moved = False
            for part in engine.parts:
                moved = self._step(engine, part) or moved
        engine.fire(self._clock.now())

    def _step(self, engine: Engine, part: Part) -> bool:
        """Fold a slice of what waits before a node; return whether anything did."""
        begun = time.perf_counter()
        count = engine.step(part, self._slices.get(part.node.name, FEW))
        if count >= FEW:
            each = (time.perf_counter() - begun) / count
            self._slices[part.node.name] = min(BATCH, max(FEW, int(SLICE / each)))
        return count > 0

    def _note(self, part: Part, changes: Mapping[RowKey, Row | None]) -> None:  # noqa: ARG002  one partition here
        for address, row in changes.items():
            if address.table == INTENT.name and (row is None or isinstance(row, IntentRow)):
                self._intents[address.key] = row

    def _answer(self, requests: Sequence[_Request]) -> None:
        intents, self._intents, self._taken = self._intents, {}, []
        nowhere = self.tally.take_nowhere()
        if requests or intents or nowhere:
            self._tell(self._answered, requests, intents, nowhere)

    def _begun(self, intents: dict[str, IntentRow]) -> None:
        if not self._started.done():
            self._started.set_result(intents)

    def _answered(
        self, requests: Sequence[_Request], intents: Mapping[str, IntentRow | None], nowhere: Sequence[Page]
    ) -> None:
        for request in requests:
            if not request.done.done():
                request.done.set_result(None)
        self._kept_intents.update(intents)
        self._kept_pages.extend(nowhere)
        self._pass_on()

    def _pass_on(self) -> None:
        if self._offer is None or self._offer_pages is None:
            return
        intents, self._kept_intents = self._kept_intents, {}
        pages, self._kept_pages = self._kept_pages, []
        if intents:
            self._offer(intents)
        if pages:
            self._offer_pages(pages)

    def _fail(self, error: StreamprocError) -> None:
        self._failure = error
        self._tell(self._failed, error)

    def _failed(self, error: StreamprocError) -> None:
        if not self._started.done():
            self._started.set_exception(error)
            return
        log.critical("The pipeline stops, so that nothing wrong is committed.", error=str(error))
        with self._wanted:
            waiting, self._taken, self._queue = [*self._taken, *self._queue], [], deque()
        for request in waiting:
            if not request.done.done():
                request.done.set_exception(Overloaded("the pipeline has stopped", retry_after=10))
        self._on_fatal(error)

    def _tell(self, what: Callable[..., object], *arguments: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *arguments)


def _status(engine: Engine, part: Part) -> NodeStatus:
    now = part.position.now if part.position.next_offset else None
    return NodeStatus(node=part.node.name, partition=part.partition, lag=engine.lag(part), rows=len(part.rows), now=now)
