"""Plays recorded traffic through the production topology, in event time, by the memory runtime.

The clock is the recording's: before each line every timer that has come due fires at its moment, and everything that it
causes is folded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from pydantic import SecretStr

from streamproc.backtest.driving import Driven
from streamproc.backtest.ledger import Files, Ledger
from streamproc.backtest.reading import Beside, Judgement, Line
from streamproc.beginning import arming, settings_of
from streamproc.core.fold import Folded
from streamproc.core.record import Record
from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.ports import Entry
from streamproc.runtime.passing import Tap
from streamproc.services import DEFAULT_DESTINATION
from streamproc.settings import Settings
from streamproc.stages.escalate import Destination
from streamproc.state import MEMBER, MemberRow
from streamproc.topology import TOPOLOGY
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
        self._tap = _both(self.ledger.take, tap)
        self._driven: Driven | None = None

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
            headers = {"type": b"raw-alert.v1", **({"source": line.source.encode()} if line.source else {})}
            self._at(line.at).append([Entry("alerts.raw", b"", line.body, headers)])
        while waiting:
            self._beside(waiting.pop())
        if self._driven is not None:
            self._driven.advance_to(self._driven.now + AFTER)
        self.ledger.finish()
        return True

    def folded(self, node: str, partition: int, count: int, folded: Folded, seconds: float) -> None:  # noqa: ARG002  a Sensor's signature
        """Count what was decided."""
        for seen, times in folded.observations.items():
            self.reasons.setdefault(seen.stage, Counter())[seen.reason] += times

    def _at(self, moment: datetime) -> Driven:
        """Return the pipeline at a moment; at the first one armed from the start, with its settings, none adopted."""
        if self._driven is None:
            self._driven = Driven(
                TOPOLOGY, moment, self._tap, self.ledger.wanted, self._settle, sensor=self, most_decoded=MOST_DECODED
            )
            self._rows = self._driven.part("decide").rows
            entries = switched(settings_of(self._settings, self._catalogue), {}, (), moment, AUTHOR, AUTHOR)
            arm = Entry.of("policies", arming(1, moment, author=AUTHOR, adopt=False))
            self._driven.append([*entries, arm])
        else:
            self._driven.advance_to(moment)
        return self._driven

    def _settle(self, now: datetime) -> None:
        self.ledger.settle(now, self._incident_of)

    def _incident_of(self, fingerprint: str) -> str | None:
        row = self._rows.get(MEMBER.at(fingerprint))
        return row.incident_id if isinstance(row, MemberRow) else None

    def _beside(self, came: Judgement | Beside) -> None:
        driven = self._at(came.at)
        if isinstance(came, Beside):
            driven.append(came.entries)
        else:
            self._judge(came, driven)

    def _judge(self, judgement: Judgement, driven: Driven) -> None:
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
        driven.append([Entry.of("feedback", event, incident_id)])


def _both(first: Tap, second: Tap | None) -> Tap:
    if second is None:
        return first
    also = second

    def take(record: Record) -> None:
        first(record)
        also(record)

    return take


def with_default_destination(settings: Settings) -> Settings:
    """Return the settings with a catch-all destination, a made-up one where they have none."""
    pagerduty = settings.pagerduty
    if DEFAULT_DESTINATION in pagerduty.destinations:
        return settings
    made_up = Destination(routing_key=SecretStr(MADE_UP_KEY))
    destinations = {**pagerduty.destinations, DEFAULT_DESTINATION: made_up}
    return settings.model_copy(update={"pagerduty": pagerduty.model_copy(update={"destinations": destinations})})
