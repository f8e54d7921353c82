"""The production topology on the memory runtime, driven through recorded time: what a replay and a candidate share.

PagerDuty is taken to answer every request at once; no pace holds anything back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from streamproc.core.step import Topology
from streamproc.core.table import MOST_DECODED
from streamproc.events.escalation import Escalation, Outcome, Verdict
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.engine import Engine, Part, Sensor
from streamproc.runtime.passing import PassingJournal, Tap
from streamproc.runtime.reports import outcome
from streamproc.topology import LETTERS, TOPICS


class Driven:
    """A topology and its clock, which only moves by `advance_to`.

    Args:
        topology: what is run.
        begin: the first moment.
        tap: is shown every record; it must only take notes.
        wanted: escalations that nobody has answered yet, which the tap fills; they are answered and taken out.
        settled: called with the moment whenever nothing is left to fold.
        sensor: is told of every commit.
        most_decoded: rows that each node keeps decoded.
    """

    def __init__(
        self,
        topology: Topology,
        begin: datetime,
        tap: Tap,
        wanted: list[Escalation],
        settled: Callable[[datetime], None] | None = None,
        sensor: Sensor | None = None,
        most_decoded: int = MOST_DECODED,
    ) -> None:
        self.journal = PassingJournal(TOPICS, {node.name: node.inbox.name for node in topology}, tap)
        self._wanted = wanted
        self._settled = settled
        self._clock = ManualClock(begin)
        self._engine = Engine(topology, LETTERS, self.journal, self._clock, sensor, most_decoded)

    @property
    def now(self) -> datetime:
        """How far it has come."""
        return self._clock.now()

    def part(self, node: str) -> Part:
        """Return a node."""
        return self._engine.part(node)

    def advance_to(self, moment: datetime) -> None:
        """Let time pass until a moment: every timer fires at its own, and all that it causes is folded."""
        clock, engine = self._clock, self._engine
        while (due := engine.next_due()) is not None and due <= moment:
            clock.set(max(due, clock.now()))
            with self.journal.transaction():
                engine.fire(clock.now())
            self._rest()
        clock.set(max(moment, clock.now()))

    def append(self, entries: Iterable[Entry]) -> None:
        """Take records in at the moment that it stands at, and fold all that they cause."""
        with self.journal.transaction():
            self._engine.append(entries)
        self._rest()

    def _rest(self) -> None:
        """Fold, and answer what is wanted, until nothing is left to do."""
        engine, journal, wanted = self._engine, self.journal, self._wanted
        moved = True
        while moved:
            moved = False
            for part in engine.parts:
                while engine.lag(part):
                    moved = True
                    with journal.transaction():
                        engine.step(part)
            if wanted:
                answers = [delivered(said) for said in wanted]
                wanted.clear()
                moved = True
                with journal.transaction():
                    engine.append(Entry.of("escalations", answer, answer.routing_key) for answer in answers)
        if self._settled is not None:
            self._settled(self._clock.now())


def delivered(said: Escalation) -> Outcome:
    """Return what a sender reports that PagerDuty answered at once."""
    return outcome(said, Verdict.DELIVERED, said.at, status=202, message="", attempts=1)
