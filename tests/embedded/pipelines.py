"""An embedded pipeline for tests: alerts to append, a clock that can hold the thread, and looks from outside."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import struct
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from streamproc.core.errors import StreamprocError
from streamproc.core.event import Activated, Artifact, DeadLetter, Event
from streamproc.core.fold import CONFIG
from streamproc.core.record import Record
from streamproc.core.step import StepFunction, Topology
from streamproc.events.escalation import Escalation, Verdict
from streamproc.events.feedback import ARM, Policy, PolicyKind
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.runtime.clock import Clock, ManualClock
from streamproc.runtime.embedded.journal import FILE, SqliteJournal
from streamproc.runtime.embedded.runtime import Config, Embedded
from streamproc.runtime.engine import Engine
from streamproc.runtime.journal import Append
from streamproc.runtime.reports import outcome
from streamproc.state import IntentRow
from streamproc.topology import TOPICS, TOPOLOGY

T0 = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
KEY = "0123456789abcdef0123456789abcdef"
PATIENCE = 60.0
"""Seconds after which a test that waits has failed; nothing depends on how much of it passes."""
QUICK = Config(synchronous="normal")


def alert(
    name: str, service: str = "", *, status: str = "firing", since: datetime = T0, severity: str = "critical"
) -> dict[str, Any]:
    """Return one alert of an Alertmanager webhook."""
    labels = {"alertname": name, "severity": severity, "environment": "prod", "service": service or name}
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": f"{name} of {service or name}"},
        "startsAt": since.isoformat(),
        "endsAt": (since + timedelta(minutes=1)).isoformat() if status == "resolved" else "0001-01-01T00:00:00Z",
        "fingerprint": hashlib.sha256(json.dumps(labels).encode()).hexdigest()[:16],
    }


def body(*alerts: Mapping[str, Any]) -> bytes:
    """Return an Alertmanager webhook."""
    told = {"version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "x", "groupLabels": {}}
    return json.dumps({**told, "alerts": alerts}).encode()


def raw(*alerts: Mapping[str, Any], value: bytes = b"") -> Entry:
    """Return the entry of a webhook with these alerts, or of any body."""
    return Entry.of("alerts.raw", RawAlert(body=value or body(*alerts), source="alertmanager"))


def policy(version: int = 1, *, adopt: bool = False, withdrawn: bool = False, now: datetime = T0) -> Entry:
    """Return the entry that arms the pipeline, or disarms it."""
    armed = Policy(policy_id=ARM, kind=PolicyKind.ARM, version=version, starts_at=now, adopt=adopt, withdrawn=withdrawn)
    return Entry.of("policies", armed)


def configured(**sections: Mapping[str, Any]) -> list[Entry]:
    """Return the entries that set a routing key, with settings of stages beside it."""
    escalate = {"destinations": {"default": {"routing_key": KEY}}, **sections.pop("escalate", {})}
    text = json.dumps({"escalate": escalate, **sections})
    checksum = hashlib.sha256(text.encode()).hexdigest()
    artifact = Artifact(kind=CONFIG, version=1, checksum=checksum, body=text)
    active = Activated(kind=CONFIG, version=1, checksum=checksum)
    return [Entry.of("versions", artifact, artifact.artifact_id), Entry.of("policies", active)]


def paging() -> list[Entry]:
    """Return what makes a pipeline page from its first moment."""
    return [*configured(), policy()]


def outcome_of(said: Escalation, at: datetime = T0) -> Entry:
    """Return what a sender reports that PagerDuty answered."""
    answered = outcome(said, Verdict.DELIVERED, at, status=202, message="", attempts=1)
    return Entry.of("escalations", answered, said.routing_key)


class HeldClock(ManualClock):
    """Stands at a moment, and on demand holds whoever asks for it until it is released."""

    def __init__(self, at: datetime = T0) -> None:
        super().__init__(at)
        self.entered = threading.Event()
        self._free = threading.Event()
        self._free.set()

    def now(self) -> datetime:
        if not self._free.is_set():
            self.entered.set()
            assert self._free.wait(PATIENCE)
        return super().now()

    def hold(self) -> None:
        """Hold the next one who asks."""
        self.entered.clear()
        self._free.clear()

    def release(self) -> None:
        """Let go."""
        self._free.set()

    async def held(self) -> None:
        """Wait until somebody is held."""
        assert await asyncio.to_thread(self.entered.wait, PATIENCE)


class WildClock(ManualClock):
    """Fails in a way that nobody foresaw, on demand."""

    broken = False

    def now(self) -> datetime:
        if self.broken:
            raise ZeroDivisionError("the clock fell off the wall")
        return super().now()


@dataclass
class Pipeline:
    """A runtime under test."""

    runtime: Embedded
    folder: Path
    fatal: list[StreamprocError]
    intents: dict[str, IntentRow]

    async def put(self, *alerts: Mapping[str, Any]) -> None:
        """Post alerts in one webhook."""
        await self.runtime.append([raw(*alerts)])

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110  what it waits for happens in a file
                await asyncio.sleep(0.005)

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits: no command, no record, no timer that is due."""
        engine = self.runtime._engine
        assert engine is not None
        with closing(sqlite3.connect(f"file:{self.folder / FILE}?mode=ro", uri=True)) as db:
            if db.execute("SELECT 1 FROM spool").fetchone():
                return False
        due = engine.next_due()
        return engine.idle and (due is None or due > engine.clock.now())


