"""PagerDuty's REST API v2 as far as the pipeline uses it: a typed port, and the one that asks PagerDuty."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self, TypeVar

from pydantic import ValidationError

from streamproc.core.errors import Rejected
from streamproc.sinks.pagerduty.budget import Budget, LocalBudget
from streamproc.sinks.pagerduty.config import RestConfig
from streamproc.sinks.pagerduty.resources import (
    Alert,
    ChangeEvent,
    EscalationPolicy,
    Incident,
    IncidentChange,
    IncidentQuery,
    LogEntry,
    MaintenanceWindow,
    NewSubscription,
    Note,
    OnCall,
    Priority,
    Resource,
    Schedule,
    Service,
    Team,
    User,
    WebhookSubscription,
)
from streamproc.sinks.pagerduty.rest_calls import LAST, NOT_FOUND, PAGE, Calls

_SPAN = timedelta(days=180)
"""Longest span of one search; PagerDuty takes six months at most (API reference, "List incidents")."""
_SUBSCRIPTIONS = "/webhook_subscriptions"
_R = TypeVar("_R", bound=Resource)


class PagerDutyRest(Protocol):
    """What the pipeline asks of a PagerDuty account.

    Everything raises `Transient` where PagerDuty did not answer or could not (`retry_after` in seconds where it named a
    Everything raises `Transient` where PagerDuty did not answer or could not (`retry_after` in seconds where it named a
    time), `Unusable` where the key or its rights are at fault (the message has the mend), and `Rejected` where
    PagerDuty will never take the request (`reason`: `not_found`, `no_ability`, `unreadable`, `too_many` or `refused`).
    """

    def incidents(self, query: IncidentQuery) -> AsyncIterator[Incident]:
        """Yield incidents, the oldest first, each once; beyond 10,000 of them by windows of time.

        The list is read in pages while people work: one that changes meanwhile may be missed. That an incident is not
        among the open ones proves nothing; ask for it by its id or key before anything is done about it.
        """

    async def incident(self, incident_id: str) -> Incident | None:
        """Return an incident, None where there is none of this id."""

    async def update_incident(self, incident_id: str, change: IncidentChange) -> Incident:
        """Change an incident, and return it as it is then. Resolving one that is resolved is `Rejected`."""

    async def notes(self, incident_id: str) -> tuple[Note, ...]:
        """Return the notes of an incident."""

    async def add_note(self, incident_id: str, content: str) -> Note:
        """Write a note. Not tried again where PagerDuty may have it: two notes are worse than a `Transient`."""

    async def alerts(self, incident_id: str) -> tuple[Alert, ...]:
        """Return the alerts of an incident, those that a merge moved there too."""

    async def log_entries(self, incident_id: str) -> tuple[LogEntry, ...]:
        """Return what happened to an incident, the latest first."""

    async def services(self) -> tuple[Service, ...]:
        """Return all services, with the routing keys of their integrations."""

    async def escalation_policies(self) -> tuple[EscalationPolicy, ...]:
        """Return all escalation policies."""

    async def schedules(self) -> tuple[Schedule, ...]:
        """Return all schedules."""

    async def on_calls(self) -> tuple[OnCall, ...]:
        """Return who is on call now, for every level of every policy."""

    async def users(self) -> tuple[User, ...]:
        """Return all users."""

    async def teams(self) -> tuple[Team, ...]:
        """Return all teams."""

    async def priorities(self) -> tuple[Priority, ...]:
        """Return the priorities, the highest first; none where the account does not use them."""

    async def maintenance_windows(self) -> tuple[MaintenanceWindow, ...]:
        """Return the maintenance windows that are open now."""

    async def change_events(self, since: datetime, until: datetime) -> tuple[ChangeEvent, ...]:
        """Return change events of a span of time, at most 10,000."""

    async def webhook_subscriptions(self) -> tuple[WebhookSubscription, ...]:
        """Return all webhook subscriptions, without their secrets."""

    async def create_webhook_subscription(self, wanted: NewSubscription) -> WebhookSubscription:
        """Make a subscription, and return it with its secret: no later answer has it."""

    async def enable_webhook_subscription(self, subscription_id: str) -> WebhookSubscription:
        """Switch a subscription on again that PagerDuty switched off."""

    async def ping_webhook_subscription(self, subscription_id: str) -> None:
        """Let PagerDuty send a test event (`pagey.ping`); returns before it is sent."""

    async def delete_webhook_subscription(self, subscription_id: str) -> bool:
        """Delete a subscription; False where there was none."""

    async def aclose(self) -> None:
        """Close the connections."""


class RestClient:
    """PagerDuty's REST API v2. Close it, or use it as an async context manager; `PagerDutyRest` says what it does.

    Args:
        config: where, with which key, how often.
        budget: asked before every request; without one, the share of the settings counts for this process.
        now: the time in UTC, for searches that have no end.
        most: how far one list is read by its offset; PagerDuty's own bound by default.

    Raises:
        Unusable: there is no API key.
    """

    def __init__(
        self,
        config: RestConfig,
        budget: Budget | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        most: int = LAST,
    ) -> None:
        self._most = most
        self._calls = Calls(config, budget or LocalBudget(config.requests_per_minute))
        self._now = now

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:  # noqa: D102  the port says it, here and below
        await self._calls.aclose()

    async def incidents(self, query: IncidentQuery) -> AsyncIterator[Incident]:  # noqa: D102
        until = query.until or self._now()
        since = query.since
        seen: set[str] = set()
        while True:
            window = _window(since, until)
            last: Incident | None = None
            offset, more = 0, True
            while more and offset + PAGE <= self._most:
                found, more = await self._calls.page("/incidents", "incidents", _asked(query) | window, offset)
                offset += len(found)
                for given in found:
                    last = _read(Incident, given)
                    if last.id not in seen:
                        seen.add(last.id)
                        yield last
            if more and last is not None:
                since = _onward(since, last)
            elif since is not None and since + _SPAN < until:
                since += _SPAN
            else:
                return

    async def incident(self, incident_id: str) -> Incident | None:  # noqa: D102
        try:
            return _read(Incident, _inside(await self._calls.ask("GET", f"/incidents/{incident_id}"), "incident"))
        except Rejected as refusal:
            if refusal.reason == NOT_FOUND:
                return None
            raise

    async def update_incident(self, incident_id: str, change: IncidentChange) -> Incident:  # noqa: D102
        answer = await self._calls.ask("PUT", f"/incidents/{incident_id}", body={"incident": change.body()})
        return _read(Incident, _inside(answer, "incident"))

    async def notes(self, incident_id: str) -> tuple[Note, ...]:  # noqa: D102
        answer = _inside(await self._calls.ask("GET", f"/incidents/{incident_id}/notes"), "notes")
        return tuple(_read(Note, given) for given in answer)

    async def add_note(self, incident_id: str, content: str) -> Note:  # noqa: D102
        body = {"note": {"content": content}}
        answer = await self._calls.ask("POST", f"/incidents/{incident_id}/notes", body=body, repeatable=False)
        return _read(Note, _inside(answer, "note"))

    async def alerts(self, incident_id: str) -> tuple[Alert, ...]:  # noqa: D102
        return await self._all(Alert, f"/incidents/{incident_id}/alerts", "alerts")

    async def log_entries(self, incident_id: str) -> tuple[LogEntry, ...]:  # noqa: D102
        return await self._all(LogEntry, f"/incidents/{incident_id}/log_entries", "log_entries")

    async def services(self) -> tuple[Service, ...]:  # noqa: D102
        return await self._all(Service, "/services", "services", {"include": ["integrations"]})

    async def escalation_policies(self) -> tuple[EscalationPolicy, ...]:  # noqa: D102
        return await self._all(EscalationPolicy, "/escalation_policies", "escalation_policies")

    async def schedules(self) -> tuple[Schedule, ...]:  # noqa: D102
        return await self._all(Schedule, "/schedules", "schedules")

    async def on_calls(self) -> tuple[OnCall, ...]:  # noqa: D102
        # Both ends: without them the API's own documents disagree on what is answered.
        now = self._now().isoformat()
        return await self._all(OnCall, "/oncalls", "oncalls", {"since": now, "until": now})

    async def users(self) -> tuple[User, ...]:  # noqa: D102
        return await self._all(User, "/users", "users")

    async def teams(self) -> tuple[Team, ...]:  # noqa: D102
        return await self._all(Team, "/teams", "teams")

    async def priorities(self) -> tuple[Priority, ...]:  # noqa: D102
        try:
            return await self._all(Priority, "/priorities", "priorities")
        except Rejected as refusal:
            if refusal.reason == NOT_FOUND:
                return ()
            raise

    async def maintenance_windows(self) -> tuple[MaintenanceWindow, ...]:  # noqa: D102
        return await self._all(MaintenanceWindow, "/maintenance_windows", "maintenance_windows", {"filter": "ongoing"})

    async def change_events(self, since: datetime, until: datetime) -> tuple[ChangeEvent, ...]:  # noqa: D102
        span = {"since": since.isoformat(), "until": until.isoformat()}
        return await self._all(ChangeEvent, "/change_events", "change_events", span)

    async def webhook_subscriptions(self) -> tuple[WebhookSubscription, ...]:  # noqa: D102
        return await self._all(WebhookSubscription, _SUBSCRIPTIONS, "webhook_subscriptions")

    async def create_webhook_subscription(self, wanted: NewSubscription) -> WebhookSubscription:  # noqa: D102
        body = {"webhook_subscription": wanted.body()}
        answer = await self._calls.ask("POST", _SUBSCRIPTIONS, body=body, repeatable=False)
        return _read(WebhookSubscription, _inside(answer, "webhook_subscription"))

    async def enable_webhook_subscription(self, subscription_id: str) -> WebhookSubscription:  # noqa: D102
        answer = await self._calls.ask("POST", f"{_SUBSCRIPTIONS}/{subscription_id}/enable")
        return _read(WebhookSubscription, _inside(answer, "webhook_subscription"))

    async def ping_webhook_subscription(self, subscription_id: str) -> None:  # noqa: D102
        await self._calls.ask("POST", f"{_SUBSCRIPTIONS}/{subscription_id}/ping")

    async def delete_webhook_subscription(self, subscription_id: str) -> bool:  # noqa: D102
        try:
            await self._calls.ask("DELETE", f"{_SUBSCRIPTIONS}/{subscription_id}")
        except Rejected as refusal:
            if refusal.reason == NOT_FOUND:
                return False
            raise
        return True

    async def _all(
        self, model: type[_R], path: str, name: str, params: Mapping[str, Any] | None = None
    ) -> tuple[_R, ...]:
        found: list[_R] = []
        more = True
        while more and len(found) + PAGE <= self._most:
            page, more = await self._calls.page(path, name, params or {}, len(found))
            found += [_read(model, given) for given in page]
        return tuple(found)


def _asked(query: IncidentQuery) -> dict[str, Any]:
    asked: dict[str, Any] = {"sort_by": "created_at:asc"}
    if query.incident_key:
        asked["incident_key"] = query.incident_key
    if query.statuses:
        asked["statuses"] = list(query.statuses)
    if query.service_ids:
        asked["service_ids"] = list(query.service_ids)
    return asked


def _window(since: datetime | None, until: datetime) -> dict[str, Any]:
    """Return the span of one search; without a beginning it is all, since PagerDuty else looks back one month only."""
    if since is None:
        return {"date_range": "all"}
    return {"since": since.isoformat(), "until": min(until, since + _SPAN).isoformat()}


def _onward(since: datetime | None, last: Incident) -> datetime:
    """Return where the next window begins after one that had more than can be read.

    Raises:
        Rejected: it would be the same window again.
    """
    if since is not None and last.created_at <= since:
        raise Rejected("too_many", f"PagerDuty has too many incidents of one moment ({last.created_at.isoformat()})")
    return last.created_at


def _inside(answer: Any, name: str) -> Any:
    return answer.get(name) if isinstance(answer, dict) else None


def _read(model: type[_R], given: Any) -> _R:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3])
        # Without the cause: it shows what was answered, secrets too.
        raise Rejected("unreadable", f"PagerDuty's {model.__name__} cannot be read: {places}") from None
