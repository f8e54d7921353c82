"""A change of the settings and of the service catalogue, laid over the files as they stand. Pure.

Comments of the files stay. What comes out is a whole settings file: `backtest --against` and `shadow start` take it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a proposal changes."""

    rules: tuple[Mapping[str, Any], ...] = ()
    """Mapping rules that come after those of `normalise.rules`."""
    settings: Mapping[Place, Any] = field(default_factory=dict)
    """Other settings by their place."""
    services: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of services of the catalogue; `depends_on` is added to, the others are set."""
    lifted: frozenset[str] = frozenset()
    """Ids of policies of the log that no longer stand."""
    dropped: frozenset[str] = frozenset()
    """Keys of `policies` in the settings that go."""

    def fragment(self) -> dict[str, Any]:
        """Return what it adds to the settings, as they are nested there; the catalogue's part as `services.yaml`."""
        found: dict[str, Any] = {}
        if self.rules:
            found["normalise"] = {"rules": [dict(rule) for rule in self.rules]}
        for place, value in self.settings.items():
            _put(found, place, value)
        if self.services:
            found["services.yaml"] = {"services": {name: dict(told) for name, told in self.services.items()}}
        if self.dropped or self.lifted:
            found["without policies"] = sorted(self.dropped | self.lifted)
        return found


def together(changes: Iterable[Change]) -> Change:
    """Return several changes as one; of two that set the same the later one counts, of numbers the larger."""
    rules: list[Mapping[str, Any]] = []
    settings: dict[Place, Any] = {}
    services: dict[str, dict[str, Any]] = {}
    lifted: set[str] = set()
    dropped: set[str] = set()
    for change in changes:
        rules.extend(rule for rule in change.rules if rule not in rules)
        for place, value in change.settings.items():
            settings[place] = max(value, settings.get(place, value))
        for name, told in change.services.items():
            _join(services.setdefault(name, {}), told)
        lifted |= change.lifted
        dropped |= change.dropped
    return Change(tuple(rules), settings, services, frozenset(lifted), frozenset(dropped))


def settings_text(present: str, change: Change, services: str, head: str) -> str:
    """Return the settings file with a change.

    Args:
        present: the text of the present one; it can be read.
        change: what changes.
        services: path of the service catalogue that is to count; empty for none.
        head: comment that stands on top.
    """
    given = _loaded(present)
    for place, value in change.settings.items():
        _put(given, place, value)
    if change.rules:
        section = _section(given, "normalise")
        section["rules"] = [*(section.get("rules") or ()), *(dict(rule) for rule in change.rules)]
    for name in sorted(change.dropped):
        del given["policies"][name]
    if services:
        given["services"] = services
    return _commented(head) + _dumped(given)


def services_text(present: str, change: Change, head: str) -> str:
    """Return the service catalogue with a change; `present` is the text of the present one, empty for none."""
    given = _loaded(present)
    entries = _section(given, "services")
    for name, told in change.services.items():
        _join(_section(entries, name), told)
    return _commented(head) + _dumped(given)


def _join(entry: Any, told: Mapping[str, Any]) -> None:
    for key, value in told.items():
        if key == "depends_on":
            known = entry.get(key) or []
            entry[key] = [*known, *(each for each in value if each not in known)]
        else:
            entry[key] = value


def _put(given: Any, place: Place, value: Any) -> None:
    *sections, name = place
    for section in sections:
        given = _section(given, section)
    given[name] = value


def _section(given: Any, name: str) -> Any:
    """Return a section to be changed, made where all of it is commented out."""
    if given.get(name) is None:
        given[name] = {}
    return given[name]


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _loaded(text: str) -> Any:
    """Return a file to be changed; one of comments only loses them."""
    found = _yaml().load(text)
    return {} if found is None else found


def _dumped(given: Any) -> str:
    held = io.StringIO()
    _yaml().dump(given, held)
    return held.getvalue()


def _commented(head: str) -> str:
    return "".join(f"# {line}\n" for line in head.splitlines())


def condition(name: str, services: Iterable[str]) -> str:
    """Return the CEL condition of a mapping rule for one alert rule at some services; at all of them for none."""
    found = f"alert.name == {literal(name)}"
    named = list(services)
    if not named:
        return found
    if len(named) == 1:
        return f"{found} && alert.service == {literal(named[0])}"
    return f"{found} && alert.service in [{', '.join(map(literal, named))}]"


def literal(text: str) -> str:
    """Return a text as CEL writes it; JSON's escapes are among CEL's."""
    return json.dumps(text, ensure_ascii=False)
