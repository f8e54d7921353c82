"""REST API v2: what an account holds beside incidents, and webhook subscriptions.

Source: PagerDuty's API reference. Lists have pages; of their filters only those that are used here are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from streamproc.emulator.directory import Policy, Schedule, Service, User, Window, identifier
from streamproc.emulator.emulator import Emulator
from streamproc.emulator.gate import Gate, invalid, not_found, page
from streamproc.emulator.rest_incidents import body
from streamproc.emulator.shapes import named, reference, second
from streamproc.emulator.subscriptions import EVENT_TYPES, Subscription, created

ABILITIES = ["teams", "urgencies", "coordinated_responding", "event_rules", "preview_intelligent_alert_grouping"]


def rest(emulator: Emulator) -> APIRouter:
    """Return the routes of the lists, and of webhook subscriptions."""
    router = APIRouter(route_class=Gate)
    _add_lists(router, emulator)
    _add_people(router, emulator)
    _add_subscriptions(router, emulator)
    return router


def _add_lists(router: APIRouter, emulator: Emulator) -> None:
    @router.get("/services")
    async def services(request: Request) -> dict[str, Any]:
        heard = (incident.routing_key for incident in emulator.account.incidents.values())
        keys = "integrations" in request.query_params.getlist("include[]")
        found = emulator.directory.services_with(heard)
        return page(request, "services", found, lambda one: _service(one, with_keys=keys))

    @router.get("/escalation_policies")
    async def policies(request: Request) -> dict[str, Any]:
        held = emulator.directory
        return page(request, "escalation_policies", held.policies, lambda one: _policy(one, emulator))

    @router.get("/maintenance_windows")
    async def windows(request: Request) -> dict[str, Any]:
        wanted, now = request.query_params.get("filter", "all"), emulator.clock()
        found = [
            one
            for one in emulator.directory.windows
            if wanted not in ("ongoing", "future")
            or (wanted == "ongoing" and one.start <= now < one.end)
            or (wanted == "future" and now < one.start)
        ]
        return page(request, "maintenance_windows", found, _window)

    @router.get("/priorities")
    async def priorities(request: Request) -> dict[str, Any]:
        return page(request, "priorities", emulator.directory.priorities, lambda name: named("priority", name))

    @router.get("/change_events")
    async def change_events(request: Request) -> dict[str, Any]:
        found = list(enumerate(emulator.account.changes))[::-1]
        return page(request, "change_events", found, lambda one: _change(one[0], one[1], emulator))

    @router.get("/abilities")
    async def abilities() -> dict[str, Any]:
        return {"abilities": ABILITIES}


def _add_people(router: APIRouter, emulator: Emulator) -> None:
    @router.get("/users")
    async def users(request: Request) -> dict[str, Any]:
        return page(request, "users", emulator.directory.users, _user)

    @router.get("/teams")
    async def teams(request: Request) -> dict[str, Any]:
        return page(request, "teams", emulator.directory.teams, lambda name: named("team", name))

    @router.get("/schedules")
    async def schedules(request: Request) -> dict[str, Any]:
        return page(request, "schedules", emulator.directory.schedules, _schedule)

    @router.get("/oncalls")
    async def oncalls(request: Request) -> dict[str, Any]:
        query = request.query_params
        policies, schedules = query.getlist("escalation_policy_ids[]"), query.getlist("schedule_ids[]")
        found = [
            one
            for one in _oncalls(emulator)
            if (not policies or one["escalation_policy"]["id"] in policies)
            and (not schedules or (one["schedule"] or {}).get("id") in schedules)
        ]
        return page(request, "oncalls", found, lambda one: one)


def _add_subscriptions(router: APIRouter, emulator: Emulator) -> None:
    held = emulator.webhooks

    def subscription(name: str) -> Subscription:
        if name not in held.subscriptions:
            raise not_found()
        return held.subscriptions[name]

    @router.get("/webhook_subscriptions")
    async def subscriptions(request: Request) -> dict[str, Any]:
        return page(request, "webhook_subscriptions", list(held.subscriptions.values()), Subscription.shown)

    @router.post("/webhook_subscriptions")
    async def create(request: Request) -> Response:
        made = _subscription((await body(request)).get("webhook_subscription"))
        held.subscriptions[made.id] = made
        return JSONResponse({"webhook_subscription": made.shown(with_secret=True)}, 201)

    @router.get("/webhook_subscriptions/{name}")
    async def get(name: str) -> dict[str, Any]:
        return {"webhook_subscription": subscription(name).shown()}

    @router.delete("/webhook_subscriptions/{name}", status_code=204)
    async def delete(name: str) -> None:
        del held.subscriptions[subscription(name).id]

    @router.post("/webhook_subscriptions/{name}/enable")
    async def enable(name: str) -> dict[str, Any]:
        found = subscription(name)
        found.temporarily_disabled, found.drops = False, 0
        return {"webhook_subscription": found.shown()}

    @router.post("/webhook_subscriptions/{name}/ping", status_code=202)
    async def ping(name: str) -> None:
        held.ping(subscription(name), emulator.clock())


def _subscription(given: Any) -> Subscription:
    asked = given if isinstance(given, dict) else {}
    method, events, wanted = asked.get("delivery_method"), asked.get("events"), asked.get("filter")
    if not isinstance(method, dict) or method.get("type") != "http_delivery_method":
        raise invalid("delivery_method.type must be 'http_delivery_method'")
    if not str(method.get("url", "")).startswith(("https://", "http://")):
        raise invalid("delivery_method.url is not an address")
    if not isinstance(events, list) or not events or not set(events) <= EVENT_TYPES:
        raise invalid("events must be a list of known event types")
    if not isinstance(wanted, dict):
        raise invalid("filter is missing")
    fields = {"service_reference": "service_id", "team_reference": "team_id", "account_reference": ""}
    kind = wanted.get("type")
    if kind not in fields or (fields[kind] and not wanted.get("id")):
        raise invalid("filter must be an account_reference, or a service_reference or team_reference with its id")
    of = {fields[kind]: str(wanted["id"])} if fields[kind] else {}
    return created(method["url"], frozenset(events), description=str(asked.get("description", "")), **of)


def _service(service: Service, *, with_keys: bool) -> dict[str, Any]:
    name = f"Events API v2 of {service.name}"
    integration = {
        "id": identifier("integration", name),
        "type": "events_api_v2_inbound_integration" + ("" if with_keys else "_reference"),
        "summary": name,
        **({"name": name, "integration_key": service.routing_key} if with_keys else {}),
    }
    return {
        **named("service", service.name),
        "description": service.description,
        "status": "active",
        "escalation_policy": reference("escalation_policy", service.policy),
        "teams": [reference("team", service.team)] if service.team else [],
        "integrations": [integration],
    }


def _policy(policy: Policy, emulator: Emulator) -> dict[str, Any]:
    schedules = {schedule.name for schedule in emulator.directory.schedules}
    rules = [
        {
            "id": identifier("escalation_rule", f"{policy.name}/{number}"),
            "escalation_delay_in_minutes": 30,
            "targets": [reference("schedule" if name in schedules else "user", name) for name in level],
        }
        for number, level in enumerate(policy.levels, start=1)
    ]
    return {**named("escalation_policy", policy.name), "escalation_rules": rules, "num_loops": 0, "teams": []}


def _schedule(schedule: Schedule) -> dict[str, Any]:
    users = [reference("user", name) for name in schedule.users]
    return {**named("schedule", schedule.name), "time_zone": "Etc/UTC", "users": users, "teams": []}


def _user(user: User) -> dict[str, Any]:
    return {**named("user", user.name), "email": user.email, "time_zone": "Etc/UTC", "role": "user", "teams": []}


def _window(window: Window) -> dict[str, Any]:
    return {
        **reference("maintenance_window", window.description),
        "type": "maintenance_window",
        "description": window.description,
        "start_time": second(window.start),
        "end_time": second(window.end),
        "services": [reference("service", name) for name in window.services],
    }


def _change(number: int, event: dict[str, Any], emulator: Emulator) -> dict[str, Any]:
    payload = event["payload"]
    return {
        "id": f"C{number:013d}",
        "type": "change_event",
        "summary": payload["summary"],
        "timestamp": payload.get("timestamp"),
        "source": payload.get("source"),
        "services": [reference("service", emulator.directory.service(event["routing_key"]).name)],
        "custom_details": payload.get("custom_details", {}),
    }


def _oncalls(emulator: Emulator) -> Iterator[dict[str, Any]]:
    held = emulator.directory
    schedules = {schedule.name: schedule for schedule in held.schedules}
    for policy in held.policies:
        for level, names in enumerate(policy.levels, start=1):
            for name in names:
                users = schedules[name].users[:1] if name in schedules else [name]
                for user in users:
                    yield {
                        "escalation_policy": reference("escalation_policy", policy.name),
                        "escalation_level": level,
                        "schedule": reference("schedule", name) if name in schedules else None,
                        "user": reference("user", user),
                        "start": None,
                        "end": None,
                    }
