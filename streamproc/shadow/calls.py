"""The pages of one side, as its records tell them while they come; those of different topics in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from streamproc.backtest.difference import Call, Kind
from streamproc.core.event import Why
from streamproc.core.identity import SUFFIX, incident_of
from streamproc.core.record import Record
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction

KEPT_OF_KEY = 4
FORGET_AFTER = timedelta(hours=2, minutes=1)
"""An incident is over: longer than it may reopen, and than escalate remembers it."""
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Alert:
    """How long an alert was in its incident, and why it is there."""

    since: datetime
    trail: tuple[Why, ...]
    until: datetime | None = None


@dataclass(slots=True)
class _Page:
    """A trigger that opened an alert at PagerDuty."""

    said: Escalation
    at: datetime
    until: datetime | None = None


@dataclass(slots=True)
class Seen:
    """What was told of one incident."""

    opened_at: datetime | None = None
    over_at: datetime | None = None
    """When it resolved, None while it is open."""
    root: str = ""
    rule: str = ""
    service: str = ""
    urgency: str = ""
    alerts: dict[str, _Alert] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """Alert ids of open members by fingerprint."""
    pages: dict[str, _Page] = field(default_factory=dict)
    """By call id; without those that are settled."""
    open: dict[tuple[str, str], str] = field(default_factory=dict)
    """Call ids by routing key and dedup key, while the alert at PagerDuty is open."""


class Calls:
    """Takes notes of one side.

    Args:
        side: begins the ids of its calls.
        ticket_keys: routing keys at which a trigger is a ticket, no page; more may be added later.
    """

    def __init__(self, side: str, ticket_keys: frozenset[str] = frozenset()) -> None:
        self.ticket_keys = ticket_keys
        self.incident_of: dict[str, str] = {}
        """The incident that an alert was last told of."""
        self._side = side
        self._seen: dict[str, Seen] = {}

    def take(self, record: Record) -> tuple[Seen, str] | None:
        """Take note of a record; return the incident where it opened (`incident`) or somebody is called (`page`)."""
        kind = record.headers.get("type", b"")
        if kind == b"incident.v1":
            return self._published(orjson.loads(record.value), record.now)
        if kind == b"escalation.v1":
            return self._said(Escalation.decode(record.value, record.headers), record.now)
        return None

    def seen(self, incident_id: str) -> Seen | None:
        """Return what was told of an incident, None where it was not told, or is long over."""
        return self._seen.get(incident_id)

    def calls(self) -> list[Call]:
        """Return the pages that are not settled."""
        return [
            _call(name, incident_id, page, seen)
            for incident_id, seen in self._seen.items()
            for name, page in seen.pages.items()
        ]

    def chain(self, call: Call) -> tuple[Why, ...]:
        """Return the reason chain of a page that is not settled."""
        return self._seen[call.incident_id].pages[call.call_id].said.trail

    def about(self, alert_id: str) -> tuple[Why, ...]:
        """Return the reason chain by which an alert came into its incident, empty where it is in none."""
        seen = self._seen.get(self.incident_of.get(alert_id, ""))
        return () if seen is None else seen.alerts[alert_id].trail

    @property
    def held(self) -> int:
        """How many pages are not settled."""
        return sum(len(seen.pages) for seen in self._seen.values())

    def settle(self, call: Call) -> None:
        """Let go of a page."""
        seen = self._seen.get(call.incident_id)
        if seen is not None:
            seen.pages.pop(call.call_id, None)

    def forget(self, now: datetime) -> None:
        """Let go of incidents that are long over, once their pages are settled."""
        for incident_id, seen in list(self._seen.items()):
            if seen.over_at is not None and now - seen.over_at > FORGET_AFTER and not seen.pages:
                del self._seen[incident_id]
                for alert_id in seen.alerts:
                    if self.incident_of.get(alert_id) == incident_id:
                        del self.incident_of[alert_id]

    def _published(self, told: dict[str, Any], now: datetime) -> tuple[Seen, str] | None:
        seen = self._seen.setdefault(told["incident_id"], Seen())
        fresh = seen.opened_at is None
        seen.opened_at = datetime.fromisoformat(told["opened_at"])
        seen.over_at = now if told["status"] == "resolved" else None
        seen.root, seen.rule, seen.service = told["root"]["alert_id"], told["root"]["name"], told["service"]
        seen.urgency = (told["classification"] or {}).get("urgency", "")
        trail = tuple(Why.model_validate(why) for why in told["trail"]) if told["joined"] else ()
        for member in told["joined"]:
            alert_id = member["alert_id"]
            known = seen.alerts.setdefault(alert_id, _Alert(now, trail))
            known.until = None
            seen.names[member["fingerprint"]] = alert_id
            self.incident_of[alert_id] = told["incident_id"]
        for fingerprint in told["left"]:
            left = seen.names.pop(fingerprint, None)
            if left is not None:
                seen.alerts[left].until = now
        return (seen, "incident") if fresh else None

    def _said(self, said: Escalation, now: datetime) -> tuple[Seen, str] | None:
        incident_id = incident_of(said.dedup_key)
        if not incident_id or not said.routing_key or said.routing_key in self.ticket_keys:
            return None
        seen = self._seen.setdefault(incident_id, Seen())
        place = (said.routing_key, said.dedup_key)
        if said.action is PageAction.RESOLVE:
            page = seen.pages.get(seen.open.pop(place, ""))
            if page is not None:
                page.until = now
            return None
        if said.action is not PageAction.TRIGGER or place in seen.open:
            return None
        name = f"{self._side}:{said.dedup_key}#{said.seq}"
        seen.open[place] = name
        seen.pages[name] = _Page(said, now)
        return seen, "page"


def _call(name: str, incident_id: str, page: _Page, seen: Seen) -> Call:
    said = page.said
    tail = said.dedup_key.removeprefix(incident_id)
    kind = Kind.FIRST
    if SUFFIX.fullmatch(tail):
        kind = Kind.SECOND if tail == "/2" else Kind.GROWN
    end = page.until or NEVER
    covered = {
        alert_id: None
        for alert_id, alert in seen.alerts.items()
        if alert.since <= end and (alert.until is None or alert.until >= page.at)
    }
    alerts = tuple(covered) or (seen.root or incident_id,)
    return Call(
        call_id=name,
        incident_id=incident_id,
        at=page.at,
        lead=seen.root if seen.root in covered else alerts[0],
        alerts=alerts,
        severity=said.text.severity if said.text else Severity.ERROR,
        kind=kind,
        urgency=seen.urgency,
        destination=said.destination,
        key_hint=said.routing_key[-KEPT_OF_KEY:],
        rule=seen.rule,
        service=seen.service,
    )
