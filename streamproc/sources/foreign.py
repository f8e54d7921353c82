"""The shared model of the sources: an alert in its producer's terms, a refused one, and what a source is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from streamproc.events.alert import Link, Status


class Refused(StrEnum):
    """Why a body, or one alert in it, cannot be used: the `reason` of Rejected and of dead letters."""

    NOT_JSON = "not_json"
    UNKNOWN_SOURCE = "unknown_source"
    UNKNOWN_SHAPE = "unknown_shape"
    WRONG_SHAPE = "wrong_shape"
    TOO_MANY_ALERTS = "too_many_alerts"
    TOO_DEEP = "too_deep"
    NOT_AN_OBJECT = "not_an_object"
    WRONG_TYPE = "wrong_type"
    NO_LABELS = "no_labels"
    NO_NAME = "no_name"
    NO_IDENTITY = "no_identity"
    BAD_STATUS = "bad_status"
    MANY_REFUSED = "many_refused"


class ForeignAlert(NamedTuple):
    """One alert as its producer tells it. Texts are uncut, times are UTC."""

    source: str
    fingerprint: str
    alert_id: str
    status: Status
    name: str
    summary: str
    description: str
    severity_text: str
    """What the producer says, verbatim; empty where it says nothing."""
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None
    at: datetime
    group: str
    links: tuple[Link, ...]
    expires: bool
    """False where silence says nothing, or where no start was given: then repeats cannot be told from a new one."""
    truncated: int = 0
    """How many alerts of the same group the producer left out of this body."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One bad alert among many. `body` is a payload with only that alert, so that a retry reads it again."""

    reason: str
    detail: str
    body: bytes
    """Empty where it is nested too deep to be written again: then the whole record stands in for it."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the door needs to know of a body: how many alerts, and what keeps records of a group in order."""

    count: int
    group: str


Reading = tuple[list[ForeignAlert], list[Refusal]]


@dataclass(frozen=True, slots=True)
class Source:
    """How one producer's payloads are read. All functions take parsed JSON and are pure."""

    name: str
    read: Callable[[Any, datetime], Reading]
    """`(body, now)`; raises Rejected where the body as a whole is unusable."""
    looks_like: Callable[[Any], bool]
    """Whether a body without a named source is one of this producer."""
    envelope: Callable[[Any], Envelope]
    """The cheap look at the door, no alert is validated; raises Rejected likewise."""
