"""Crashes on purpose: a journal that dies at a chosen commit, and the law that this must change nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import product
from typing import Self, TypeAlias

from streamproc.core.event import Event
from streamproc.core.step import Topology
from streamproc.core.topic import Topic
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from tests.support.replay import Written, check_held, check_rest, is_wake, log_of, written

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Point(Enum):
    BEFORE = "before the commit"
    WITHIN = "within the commit"
    AFTER = "after the commit"


@dataclass(frozen=True)
class CrashAt:
    commit: int
    point: Point


class Crashed(Exception):
    """The process is gone; only the journal is left."""

    def __init__(self, point: Point) -> None:
        super().__init__(point.value)
        self.point = point


class CrashingJournal(MemoryJournal):
    """A journal that counts its commits and dies at one of them. A commit that is interrupted is none."""

    def __init__(self, topics: dict[str, Topic], partitions: int = 1) -> None:
        super().__init__(topics, partitions)
        self.crash: CrashAt | None = None
        self.commits = 0
        self.folds: list[int] = []
        """Numbers of the commits in which a node wrote what it had folded."""

    def reach(self, point: Point) -> None:
        """Die here, if here is where it shall be."""
        if self.crash == CrashAt(self.commits, point):
            self.crash = None
            raise Crashed(point)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._staged, self._saved = [], []
        yield
        if not self._staged and not self._saved:
            return
        if self._saved:
            self.folds.append(self.commits)
        self.reach(Point.BEFORE)
        self._publish()
        self.reach(Point.AFTER)
        self.commits += 1

    def _publish(self) -> None:
        self.reach(Point.WITHIN)
        super()._publish()


@dataclass(frozen=True)
class Push:
    """Edges append something; what it is may depend on what they see."""

    entries: Callable[[Memory], Sequence[Entry]]


@dataclass(frozen=True)
class Pass:
    """Time passes, and everything is folded; no time at all is enough for that."""

    by: timedelta = timedelta()


Act: TypeAlias = Push | Pass
Script: TypeAlias = Sequence[Act]


def push(topic: str, event: Event, key: str = "") -> Push:
    entry = Entry.of(topic, event, key)
    return Push(lambda _: [entry])


@dataclass(frozen=True)
class World:
    """What runs, and on what."""

    topology: Topology
    topics: dict[str, Topic]
    letters: Topic
    partitions: int = 1
    batch: int = 500
    journal: type[CrashingJournal] = CrashingJournal
    runtime: type[Memory] = Memory
    hasty: bool = False
    """True where timers fire at once after a restart, before anything is folded: wakes double."""


@dataclass
class Rig:
    """One run of a script, restarted when it crashes."""

    world: World
    crash: CrashAt | None = None
    appended: list[Entry] = field(default_factory=list)
    crashes: int = 0

    def __post_init__(self) -> None:
        self.journal = self.world.journal(self.world.topics, self.world.partitions)
        self.journal.crash = self.crash
        self.clock = ManualClock(T0)
        self.start()

    def start(self) -> None:
        """Make a process from what the journal holds."""
        world = self.world
        self.memory = world.runtime(world.topology, world.letters, self.journal, self.clock, batch=world.batch)

    def restart(self) -> None:
        self.crashes += 1
        self.start()
        if self.world.hasty:
            with self.journal.transaction():
                self.memory.engine.fire(self.clock.now())

    def play(self, script: Script) -> Self:
        for act in script:
            self.do(act)
        return self

    def do(self, act: Act) -> None:
        if isinstance(act, Push):
            self.push(act.entries(self.memory))
            return
        moment = self.clock.now() + act.by
        while True:
            try:
                self.memory.advance_to(moment)
            except Crashed:
                self.restart()
            else:
                return

    def push(self, entries: Sequence[Entry]) -> None:
        """Append until the log has taken it: a sender that got no answer sends again."""
        while entries:
            try:
                self.memory.append(entries)
            except Crashed as crash:
                self.restart()
                if crash.point is not Point.AFTER:
                    continue
            self.appended.extend(entries)
            return

    def check(self) -> None:
        """Assert that the journal holds what the fold makes of it, and that nothing waits."""
        self.check_held()
        check_rest(self.world.topology, self.journal, self.clock.now())

    def check_held(self) -> None:
        """Assert that the journal holds what the fold makes of it, at rest or not."""
        check_held(self.world.topology, self.world.letters, self.journal, self.appended)


ORIGIN = re.compile(rb'"origin":"([^"]*)/\d+"|"offset":\d+|"letter_id":"[^"]*"')


def blurred(value: bytes) -> bytes:
    """Return a value without the offsets in it: a doubled wake moves everything behind it on by one."""
    return ORIGIN.sub(rb'"origin":"\1"', value)


@dataclass(frozen=True)
class Left:
    """What a run leaves behind, without the offsets and without the wakes, which may be doubled."""

    logs: dict[tuple[str, int], list[Written]]
    rows: dict[tuple[str, int], dict[tuple[str, str], bytes]]
    clamps: dict[tuple[str, int], datetime]


def left_by(rig: Rig) -> Left:
    """Return what a run has left behind."""
    journal, letters = rig.journal, rig.world.letters.name
    logs = {
        (topic, p): [
            (b"" if topic == letters else key, blurred(value), headers)
            for key, value, headers in (written(each) for each in log_of(journal, topic, p) if not is_wake(each))
        ]
        for topic in rig.world.topics
        for p in range(journal.partitions(topic))
    }
    for (topic, _), log in logs.items():
        if topic == letters:  # every node writes there: only the order of each one's is fixed, and `check` sees to that
            log.sort()
    rows = {place: {tuple(at): blurred(raw) for at, raw in kept.items()} for place, kept in journal.rows.items()}
    return Left(
        logs,
        {place: {(table, key): raw for (table, key), raw in kept.items()} for place, kept in rows.items() if kept},
        {place: position.now for place, position in journal.positions.items()},
    )


def check_crashes(world: World, script: Script, *, folds_only: bool = False) -> int:
    """Assert that a crash anywhere changes nothing; return how many crashes were tried.

    Args:
        world: what runs.
        script: what happens to it.
        folds_only: leave out crashes while an edge appends, whose repeat would be the sender's.
    """
    clean = Rig(world).play(script)
    clean.check()
    expected = left_by(clean)
    numbers = clean.journal.folds if folds_only else range(clean.journal.commits)
    tried = 0
    for number, point in product(numbers, Point):
        rig = Rig(world, CrashAt(number, point)).play(script)
        try:
            assert rig.crashes == 1, "it did not crash"
            rig.check()
            assert left_by(rig) == expected, "it came to something else than without a crash"
        except AssertionError as error:
            error.add_note(f"after a crash {point.value} number {number}")
            raise
        tried += 1
    return tried
