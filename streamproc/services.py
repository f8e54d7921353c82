"""The service catalogue: who owns what, what it needs, and where its pages go. The model of `services.yaml`."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from streamproc.core.errors import Unusable
from streamproc.core.table import ArtifactKind
from streamproc.events.alert import Link

Category = Literal["infrastructure", "application", "security", "business"]
DEFAULT_DESTINATION = "default"
"""Where the pages of a service go that is unknown, or that names no destination."""
MOST_FAULTS = 5
"""Faults that one error message names."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Dashboard(_Entry):
    """A dashboard that a responder may want to open."""

    href: str = Field(min_length=1)
    """Address."""
    text: str = ""
    """What the link says; empty for the address itself."""


class Service(_Entry):
    """What is known of one service."""

    owner: str = ""
    """Who answers for it; the team where empty."""
    team: str = ""
    """The team that runs it."""
    tier: int | None = Field(default=None, ge=1, le=5)
    """How much hangs on it: 1 is what the business cannot do without."""
    impact: str = ""
    """What its failure means for the business, in words for a responder."""
    depends_on: tuple[str, ...] = ()
    """Services that it needs, by name; they need not be in the catalogue themselves."""
    runbook: str = ""
    """Address of its runbook."""
    dashboards: tuple[Dashboard, ...] = ()
    """Dashboards to look at."""
    destination: str = ""
    """Destination of its pages, a name of the settings; empty for `default`."""
    second_destination: str = ""
    """Destination that is told where nobody acknowledges; empty for none."""
    category: Category | None = None
    """Category of its incidents; empty to go by the words of the alert."""
    aliases: tuple[str, ...] = ()
    """Other names that alerts know it by."""

    @property
    def links(self) -> tuple[Link, ...]:
        """The dashboards as links."""
        return tuple(Link(href=board.href, text=board.text) for board in self.dashboards)


def _empty(value: object) -> object:
    return {} if value is None else value


FAR = 4
"""Edges beyond which services count as unconnected: alerts three apart are hardly ever of one trouble."""
DEEP = 2
"""Edges within which a cause is looked for; more made its ranking no better on public incidents."""
MOST_KEPT = 200_000
"""Distances that a catalogue keeps at a time: where all need one database, each service is near every other."""


