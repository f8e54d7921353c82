"""What a spectator sees: figures, and the decisions with their reasons, read from the pipeline's own records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from streamproc.core.event import DeadLetter
from streamproc.demo.figures import Figures, Shown
from streamproc.demo.stage import NOTIFICATIONS, Stage
from streamproc.demo.telling import Line, Teller, Verb, subject
from streamproc.emulator.account import Effect
from streamproc.emulator.emulator import Emulator, Taken
from streamproc.stages.deduplicate import Reason as Deduplicated
from streamproc.views import IncidentSummary, IncidentView, PipelineStatus

LISTED = 200
"""Incidents that are looked at."""
RATE_OVER = 2.0
"""Seconds that the rate of alerts is measured over."""
FOLDED_EVERY = 4.0
"""Seconds between two lines about repeats, of which there are many."""
OVER_AFTER = timedelta(seconds=20)
"""An incident that resolved so long ago is not looked at any more."""

REPEATS = (Deduplicated.REPEAT, Deduplicated.RESOLVED_AGAIN)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the desk found."""

    status: PipelineStatus
    incidents: Sequence[IncidentSummary]
    views: Sequence[IncidentView]
    letters: Sequence[DeadLetter]


class Watcher:
    """Tells what changed since the last look.

    Args:
        stage: the pipeline.
        emulator: of PagerDuty.
        started: the moment of second 0.
        clock: the moment.
    """

    def __init__(self, stage: Stage, emulator: Emulator, started: datetime, clock: Callable[[], datetime]) -> None:
        self._stage = stage
        self._desk = stage.desk
        self._emulator = emulator
        self._started = started
        self._clock = clock
        self._told: dict[str, Teller] = {}
        self._received: dict[str, datetime] = {}
        self._letters = 0
        self._late = 0
        self._repeats = 0
        self._repeats_at = 0.0
        self._rates: deque[tuple[float, int]] = deque(maxlen=100)
        self.figures = Figures()

    def read(self) -> Seen:
        """Look at the desk; may run in a thread."""
        status = self._desk.status()
        incidents = self._desk.incidents("all", LISTED, "")
        over = self._clock() - OVER_AFTER
        moving = [each.incident_id for each in reversed(incidents) if each.status == "open" or each.changed_at > over]
        views = [self._desk.incident(incident_id) for incident_id in moving]
        new = status.dead_letters - self._letters
        letters = self._desk.dead_letters(new, "")[::-1] if new > 0 else []
        return Seen(status, incidents, [view for view in views if view is not None], letters)

    def follow(self, seen: Seen) -> list[Line]:
        """Take over what was seen, and return what is new, in order of time."""
        elapsed = self._elapsed(self._clock())
        counts = _by_reason(self._stage.decisions(seen.status))
        lines = [line for view in seen.views for line in self._told_of(view)]
        self._received |= {view.summary.incident_id: view.chain[0].now for view in seen.views if view.chain}
        lines += [_of_letter(letter, self._elapsed(letter.now or self._clock())) for letter in seen.letters]
        lines += self._of_counts(counts, elapsed)
        lines += [
            Line(self._elapsed(each.moment), Verb.WORKER, each.subject, each.words) for each in self._stage.news()
        ]
        self._letters += len(seen.letters)
        self.figures = self._figures(seen, counts, elapsed)
        return sorted(lines, key=lambda line: line.at)

    def _elapsed(self, moment: datetime) -> float:
        return (moment - self._started) / timedelta(seconds=1)

    def _told_of(self, view: IncidentView) -> Iterator[Line]:
        told = self._told.setdefault(view.summary.incident_id, Teller())
        for line in told.news(view, self._clock()):
            yield Line(self._elapsed(line.moment), line.verb, subject(view), line.words, line.reason, line.more)

    def _of_counts(self, counts: Mapping[Deduplicated, int], elapsed: float) -> Iterator[Line]:
        late = counts.get(Deduplicated.LATE, 0)
        if late > self._late:
            words = f"{late - self._late} overtaken by a newer one"
            yield Line(elapsed, Verb.LATE, "", words, f"deduplicate/{Deduplicated.LATE}")
            self._late = late
        repeats = sum(counts.get(reason, 0) for reason in REPEATS)
        if repeats > self._repeats and elapsed - self._repeats_at >= FOLDED_EVERY:
            words = f"{repeats - self._repeats:,} repeats say nothing new"
            yield Line(elapsed, Verb.FOLD, "", words, f"deduplicate/{Deduplicated.REPEAT}")
            self._repeats, self._repeats_at = repeats, elapsed

    def _figures(self, seen: Seen, counts: Mapping[Deduplicated, int], elapsed: float) -> Figures:
        requests = [taken for taken in self._emulator.requests if taken.effect is not None]
        alerts = sum(counts.get(reason, 0) for reason in NOTIFICATIONS)
        self._rates.append((elapsed, alerts))
        while elapsed - self._rates[0][0] > RATE_OVER:
            self._rates.popleft()
        since, before = self._rates[0]
        return Figures(
            elapsed=elapsed,
            runtime=self._stage.runtime,
            workers=self._stage.workers(seen.status),
            alerts=alerts,
            unfolded=sum(node.lag for node in seen.status.nodes),
            rate=(alerts - before) / (elapsed - since) if elapsed > since else 0.0,
            repeats=sum(counts.get(reason, 0) for reason in REPEATS),
            late=counts.get(Deduplicated.LATE, 0),
            episodes=counts.get(Deduplicated.OPENED, 0) + counts.get(Deduplicated.REOPENED, 0),
            incidents=len(seen.incidents),
            open_incidents=seen.status.open_incidents,
            pages=sum(taken.effect is Effect.OPENED for taken in requests),
            requests=len(requests),
            letters=seen.status.dead_letters,
            waiting=seen.status.waiting_to_send,
            delays=tuple(_delays(self._received, requests)),
            shown=tuple(_shown(self._emulator, seen.incidents)),
        )


def _of_letter(letter: DeadLetter, at: float) -> Line:
    return Line(at, Verb.LETTER, "", letter.detail, f"{letter.stage}/{letter.reason}")


def _by_reason(decisions: Mapping[str, int]) -> dict[Deduplicated, int]:
    return {reason: decisions.get(f"deduplicate/{reason}", 0) for reason in Deduplicated}


def _delays(received: Mapping[str, datetime], requests: Iterable[Taken]) -> Iterator[float]:
    """Yield the seconds from the receipt of the alert that opened an incident to PagerDuty's taking of its page."""
    for taken in requests:
        if taken.effect is Effect.OPENED and taken.dedup_key in received:
            yield (taken.at - received[taken.dedup_key]) / timedelta(seconds=1)


def _shown(emulator: Emulator, incidents: Iterable[IncidentSummary]) -> Iterator[Shown]:
    """Yield what PagerDuty holds, open alerts first, the newest first."""
    by = {incident.incident_id: incident.acknowledged_by for incident in incidents}
    alerts = sorted(emulator.account.alerts.values(), key=lambda alert: alert.opened_at, reverse=True)
    for alert in sorted(alerts, key=lambda alert: alert.status == "resolved"):
        yield Shown(alert.status, alert.severity, alert.summary, by.get(alert.dedup_key, ""))
