"""Reads along in the log of a replay: what was sent when, and how every incident stood at every moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from streamproc.core.event import DeadLetter
from streamproc.core.record import Record
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction
from streamproc.events.incident import Action, Incident, Member
from streamproc.policytest.traffic import has


@dataclass(frozen=True, slots=True)
class Said:
    """Something that was sent, or a ticket."""

    subject: str
    """page, update, ticket or resolve."""
    at: datetime
    incident_id: str
    destination: str
    severity: Severity | None
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """An incident as one publication told it."""

    at: datetime
    told: Incident
    members: Mapping[str, Member]
    """All alerts that it ever had by then, by fingerprint; a mute that is over is not told of one that left."""

    @property
    def action(self) -> Action:
        """What stands."""
        return self.told.decision.action if self.told.decision else Action.NONE

    @property
    def reason(self) -> str:
        """Why."""
        return self.told.decision.reason if self.told.decision else ""

    def holds(self, wishes: Mapping[str, str]) -> bool:
        """Return whether it has, or had, an alert with these labels; any incident has one without labels."""
        return not wishes or any(has(wishes, member.labels) for member in self.members.values())


@dataclass(slots=True)
class Story:
    """What became of one incident."""

    incident_id: str
    standings: list[Standing] = field(default_factory=list)

    def by(self, moment: datetime) -> Standing | None:
        """Return how it stood at a moment, None where it was not open yet."""
        found = bisect_right(self.standings, moment, key=lambda each: each.at)
        return self.standings[found - 1] if found else None

    @property
    def opened_at(self) -> datetime:
        """When it opened."""
        return self.standings[0].told.opened_at

    @property
    def last(self) -> Standing:
        """How it stands in the end."""
        return self.standings[-1]


class Watch:
    """Takes notes of every record of a replay.

    Args:
        ticket_keys: routing keys at which a trigger is a ticket.
    """

    def __init__(self, ticket_keys: frozenset[str]) -> None:
        self.said: list[Said] = []
        self.stories: dict[str, Story] = {}
        """By incident id, in the order in which they opened."""
        self.letters: list[tuple[datetime, DeadLetter]] = []
        self._ticket_keys = ticket_keys
        self._open: set[str] = set()

    def take(self, record: Record) -> None:
        """Take note of one record."""
        kind = record.headers.get("type", b"")
        if kind == b"incident.v1" and record.topic == "incidents.enriched":
            self._incident(record)
        elif kind == b"escalation.v1":
            self._escalation(Escalation.decode(record.value, record.headers), record.now)
        elif kind == b"dead-letter.v1":
            self.letters.append((record.now, DeadLetter.decode(record.value, record.headers)))

    def incident_of(self, wishes: Mapping[str, str], moment: datetime) -> str | None:
        """Return the incident that holds an alert with these labels: an open one, the newest of several."""
        found = [
            (standing.told.status == "open", story.opened_at, story.incident_id)
            for story in self.stories.values()
            if (standing := story.by(moment)) is not None and standing.holds(wishes)
        ]
        return max(found)[2] if found else None

    def _incident(self, record: Record) -> None:
        told = Incident.decode(record.value, record.headers)
        if told.canary:
            return
        story = self.stories.setdefault(told.incident_id, Story(told.incident_id))
        before = story.standings[-1] if story.standings else None
        members = {**(before.members if before else {}), **{member.fingerprint: member for member in told.joined}}
        story.standings.append(Standing(record.now, told, members))
        was = before.action if before is not None else Action.NONE
        stands = story.last
        if stands.action is Action.TICKET and was is not Action.TICKET:
            destination = told.decision.destination if told.decision else ""
            self._say("ticket", record.now, told.incident_id, destination, told.severity, told.title, stands.reason)

    def _escalation(self, said: Escalation, now: datetime) -> None:
        if said.action is PageAction.RESOLVE:
            self._open.discard(said.dedup_key)
            self._say("resolve", now, said.incident_id, said.destination, None, "", "resolved")
        elif said.action is PageAction.TRIGGER and said.text is not None and said.routing_key not in self._ticket_keys:
            subject = "update" if said.dedup_key in self._open else "page"
            self._open.add(said.dedup_key)
            text, reason = said.text, str(said.text.details.get("reason", ""))
            self._say(subject, now, said.incident_id, said.destination, text.severity, text.summary, reason)

    def _say(
        self,
        subject: str,
        at: datetime,
        incident: str,
        destination: str,
        severity: Severity | None,
        title: str,
        why: str,
    ) -> None:
        self.said.append(Said(subject, at, incident, destination, severity, title, why))