class Catalogue(_Entry):
    """All services by name. A topology edge goes from a service to what it depends on."""

    services: dict[str, Annotated[Service, BeforeValidator(_empty)]] = {}
    """Services by the name that alerts carry in their `service`."""

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        seen = set(self.services)
        for name, service in self.services.items():
            for alias in service.aliases:
                if alias in seen:
                    message = f"alias {alias} of service {name} is already the name of a service"
                    raise ValueError(message)
                seen.add(alias)
        return self

    @classmethod
    def of(cls, body: str) -> Self:
        """Return the catalogue of a JSON text.

        Raises:
            Unusable: the text is not JSON, or not of this schema; the message names the places.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {_said(fault)}".lstrip(": ") for fault in error.errors()]
            more = f" (and {len(faults) - MOST_FAULTS} more)" if len(faults) > MOST_FAULTS else ""
            message = f"the service catalogue cannot be used: {'; '.join(faults[:MOST_FAULTS])}{more}"
            raise Unusable(message) from error

    def name_of(self, service: str) -> str:
        """Return the catalogue's name of a service, which an alias stands for; any other name is returned as it is."""
        return self._canonical.get(service, service)

    def find(self, service: str) -> Service | None:
        """Return what is known of a service by name or alias, or None."""
        return self.services.get(self.name_of(service))

    def dependencies(self, service: str) -> frozenset[str]:
        """Return the services that a service needs, by the catalogue's names."""
        return self._needs.get(self.name_of(service), frozenset())

    def dependants(self, service: str) -> frozenset[str]:
        """Return the services that need a service, by the catalogue's names."""
        return self._needed.get(self.name_of(service), frozenset())

    def distances(self, service: str) -> Mapping[str, int]:
        """Return the services within `FAR` edges of a service in either direction, with the number of edges between.

        By the catalogue's names, and itself too. Empty where the catalogue knows nothing of it.
        """
        name = self.name_of(service)
        if not self.knows(name):  # alerts may name anything, and nothing is kept of it
            return {}
        found = self._distances.get(name)
        if found is None:
            found = self._spread(name, FAR, lambda at: self.dependencies(at) | self.dependants(at))
            if len(found) + sum(map(len, self._distances.values())) > MOST_KEPT:
                self._distances.clear()
            self._distances[name] = found
        return found

    def knows(self, service: str) -> bool:
        """Return whether a service is in the catalogue, or is needed by one that is."""
        name = self.name_of(service)
        return name in self.services or name in self._needed

    def needs(self, service: str) -> Mapping[str, int]:
        """Return what a service depends on within `DEEP` edges, as `distances` does."""
        name = self.name_of(service)
        if not self.knows(name):
            return {}
        if name not in self._deep:
            self._deep[name] = self._spread(name, DEEP, self.dependencies)
        return self._deep[name]

    def _spread(self, name: str, most: int, edges: Callable[[str], frozenset[str]]) -> Mapping[str, int]:
        found, frontier = {name: 0}, [name]
        for distance in range(1, most + 1):
            frontier = sorted({near for at in frontier for near in edges(at)} - found.keys())
            found.update(dict.fromkeys(frontier, distance))
        return found

    def names(self, word: str) -> bool:
        """Return whether a lower-case word is a name or an alias of a service, whatever its case there."""
        return word in self._words

    def written(self, name: str) -> Iterator[str]:
        """Yield every way in which alerts may name a service: its name, and its aliases."""
        yield name
        service = self.services.get(name)
        if service is not None:
            yield from service.aliases

    @cached_property
    def _distances(self) -> dict[str, Mapping[str, int]]:
        return {}

    @cached_property
    def _deep(self) -> dict[str, Mapping[str, int]]:
        return {}

    @cached_property
    def _canonical(self) -> dict[str, str]:
        return {alias: name for name, service in self.services.items() for alias in service.aliases}

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(name.lower() for name in (*self.services, *self._canonical))

    @cached_property
    def _needs(self) -> dict[str, frozenset[str]]:
        return {
            name: frozenset(self.name_of(needed) for needed in service.depends_on)
            for name, service in self.services.items()
        }

    @cached_property
    def _needed(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for name, needs in self._needs.items():
            for needed in needs:
                found.setdefault(needed, set()).add(name)
        return {needed: frozenset(names) for needed, names in found.items()}


def _said(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "no such key"
    return str(fault["msg"]).removeprefix("Value error, ")


CATALOGUE = ArtifactKind("catalogue", decode=Catalogue.of)
"""The activated version of the catalogue."""


def problems(catalogue: Catalogue, destinations: Collection[str]) -> list[str]:
    """Return what a person should know about a catalogue that can be used, one sentence each, in order of services.

    Args:
        catalogue: the catalogue.
        destinations: names of the configured destinations, those that have a routing key.
    """
    found = [said for name in catalogue.services for said in _doubts(name, catalogue, destinations)]
    try:
        graphlib.TopologicalSorter({name: catalogue.dependencies(name) for name in catalogue.services}).prepare()
    except graphlib.CycleError as error:
        circle = " > ".join(reversed(error.args[1]))
        found.append(f"services depend on one another in a circle: {circle}")
    return found


def _doubts(name: str, catalogue: Catalogue, destinations: Collection[str]) -> Iterator[str]:
    service = catalogue.services[name]
    for needed in service.depends_on:
        if catalogue.find(needed) is None:
            yield f"service {name} depends on {needed}, which is not in the catalogue"
    if not service.destination:
        yield f"service {name} names no destination: its pages go to `{DEFAULT_DESTINATION}`"
    for destination in (service.destination or DEFAULT_DESTINATION, service.second_destination):
        if destination and destination not in destinations:
            yield f"destination {destination} of service {name} has no routing key"
