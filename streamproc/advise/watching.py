"""Reads along in a replay and notes what `Evidence` is made of: pages, answers, what was muted, who is responsible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from pydantic import ValidationError

from streamproc.advise.evidence import Evidence, Page, Standing, verdict_of
from streamproc.backtest.calls import CallLog
from streamproc.backtest.difference import Call
from streamproc.backtest.dossier import Dossier
from streamproc.backtest.recorded import Inboxes
from streamproc.core.identity import scope_of
from streamproc.core.record import Record
from streamproc.events.escalation import Escalation
from streamproc.events.feedback import Feedback

ENRICHED = "incidents.enriched"
MOST_SERVICES = 5000
"""Services of which it is noted whose they are."""


@dataclass(slots=True)
class _Paged:
    """A page, as far as it is known when it calls."""

    rule: str
    service: str
    rules: frozenset[str]
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """Alerts and rules that people acted upon live, or named as worth a page."""

    alerts: set[str] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)


class Notes:
    """A watcher of a ledger and a tap of its replay.

    Args:
        log: keeps the calls; is told everything, too.
        judged: producers' ids of alerts that people named as worth a page.
    """

    def __init__(self, log: CallLog, judged: Collection[str]) -> None:
        self.acted: set[str] = set()
        """Incidents that people acted upon, known or not."""
        self.needless: set[str] = set()
        self.muted: dict[str, Counter[str]] = {}
        """Alerts of each rule by the policy that muted them."""
        self._log = log
        self._judged = frozenset(judged)
        self._judged_rules: set[str] = set()
        self._latest: dict[str, str] = {}
        self._open: dict[tuple[str, str], _Paged] = {}
        self._paged: dict[tuple[str, datetime], _Paged] = {}
        self._teams: dict[str, set[str]] = {}
        self._last: Record | None = None

    def take(self, record: Record) -> None:
        """Take note of a record, after the ledger."""
        self._last = record
        if record.topic != "feedback" or record.headers.get("type", b"") != Feedback.TYPE.encode():
            return
        with suppress(ValidationError):  # it became a dead letter live, and does so here
            said = Feedback.model_validate_json(record.value)
            worth = verdict_of(said)
            if worth is not None:
                (self.acted if worth else self.needless).add(said.incident_id)

    def opened(self, episode: Mapping[str, Any]) -> None:
        """Note whose service it is."""
        self._log.opened(episode)
        alert = episode["alert"]
        if alert["alert_id"] in self._judged:
            self._judged_rules.add(alert["name"])
        service, team = alert["service"], alert["team"]
        if service and team and (service in self._teams or len(self._teams) < MOST_SERVICES):
            self._teams.setdefault(service, set()).add(team)

    def published(self, dossier: Dossier, told: Mapping[str, Any], at: datetime) -> None:
        """Note what was muted, and which alert joined last."""
        self._log.published(dossier, told, at)
        for member in told["joined"]:
            self._latest[dossier.incident_id] = member["name"]
            if member["muted_by"]:
                self.muted.setdefault(member["muted_by"], Counter())[member["name"]] += 1

    def named(self, incident_id: str, alert_id: str) -> None:
        """Pass it on."""
        self._log.named(incident_id, alert_id)

    def called(self, dossier: Dossier, said: Escalation, at: datetime) -> None:
        """Note a page."""
        self._log.called(dossier, said, at)
        rules = frozenset({dossier.rule, self._latest.get(dossier.incident_id, dossier.rule)})
        page = _Paged(dossier.rule, dossier.service, rules)
        self._open[said.incident_id, said.dedup_key] = page
        self._paged[said.incident_id, at] = page

    def ended(self, incident_id: str, dedup_key: str) -> None:
        """Note when a page ended."""
        self._log.ended(incident_id, dedup_key)
        page = self._open.pop((incident_id, dedup_key), None)
        if page is not None and self._last is not None:
            page.ended = self._last.now  # the record before the resolve, of the same moment

    def closed(self, dossier: Dossier) -> None:
        """Let go of an incident."""
        self._log.closed(dossier)
        self._latest.pop(dossier.incident_id, None)
        for key in dossier.open_keys:
            self._open.pop((dossier.incident_id, key), None)

    def evidence(self, answered: Answered, standing: Sequence[Standing], span: tuple[datetime, datetime]) -> Evidence:
        """Return what was noted, once the replay has ended.

        Args:
            answered: what people acted upon live, and what they named.
            standing: silences.
            span: moments of the first and the last request.
        """
        alerts = set(answered.alerts) | self._judged
        for call in self._log.calls:
            if call.incident_id in self.acted:
                alerts.update(call.alerts)
        pages = tuple(self._page(call, alerts) for call in sorted(self._log.calls, key=lambda each: each.at))
        rules = {rule for page in pages if page.acted for rule in page.rules}
        return Evidence(
            pages,
            *span,
            frozenset(alerts),
            frozenset(rules | answered.rules | self._judged_rules),
            {service: next(iter(teams)) for service, teams in self._teams.items() if len(teams) == 1},
            tuple(standing),
        )

    def _page(self, call: Call, acted_alerts: Collection[str]) -> Page:
        noted = self._paged[call.incident_id, call.at]
        acted = call.incident_id in self.acted or any(alert in acted_alerts for alert in call.alerts)
        return Page(
            call,
            noted.rule,
            noted.service,
            scope_of(call.incident_id) or "",
            noted.rules,
            noted.ended,
            acted,
            call.incident_id in self.needless and not acted,
        )


def answered_live(inboxes: Inboxes, acted: Collection[str]) -> Answered:
    """Return the alerts and the rules of incidents that people acted upon, as they were published live.

    A replay under other settings may group otherwise, and then knows some of these incidents not at all.

    Args:
        inboxes: the log.
        acted: ids of incidents.
    """
    found = Answered()
    for record in _published(inboxes):
        told = orjson.loads(record.value)
        if told["incident_id"] in acted:
            found.rules.add(told["root"]["name"])
            found.alerts.add(told["root"]["alert_id"])
            found.alerts.update(member["alert_id"] for member in told["joined"])
    return found


def _published(inboxes: Inboxes) -> Iterable[Record]:
    for partition in inboxes.partitions(ENRICHED):
        for record in inboxes.records(ENRICHED, partition, inboxes.start(ENRICHED, partition)):
            if record.headers.get("type", b"") == b"incident.v1":
                yield record