@asynccontextmanager
async def started(
    folder: Path,
    *,
    clock: Clock | None = None,
    config: Config = QUICK,
    topology: Topology = TOPOLOGY,
    first: Sequence[Entry] | Callable[[Engine], Sequence[Entry]] = (),
    **more: Any,
) -> AsyncIterator[Pipeline]:
    """Run a runtime over `folder`."""
    fatal: list[StreamprocError] = []
    runtime = Embedded(folder, topology, TOPICS, clock or ManualClock(T0), config, None, fatal.append, **more)
    try:
        intents = await runtime.start(first if callable(first) else lambda _: first)
        yield Pipeline(runtime, folder, fatal, intents)
    finally:
        if isinstance(clock, HeldClock):
            clock.release()
        await runtime.stop()


def broken(stage: str, step: StepFunction) -> Topology:
    """Return the pipeline with one stage that does something else."""
    return tuple(
        replace(node, stages=tuple(replace(one, step=step) if one.name == stage else one for one in node.stages))
        for node in TOPOLOGY
    )


def leave_unfolded(folder: Path, entries: Sequence[Entry], stamp: datetime = T0) -> None:
    """Leave records that are durable and not folded, as a process does that is killed between two rounds."""
    now = stamp.isoformat(timespec="microseconds").encode()
    appends = [Append(one.topic, 0, one.key, one.value, {"now": now, **one.headers}) for one in entries]
    with closing(SqliteJournal(folder, TOPICS)) as journal, journal.transaction():
        journal.append(appends, stamp)


# -- looks from outside ----------------------------------------------------------------------------------------------


def kept(folder: Path, topic: str, kind: type[Event] | None = None) -> list[bytes]:
    """Return the values that a topic durably holds at this moment, read over a connection of one's own."""
    with closing(sqlite3.connect(f"file:{folder / FILE}?mode=ro", uri=True)) as db:
        found = db.execute(
            "SELECT l.value, l.headers FROM log l JOIN topics t ON t.number=l.topic WHERE t.name=? ORDER BY l.off",
            (topic,),
        ).fetchall()
    return [value for value, headers in found if kind is None or json.loads(headers).get("type") == kind.TYPE]


def raws(folder: Path) -> list[bytes]:
    """Return the request bodies that the log holds at this moment."""
    return kept(folder, "alerts.raw", RawAlert)


def records(folder: Path, topic: str, kind: type[Event]) -> list[Any]:
    """Return the events of one type that a topic holds, once the pipeline has stopped."""
    journal = SqliteJournal(folder, TOPICS)
    try:
        found = journal.read(topic, 0, journal.start(topic, 0), 1_000_000)
    finally:
        journal.close()
    return [decoded(one, kind) for one in found if one.headers.get("type") == kind.TYPE.encode()]


def decoded(record: Record, kind: type[Event]) -> Event:
    """Return the event of a record."""
    return kind.decode(record.value, record.headers)


def letters(folder: Path) -> list[DeadLetter]:
    """Return the dead letters at this moment."""
    return [DeadLetter.model_validate_json(value) for value in kept(folder, "dead-letters")]


def commits(folder: Path) -> int:
    """Return how many transactions the write-ahead log holds: the frames that carry the file's size in pages.

    Source: https://www.sqlite.org/fileformat2.html#walformat
    """
    wal = (folder / f"{FILE}-wal").read_bytes()
    page, salts = struct.unpack(">I", wal[8:12])[0], wal[16:24]
    frames = (wal[at : at + 24] for at in range(32, len(wal), 24 + page))
    return sum(frame[8:16] == salts and frame[4:8] != bytes(4) for frame in frames)
