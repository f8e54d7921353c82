"""Incident -> Incident: what the service catalogue knows goes with it.

Third stage of node decide. Owns no rows; reads the activated catalogue. A service that the catalogue does not know is
paged at the catch-all destination, and counted.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from streamproc.core.step import Stage, StageConfig, Step
from streamproc.core.table import Rows
from streamproc.events.incident import Context, Incident
from streamproc.services import CATALOGUE, DEFAULT_DESTINATION, Catalogue
from streamproc.state import pins_of


class Config(StageConfig):
    """How much of the catalogue goes with an incident."""

    most_listed: int = Field(default=50, ge=1)
    """So many dependencies and so many dependants are named, in order of the alphabet."""


class Reason(StrEnum):
    """What is known of the service of the root alert."""

    KNOWN = "known"
    UNKNOWN_SERVICE = "unknown_service"
    """The catalogue does not have it: the catch-all destination takes its pages."""
    NO_SERVICE = "no_service"
    """The alert names none."""
    NO_CATALOGUE = "no_catalogue"
    """None has been activated."""


def step(event: Incident, rows: Rows, _now: datetime, config: Config) -> Step:
    """Fill the incident's context."""
    catalogue = rows.artifact(CATALOGUE)
    reason = decide(event.service, catalogue)
    context = Context(known=False, destination=DEFAULT_DESTINATION)
    if catalogue is not None:
        context = _context(event, catalogue, config).model_copy(
            update={"catalogue_version": rows.version(CATALOGUE.name)}
        )
    figures = {"service": event.service, "tier": context.tier, "destination": context.destination}
    return Step({}, reason, (event.model_copy(update={"context": context}),), figures=figures)


def decide(service: str, catalogue: Catalogue | None) -> Reason:
    """Return what is known of a service. Total, no side effects."""
    if catalogue is None:
        return Reason.NO_CATALOGUE
    if not service:
        return Reason.NO_SERVICE
    return Reason.UNKNOWN_SERVICE if catalogue.find(service) is None else Reason.KNOWN


def _context(incident: Incident, catalogue: Catalogue, config: Config) -> Context:
    alerting = {catalogue.name_of(service) for service in (*incident.services, incident.service) if service}
    needed = {name for service in alerting for name in catalogue.dependencies(service)} & alerting
    needing = {name for service in alerting for name in catalogue.dependants(service)}
    around = Context(
        known=False,
        depends_on=tuple(sorted(needed)[: config.most_listed]),
        dependants=tuple(sorted(needing)[: config.most_listed]),
        destination=DEFAULT_DESTINATION,
    )
    service = catalogue.find(incident.service)
    if service is None:
        return around
    return around.model_copy(
        update={
            "known": True,
            "owner": service.owner or service.team,
            "tier": service.tier,
            "impact": service.impact,
            "runbook": service.runbook,
            "dashboards": service.links,
            "destination": service.destination or DEFAULT_DESTINATION,
            "second_destination": service.second_destination,
        }
    )


STAGE = Stage("enrich", step, takes=(Incident,), reasons=Reason, config=Config, reads=(CATALOGUE,), pins=pins_of)
