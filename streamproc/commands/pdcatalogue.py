"""What PagerDuty knows of services, as entries of the service catalogue, and how it is merged with people's own. Pure.

People's fields win. What the last sync had written is kept beside the catalogue: a field that still says that is
PagerDuty's, and follows it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from streamproc.services import DEFAULT_DESTINATION, Catalogue
from streamproc.services import Service as Entry
from streamproc.sinks.pagerduty.resources import EscalationPolicy, MaintenanceWindow, OnCall, Schedule, Service, Team

PULLED = ("team", "owner", "destination")
"""Fields that come from PagerDuty: the team, the escalation policy, and the destination with the service's key."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an account holds that a catalogue wants to know."""

    services: tuple[Service, ...]
    policies: tuple[EscalationPolicy, ...]
    schedules: tuple[Schedule, ...]
    teams: tuple[Team, ...]
    on_calls: tuple[OnCall, ...]
    windows: tuple[MaintenanceWindow, ...]


def pulled(held: Holdings, ours: Catalogue, keys: Mapping[str, Collection[str]]) -> Catalogue:
    """Return PagerDuty's services as a catalogue, under the names that ours has for them.

    A service of ours is PagerDuty's of the same name or alias; else those whose destination leads to it; else it is
    new, under its name in small letters with dashes, and its own name as an alias.

    Args:
        held: what the account holds.
        ours: the catalogue as people have it.
        keys: the routing keys of each destination.
    """
    teams = {team.id: team.name for team in held.teams}
    policies = {policy.id: policy.name for policy in held.policies}
    found: dict[str, Entry] = {}
    for service in held.services:
        theirs = {one.integration_key.get_secret_value() for one in service.integrations} - {""}
        destination = next((name for name, own in keys.items() if theirs & set(own)), "")
        policy = service.escalation_policy
        entry = Entry(
            team=next((teams.get(team.id, team.summary) for team in service.teams), ""),
            owner="" if policy is None else policies.get(policy.id, policy.summary),
            destination="" if destination == DEFAULT_DESTINATION else destination,
        )
        for name in _names(service, destination, ours):
            alias = () if name in ours.services or name == service.name else (service.name,)
            found.setdefault(name, entry.model_copy(update={"aliases": alias}))
    return Catalogue(services=found)


def merged(ours: Catalogue, theirs: Catalogue, base: Catalogue) -> Catalogue:
    """Return our catalogue with PagerDuty's fields where people have none of their own.

    Args:
        ours: the catalogue as people have it.
        theirs: what `pulled` returned now.
        base: what it returned at the last sync.
    """
    services = dict(ours.services)
    for name, entry in theirs.services.items():
        if name not in services:
            services[name] = entry
            continue
        was = base.services.get(name, Entry())
        mine = services[name]
        update = {
            field: getattr(entry, field)
            for field in PULLED
            if getattr(entry, field) and getattr(mine, field) in ("", getattr(was, field))
        }
        services[name] = mine.model_copy(update=update)
    return Catalogue(services=services)


def remarks(held: Holdings, theirs: Catalogue, base: Catalogue) -> Iterator[str]:
    """Yield what a person should know, one sentence each."""
    on_call = {one.escalation_policy.id for one in held.on_calls if one.escalation_level == 1}
    for service in held.services:
        policy = service.escalation_policy
        if policy is not None and policy.id not in on_call:
            yield f"nobody is on call at level 1 of {policy.summary or policy.id}, which service {service.name} pages"
        if service.status == "disabled":
            yield f"service {service.name} is disabled in PagerDuty: its pages are dropped"
    for window in held.windows:
        named = ", ".join(service.summary or service.id for service in window.services)
        what, end = window.description or window.id, window.end_time.isoformat()
        yield f"maintenance until {end} ({what}): {named} do not page"
    for schedule in held.schedules:
        if not schedule.users:
            yield f"schedule {schedule.name} has no users"
    for name in base.services:
        if name not in theirs.services:
            yield f"service {name} is no longer in PagerDuty; it stays in the catalogue until you take it out"


def _names(service: Service, destination: str, ours: Catalogue) -> list[str]:
    """Return the catalogue's names of a service."""
    slug = re.sub(r"[^a-z0-9]+", "-", service.name.lower()).strip("-") or service.id.lower()
    for name in (service.name, slug):
        if ours.find(name) is not None:
            return [ours.name_of(name)]
    led = [name for name, entry in ours.services.items() if destination and entry.destination == destination]
    return led or [slug]
