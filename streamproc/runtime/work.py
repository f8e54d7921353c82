"""What is known of one intent row: what is to be sent for it, how urgently, and what was tried. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from streamproc.core.errors import Defect
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction
from streamproc.state import IntentRow

if TYPE_CHECKING:
    from streamproc.runtime.lanes import Lane

CRITICAL, RESOLVE, OTHER = range(3)
"""Ranks. Criticals go before resolves: a storm that resolves must not hold up the next page."""
LATEST = datetime.max.replace(tzinfo=UTC)


def rank(escalation: Escalation) -> int:
    """Return how soon a request must go, the most urgent first."""
    if not escalation.urgent:
        return OTHER
    return RESOLVE if escalation.action is PageAction.RESOLVE else CRITICAL


@dataclass(slots=True, eq=False)
class Work:
    """What is known of one intent row. Forgotten with its row."""

    key: str
    lane: Lane
    row: IntentRow | None = None
    in_doubt: bool = False
    """True where the row was there when this process began: its predecessor may have sent anything of it."""
    attempted: bool = False
    """True once this process tried a trigger of it."""
    heard: bool = False
    """True once PagerDuty took one from this process."""
    answered: int | None = None
    """Number of the last request that was answered; it is not sent again while the row still shows it."""
    busy: bool = False
    listed: bool = False
    """True once a digest told of it."""
    severity: Severity = Severity.ERROR
    order: tuple[int, datetime] | None = None
    """Rank of the most urgent that waits, and when what waits was first decided."""
    trigger_since: float | None = None
    """Monotonic seconds since when a trigger waits here, None while none does."""
    failures: int = 0
    retry_at: float = 0.0
    failed_wave: int = 0
    error: str = ""
    """PagerDuty's words when it was last not answered for good, empty once it is."""

    @property
    def title(self) -> str:
        """What its newest trigger says, empty where the row has had none."""
        return self.row.title if self.row is not None else ""

    @property
    def destination(self) -> str:
        """Whom it is said to, empty where the row has never said anything."""
        return self.row.last.destination if self.row is not None and self.row.last is not None else ""

    @property
    def decided(self) -> datetime:
        """When the oldest of what waits was decided."""
        return self.urgency[1]

    @property
    def urgency(self) -> tuple[int, datetime]:
        """`order`; later than all others where nothing waits."""
        return self.order or (OTHER, LATEST)

    @property
    def pending(self) -> tuple[Escalation, ...]:
        """What is left to send, in order."""
        return () if self.row is None else tuple(said for said in self.row.pending if said.seq != self.answered)

    @property
    def head(self) -> Escalation | None:
        """What is to be sent now: always the first of the row; None until the row shows that it was answered."""
        first = self.row.pending[0] if self.row is not None and self.row.pending else None
        return None if first is None or first.seq == self.answered else first

    @property
    def unheard(self) -> bool:
        """True where only a resolve waits and PagerDuty cannot have heard of the incident: no request is needed."""
        head = self.head
        known = self.row is None or self.row.triggered or self.attempted or self.in_doubt
        return head is not None and head.action is PageAction.RESOLVE and not known

    @property
    def gone(self) -> datetime | None:
        """When the incident resolved, if it came and went without its page being taken, as far as is known."""
        row = self.row
        if row is None or row.triggered or self.heard or self.listed or not row.stale:
            return None
        only = row.pending[0] if len(row.pending) == 1 else None
        return only.at if only is not None and only.action is PageAction.RESOLVE else None

    def take(self, row: IntentRow, now: float, *, in_doubt: bool) -> None:
        """Take over the newest state of the row."""
        if self.row is None:
            self.in_doubt, self.attempted, self.heard, self.listed = in_doubt, False, False, False
            self.answered, self.order, self.trigger_since = None, None, None
            self.failures, self.retry_at, self.error = 0, 0.0, ""
        self.row = row
        for said in row.pending:
            if said.text is not None:
                self.severity = said.text.severity
        self.refresh(now)

    def forget(self) -> None:
        """Forget the row; what is in flight for it goes on."""
        self.row = self.order = self.trigger_since = None

    def note_answer(self, said: Escalation, now: float, *, taken: bool) -> None:
        """Note that PagerDuty answered a request for good."""
        self.answered, self.order, self.trigger_since = said.seq, None, None
        self.failures, self.retry_at, self.error = 0, 0.0, ""
        self.heard = self.heard or (taken and said.action is PageAction.TRIGGER)
        self.refresh(now)

    def begin(self) -> Escalation:
        """Note that a request is under way, and return what it is to say.

        Raises:
            Defect: nothing waits here.
        """
        said = self.head
        if said is None:
            raise Defect(f"nothing waits in {self.key}")
        self.attempted = self.attempted or said.action is PageAction.TRIGGER
        self.busy = True
        self.lane.place(self)
        self.lane.flying += 1
        return said

    def settle(self, said: Escalation, now: float) -> None:
        """Note that a request is not needed; the work stays busy until that is reported."""
        self.busy = True
        self.note_answer(said, now, taken=False)
        self.lane.place(self)

    def refresh(self, now: float) -> None:
        """Work out anew how urgent it is and since when it waits; a renewed request keeps its place."""
        pending = self.pending
        if not pending:
            self.order = self.trigger_since = None
            return
        first = min(said.at for said in pending)
        since = first if self.order is None else min(first, self.order[1])
        self.order = (min(rank(said) for said in pending), since)
        triggers = any(said.action is PageAction.TRIGGER for said in pending)
        self.trigger_since = (self.trigger_since if self.trigger_since is not None else now) if triggers else None
