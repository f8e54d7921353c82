"""REST API v2: incidents, their alerts, notes and log entries.

Source: PagerDuty's API reference, "Incidents". A search without `since`, `until` and `date_range=all` looks back one
month; `since` and `until` span six months at most; `incident_key` finds the incidents that have an alert of that key.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from fastapi import APIRouter, Request

from streamproc.core.errors import Rejected
from streamproc.emulator.account import Deed
from streamproc.emulator.changes import change
from streamproc.emulator.directory import identifier
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.gate import Gate, Refused, invalid, not_found, page, writer
from streamproc.emulator.incident import Alert, Incident
from streamproc.emulator.shapes import log_entry, rest_alert, rest_incident, rest_note

MONTH, LONGEST = timedelta(days=31), timedelta(days=184)
STATUSES = {"triggered", "acknowledged", "resolved"}
_MOST_AT_ONCE = 250
_ORDERS = {"incident_number": "number", "created_at": "created_at", "resolved_at": "changed_at", "urgency": "urgency"}


def incidents(emulator: Emulator) -> APIRouter:
    """Return the routes under /incidents."""
    router = APIRouter(route_class=Gate)

    @router.get("/incidents")
    async def search(request: Request) -> dict[str, Any]:
        return page(request, "incidents", _found(emulator, request), lambda one: _shown(emulator, one))

    @router.put("/incidents")
    async def update_many(request: Request) -> dict[str, Any]:
        by, given = writer(emulator, request), (await body(request)).get("incidents")
        if not isinstance(given, list) or not 1 <= len(given) <= _MOST_AT_ONCE:
            raise invalid(f"incidents must be a list of 1 to {_MOST_AT_ONCE}")
        pairs = [(_incident(emulator, one), one) for one in given]
        for incident, one in pairs:
            change(emulator, incident, one, by)
        return {"incidents": [_shown(emulator, incident) for incident, _ in pairs]}

    @router.get("/incidents/{name}")
    async def get(name: str) -> dict[str, Any]:
        return {"incident": _shown(emulator, _incident(emulator, name))}

    @router.put("/incidents/{name}")
    async def update(name: str, request: Request) -> dict[str, Any]:
        by, incident = writer(emulator, request), _incident(emulator, name)
        change(emulator, incident, (await body(request)).get("incident"), by)
        return {"incident": _shown(emulator, incident)}

    @router.put("/incidents/{name}/merge")
    async def merge(name: str, request: Request) -> dict[str, Any]:
        by, target = writer(emulator, request), _incident(emulator, name)
        given = (await body(request)).get("source_incidents")
        if not isinstance(given, list) or not given:
            raise invalid("source_incidents must be a list")
        try:
            emulator.merge(target, [_incident(emulator, one) for one in given], by)
        except Rejected as failure:
            raise invalid(str(failure)) from failure
        return {"incident": _shown(emulator, target)}

    _add_alerts(router, emulator)
    _add_story(router, emulator)
    return router


def _add_alerts(router: APIRouter, emulator: Emulator) -> None:
    def shown(alert: Alert) -> dict[str, Any]:
        return rest_alert(alert, emulator.account.incidents[alert.incident_id], emulator.directory)

    @router.get("/incidents/{name}/alerts")
    async def alerts(name: str, request: Request) -> dict[str, Any]:
        wanted = request.query_params.getlist("statuses[]")
        found = emulator.account.alerts_of(_incident(emulator, name))
        return page(request, "alerts", [one for one in found if not wanted or shown(one)["status"] in wanted], shown)

    @router.put("/incidents/{name}/alerts/{alert_id}")
    async def update_alert(name: str, alert_id: str, request: Request) -> dict[str, Any]:
        by, incident = writer(emulator, request), _incident(emulator, name)
        if alert_id not in incident.alert_ids:
            raise not_found()
        alert, given = emulator.account.alerts[alert_id], (await body(request)).get("alert")
        if not isinstance(given, dict) or given.get("status", "resolved") != "resolved":
            raise invalid("alert.status can only be set to 'resolved'")
        try:
            if "incident" in given:
                emulator.account.reassociate(alert, _incident(emulator, given["incident"]))
            if "status" in given and alert.status != "resolved":
                emulator.resolve_alert(alert, by)
        except Rejected as failure:
            raise invalid(str(failure)) from failure
        return {"alert": shown(alert)}


def _add_story(router: APIRouter, emulator: Emulator) -> None:
    @router.get("/incidents/{name}/notes")
    async def notes(name: str) -> dict[str, Any]:
        return {"notes": [rest_note(note) for note in _incident(emulator, name).notes]}

    @router.post("/incidents/{name}/notes")
    async def add_note(name: str, request: Request) -> dict[str, Any]:
        by, incident = writer(emulator, request), _incident(emulator, name)
        given = (await body(request)).get("note")
        content = given.get("content") if isinstance(given, dict) else None
        if not isinstance(content, str) or not content.strip():
            raise invalid("note.content cannot be empty")
        emulator.act(incident, Deed.ANNOTATE, by, content)
        return {"note": rest_note(incident.notes[-1])}

    @router.get("/incidents/{name}/log_entries")
    async def log_entries(name: str, request: Request) -> dict[str, Any]:
        incident = _incident(emulator, name)
        latest = list(enumerate(incident.log))[::-1]
        return page(request, "log_entries", latest, lambda one: log_entry(one[0], one[1], incident, emulator.directory))


async def body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request carries.

    Raises:
        Refused: it carries none.
    """
    try:
        given = await request.json()
    except ValueError:
        raise Refused(400, "Invalid JSON", 2001) from None
    if not isinstance(given, dict):
        raise invalid("the body must be a JSON object")
    return given


