"""Follows the log of production with a candidate: what came in is played, what production made of it is compared.

Everything is a function of the log, up to a moment of its own time: a follower that starts anew comes to the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import structlog
from pydantic import ValidationError

from streamproc.backtest.recorded import Inboxes
from streamproc.backtest.retold import destinations
from streamproc.core.event import Activated, Artifact
from streamproc.core.fold import CONFIG
from streamproc.core.record import Record
from streamproc.events.feedback import Feedback, Policy
from streamproc.events.shadow import Difference, Progress
from streamproc.learning.linear import MODEL
from streamproc.policies import PREFIX
from streamproc.ports import Entry
from streamproc.services import CATALOGUE
from streamproc.shadow.calls import Calls, Seen
from streamproc.shadow.candidate import Candidate, Standing
from streamproc.shadow.comparing import A, B, Comparing
from streamproc.shadow.playing import Play
from streamproc.stages.escalate import Config, Destination

log = structlog.get_logger(__name__)

WARM = timedelta(hours=12)
"""So much of the log before the candidate's start is played too, so that its rows are warm. Alertmanager tells of what
fires every 4 hours."""
EVERY = timedelta(minutes=1)
"""Pages are compared so often, in the log's time."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RANK = {"policies": 0, "alerts.raw": 1, "feedback": 2, "incidents.enriched": 3, "escalations": 4}
"""What is read of production, in the order in which records of one moment are taken."""
NEVER = datetime.min.replace(tzinfo=UTC)


class _Source:
    """One partition, read on and on."""

    def __init__(self, inboxes: Inboxes, topic: str, partition: int, offset: int) -> None:
        self._inboxes = inboxes
        self._topic = topic
        self._partition = partition
        self._offset = offset

    def read(self, limit: datetime) -> Iterator[tuple[datetime, int, int, int, Record]]:
        """Yield what there is up to a moment of the log; the rest waits for the next time."""
        end = self._inboxes.end(self._topic, self._partition)
        if end <= self._offset:
            return
        for record in self._inboxes.records(self._topic, self._partition, self._offset):
            if (now := moment_of(record)) > limit:
                return
            yield now, RANK[self._topic], self._partition, record.offset, record
            self._offset = record.offset + 1
        self._offset = max(self._offset, end)


def moment_of(record: Record) -> datetime:
    """Return the moment of a record, when it was appended where it tells none that can be read."""
    try:
        return record.now
    except ValueError:
        return record.stamp


