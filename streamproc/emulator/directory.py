"""What an account holds beside incidents: services, people, policies, schedules. Settable, else a small one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, ConfigDict


class _Held(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class User(_Held):
    """A person."""

    name: str
    email: str


class Schedule(_Held):
    """Who is on call; the first user is so now, none where it is empty."""

    name: str
    users: list[str] = []


class Policy(_Held):
    """An escalation policy."""

    name: str
    levels: list[list[str]] = []
    """Names of the schedules and users of each level."""


class Service(_Held):
    """A service with one Events API v2 integration."""

    name: str
    routing_key: str
    policy: str = "Default"
    team: str = ""
    description: str = ""


class Window(_Held):
    """A maintenance window."""

    description: str
    start: datetime
    end: datetime
    services: list[str] = []


class Directory(_Held):
    """Everything by name; ids derive from the names."""

    users: list[User] = [
        User(name="Responder 1", email="responder-1@example.com"),
        User(name="Responder 2", email="responder-2@example.com"),
    ]
    teams: list[str] = ["Platform"]
    schedules: list[Schedule] = [Schedule(name="Primary", users=["Responder 1", "Responder 2"])]
    policies: list[Policy] = [Policy(name="Default", levels=[["Primary"], ["Responder 2"]])]
    services: list[Service] = []
    """Services beside those that are made for routing keys as they are heard of."""
    priorities: list[str] = ["P1", "P2", "P3", "P4", "P5"]
    windows: list[Window] = []

    def service(self, routing_key: str) -> Service:
        """Return the service of a routing key."""
        found = (service for service in self.services if service.routing_key == routing_key)
        name = f"Service of key ...{routing_key[-4:]}"
        return next(found, None) or Service(name=name, routing_key=routing_key)

    def services_with(self, heard: Iterable[str]) -> list[Service]:
        """Return all services, with those of the routing keys that were heard of."""
        known = {service.routing_key for service in self.services}
        return self.services + [self.service(key) for key in dict.fromkeys(heard) if key not in known]


def identifier(kind: str, name: str) -> str:
    """Return the id of something by its kind and name."""
    return f"P{hashlib.sha256(f'{kind}/{name}'.encode()).hexdigest()[:6].upper()}"