def _shown(emulator: Emulator, incident: Incident) -> dict[str, Any]:
    return rest_incident(incident, emulator.directory, emulator.account.alerts_of(incident))


def _incident(emulator: Emulator, named: Any) -> Incident:
    """Return an incident by its id, or by a reference to it."""
    name = named.get("id") if isinstance(named, dict) else named
    found = emulator.account.incidents.get(name) if isinstance(name, str) else None
    if found is None:
        raise not_found()
    return found


def _found(emulator: Emulator, request: Request) -> list[Incident]:
    query, now = request.query_params, emulator.clock()
    statuses, services = set(query.getlist("statuses[]")), set(query.getlist("service_ids[]"))
    if not statuses <= STATUSES:
        raise invalid(f"statuses[] must be of {', '.join(sorted(STATUSES))}")
    found = list(emulator.account.incidents.values())
    if query.get("date_range") != "all":
        until = _moment(query.get("until"), now)
        since = _moment(query.get("since"), until - MONTH)
        if until - since > LONGEST:
            raise invalid("since and until may be at most 6 months apart")
        found = [one for one in found if since <= one.created_at <= until]
    key = query.get("incident_key")
    if key is not None:
        account = emulator.account
        found = [one for one in found if key in {alert.dedup_key for alert in account.alerts_of(one)}]
    found = [one for one in found if not statuses or one.status in statuses]
    if services:
        service = emulator.directory.service
        found = [one for one in found if identifier("service", service(one.routing_key).name) in services]
    return _sorted(found, query.get("sort_by", "incident_number:asc"))


def _sorted(found: list[Incident], order: str) -> list[Incident]:
    name, _, direction = order.partition(":")
    if name not in _ORDERS or direction not in ("", "asc", "desc"):
        raise invalid(f"sort_by {order} is not known")
    return sorted(found, key=attrgetter(_ORDERS[name], "number"), reverse=direction == "desc")


def _moment(given: str | None, otherwise: datetime) -> datetime:
    if given is None:
        return otherwise
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        raise invalid(f"{given} is not an ISO 8601 time") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
