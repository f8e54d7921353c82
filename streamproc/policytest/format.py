"""The format of a policy test file, strict: alerts in time, and what must come of them. See docs/policy-tests.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from streamproc.core.errors import Unusable
from streamproc.events.alert import Severity
from streamproc.events.feedback import Matcher
from streamproc.events.incident import Action
from streamproc.matching import fault_of, parse
from streamproc.stages.escalate import Reason

BEGINS = datetime(2026, 1, 5, 9, tzinfo=UTC)
"""Moment of offset 0 where a file names none: a Monday morning."""
_SPAN = r"(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?(?:\d+ms)?"
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
"""Milliseconds, as in Prometheus: a year has 365 days."""
_LONGEST = timedelta(days=366)


def span(given: object) -> timedelta:
    """Return the span that a person wrote as promtool reads it: `90s`, `1h30m`, `0`; negative ones begin with `-`.

    Raises:
        ValueError: it is none, or longer than a year.
    """
    text = str(given).strip()
    bare = text.removeprefix("-")
    if bare != "0" and (not bare or re.fullmatch(_SPAN, bare) is None):
        raise ValueError(f"{text!r} is no span of time; write for example 30s, 5m, 1h30m or 0")
    parts = re.findall(r"(\d+)(ms|[smhdwy])", bare)
    found = timedelta(milliseconds=sum(int(number[:12]) * _UNITS[unit] for number, unit in parts))
    if found > _LONGEST:
        raise ValueError(f"{text!r} is longer than a year")
    return -found if text.startswith("-") else found


def written(offset: timedelta) -> str:
    """Return a span as `span` reads it."""
    left, parts = abs(offset) // timedelta(milliseconds=1), []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if offset < timedelta(0) and parts else "") + ("".join(parts) or "0s")


def _not_negative(given: object) -> timedelta:
    found = span(given)
    if found < timedelta(0):
        raise ValueError(f"{given} lies before the beginning")
    return found


def _longer_than_nothing(given: object) -> timedelta:
    found = _not_negative(given)
    if not found:
        raise ValueError("it must be longer than nothing")
    return found


def _text(given: object) -> str:
    if isinstance(given, bool) or given is None or isinstance(given, Mapping | list):
        raise ValueError(f"{given!r} is no text; put it into quotes")
    return str(given)


def _wanted(given: object) -> str:
    text = _text(given)
    if text.startswith("~") and (wrong := fault_of(Matcher(name="", op="=~", value=text[1:]))):
        raise ValueError(wrong)
    return text


def _matcher(given: object) -> Matcher:
    try:
        return parse(_text(given))
    except Unusable as error:
        raise ValueError(str(error)) from None


_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^-?(0|{_SPAN})$"})
_SPOKEN = PlainSerializer(written, return_type=str)
Offset = Annotated[timedelta, BeforeValidator(_not_negative), _SPOKEN, _SCHEMA]
"""From the beginning of the case."""
Signed = Annotated[timedelta, BeforeValidator(span), _SPOKEN, _SCHEMA]
Length = Annotated[timedelta, BeforeValidator(_longer_than_nothing), _SPOKEN, _SCHEMA]
Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number"]})]
Wanted = Annotated[str, BeforeValidator(_wanted), WithJsonSchema({"type": ["string", "number"]})]
"""The exact text; or, after `~`, a regular expression (RE2) for the whole text."""
Labels = dict[str, Text]
Wishes = dict[str, Wanted]
"""Labels that an alert must have; it may have others."""
Matching = Annotated[Matcher, BeforeValidator(_matcher), WithJsonSchema({"type": "string"})]


class Strict(BaseModel):
    """An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_by_name=False)


class Silence(Strict):
    """A silence, or a maintenance window."""

    matchers: tuple[Matching, ...] = Field(min_length=1)
    """As in Alertmanager: `service="db"`, `alertname=~"Disk.*"`. All must hold."""
    lasts: Length = Field(alias="for")
    """How long."""
    id: str = "silence"
    """Name for `expire` and `muted: {by: ...}`."""
    maintenance: bool = False
    """A planned maintenance window."""


WHAT = ("alert", "resolve", "body", "silence", "expire", "acknowledge", "close")


