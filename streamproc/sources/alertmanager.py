"""Alertmanager: webhook v4 and what resembles it (older ones, Grafana, Google), its API's list, a bridge's one alert.

Identity is Alertmanager's own fingerprint where given, else one over the labels, so that the peers of a high
availability pair say the same. Facts: Alertmanager's `template/template.go` and `api/v2/openapi.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streamproc.core.errors import Rejected
from streamproc.core.identity import fingerprint, given_fingerprint
from streamproc.events.alert import Status
from streamproc.sources.foreign import Envelope, ForeignAlert, Reading, Refused, Source
from streamproc.sources.reading import AHEAD, bounded, kind, moment, read_each, text, texts, times, web_links

NAME = "alertmanager"
ENVELOPE = ("groupKey", "receiver", "commonLabels", "groupLabels", "externalURL")
"""Keys of a webhook's body that no other producer's list of alerts has."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the alerts of one body share."""

    listed: list[Any]
    wrap: Callable[[list[Any]], Any]
    status: str = ""
    key: str = ""
    group: str = ""
    truncated: int = 0


def read(body: Any, now: datetime) -> Reading:
    """Return the alerts of a body.

    Raises:
        Rejected: the body is none of the three shapes.
    """
    frame = _frame(body)
    latest = now + AHEAD

    def read_one(alert: dict[str, Any]) -> ForeignAlert:
        return _read_one(alert, frame, now, latest)

    return read_each(bounded(frame.listed), read_one, frame.wrap)


def looks_like(body: Any) -> bool:
    """Return whether the body is one of Alertmanager's shapes and nobody else's."""
    if isinstance(body, list):
        return bool(body) and _labelled(body[0]) and "startsAt" in body[0]
    if not isinstance(body, dict):
        return False
    alerts = body.get("alerts")
    if not isinstance(alerts, list):
        return _labelled(body) and "startsAt" in body
    return any(key in body for key in ENVELOPE) or (bool(alerts) and _labelled(alerts[0]) and "startsAt" in alerts[0])


def envelope(body: Any) -> Envelope:
    """Return the number of alerts and the group key.

    Raises:
        Rejected: the body is none of the three shapes, or holds too many alerts.
    """
    frame = _frame(body)
    return Envelope(len(bounded(frame.listed)), frame.key)


SOURCE = Source(NAME, read, looks_like, envelope)


def _labelled(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("labels"), dict)


def _frame(body: Any) -> _Frame:
    if isinstance(body, list):
        return _Frame(body, wrap=list)
    if not isinstance(body, dict):
        raise Rejected(Refused.WRONG_SHAPE, f"an Alertmanager webhook is an object, this body is {kind(body)}")
    alerts = body.get("alerts")
    if isinstance(alerts, list):
        key, cut = text(body.get("groupKey")), body.get("truncatedAlerts")
        return _Frame(
            listed=alerts,
            wrap=lambda some: {**body, "alerts": some},
            status=text(body.get("status")).lower(),
            key=key,
            group=key if body.get("groupLabels") else "",
            truncated=cut if type(cut) is int and cut > 0 else 0,
        )
    if _labelled(body) and ("startsAt" in body or "status" in body):
        return _Frame([body], wrap=lambda some: some[0], key=text(body.get("fingerprint")))
    message = "an Alertmanager webhook has a list `alerts`, or is one alert with `labels` and `startsAt`"
    raise Rejected(Refused.WRONG_SHAPE, message)


def _read_one(alert: dict[str, Any], frame: _Frame, now: datetime, latest: datetime) -> ForeignAlert:
    labels = texts(alert.get("labels"), "labels")
    if not labels:
        raise Rejected(Refused.NO_LABELS, "an alert without labels cannot be told from any other")
    annotations = texts(alert.get("annotations"), "annotations")
    given, started = text(alert.get("fingerprint")), alert.get("startsAt")
    identity = given_fingerprint(NAME, given) if given else fingerprint(NAME, labels)
    starts, ends = moment(started, latest), moment(alert.get("endsAt"), latest)
    status = _status(alert.get("status"), ends, frame.status, now)
    starts_at, ends_at, at = times(status, starts, ends, now)
    name = labels.get("alertname") or labels.get("name") or annotations.get("title") or "unnamed alert"
    said = annotations.get("description") or annotations.get("message") or annotations.get("details") or ""
    return ForeignAlert(
        source=NAME,
        fingerprint=identity,
        alert_id=f"{given or identity}@{text(started)}",
        status=status,
        name=name,
        summary=annotations.get("summary") or annotations.get("title") or said or name,
        description=said,
        severity_text=labels.get("severity") or labels.get("priority") or labels.get("level") or "",
        labels=labels,
        annotations=annotations,
        starts_at=starts_at,
        ends_at=ends_at,
        at=at,
        group=frame.group,
        links=web_links(
            (alert.get("generatorURL"), "source"),
            (alert.get("dashboardURL"), "dashboard"),
            (alert.get("panelURL"), "panel"),
            (alert.get("imageURL"), "image"),
        ),
        expires=starts is not None,
        truncated=frame.truncated,
    )


def _status(given: object, ends: datetime | None, shared: str, now: datetime) -> Status:
    """Return the status: as said by the alert, else by its end, else by the group."""
    word = "" if given is None or isinstance(given, dict) else text(given).lower()
    if word == "firing":
        return "firing"
    if word == "resolved":
        return "resolved"
    if word:
        raise Rejected(Refused.BAD_STATUS, f"status {word[:40]!r} is neither firing nor resolved")
    if ends is not None:
        return "resolved" if ends <= now else "firing"
    return "resolved" if shared == "resolved" and not isinstance(given, dict) else "firing"
