"""Reads along in the log of a replay: what was decided of every alert, what was said, what became of every incident."""

from __future__ import annotations

import heapq
import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import orjson

from streamproc.backtest.dossier import UNSURE, Dossier
from streamproc.core.record import Record
from streamproc.events.alert import Alert
from streamproc.events.escalation import Escalation, PageAction
from streamproc.sinks.pagerduty.encode import encode

FINAL_AFTER = timedelta(hours=2, minutes=1)
"""A resolved incident does not change any more: longer than it may reopen, and than escalate remembers it."""
STORIES = 50
"""Incidents, the largest ones, that the report tells in full."""
LETTERS = 20
"""Dead letters that the report names."""
NIGHT_BEGINS, NIGHT_ENDS = 22, 6
"""Hours, UTC."""
KEPT_OF_KEY = 4
"""Characters of a routing key that the outputs show."""

ABSORBED = {"action": "suppress", "p_page": UNSURE, "severity": None, "urgency": None, "category": None}
UNTAKEN = {**ABSORBED, "confidence": 0.0, "abstain": True, "reason": "not_an_episode"}
"""Decision about an alert that opened nothing: it came too late, or a watchdog is heard as it must be."""
UNDECIDED = {**UNTAKEN, "reason": "undecided"}


class Files(Protocol):
    """Where lines go."""

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Append a line to `incidents`, `decisions` or `pages`."""


class Watcher(Protocol):
    """Who wants to know of every page, what it covers and why."""

    def opened(self, episode: Mapping[str, Any]) -> None:
        """An alert began to fire: the episode as JSON."""

    def published(self, dossier: Dossier, told: Mapping[str, Any], at: datetime) -> None:
        """An incident was published: the publication as JSON."""

    def named(self, incident_id: str, alert_id: str) -> None:
        """The producer named one more notification of an alert that the incident holds."""

    def called(self, dossier: Dossier, said: Escalation, at: datetime) -> None:
        """A trigger opened an alert at PagerDuty: somebody is called."""

    def ended(self, incident_id: str, dedup_key: str) -> None:
        """That alert was resolved at PagerDuty."""

    def closed(self, dossier: Dossier) -> None:
        """Nothing more can come of an incident."""


@dataclass(slots=True)
class Rule:
    """What one alert rule cost."""

    notifications: int = 0
    alerts: int = 0
    incidents: int = 0
    calls: int = 0
    updates: int = 0


@dataclass(slots=True)
class Service:
    """How often one service called people."""

    calls: int = 0
    nights: set[str] = field(default_factory=set)
    """The days on whose evening they began."""


@dataclass(slots=True)
class Totals:
    """Counts over the whole replay."""

    notifications: int = 0
    firing: int = 0
    alerts: int = 0
    episodes: int = 0
    incidents: int = 0
    calls: int = 0
    updates: int = 0
    resolves: int = 0
    dead_letters: int = 0
    rules: dict[str, Rule] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    days: dict[str, Counter[str]] = field(default_factory=dict)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    """Incidents that were held, by reason; `paged_later` of them were paged."""
    joined: Counter[str] = field(default_factory=Counter)
    """Alerts by why they are in their incident."""
    muted: Counter[str] = field(default_factory=Counter)
    """Alerts by the policy that muted them."""
    letters: Counter[str] = field(default_factory=Counter)
    letters_named: list[str] = field(default_factory=list)
    seen_services: set[str] = field(default_factory=set)


class Ledger:
    """Takes notes of every record of a replay.

    Args:
        files: where lines go.
        ticket_keys: routing keys at which a trigger is a ticket, no page.
    """

    def __init__(self, files: Files, ticket_keys: frozenset[str]) -> None:
        self.totals = Totals()
        self.wanted: list[Escalation] = []
        """Escalations that nobody has answered yet."""
        self.of: dict[str, str] = {}
        """The incident of every firing alert id; empty until it is decided, and where it is in none."""
        self._files = files
        self._ticket_keys = ticket_keys
        self._open: dict[str, Dossier] = {}
        self._resolved: deque[tuple[datetime, str]] = deque()
        self._fresh: dict[str, tuple[str, str]] = {}
        self._waiting: dict[str, str] = {}
        self._stories: list[tuple[int, str, Dossier]] = []
        self._watcher: Watcher | None = None
        self._takes: dict[bytes, Callable[[Record], None]] = {
            b"alert.v1": self._alert,
            b"episode.v1": self._episode,
            b"incident.v1": self._incident,
            b"escalation.v1": self._escalation,
            b"page.v1": self._page,
            b"dead-letter.v1": self._letter,
        }

    @property
    def stories(self) -> list[Dossier]:
        """The largest incidents, the largest first."""
        return [dossier for _, _, dossier in sorted(self._stories, key=lambda each: (-each[0], each[1]))]

    def tell(self, watcher: Watcher) -> None:
        """Tell somebody of every page from now on."""
        self._watcher = watcher

    def take(self, record: Record) -> None:
        """Take note of one record."""
        take = self._takes.get(record.headers.get("type", b""))
        if take is not None:
            take(record)

    def settle(self, now: datetime, incident_of: Callable[[str], str | None]) -> None:
        """Decide what opened nothing, once everything is folded; let go of incidents that are over.

        Args:
            now: the moment.
            incident_of: the incident that holds a fingerprint, None for none.
        """
        for alert_id, (fingerprint, at) in self._fresh.items():
            incident_id = incident_of(fingerprint)
            dossier = None if incident_id is None else self._open.get(incident_id)
            if dossier is None:
                self._decide(alert_id, at, None, UNTAKEN)
            else:  # the producer names each notification of it anew
                dossier.alerts.append(alert_id)
                self._decide(alert_id, at, dossier.incident_id, dossier.standing)
                if self._watcher is not None:
                    self._watcher.named(dossier.incident_id, alert_id)
        self._fresh.clear()
        while self._resolved and now - self._resolved[0][0] > FINAL_AFTER:
            _, incident_id = self._resolved.popleft()
            dossier = self._open.get(incident_id)
            if dossier is not None and dossier.resolved_at is not None and self._over(dossier, now):
                self._close(dossier)

    def finish(self) -> None:
        """Write what is still open or undecided."""
        for alert_id, at in self._waiting.items():
            self._decide(alert_id, at, None, UNDECIDED)
        self._waiting.clear()
        for dossier in list(self._open.values()):
            self._close(dossier)

    def _over(self, dossier: Dossier, now: datetime) -> bool:
        return now - datetime.fromisoformat(dossier.resolved_at or "") > FINAL_AFTER

    # -- records --------------------------------------------------------------------------------------------------

    def _alert(self, record: Record) -> None:
        alert = record.event if isinstance(record.event, Alert) else Alert.decode(record.value, record.headers)
        totals = self.totals
        totals.notifications += 1
        rule = totals.rules.get(alert.name)
        if rule is None:
            rule = totals.rules[alert.name] = Rule()
        rule.notifications += 1
        totals.seen_services.add(alert.service)
        if alert.status != "firing":
            return
        totals.firing += 1
        if alert.alert_id not in self.of:
            rule.alerts += 1
            totals.alerts += 1
            self.of[sys.intern(alert.alert_id)] = ""  # another replay over the same alerts shares them
            self._fresh[alert.alert_id] = (alert.fingerprint, moment(record))

    def _episode(self, record: Record) -> None:
        episode = orjson.loads(record.value)
        if episode["change"] == "opened":
            self.totals.episodes += 1
            if self._watcher is not None:
                self._watcher.opened(episode)
        fresh = self._fresh.pop(episode["alert"]["alert_id"], None)
        if fresh is not None:
            self._waiting[episode["alert"]["alert_id"]] = fresh[1]

    def _incident(self, record: Record) -> None:
        told, at = orjson.loads(record.value), moment(record)
        incident_id = told["incident_id"]
        dossier = self._open.get(incident_id)
        if dossier is None:
            dossier = self._open[incident_id] = Dossier(incident_id, told["opened_at"])
            self.totals.incidents += 1
            self.totals.rules.setdefault(told["root"]["name"], Rule()).incidents += 1
        dossier.publish(told, record.value)
        if self._watcher is not None:
            self._watcher.published(dossier, told, record.now)
        for member in told["joined"]:
            if member["muted_by"]:
                self.totals.muted[member["muted_by"]] += 1
            if self._waiting.pop(member["alert_id"], None) is not None:
                self.totals.joined[member["why"]] += 1
                dossier.alerts.append(member["alert_id"])
                self._decide(member["alert_id"], at, incident_id, dossier.standing)
            elif self.of.get(member["alert_id"]) == "":  # it came too late once, and is taken now
                self.of[member["alert_id"]] = incident_id
                dossier.alerts.append(member["alert_id"])
        if dossier.resolved_at is not None:
            self._resolved.append((record.now, incident_id))

    def _decide(self, alert_id: str, at: str, incident_id: str | None, decision: dict[str, Any]) -> None:
        self.of[alert_id] = incident_id or ""
        self._files.write("decisions", {"at": at, "alert": alert_id, "incident_id": incident_id, **decision})

    def _escalation(self, record: Record) -> None:
        said = Escalation.decode(record.value, record.headers)
        if said.routing_key:
            self.wanted.append(said)
        if said.action is PageAction.CHANGE:
            return
        at = moment(record)
        dossier = self._open.get(said.incident_id) or Dossier(said.incident_id, at)
        if said.routing_key in self._ticket_keys:
            return
        body = orjson.loads(encode(said, delayed_by=None).body)
        body["routing_key"] = masked(said.routing_key)
        self._files.write("pages", {"at": at, "incident_id": said.incident_id, "body": body})
        if said.action is PageAction.TRIGGER:
            self._triggered(dossier, said, record.now)
        elif said.action is PageAction.RESOLVE:
            self.totals.resolves += 1
            dossier.open_keys.discard(said.dedup_key)
            if self._watcher is not None:
                self._watcher.ended(said.incident_id, said.dedup_key)

    def _triggered(self, dossier: Dossier, said: Escalation, now: datetime) -> None:
        totals, calls = self.totals, said.dedup_key not in dossier.open_keys
        rule = totals.rules.setdefault(dossier.rule, Rule())
        day = totals.days.setdefault(now.date().isoformat(), Counter())
        if not calls:
            totals.updates += 1
            dossier.updates += 1
            rule.updates += 1
            day["updates"] += 1
            return
        dossier.open_keys.add(said.dedup_key)
        if self._watcher is not None:
            self._watcher.called(dossier, said, now)
        totals.calls += 1
        dossier.calls += 1
        rule.calls += 1
        day["pages"] += 1
        service = totals.services.setdefault(dossier.service, Service())
        service.calls += 1
        if now.hour >= NIGHT_BEGINS or now.hour < NIGHT_ENDS:
            service.nights.add((now - timedelta(hours=NIGHT_ENDS)).date().isoformat())

    def _page(self, record: Record) -> None:
        dossier = self._open.get(orjson.loads(record.value)["incident_id"])
        if dossier is not None:
            dossier.pages.add(record.value)

    def _letter(self, record: Record) -> None:
        letter = orjson.loads(record.value)
        self.totals.dead_letters += 1
        self.totals.letters[letter["reason"]] += 1
        if len(self.totals.letters_named) < LETTERS:
            self.totals.letters_named.append(f"{letter['node']}: {letter['reason']}: {letter['detail']}"[:300])

    def _close(self, dossier: Dossier) -> None:
        del self._open[dossier.incident_id]
        self._files.write("incidents", dossier.line())
        if self._watcher is not None:
            self._watcher.closed(dossier)
        action, reason = dossier.outcome
        self.totals.outcomes[action, reason] += 1
        for held in sorted(why for said, why in dossier.reasons if said == "hold"):
            self.totals.held[held] += 1
            self.totals.held["paged_later"] += dossier.calls > 0
        entry = (dossier.total, dossier.incident_id, dossier)
        if len(self._stories) < STORIES:
            heapq.heappush(self._stories, entry)
        else:
            heapq.heappushpop(self._stories, entry)


def moment(record: Record) -> str:
    """Return the moment of a record as the outputs tell it."""
    return record.now.isoformat(timespec="microseconds").replace("+00:00", "Z")


def masked(routing_key: str) -> str:
    """Return a routing key of the same form that only shows its last characters."""
    return routing_key[-KEPT_OF_KEY:].rjust(len(routing_key), "0")
