"""Mapping rules: what an alert shall be called where its labels alone do not say. Conditions are CEL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from streamproc.core.step import StageConfig
from streamproc.events.alert import Severity

if TYPE_CHECKING:
    import cel

FIELDS = (
    *("source", "name", "status", "severity", "severity_text", "summary", "description", "group"),
    *("environment", "cluster", "service", "team", "resource", "labels", "annotations"),
)
"""What `alert` has in a condition; all are texts but labels and annotations, which are maps of texts."""
_NAMED = re.compile(r"\balert\s*\.\s*(\w+)")
_WHOLE = re.compile(r"\balert\b(?!\s*\.\s*\w)")
_LABEL = re.compile(r"\b(?:labels|annotations)\s*(?:\.\s*(\w+)\b(?!\s*\()|\[\s*[\"']([^\"'\\]+)[\"']\s*\])")
_MAPS = re.compile(r"\b(?:labels|annotations)\b")
_QUOTED = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'")
_ERRORS = (TypeError, ValueError, RuntimeError, ArithmeticError)
"""What a condition may raise beside KeyError, which is a label that is not there."""

Name = Annotated[str, Field(min_length=1)]


class Set(StageConfig):
    """What a rule sets; texts are taken as they stand."""

    severity: Severity | None = None
    """critical, error, warning or info."""
    environment: Name | None = None
    """Environment, for example `prod`."""
    cluster: Name | None = None
    """Cluster."""
    service: Name | None = None
    """Service, as the service catalogue names it."""
    team: Name | None = None
    """Team."""
    resource: Name | None = None
    """What is broken: a host, a pod, a disk."""
    summary: Name | None = None
    """The line that a responder reads first."""

    @model_validator(mode="after")
    def _not_empty(self) -> Set:
        if not self.replaced:
            message = f"sets nothing; it may set {', '.join(type(self).model_fields)}"
            raise ValueError(message)
        return self

    @cached_property
    def replaced(self) -> Mapping[str, Any]:
        """What it sets, by name."""
        return self.model_dump(exclude_none=True)


class Rule(StageConfig):
    """A mapping rule: where `when` holds, `set` replaces what the labels say. Later rules win over earlier ones."""

    name: Name
    """By which the rule is known in reason chains and errors."""
    when: Name
    """A CEL expression over `alert`, for example `alert.labels.team == "db" && alert.severity == "critical"`. It sees
    the alert as its labels say, before any rule. A label that is not there means no match."""
    set: Set
    """What to set."""

    @model_validator(mode="after")
    def _usable(self) -> Rule:
        unknown = sorted(self.fields - set(FIELDS))
        if _WHOLE.search(_QUOTED.sub("", self.when)):
            message = f"rule {self.name!r}: name what you want of the alert, as in `alert.name` or `alert.labels.team`"
            raise ValueError(message)
        if unknown:
            message = f"rule {self.name!r}: `alert` has no {', '.join(unknown)}; it has {', '.join(FIELDS)}"
            raise ValueError(message)
        try:
            found = self.program.execute({"alert": self._sample()})
        except KeyError:
            return self
        except _ERRORS as error:
            message = f"rule {self.name!r}: `when` cannot be used: {str(error).splitlines()[0]}"
            raise ValueError(message) from error
        if not isinstance(found, bool):
            message = f"rule {self.name!r}: `when` gives {found!r}, not true or false"
            raise ValueError(message)  # noqa: TRY004  pydantic reports a ValueError with its place in the file
        return self

    def _sample(self) -> dict[str, Any]:
        """Return an alert that has every label the condition names and says nothing: the condition must bear it."""
        named = dict.fromkeys(self.names or (), "")
        return {**dict.fromkeys(FIELDS, ""), "labels": named, "annotations": named}

    @cached_property
    def fields(self) -> frozenset[str]:
        """Fields of the alert that the condition reads."""
        return frozenset(_NAMED.findall(_QUOTED.sub("", self.when)))

    @cached_property
    def names(self) -> frozenset[str] | None:
        """Labels and annotations that the condition reads by name; None where it may read any."""
        if _MAPS.search(_QUOTED.sub("", _LABEL.sub("", self.when))):
            return None
        return frozenset(plain or quoted for plain, quoted in _LABEL.findall(self.when))

    @cached_property
    def program(self) -> cel.Program:
        """The compiled condition.

        Raises:
            ValueError: it is no CEL.
        """
        import cel  # noqa: PLC0415  loads a terminal toolkit, a fifth of a second that only rules are worth

        return cel.compile(self.when)


@dataclass(frozen=True)
class RuleSet:
    """The rules of a configuration, in order, and what they read: handing a text to CEL takes about 2 us."""

    rules: tuple[Rule, ...]

    def apply(self, said: dict[str, Any], alert: Mapping[str, Any]) -> tuple[list[str], int]:
        """Let the rules replace what is said of an alert.

        Args:
            said: severity, service and the other things that a rule may set; changed in place.
            alert: the other `FIELDS`.

        Returns:
            Names of the rules that matched, and how many could not judge this alert (they count as no match).
        """
        import cel  # noqa: PLC0415  as above

        context = cel.Context(variables={"alert": self._seen({**alert, **said, "severity": str(said["severity"])})})
        matched: list[str] = []
        failed = 0
        for rule in self.rules:
            try:
                holds = rule.program.execute(context)
            except KeyError:
                continue
            except _ERRORS:
                failed += 1
                continue
            if holds is True:
                said.update(rule.set.replaced)
                matched.append(rule.name)
        return matched, failed

    @cached_property
    def _fields(self) -> frozenset[str]:
        return frozenset().union(*(rule.fields for rule in self.rules))

    @cached_property
    def _names(self) -> frozenset[str] | None:
        found = [rule.names for rule in self.rules]
        return None if None in found else frozenset().union(*(names for names in found if names))

    def _seen(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        seen = {name: alert[name] for name in self._fields}
        for name in ("labels", "annotations"):
            if self._names is not None and name in seen:
                seen[name] = {label: seen[name][label] for label in self._names if label in seen[name]}
        return seen
