"""What a backtest replays: a file, the log of a pipeline, or what Prometheus remembers; and which stretch of time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streamproc.backtest import prometheus, rawlog
from streamproc.backtest.reading import Beside, Line, Tally, opened, traffic
from streamproc.backtest.recorded import EmbeddedInboxes, Inboxes
from streamproc.core.errors import Unusable
from streamproc.settings import Settings

KAFKA = "kafka"
RAW = "alerts.raw"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
STEP = timedelta(minutes=1)
LOOKBACK = "7d"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time: from `since` on, before `until`; None where that end is open."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(slots=True)
class Playable:
    """Recorded requests in order of time, opened."""

    lines: Iterator[Line]
    total: float
    """How far `read` of the last line comes, about; 0 where nobody knows."""
    beside: list[Beside] = field(default_factory=list)
    """What came in beside them and is to be played, too."""
    notes: list[str] = field(default_factory=list)
    """What a person should know of them; complete once they are played. A sentence each."""


@dataclass(frozen=True, slots=True)
class Source:
    """What `--input` named. It can be played as often as is wanted, and is the same every time."""

    unit: str
    """Of `Playable.total`: `bytes`, `records`, or `seconds` of history."""
    open: Callable[[Tally], AbstractContextManager[Playable]]
    """Open it to be played as requests; the tally is filled while the lines are read."""
    inboxes: Callable[[], AbstractContextManager[Inboxes]] | None = None
    """Open the recorded inboxes, where there are some: they can be folded again exactly as they were."""


def duration(text: str) -> timedelta:
    """Return what `90s`, `15m`, `6h`, `7d` or `2w` means.

    Raises:
        Unusable: it is none.
    """
    parts = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if parts is None:
        raise Unusable(f"{text!r} is no duration; say for example 15m, 6h or 7d")
    return timedelta(seconds=int(parts[1]) * UNITS[parts[2]])


def moment(text: str, now: datetime) -> datetime:
    """Return the moment that a text names: ISO 8601 with a UTC offset, or a duration, which is so long before now.

    Raises:
        Unusable: it is neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return now - duration(text)
    if found.tzinfo is None:
        raise Unusable(f"the moment {text} has no UTC offset: write {text}Z, if it is UTC")
    return found.astimezone(UTC)


def window(since: str | None, until: str | None, now: datetime) -> Window:
    """Return the stretch of time that `--from` and `--to` name.

    Raises:
        Unusable: they name none.
    """
    found = Window(
        None if since is None else moment(since, now),
        None if until is None else moment(until, now),
    )
    if found.since is not None and found.since >= (found.until or now):
        raise Unusable(f"--from {since} is not before {'now' if until is None else f'--to {until}'}")
    return found


def find(named: str, settings: Settings, within: Window, step: str | None, now: datetime) -> Source:
    """Return what `--input` names.

    Args:
        named: a file, a data directory, `kafka`, `kafka:TOPIC`, or the address of a Prometheus.
        settings: say where Kafka is.
        within: which stretch of it.
        step: between two looks at Prometheus; a minute where none is given.
        now: the end of an open stretch.

    Raises:
        Unusable: there is nothing, or an option does not go with it.
    """
    if named.startswith(("http://", "https://")):
        since = within.since or moment(LOOKBACK, now)
        history = prometheus.History(named, since, within.until or now, STEP if step is None else duration(step))
        return Source("seconds", lambda tally: _history(history, tally))
    if step is not None:
        raise Unusable("--step goes with a Prometheus only: the others hold every notification")
    if named == KAFKA or named.startswith(f"{KAFKA}:"):
        return _kafka(named.removeprefix(KAFKA).removeprefix(":"), settings, within)
    path = Path(named)
    if path.is_dir():
        return _log(lambda: EmbeddedInboxes(path), RAW, within)
    if not path.is_file():
        raise Unusable(f"--input: {named} is no file, no folder, not `kafka` and no address of a Prometheus")
    if within != Window():
        raise Unusable("--from and --to go with a data directory, Kafka or Prometheus: a file is replayed as a whole")
    return Source("bytes", lambda tally: _file(path, tally))


def _kafka(topic: str, settings: Settings, within: Window) -> Source:
    config = settings.kafka
    if topic in ("", RAW, config.topic(RAW)):
        return _log(lambda: _cluster(settings), RAW, within)
    foreign = settings.model_copy(update={"kafka": config.model_copy(update={"prefix": ""})})
    return Source("records", lambda tally: _requests(lambda: _cluster(foreign), topic, within, tally, alone=True))


def _cluster(settings: Settings) -> AbstractContextManager[Inboxes]:
    from streamproc.runtime.faust.inboxes import KafkaInboxes  # noqa: PLC0415  loads aiokafka

    return KafkaInboxes(settings.kafka)


def _log(inboxes: Callable[[], AbstractContextManager[Inboxes]], topic: str, within: Window) -> Source:
    return Source("records", lambda tally: _requests(inboxes, topic, within, tally), inboxes)


@contextmanager
def _file(path: Path, tally: Tally) -> Iterator[Playable]:
    with opened(path) as recording:
        yield Playable(traffic(recording, tally), path.stat().st_size)


@contextmanager
def _requests(
    open_log: Callable[[], AbstractContextManager[Inboxes]],
    topic: str,
    within: Window,
    tally: Tally,
    *,
    alone: bool = False,
) -> Iterator[Playable]:
    with open_log() as inboxes:
        raw = rawlog.Raw(inboxes, topic, within.since, within.until)
        beside = [] if alone else rawlog.beside(inboxes, raw.first_at(), within.until)
        yield Playable(raw.lines(tally), raw.total, beside)


@contextmanager
def _history(history: prometheus.History, tally: Tally) -> Iterator[Playable]:
    with history as asked:
        notes: list[str] = []
        yield Playable(asked.lines(tally, notes), asked.seconds, notes=notes)
