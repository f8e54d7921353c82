"""Asks PagerDuty what it holds of ours. Every alert that is claimed here is asked for: a list alone proves nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from streamproc.core.identity import incident_of
from streamproc.reconcile.ours import Claim
from streamproc.reconcile.theirs import Held, Theirs, alone, held, routing_keys, silent
from streamproc.sinks.pagerduty.resources import Alert, Incident, IncidentQuery, LogEntry
from streamproc.sinks.pagerduty.rest import PagerDutyRest

MOST_SERVICES = 50
"""A search names at most so many services, else none: addresses have an end."""
MOST_ASKED = 300
"""Alerts that are not on the list of open incidents are asked for one by one, so many a look, the oldest first."""
MOST_INCIDENTS = 5
"""Of the incidents that had an alert of a key the latest so many are looked into."""


async def ask(rest: PagerDutyRest, ours: Mapping[str, Claim], keys: Collection[str]) -> Theirs:
    """Return what PagerDuty holds of ours.

    Args:
        rest: asks.
        ours: by incident id.
        keys: routing keys that are ours.

    Raises:
        Transient, Unusable, Rejected: as the port says.
    """
    services = await rest.services()
    theirs = Theirs(
        alerts={},
        services=routing_keys(services),
        silent=silent(services, await rest.maintenance_windows()),
    )
    asking = _Asking(rest, ours)
    known = {theirs.services[key] for key in keys if key in theirs.services}
    whole = len(known) > MOST_SERVICES or any(key not in theirs.services for key in keys)
    await asking.list_open(known, whole=whole)
    await asking.ask_for_claims(theirs)
    found = {key: tuple(alerts) for key, alerts in asking.found.items()}
    return Theirs(found, theirs.services, theirs.silent)


class _Asking:
    """One look: what was found so far, and what need not be asked twice."""

    def __init__(self, rest: PagerDutyRest, ours: Mapping[str, Claim]) -> None:
        self._rest = rest
        self._ours = ours
        self._logs: dict[str, tuple[LogEntry, ...]] = {}
        self.found: defaultdict[str, list[Held]] = defaultdict(list)

    async def list_open(self, services: Collection[str], *, whole: bool) -> None:
        """Take in all open incidents, of these services or of the whole account."""
        query = IncidentQuery(
            statuses=("triggered", "acknowledged"), service_ids=() if whole else tuple(sorted(services))
        )
        async for incident in self._rest.incidents(query):
            single = incident.alert_counts is not None and incident.alert_counts.all == 1
            mine = incident_of(incident.incident_key) != ""
            claim = self._ours.get(incident_of(incident.incident_key))
            if single and mine and not (claim is not None and claim.awaits):
                self.found[incident.incident_key].append(alone(incident))
            elif mine or (incident.service.id in services and (not single or not incident.incident_key)):
                for alert in await self._rest.alerts(incident.id):
                    if alert.status == "triggered":
                        await self._take(incident, alert)

    async def ask_for_claims(self, theirs: Theirs) -> None:
        """Ask for what must be open and is not on the list."""
        wanted = [
            (claim.triggered_at, key)
            for claim in self._ours.values()
            for _, routing_key, key in claim.said
            if claim.lives and not claim.pending and not self._seen(key, routing_key, theirs, claim)
        ]
        for _, key in sorted(set(wanted))[:MOST_ASKED]:
            await self._ask_for(key)

    def _seen(self, key: str, routing_key: str, theirs: Theirs, claim: Claim) -> bool:
        if theirs.services.get(routing_key) in theirs.silent:
            return True  # nothing can be missing where nothing is opened
        service = theirs.services.get(routing_key)
        twice = sum(other == key for _, _, other in claim.said) > 1
        return any(not twice or service in (None, one.service) for one in self.found.get(key, ()))

    async def _ask_for(self, key: str) -> None:
        incidents = [one async for one in self._rest.incidents(IncidentQuery(incident_key=key))]
        known = {one.incident for one in self.found[key]}
        for incident in sorted(incidents, key=lambda one: one.created_at, reverse=True)[:MOST_INCIDENTS]:
            if incident.id in known:
                continue
            for alert in await self._rest.alerts(incident.id):
                if alert.alert_key == key:
                    await self._take(incident, alert)

    async def _take(self, incident: Incident, alert: Alert) -> None:
        if incident_of(alert.alert_key):
            self.found[alert.alert_key].append(held(incident, alert, await self._log(incident, alert)))

    async def _log(self, incident: Incident, alert: Alert) -> Sequence[LogEntry]:
        """Return what happened to an incident, nothing where that need not be known."""
        claim = self._ours.get(incident_of(alert.alert_key))
        if claim is None or not claim.lives:
            return ()
        closed = alert.status == "resolved" or incident.status == "resolved"
        moved = incident.incident_key not in ("", alert.alert_key) and not claim.acknowledged
        if not (closed or moved or claim.awaits):
            return ()
        if incident.id not in self._logs:
            self._logs[incident.id] = await self._rest.log_entries(incident.id)
        return self._logs[incident.id]
