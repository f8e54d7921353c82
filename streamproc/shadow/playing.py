"""The candidate's pipeline: the production topology by the memory runtime, in the log's time, on what production got.

It learns nothing itself: the model is production's, with every version that production switches to. PagerDuty is taken
to answer every request at once.
"""

from __future__ import annotations

from datetime import datetime

from streamproc.backtest.driving import Driven
from streamproc.core.record import Record
from streamproc.events.escalation import Escalation
from streamproc.runtime.passing import Tap
from streamproc.shadow.candidate import Candidate
from streamproc.topology import TOPOLOGY
from streamproc.versions import switched

AUTHOR = "shadow"
PLAYED = tuple(node for node in TOPOLOGY if node.name != "learn")


class Play(Driven):
    """One run of a candidate.

    Args:
        candidate: what decides.
        begin: the first moment.
        tap: is shown every record that the candidate comes to; must only take notes.
    """

    def __init__(self, candidate: Candidate, begin: datetime, tap: Tap) -> None:
        self._shown = tap
        self._asked: list[Escalation] = []
        super().__init__(PLAYED, begin, self._take, self._asked)
        self.append(switched(candidate.bodies, {}, (), begin, AUTHOR, AUTHOR))

    def _take(self, record: Record) -> None:
        if record.headers.get("type") == Escalation.TYPE.encode():
            said = Escalation.decode(record.value, record.headers)
            if said.routing_key:
                self._asked.append(said)
        self._shown(record)
