"""How the sources read JSON of producers that nobody here controls: tolerant of wording, firm about shape and size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from streamproc.core.errors import Rejected
from streamproc.events.alert import Link, Status
from streamproc.sources.foreign import ForeignAlert, Reading, Refusal, Refused

MAX_ALERTS = 20_000
"""Most alerts in one body: 5 MB of them at 250 bytes each, less than any real one has."""
MAX_REFUSALS = 100
"""Most dead letters that one body makes; the refused alerts beyond share one more."""
REFUSED_BYTES = 4_000_000
"""Bytes of single dead letters that one body makes before the rest share one."""
AHEAD = timedelta(hours=1)
"""How far a producer's clock may run ahead; a later moment would hide all that follows it, so it counts as none."""
YEARS = range(2000, 9000)
"""Years that a moment can be in: `0001-01-01` and 1970 are how Go and others write "none"."""
MILLISECONDS = 100_000_000_000
"""An epoch number from here on is in milliseconds (in seconds it would be the year 5138)."""


def read_each(
    listed: Sequence[Any], read_one: Callable[[dict[str, Any]], ForeignAlert], wrap: Callable[[list[Any]], Any]
) -> Reading:
    """Read alerts one by one, so that a bad one harms no other.

    Args:
        listed: what stands where alerts should.
        read_one: reads an object; raises Rejected.
        wrap: the payload that holds only the given alerts.
    """
    alerts: list[ForeignAlert] = []
    refusals: list[Refusal] = []
    rest: list[Any] = []
    spent = 0
    for one in listed:
        try:
            alerts.append(read_one(_mapping(one)))
        except Rejected as refused:
            if len(refusals) == MAX_REFUSALS or spent > REFUSED_BYTES:
                rest.append(one)
                continue
            body = _written(wrap([one]))
            spent += len(body)
            refusals.append(Refusal(refused.reason, str(refused), body))
    if rest:
        detail = f"{len(rest)} more alerts of this body were refused; retry them to see why, one by one"
        refusals.append(Refusal(Refused.MANY_REFUSED, detail, _written(wrap(rest))))
    return alerts, refusals


def _mapping(one: object) -> dict[str, Any]:
    if not isinstance(one, dict):
        raise Rejected(Refused.NOT_AN_OBJECT, f"an alert is an object with labels, this is {kind(one)}")
    return one


def _written(payload: object) -> bytes:
    try:
        return orjson.dumps(payload)
    except TypeError:
        return b""


def bounded(listed: list[Any]) -> list[Any]:
    """Return the list of alerts of a body.

    Raises:
        Rejected: it holds more than `MAX_ALERTS`.
    """
    if len(listed) > MAX_ALERTS:
        message = f"the body holds {len(listed)} alerts, at most {MAX_ALERTS} are taken at once: send them in parts"
        raise Rejected(Refused.TOO_MANY_ALERTS, message)
    return listed


def kind(value: object) -> str:
    """Return what a JSON value is, in JSON's own word."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def text(value: object) -> str:
    """Return a JSON value as text: text as it is, null as nothing, the rest as JSON with sorted keys.

    Raises:
        Rejected: it is nested too deep.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError as error:
        raise Rejected(Refused.TOO_DEEP, "a value is nested more than 250 deep") from error


def texts(value: object, what: str) -> dict[str, str]:
    """Return an object of texts; null stands for an empty one, and entries that are null are left out.

    Args:
        value: the JSON value.
        what: how the message names it.

    Raises:
        Rejected: it is neither an object nor null.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Rejected(Refused.WRONG_TYPE, f"{what} is {kind(value)}, not an object of texts")
    for entry in value.values():
        if type(entry) is not str:
            return {name: text(entry) for name, entry in value.items() if entry is not None}
    return value


def moment(value: object, latest: datetime) -> datetime | None:
    """Return a moment in UTC, or None where the value is none that can be used.

    Takes ISO 8601 (digits beyond microseconds are dropped, UTC where no offset is given) and epoch seconds or
    milliseconds as a number or digits. A moment outside `YEARS` or after `latest` is none.
    """
    try:
        if isinstance(value, str):
            found = _epoch(int(value)) if value.isdecimal() else datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = _epoch(value)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    if found.year not in YEARS:
        return None
    if found.tzinfo is not UTC:
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return None if found > latest else found


def _epoch(number: float) -> datetime:
    return datetime.fromtimestamp(number / 1000 if number >= MILLISECONDS else number, UTC)


def times(
    status: Status, starts: datetime | None, ends: datetime | None, now: datetime
) -> tuple[datetime, datetime | None, datetime]:
    """Return when an alert started, when it ended, and the event time of this notification.

    Event time orders the notifications of one alert. An alert without a usable start cannot be ordered by its own
    times, so `now`, when the log took it, orders all of its notifications.
    """
    if status == "firing":
        starts_at = starts or now
        return starts_at, None, starts_at
    if starts is None:
        ends_at = ends or now
        return ends_at, ends_at, now
    ends_at = max(ends or now, starts)
    return starts, ends_at, ends_at


def web_links(*pairs: tuple[object, str]) -> tuple[Link, ...]:
    """Return links of (address, text); what is no http or https address is left out, since people click on them."""
    links = []
    for href, label in pairs:
        if href and isinstance(href, str) and href.startswith(("http://", "https://")):
            links.append(Link.trusted(href=href, text=label))
    return tuple(links)
