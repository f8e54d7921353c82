"""The candidate's pipeline: the production topology by the memory runtime, in the log's time, on what production got.

It learns nothing itself: the model is production's, with every version that production switches to. PagerDuty is taken
to answer every request at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from streamproc.backtest.replay import delivered
from streamproc.core.record import Record
from streamproc.events.escalation import Escalation
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.engine import Engine
from streamproc.runtime.passing import PassingJournal, Tap
from streamproc.shadow.candidate import Candidate
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.versions import switched

AUTHOR = "shadow"
PLAYED = tuple(node for node in TOPOLOGY if node.name != "learn")
INBOXES = {node.name: node.inbox.name for node in PLAYED}


class Play:
    """One run of a candidate.

    Args:
        candidate: what decides.
        begin: the first moment.
        tap: is shown every record that the candidate comes to; must only take notes.
    """

    def __init__(self, candidate: Candidate, begin: datetime, tap: Tap) -> None:
        self._tap = tap
        self._wanted: list[Escalation] = []
        self._clock = ManualClock(begin)
        self._journal = PassingJournal(TOPICS, INBOXES, self._take)
        self._engine = Engine(PLAYED, LETTERS, self._journal, self._clock)
        self.append(switched(candidate.bodies, {}, (), begin, AUTHOR, AUTHOR))

    @property
    def now(self) -> datetime:
        """How far it has come."""
        return self._clock.now()

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until a moment: every timer fires at its own."""
        clock, engine = self._clock, self._engine
        while (due := engine.next_due()) is not None and due <= moment:
            clock.set(max(due, clock.now()))
            with self._journal.transaction():
                engine.fire(clock.now())
            self._rest()
        clock.set(max(moment, clock.now()))

    def append(self, entries: Iterable[Entry]) -> None:
        """Take records in at the moment that it stands at, and fold all that they cause."""
        with self._journal.transaction():
            self._engine.append(entries)
        self._rest()

    def _rest(self) -> None:
        engine, journal = self._engine, self._journal
        while not engine.idle or self._wanted:
            for node_part in engine.parts:
                while engine.lag(node_part):
                    with journal.transaction():
                        engine.step(node_part)
            answers = [delivered(said) for said in self._wanted]
            self._wanted.clear()
            with journal.transaction():
                engine.append(Entry.of("escalations", answer, answer.routing_key) for answer in answers)

    def _take(self, record: Record) -> None:
        if record.headers.get("type") == Escalation.TYPE.encode():
            said = Escalation.decode(record.value, record.headers)
            if said.routing_key:
                self._wanted.append(said)
        self._tap(record)
