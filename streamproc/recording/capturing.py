"""Raw traffic into files: what comes in is redacted, gathered for a moment, and written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from streamproc.backtest.rawlog import is_request
from streamproc.backtest.recorded import Inboxes
from streamproc.core.errors import Unusable
from streamproc.core.record import Record
from streamproc.gateway.access import Gate, Keys
from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.ingest import TOPIC, Ingest
from streamproc.gateway.room import Room
from streamproc.gateway.telemetry import Telemetry
from streamproc.gateway.tracing import Tracing
from streamproc.ports import Entry, Overloaded
from streamproc.recording.lines import line_of, recorded
from streamproc.recording.redaction import REPLACED, Redactor
from streamproc.recording.writing import Files
from streamproc.runtime.clock import Clock

MEMBER = 500
"""Lines of one compressed member at most: with fewer little is saved, with more a kill costs more."""


@dataclass
class Recorder:
    """Redacts lines and writes them, whole members at a time.

    Args:
        files: where.
        redactor: what of them is kept.
        clock: names new files.
    """

    files: Files
    redactor: Redactor
    clock: Clock
    count: int = 0
    """Requests that were written."""
    refused: int = 0
    """Requests of which nothing was written but that they were there: they could not be redacted."""
    _waiting: list[bytes] = field(default_factory=list)

    def take(self, line: bytes) -> None:
        """Take a line as it came; it is written with those that follow, or by `flush`."""
        try:
            redacted = self.redactor.line(line)
        except ValueError:
            redacted, self.refused = REPLACED, self.refused + 1
        self._waiting.append(redacted)
        if len(self._waiting) >= MEMBER:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self.files.write(self._waiting, self.clock.now())
        self.count += len(self._waiting)
        self._waiting = []


class RecordingInlet:
    """The gateway's way into the log, that leads into files. An answer of 202 means that the request is written."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._one = asyncio.Lock()

    async def append(self, entries: Sequence[Entry]) -> None:
        """Write the requests.

        Raises:
            Overloaded: the disk takes nothing; the sender tries again.
        """
        now = self._recorder.clock.now()
        async with self._one:
            try:
                await asyncio.to_thread(self._write, entries, now)
            except Unusable as error:
                raise Overloaded(str(error)) from error

    def _write(self, entries: Sequence[Entry], now: datetime) -> None:
        for entry in entries:
            source = entry.headers.get("source", b"").decode()
            self._recorder.take(line_of(now, source, entry.value))
        self._recorder.flush()


def endpoint(config: GatewayConfig, recorder: Recorder, registry: CollectorRegistry) -> ASGIApp:
    """Return an application that takes what the gateway's ingest takes, at the same addresses, and only records it.

    Args:
        config: whom it lets in, and how much it takes at once.
        recorder: where requests go.
        registry: where its metrics are kept.
    """
    telemetry, inlet = Telemetry(registry), RecordingInlet(recorder)
    return Ingest(config, inlet, Gate(Keys(config)), telemetry, Room(config), Tracing(None, recorder.clock.now))


def records(inboxes: Inboxes, reached: dict[int, int]) -> Iterator[Record]:
    """Yield the raw records from `reached` on, and move that along: the next offset by partition.

    A partition that is not in `reached` is read from its beginning. Records that were removed meanwhile are passed.
    """
    for partition in inboxes.partitions(TOPIC):
        start, end = max(reached.get(partition, 0), inboxes.start(TOPIC, partition)), inboxes.end(TOPIC, partition)
        for record in inboxes.records(TOPIC, partition, start):
            yield record
            reached[partition] = record.offset + 1
        reached[partition] = max(reached.get(partition, 0), end)  # what is no record (markers) is passed, too


def begin_at(inboxes: Inboxes, since: datetime | None) -> dict[int, int]:
    """Return from which offsets a recording begins: those of a moment, or the end of what there is."""
    return {
        partition: inboxes.end(TOPIC, partition) if since is None else inboxes.at(TOPIC, partition, since)
        for partition in inboxes.partitions(TOPIC)
    }


def capture(inboxes: Inboxes, recorder: Recorder, reached: dict[int, int]) -> int:
    """Write the requests that have come since the last time; return how many."""
    before = recorder.count
    for record in records(inboxes, reached):
        if is_request(record):
            recorder.take(recorded(record))
    recorder.flush()
    return recorder.count - before


def follow(inboxes: Inboxes, recorder: Recorder, reached: dict[int, int], wait: Callable[[], bool]) -> None:
    """Write raw records as they come, until `wait`, which waits for a while, says so; then what came by that moment."""
    while True:
        capture(inboxes, recorder, reached)
        if wait():
            break
    capture(inboxes, recorder, reached)
