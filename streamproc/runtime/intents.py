"""The rows that the sender knows of, by lane. No I/O, no clock: every method is told the moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from streamproc.runtime.alarm import Survey, Waiting
from streamproc.runtime.allowance import RESERVE, Allowance
from streamproc.runtime.lanes import Lane
from streamproc.runtime.pace import Window
from streamproc.runtime.work import OTHER, Work
from streamproc.state import IntentRow


@dataclass(frozen=True, slots=True)
class Figures:
    """How much waits."""

    urgent: int
    other: int
    oldest: datetime | None
    """When the oldest of what waits was decided, None where nothing waits."""
    survey: Survey
    silent: frozenset[str]
    """Destinations that something waits for, and whose routing key is not answered."""


class Intents:
    """All rows that the sender was offered.

    Args:
        rate_limit: requests a minute for each routing key.
        in_flight: requests of one routing key at once.
        account: what all routing keys may send together; None for no bound of that kind.
    """

    def __init__(self, rate_limit: int, in_flight: int, account: Allowance | None = None) -> None:
        self._account = account
        self._rate_limit = rate_limit
        self._in_flight = in_flight
        self._works: dict[str, Work] = {}
        self._lanes: dict[str, Lane] = {}  # bounded by the routing keys that are, or were lately, configured

    @property
    def lanes(self) -> Iterable[Lane]:
        """Every routing key that was ever offered."""
        return self._lanes.values()

    def take(self, changes: Mapping[str, IntentRow | None], now: float, *, in_doubt: bool) -> None:
        """Take over changed rows."""
        for key, row in changes.items():
            work = self._works.get(key)
            if row is not None and row.last is not None:
                lane = self._lane(row.last.routing_key)
                work = work or Work(key, lane)
                self._works[key] = lane.works[key] = work
                work.take(row, now, in_doubt=in_doubt)
                lane.place(work)
                if in_doubt and (resolved := work.gone) is not None:
                    lane.note_silence(resolved)
            elif work is not None:
                work.forget()
                self._drop_forgotten(work)

    def release(self, works: Iterable[Work]) -> None:
        """Let the next request of these rows go."""
        for work in works:
            work.busy = False
            work.lane.place(work)
            self._drop_forgotten(work)

    def ready(self, now: float, most: int) -> Iterator[Work]:
        """Iterate over at most `most` that may be sent now, the most urgent of all lanes first.

        The caller begins each, and spends for it, before it asks for the next.
        """
        least = self._least_urgent(now)
        ready = self._ready(now, least)
        while ready and most:
            key = min(ready, key=lambda name: (ready[name].urgency, name))
            yield ready.pop(key)
            most -= 1
            if (fewer := self._least_urgent(now)) != least:
                least, ready = fewer, self._ready(now, fewer)
            elif (another := self._lanes[key].next(now, least)) is not None:
                ready[key] = another
        if self._account is not None and least < OTHER and (refused := self._ready(now, OTHER)):
            self._account.want(min(work.urgency[0] for work in refused.values()))

    def next_due(self, now: float) -> float | None:
        """Return when there may be something to send although nothing happens, None where there will not."""
        moments = [lane.next_due(now) for lane in self.lanes]
        if self._account is not None and any(lane.waiting for lane in self.lanes):
            moments.append(self._account.next_free(now))
        return min((moment for moment in moments if moment is not None and moment > now), default=None)

    def _least_urgent(self, now: float) -> int:
        return OTHER if self._account is None else self._account.least_urgent(now)

    def _ready(self, now: float, least: int) -> dict[str, Work]:
        """Return what each routing key would send next."""
        return {lane.routing_key: work for lane in self.lanes if (work := lane.next(now, least)) is not None}

    def figures(self) -> Figures:
        """Look at all that waits."""
        pending = [work for work in self._works.values() if work.order is not None]
        urgent = sum(work.urgency[0] != OTHER for work in pending)
        failing = [lane for lane in self.lanes if lane.failures and (lane.waiting or lane.flying)]
        waiting = [
            Waiting(work.title, work.severity, work.decided, work.trigger_since)
            for work in pending
            if work.trigger_since is not None
        ]
        errors = (error for error in (*(lane.error for lane in failing), *(work.error for work in pending)) if error)
        return Figures(
            urgent=urgent,
            other=len(pending) - urgent,
            oldest=min((work.decided for work in pending), default=None),
            survey=Survey(waiting, bool(failing), next(errors, "")),
            silent=frozenset(work.destination for lane in failing for work in lane.works.values() if work.order),
        )

    def _lane(self, routing_key: str) -> Lane:
        lane = self._lanes.get(routing_key)
        if lane is None:
            limit = self._rate_limit
            lane = self._lanes[routing_key] = Lane(routing_key, Window(limit), limit // RESERVE, self._in_flight)
        return lane

    def _drop_forgotten(self, work: Work) -> None:
        if work.row is None and not work.busy:
            work.lane.drop(work)
            self._works.pop(work.key, None)
