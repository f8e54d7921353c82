"""Every scenario in memory, and on the embedded runtime's journal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from streamproc.core.record import Record
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.journal import SqliteJournal
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.scenarios.scenarios import SCENARIOS, Scenario
from tests.support.play import T0, in_memory

MANY = 1_000_000
EVERY = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@EVERY
def test_in_memory(scenario: Scenario) -> None:
    scenario.play(in_memory())


class OnSqlite(Memory):
    """The engine of both runtimes on one machine, over the journal of the embedded one; time moved by hand."""

    def __init__(self, journal: SqliteJournal) -> None:
        super().__init__(TOPOLOGY, LETTERS, cast("MemoryJournal", journal), ManualClock(T0))

    def advance(self, by: timedelta) -> None:
        """Let time pass; a transaction is begun only where there is something to do."""
        moment, due = self.clock.now() + by, self.engine.next_due()
        if self.engine.idle and (due is None or due > moment):
            self.clock.set(moment)
        else:
            super().advance(by)

    def records(self, topic: str) -> list[Record]:
        """Return every record of a topic."""
        return self.journal.read(topic, 0, 0, MANY)


@EVERY
def test_on_disk(scenario: Scenario, tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path, TOPICS, "normal")
    try:
        scenario.play(OnSqlite(journal))
    finally:
        journal.close()