class Event(Strict):
    """Something that happens: exactly one of alert, resolve, body, silence, expire, acknowledge, close."""

    at: Offset = timedelta(0)
    """When; at the beginning without one. At one moment silences count first, then alerts, then what people do."""
    alert: Labels | None = None
    """Labels of an alert that fires."""
    annotations: Labels = {}
    """Annotations of the alert."""
    group: str = ""
    """Alertmanager's group of the alert; alerts of one group belong together."""
    starts: Signed | None = None
    """Offset of the alert's `startsAt`, may be before the beginning; when it was first posted without one."""
    resolve: Wishes | None = None
    """Resolves every alert of the case that fires and has these labels."""
    source: Literal["alertmanager", "datadog", "generic"] | None = None
    """Whose `body` it is; its shape tells without one."""
    body: dict[str, Any] | list[Any] | None = None
    """A request as the producer posts it."""
    every: Length | None = None
    """The alert or body is posted again so often, up to `until`."""
    until: Offset | None = None
    """Offset after which it is not posted again."""
    silence: Silence | None = None
    """A silence that somebody adds."""
    expire: str | None = None
    """Id of a silence that somebody ends."""
    acknowledge: Wishes | None = None
    """Somebody acknowledges the incident that holds an alert with these labels."""
    close: Wishes | None = None
    """Somebody resolves that incident at PagerDuty."""
    by: str = "somebody"
    """Who acknowledges or closes."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = [name for name in WHAT if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"it has {' and '.join(given)}" if given else "it has none"
            raise ValueError(f"an event is exactly one of {', '.join(WHAT)}; {found}")
        (what,) = given
        told = self.model_fields_set
        for name, goes_with in (
            ("annotations", ("alert",)),
            ("group", ("alert",)),
            ("starts", ("alert",)),
            ("source", ("body",)),
            ("every", ("alert", "body")),
            ("by", ("acknowledge", "close")),
        ):
            if name in told and what not in goes_with:
                raise ValueError(f"`{name}` goes with {' or '.join(goes_with)}, not with {what}")
        if (self.every is None) is not (self.until is None):
            raise ValueError("`every` and `until` go together: every: 1m, until: 10m")
        if self.until is not None and self.until < self.at:
            raise ValueError(f"`until` ({written(self.until)}) lies before `at` ({written(self.at)})")
        if self.alert is not None and not self.alert:
            raise ValueError("an alert has labels, at least `alertname`")
        return self


class Sent(Strict):
    """Which pages, updates, tickets or resolves are meant; all that is said must hold."""

    service: Wanted | None = None
    """Service of the incident."""
    severity: Severity | None = None
    """Severity that was said."""
    destination: Wanted | None = None
    """Name of the destination in the settings."""
    title: Wanted | None = None
    """The first line that a responder reads; a regular expression after `~`."""
    reason: Reason | None = None
    """Why it was said."""
    alert: Wishes = {}
    """The incident holds an alert with these labels by then."""


class Together(Strict):
    """Which incident is meant."""

    alerts: tuple[Wishes, ...] | None = None
    """Its alerts by their labels: each is in it, and it has no other."""
    root: Wishes | None = None
    """Labels of its root alert."""
    service: Wanted | None = None
    severity: Severity | None = None
    """The highest that it had."""
    title: Wanted | None = None
    resolved: bool | None = None
    """Whether it is over at the end."""


class Stands(Strict):
    """Which incidents are meant, by a decision that stood."""

    alert: Wishes = {}
    """The incident holds an alert with these labels by then."""
    service: Wanted | None = None
    action: Action | None = None
    """page, ticket, hold or none."""
    reason: Reason | None = None
    """Why."""


class Waits(Strict):
    """Which incidents are meant that are held back."""

    alert: Wishes = {}
    """The incident holds an alert with these labels by then."""
    service: Wanted | None = None
    reason: Reason | None = None
    """Why."""


class Muted(Strict):
    """Which alerts are meant that are muted."""

    alert: Wishes = {}
    """Labels of the alert."""
    by: str | None = None
    """Id of the silence."""


SUBJECTS = ("page", "update", "ticket", "resolve", "incident", "decision", "held", "muted")
SENT = frozenset({"page", "update", "ticket", "resolve"})
"""Subjects that happen at a moment; the others stand for a while."""
EXACT = SENT | {"incident"}
"""Subjects of which exactly one is meant where no number is said; of the others at least one."""


class Expectation(Strict):
    """What must come: exactly one subject, or that subject with `no_` before it where none may come."""

    page: Sent | None = None
    """Somebody is called."""
    no_page: Sent | None = None
    update: Sent | None = None
    """More is said of a page that is open; nobody is called."""
    no_update: Sent | None = None
    ticket: Sent | None = None
    """A ticket."""
    no_ticket: Sent | None = None
    resolve: Sent | None = None
    """A resolve is sent."""
    no_resolve: Sent | None = None
    incident: Together | None = None
    """Alerts that are together."""
    no_incident: Together | None = None
    decision: Stands | None = None
    """A decision that stood."""
    no_decision: Stands | None = None
    held: Waits | None = None
    """An incident that is held back for a while."""
    no_held: Waits | None = None
    muted: Muted | None = None
    """An alert that a silence mutes."""
    no_muted: Muted | None = None
    at: Offset | None = None
    """When it comes, to the second; of what stands (decision, held, muted): the moment that is looked at."""
    between: tuple[Offset, Offset] | None = None
    """Between which offsets, both included."""
    count: int | None = Field(default=None, ge=0)
    """Exactly so many. Without a number: one page, update, ticket, resolve, incident; at least one of the others."""
    at_least: int | None = Field(default=None, ge=1)
    """So many or more."""
    at_most: int | None = Field(default=None, ge=0)
    """So many or fewer."""

    @model_validator(mode="before")
    @classmethod
    def _takes_nothing_as_any(cls, given: Any) -> Any:
        """Read `- no_page:` with nothing behind it as any page."""
        if not isinstance(given, dict):
            return given
        return {
            key: {} if said is None and str(key).removeprefix("no_") in SUBJECTS else said
            for key, said in given.items()
        }

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        names = [name for each in SUBJECTS for name in (each, f"no_{each}")]
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"it has {' and '.join(given)}" if given else "it has none"
            raise ValueError(f"an expectation has exactly one of {', '.join(SUBJECTS)}, or no_ and that; {found}")
        counted = [name for name in ("count", "at_least", "at_most") if getattr(self, name) is not None]
        if counted and given[0].startswith("no_"):
            raise ValueError(f"`{given[0]}` already says how many: leave `{counted[0]}` out")
        if "count" in counted and len(counted) > 1:
            raise ValueError(f"`count` is exact: leave `{counted[1]}` out")
        if self.at is not None and self.between is not None:
            raise ValueError("say `at` or `between`, not both")
        if self.between is not None and self.between[1] < self.between[0]:
            raise ValueError("`between` has its two offsets in order of time")
        return self

    @property
    def subject(self) -> str:
        """What is expected, without `no_`."""
        return next(name for name in SUBJECTS if self._told(name) is not None)

    @property
    def wanted(self) -> Sent | Together | Stands | Waits | Muted:
        """Which of them are meant."""
        found: Sent | Together | Stands | Waits | Muted = self._told(self.subject)
        return found

    def _told(self, name: str) -> Any:
        given = getattr(self, name)
        return getattr(self, f"no_{name}") if given is None else given

    @property
    def bounds(self) -> tuple[int, int | None]:
        """Least and largest number, None for no largest."""
        if getattr(self, self.subject) is None:
            return 0, 0
        if self.count is not None:
            return self.count, self.count
        if self.at_least is not None or self.at_most is not None:
            return self.at_least or 0, self.at_most
        return 1, (1 if self.subject in EXACT else None)


class Case(Strict):
    """One story, and what must come of it."""

    name: str = Field(min_length=1)
    """What is promised, as a sentence."""
    about: str = ""
    """Where it comes from, or why it matters."""
    begins: AwareDatetime | None = None
    """Moment of offset 0; of the file without one."""
    until: Offset | None = None
    """What comes later is not looked at; two hours after the last event without one."""
    events: tuple[Event, ...] = Field(min_length=1)
    """What happens."""
    expect: tuple[Expectation, ...] = Field(min_length=1)
    """What must come of it."""


class Defaults(Strict):
    """What every alert of the file has unless it says otherwise."""

    labels: Labels = {}
    annotations: Labels = {}


class Suite(Strict):
    """A file of policy tests."""

    config: str | None = None
    """Settings file, relative to this file; `--config` of the command stands over it."""
    settings: dict[str, Any] = {}
    """Settings over those of the file."""
    services: str | dict[str, Any] | None = None
    """The service catalogue: a file, relative to this one, or what stands under `services` in one."""
    defaults: Defaults = Defaults()
    """What every alert has unless it says otherwise."""
    begins: AwareDatetime = BEGINS
    """Moment of offset 0."""
    cases: tuple[Case, ...] = Field(min_length=1)
    """The cases; each is played alone, from an empty pipeline."""