class Shadow:
    """One candidate beside production.

    Args:
        inboxes: production's log.
        standing: the switch to the candidate.
        candidate: what it is.
        warm: so much of the log before it is played without being compared.
    """

    def __init__(self, inboxes: Inboxes, standing: Standing, candidate: Candidate, warm: timedelta = WARM) -> None:
        self._inboxes = inboxes
        self._candidate = candidate
        begin = max(standing.at - warm, _held_from(inboxes))
        self.progress = Progress(
            about=standing.switch.checksum, version=standing.switch.version, since=max(standing.at, begin), until=begin
        )
        """How it stands."""
        known = destinations(inboxes).values()
        own = Config.model_validate(_section(candidate, "escalate")).destinations.values()
        self._a, self._b = Calls(A, _tickets(known)), Calls(B, _tickets(own))
        self._comparing = Comparing(standing.switch.checksum, self.progress.since, self._a, self._b)
        self._passes = {MODEL.name} | ({CATALOGUE.name} - candidate.bodies.keys())
        self._play = Play(candidate, begin, self._heard)
        self._next = EPOCH + ((begin - EPOCH) // EVERY + 1) * EVERY
        self._said: list[Difference] = []
        self._sources = [
            _Source(inboxes, topic, partition, inboxes.at(topic, partition, begin))
            for topic in RANK
            for partition in inboxes.partitions(topic)
        ]
        self._play.append(self._before(begin))

    def advance(self, limit: datetime) -> list[Difference]:
        """Play and compare what the log holds up to a moment; return the differences that were settled by it."""
        self._said = []
        for now, _, _, _, record in heapq.merge(*(source.read(limit) for source in self._sources)):
            self._pass_to(now)
            self._take(record)
        self._pass_to(limit)
        relations = {str(name): count for name, count in sorted(self._comparing.relations.items()) if count}
        self.progress = self.progress.model_copy(
            update={
                "until": max(limit, self.progress.until),
                "open": self._a.held + self._b.held,
                "agreed": self._comparing.agreed,
                "differences": relations,
                "missed": self._comparing.missed,
            }
        )
        return self._said

    def _pass_to(self, moment: datetime) -> None:
        """Let the candidate's time pass until a moment, and compare at every full minute on the way."""
        while self._next <= moment:
            if not (self._a.held or self._b.held):
                self._next = EPOCH + ((moment - EPOCH) // EVERY) * EVERY
            self._play.advance_to(self._next)
            self._said += self._comparing.look(self._next)
            self._a.forget(self._next)
            self._b.forget(self._next)
            self._next += EVERY
        self._play.advance_to(moment)

    # -- records ----------------------------------------------------------------------------------------------------

    def _take(self, record: Record) -> None:
        if record.topic in ("incidents.enriched", "escalations"):
            self._count("current", self._a.take(record))
        elif record.topic == "alerts.raw":
            kind = record.headers.get("type", b"raw-alert.v1")
            if kind == b"raw-alert.v1":
                self._bump("requests", by=moment_of(record) >= self.progress.since)
                self._play.append([Entry(record.topic, record.key, record.value, _without_time(record))])
        elif record.topic == "feedback":
            self._play.append(self._answered(record))
        elif (wish := self._wished(record)) is not None:
            self._play.append(self._entries(wish))

    def _heard(self, record: Record) -> None:
        """Take note of what the candidate comes to."""
        self._count("candidate", self._b.take(record))

    def _count(self, side: str, noted: tuple[Seen, str] | None) -> None:
        if noted is not None:
            seen, what = noted
            self._bump(f"{what}s_{side}", by=seen.opened_at is None or seen.opened_at >= self.progress.since)

    def _bump(self, figure: str, *, by: bool) -> None:
        if by:
            self.progress = self.progress.model_copy(update={figure: getattr(self.progress, figure) + 1})

    def _answered(self, record: Record) -> list[Entry]:
        """Return what a person did as if it had been about the candidate's incident of the same alerts."""
        try:
            said = Feedback.model_validate_json(record.value)
        except ValidationError:
            return []
        seen = self._a.seen(said.incident_id)
        alerts = [] if seen is None else [seen.root, *seen.alerts]
        found = next((self._b.incident_of[alert] for alert in alerts if alert in self._b.incident_of), None)
        if found is None:
            self._bump("unheard", by=True)
            return []
        return [Entry.of("feedback", said.model_copy(update={"incident_id": found}), found)]

    def _wished(self, record: Record) -> Policy | Activated | None:
        """Return a policy or a switch that counts for the candidate, too; None for all else."""
        wish: Policy | Activated
        try:
            if record.headers.get("type") == Policy.TYPE.encode():
                wish = Policy.model_validate_json(record.value)
                return None if wish.policy_id.startswith(PREFIX) else wish
            wish = Activated.model_validate_json(record.value)
        except ValidationError:
            return None  # relay-policies made it a dead letter
        if wish.kind == CONFIG:
            self._a.ticket_keys = _tickets(destinations(self._inboxes).values())
        return wish if wish.kind in self._passes else None

    def _entries(self, wish: Policy | Activated) -> list[Entry]:
        if isinstance(wish, Policy):
            return [Entry.of("policies", wish)]
        body = self._inboxes.version(wish.checksum)
        if body is None:
            log.warning("A version is no longer held; the candidate goes on without it.", kind=wish.kind)
            return []
        artifact = Artifact(kind=wish.kind, version=wish.version, checksum=wish.checksum, body=body)
        return [Entry.of("versions", artifact, artifact.artifact_id), Entry.of("policies", wish)]

    def _before(self, begin: datetime) -> list[Entry]:
        """Return what stood when the play begins: the newest of every policy and of every switch."""
        newest: dict[str, Policy | Activated] = {}
        for partition in self._inboxes.partitions("policies"):
            start = self._inboxes.start("policies", partition)
            for record in self._inboxes.records("policies", partition, start):
                if record.stamp >= begin:
                    break
                if (wish := self._wished(record)) is not None:
                    newest[f"policy {wish.policy_id}" if isinstance(wish, Policy) else wish.kind] = wish
        return [entry for wish in newest.values() for entry in self._entries(wish)]


def _tickets(known: Iterable[Destination]) -> frozenset[str]:
    """Return the routing keys at which a trigger is a ticket, no page."""
    every = list(known)
    keys = {each.routing_key.get_secret_value() for each in every}
    return frozenset({each.ticket_routing_key.get_secret_value() for each in every if each.ticket_routing_key} - keys)


def _section(candidate: Candidate, name: str) -> Any:
    return orjson.loads(candidate.bodies[CONFIG]).get(name, {})


def _without_time(record: Record) -> dict[str, bytes]:
    """Return the headers of a record but for its stamp: the candidate's log stamps it, at the same moment."""
    return {name: value for name, value in record.headers.items() if name != "now"}


def _held_from(inboxes: Inboxes) -> datetime:
    """Return the moment from which on the log holds everything that is compared."""
    found = NEVER
    for topic in ("alerts.raw", "incidents.enriched", "escalations"):
        for partition in inboxes.partitions(topic):
            start = inboxes.start(topic, partition)
            first = next(iter(inboxes.records(topic, partition, start)), None) if start else None
            if first is not None:
                found = max(found, first.stamp)
    return found
