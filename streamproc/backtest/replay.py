"""Plays recorded traffic through the production topology, in event time, by the memory runtime.

The clock is the recording's: before each line every timer that has come due fires at its moment, and everything that it
causes is folded. PagerDuty is taken to answer every request at once; no pace holds anything back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from pydantic import SecretStr

from streamproc.backtest.ledger import Files, Ledger
from streamproc.backtest.reading import Beside, Judgement, Line
from streamproc.beginning import arming, settings_of
from streamproc.core.fold import Folded
from streamproc.core.record import Record
from streamproc.events.escalation import Escalation, Outcome, Verdict
from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.engine import Engine
from streamproc.runtime.passing import PassingJournal, Tap
from streamproc.runtime.reports import outcome
from streamproc.services import DEFAULT_DESTINATION
from streamproc.settings import Settings
from streamproc.stages.escalate import Destination
from streamproc.state import MEMBER, MemberRow
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.versions import switched

AFTER = timedelta(hours=2)
"""Timers go on for so long after the last line: what is held, updated or escalated then is decided."""
MOST_DECODED = 20_000
"""Rows that each node keeps decoded: about 50 MB of alerts, so that the repeats of as many need no decoding."""
AUTHOR = "backtest"
MADE_UP_KEY = "0" * 32
"""Routing key of `default` where the settings have none: else nothing would page."""


class Replay:
    """One run of the pipeline over a recording.

    Args:
        settings: what would run.
        catalogue: body of the service catalogue, None for none.
        files: where the outputs' lines go.
        tap: is shown every record, after the ledger; it must only take notes. None where nobody else reads along.
    """

    def __init__(self, settings: Settings, catalogue: str | None, files: Files, tap: Tap | None = None) -> None:
        self.reasons: dict[str, Counter[str]] = {}
        """How often each stage decided what."""
        self.feedback: Counter[str] = Counter()
        """Feedback by what became of it: `applied`, `unknown_alert`, or `unused` and the field."""
        self._settings = with_default_destination(settings)
        self._catalogue = catalogue
        destinations = self._settings.pagerduty.destinations.values()
        keys = {each.routing_key.get_secret_value() for each in destinations}
        tickets = {each.ticket_routing_key.get_secret_value() for each in destinations if each.ticket_routing_key}
        self.ledger = Ledger(files, frozenset(tickets - keys))
        inboxes = {node.name: node.inbox.name for node in TOPOLOGY}
        self._journal = PassingJournal(TOPICS, inboxes, _both(self.ledger.take, tap))
        self._clock: ManualClock | None = None

    def run(self, lines: Iterable[Line], beside: Iterable[Judgement | Beside], stop: Callable[[], bool]) -> bool:
        """Play everything; return False where `stop` said so before the end. Timers fire between and after the lines.

        Args:
            lines: in order of time.
            beside: feedback and policies, in order of time; each counts from its moment on, after a line of the same
                moment.
            stop: asked before each line.

        Raises:
            Unusable: a line cannot be put into its place.
        """
        waiting = list(beside)[::-1]
        for line in lines:
            if stop():
                self.ledger.finish()
                return False
            while waiting and waiting[-1].at < line.at:
                self._beside(waiting.pop())
            self._advance_to(line.at)
            headers = {"type": b"raw-alert.v1", **({"source": line.source.encode()} if line.source else {})}
            self._append([Entry("alerts.raw", b"", line.body, headers)])
        while waiting:
            self._beside(waiting.pop())
        if self._clock is not None:
            self._advance_to(self._clock.now() + AFTER)
        self.ledger.finish()
        return True

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:  # noqa: ARG002  a Sensor's signature
        """Count what was decided."""
        for seen, times in folded.observations.items():
            self.reasons.setdefault(seen.stage, Counter())[seen.reason] += times

    # -- time -----------------------------------------------------------------------------------------------------

    def _advance_to(self, moment: datetime) -> None:
        if self._clock is None:
            self._begin(moment)
            return
        clock, engine = self._clock, self._engine
        while (due := engine.next_due()) is not None and due <= moment:
            clock.set(max(due, clock.now()))
            with self._journal.transaction():
                engine.fire(clock.now())
            self._rest()
        clock.set(max(moment, clock.now()))

    def _begin(self, now: datetime) -> None:
        """Make the engine, and put settings, policies and arming into the log: armed from the start, none adopted."""
        self._clock = ManualClock(now)
        self._engine = Engine(TOPOLOGY, LETTERS, self._journal, self._clock, self, MOST_DECODED)
        self._rows = self._engine.part("decide").rows
        entries = switched(settings_of(self._settings, self._catalogue), {}, (), now, AUTHOR, AUTHOR)
        arm = Entry.of("policies", arming(1, now, author=AUTHOR, adopt=False))
        self._append([*entries, arm])

    # -- records --------------------------------------------------------------------------------------------------

    def _append(self, entries: Iterable[Entry]) -> None:
        with self._journal.transaction():
            self._engine.append(entries)
        self._rest()

    def _rest(self) -> None:
        """Fold, and answer what is wanted, until nothing is left to do."""
        engine, journal, ledger = self._engine, self._journal, self.ledger
        moved = True
        while moved:
            moved = False
            for part in engine.parts:
                while engine.lag(part):
                    moved = True
                    with journal.transaction():
                        engine.step(part)
            if ledger.wanted:
                answers = [delivered(said) for said in ledger.wanted]
                ledger.wanted.clear()
                moved = True
                with journal.transaction():
                    engine.append(Entry.of("escalations", answer, answer.routing_key) for answer in answers)
        ledger.settle(engine.clock.now(), self._incident_of)

    def _incident_of(self, fingerprint: str) -> str | None:
        row = self._rows.get(MEMBER.at(fingerprint))
        return row.incident_id if isinstance(row, MemberRow) else None

    def _beside(self, came: Judgement | Beside) -> None:
        self._advance_to(came.at)
        if isinstance(came, Beside):
            self._append(came.entries)
        else:
            self._judge(came)

    def _judge(self, judgement: Judgement) -> None:
        if judgement.field != "page":
            self.feedback[f"unused_{judgement.field}"] += 1
            return
        incident_id = self.ledger.of.get(judgement.alert)
        if not incident_id:
            self.feedback["unknown_alert"] += 1
            return
        self.feedback["applied"] += 1
        event = Feedback(
            feedback_id=f"{AUTHOR}:{self.feedback['applied']}",
            incident_id=incident_id,
            kind=FeedbackKind.LABEL,
            by=AUTHOR,
            person=False,  # nobody is there to answer pages here, so that no answer says nothing of them
            page=bool(judgement.value),
            at=judgement.at,
        )
        self._append([Entry.of("feedback", event, incident_id)])


def _both(first: Tap, second: Tap | None) -> Tap:
    if second is None:
        return first
    also = second

    def take(record: Record) -> None:
        first(record)
        also(record)

    return take


def delivered(said: Escalation) -> Outcome:
    """Return what a sender reports that PagerDuty answered at once."""
    return outcome(said, Verdict.DELIVERED, said.at, status=202, message="", attempts=1)


def with_default_destination(settings: Settings) -> Settings:
    """Return the settings with a catch-all destination, a made-up one where they have none."""
    pagerduty = settings.pagerduty
    if DEFAULT_DESTINATION in pagerduty.destinations:
        return settings
    made_up = Destination(routing_key=SecretStr(MADE_UP_KEY))
    destinations = {**pagerduty.destinations, DEFAULT_DESTINATION: made_up}
    return settings.model_copy(update={"pagerduty": pagerduty.model_copy(update={"destinations": destinations})})
