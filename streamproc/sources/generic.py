"""Generic: our own small JSON, for scripts and for producers that have no source of their own.

One alert, a list of alerts, or `{"alerts": [...]}`; docs/sources.md is its specification.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from streamproc.core.errors import Rejected
from streamproc.core.identity import fingerprint
from streamproc.events.alert import Link, Status
from streamproc.sources.foreign import Envelope, ForeignAlert, Reading, Refused, Source
from streamproc.sources.reading import AHEAD, bounded, kind, moment, read_each, text, texts, times, web_links

NAME = "generic"
STATUSES: dict[str, Status] = {
    **dict.fromkeys(("", "firing", "triggered", "trigger", "alerting", "problem", "open", "active", "down"), "firing"),
    **dict.fromkeys(("resolved", "resolve", "recovered", "recovery", "ok", "closed", "inactive", "up"), "resolved"),
}
"""Words for a status; nothing said is firing."""
PLACES = ("environment", "cluster", "service", "team", "resource")
"""Keys of an alert that stand for the label of that name."""


def read(body: Any, now: datetime) -> Reading:
    """Return the alerts of a body.

    Raises:
        Rejected: the body is neither an object nor a list.
    """
    listed, wrap = _listed(body)
    latest = now + AHEAD
    return read_each(bounded(listed), lambda alert: _read_one(alert, now, latest), wrap)


def looks_like(body: Any) -> bool:
    """Return whether the body, or the first alert in it, has a `name` and a `status`."""
    listed = body.get("alerts", [body]) if isinstance(body, dict) else body
    if not isinstance(listed, list) or not listed or not isinstance(listed[0], dict):
        return False
    return "name" in listed[0] and "status" in listed[0]


def envelope(body: Any) -> Envelope:
    """Return the number of alerts, and the group or the name of the first as what keeps them in order.

    Raises:
        Rejected: the body is neither an object nor a list, or holds too many alerts.
    """
    listed, _ = _listed(body)
    first = listed[0] if bounded(listed) and isinstance(listed[0], dict) else {}
    try:
        group = _first(first, "group", "fingerprint", "id", "name")
    except Rejected:  # one alert is at fault, and becomes a dead letter: the others must come in
        group = ""
    return Envelope(len(listed), group)


SOURCE = Source(NAME, read, looks_like, envelope)


def _listed(body: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    if isinstance(body, list):
        return body, list
    if not isinstance(body, dict):
        raise Rejected(Refused.WRONG_SHAPE, f"the body is one alert or a list of alerts, not {kind(body)}")
    alerts = body.get("alerts")
    if alerts is None:
        return [body], lambda some: some[0]
    if not isinstance(alerts, list):
        raise Rejected(Refused.WRONG_SHAPE, f"`alerts` is {kind(alerts)}, not a list")
    return alerts, lambda some: {**body, "alerts": some}


def _first(alert: dict[str, Any], *names: str) -> str:
    return next((said for name in names if (said := text(alert.get(name)).strip())), "")


def _read_one(alert: dict[str, Any], now: datetime, latest: datetime) -> ForeignAlert:
    given, name = _first(alert, "fingerprint", "id"), _first(alert, "name", "id", "fingerprint")
    if not name:
        raise Rejected(Refused.NO_NAME, "an alert has at least a `name` or an `id`")
    said = text(alert.get("status")).strip().lower()
    status = STATUSES.get(said)
    if status is None:
        raise Rejected(Refused.BAD_STATUS, f"status {said[:40]!r} is neither firing nor resolved")
    labels = texts(alert.get("labels"), "labels")
    labels = {**{place: value for place in PLACES if (value := text(alert.get(place)))}, **labels}
    identity = fingerprint(NAME, {"id": given} if given else {**labels, "\0name": name})
    started = alert.get("starts_at")
    starts = moment(started, latest)
    starts_at, ends_at, at = times(status, starts, moment(alert.get("ends_at"), latest), now)
    return ForeignAlert(
        source=NAME,
        fingerprint=identity,
        alert_id=f"{given or identity}@{text(started)}",
        status=status,
        name=name,
        summary=text(alert.get("summary")) or name,
        description=text(alert.get("description")),
        severity_text=text(alert.get("severity")),
        labels=labels,
        annotations=texts(alert.get("annotations"), "annotations"),
        starts_at=starts_at,
        ends_at=ends_at,
        at=at,
        group=text(alert.get("group")),
        links=_links(alert.get("links")),
        expires=starts is not None and alert.get("expires") is not False,
    )


def _links(given: object) -> tuple[Link, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise Rejected(Refused.WRONG_TYPE, f"links is {kind(given)}, not a list")
    pairs = ((link.get("href"), text(link.get("text"))) if isinstance(link, dict) else (link, "") for link in given)
    return web_links(*pairs)
