"""Datadog: the webhook of the Webhooks integration, whatever template it was given.

Identity is the monitor with its scope, never the title. Facts: docs.datadoghq.com/integrations/webhooks.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NamedTuple

from streamproc.core.errors import Rejected
from streamproc.core.identity import fingerprint
from streamproc.events.alert import Status
from streamproc.sources.foreign import Envelope, ForeignAlert, Reading, Refused, Source
from streamproc.sources.reading import AHEAD, kind, moment, text, web_links

NAME = "datadog"
TEMPLATE = """\
{
  "id": "$ID",
  "date": "$DATE",
  "last_updated": "$LAST_UPDATED",
  "event_type": "$EVENT_TYPE",
  "title": "$EVENT_TITLE",
  "body": "$TEXT_ONLY_MSG",
  "alert_id": "$ALERT_ID",
  "alert_cycle_key": "$ALERT_CYCLE_KEY",
  "aggreg_key": "$AGGREG_KEY",
  "alert_transition": "$ALERT_TRANSITION",
  "alert_status": "$ALERT_STATUS",
  "alert_type": "$ALERT_TYPE",
  "alert_priority": "$ALERT_PRIORITY",
  "alert_scope": "$ALERT_SCOPE",
  "alert_metric": "$ALERT_METRIC",
  "alert_query": "$ALERT_QUERY",
  "link": "$LINK",
  "snapshot": "$SNAPSHOT",
  "tags": "$TAGS",
  "hostname": "$HOSTNAME",
  "org_id": "$ORG_ID",
  "org_name": "$ORG_NAME"
}
"""
"""The payload to paste into Datadog's webhook."""

_UNSET = re.compile(r"\$[A-Z][A-Z0-9_]*(\[[^\]]*\])?")
_PREFIX = re.compile(
    r"\s*\[(?:(?P<priority>P[1-5])|(?P<test>TEST)|(?P<transition>(?:Re-)?(?:Triggered|Warn|No Data)|Renotify"
    r"|(?:Alert |Warn |No Data )?Recovered)(?: on \{(?P<scope>[^\]]*)\})?)\]",
    re.IGNORECASE,
)
_MONITOR = re.compile(r"/monitors[/#](\d{1,20})")
_FIRING = frozenset({"triggered", "re-triggered", "warn", "re-warn", "no data", "re-no data", "renotify"})


class _Title(NamedTuple):
    """An event's title, taken apart."""

    name: str
    transition: str = ""
    priority: str = ""
    scope: str = ""
    test: bool = False


def read(body: Any, now: datetime) -> Reading:
    """Return the one alert of a body.

    Raises:
        Rejected: the body is no event of a monitor, or names nothing to know it again by.
    """
    event = _event(body)
    title = _title(_field(event, "title", "event_title", "alert_title"))
    transition = _field(event, "alert_transition", "transition") or title.transition
    if not title.name and not transition:
        raise Rejected(
            Refused.WRONG_SHAPE, "a Datadog webhook has a `title` or an `alert_transition`: use our template"
        )
    scope = _parts(_field(event, "alert_scope", "scopes", "scope") or title.scope)
    org = event.get("org")
    org = org if isinstance(org, dict) else {"id": event.get("org_id"), "name": event.get("org_name")}
    monitor = _monitor(event)
    identity = _identity(monitor, scope, _field(org, "id"), title)
    kind_of_alert = _field(event, "alert_type").lower()
    status = _status(transition.lower(), kind_of_alert)
    at = moment(event.get("date"), now + AHEAD) or moment(event.get("last_updated"), now + AHEAD) or now
    name = title.name or f"monitor {monitor}"
    alert = ForeignAlert(
        source=NAME,
        fingerprint=identity,
        alert_id=_field(event, "id", "event_id") or f"{identity}@{_field(event, 'date')}",
        status=status,
        name=name,
        summary=f"{name} ({', '.join(scope)})" if scope else name,
        description=_field(event, "body", "text_only_msg", "event_msg").replace("%%%", "").strip(),
        severity_text=_severity(event, title, transition.lower(), kind_of_alert),
        labels=_labels(event, scope, monitor, _field(org, "name")),
        annotations=_annotations(event, transition),
        starts_at=at,
        ends_at=at if status == "resolved" else None,
        at=at,
        group=_field(event, "aggreg_key", "aggregation_key"),
        links=web_links((_field(event, "link", "url"), "Datadog"), (_field(event, "snapshot"), "snapshot")),
        expires=False,
    )
    return [alert], []


def looks_like(body: Any) -> bool:
    """Return whether the body is a Datadog event: our template's keys, or the default payload's."""
    if not isinstance(body, dict):
        return False
    if "alert_transition" in body or "alert_cycle_key" in body:
        return True
    return "title" in body and "event_type" in body and ("last_updated" in body or "org" in body)


def envelope(body: Any) -> Envelope:
    """Return one alert, ordered by its monitor.

    Raises:
        Rejected: the body is no object.
    """
    event = _event(body)
    return Envelope(1, _field(event, "alert_id", "monitor_id", "aggreg_key", "title"))


SOURCE = Source(NAME, read, looks_like, envelope)


def _event(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Rejected(Refused.WRONG_SHAPE, f"a Datadog webhook is an object, this body is {kind(body)}")
    return body


def _field(event: dict[str, Any], *names: str) -> str:
    """Return the first of the fields that says something: a variable that Datadog left as it stands says nothing."""
    for name in names:
        said = text(event.get(name)).strip()
        if said and said.lower() != "null" and not _UNSET.fullmatch(said):
            return said
    return ""


def _title(title: str) -> _Title:
    found: dict[str, str] = {}
    start = 0
    while (prefix := _PREFIX.match(title, start)) is not None:
        start = prefix.end()
        found.update({part: said for part, said in prefix.groupdict().items() if said})
    test = "test" in found
    name = title[start:].strip()
    return _Title(
        name=f"[TEST] {name}" if test else name,
        transition=found.get("transition", ""),
        priority=found.get("priority", ""),
        scope=found.get("scope", ""),
        test=test,
    )


def _parts(listed: str) -> tuple[str, ...]:
    """Return the tags of a scope, sorted; the whole infrastructure (`*`) is none."""
    return tuple(sorted({part.strip() for part in listed.split(",")} - {"", "*"}))


def _monitor(event: dict[str, Any]) -> str:
    """Return the monitor's id: given, else from the link to it that Datadog closes every message with."""
    given = _field(event, "alert_id", "monitor_id")
    linked = _MONITOR.findall(f"{_field(event, 'body', 'event_msg')} {_field(event, 'link', 'url')}")
    return given or (linked[-1] if linked else "")


def _identity(monitor: str, scope: tuple[str, ...], org: str, title: _Title) -> str:
    """Return the fingerprint. A test of a monitor is another alert: its recovery must not end a real outage."""
    if not monitor and not title.name:
        raise Rejected(
            Refused.NO_IDENTITY, "neither `alert_id` nor `title` says which monitor this is; use our template"
        )
    known = {"monitor": monitor} if monitor else {"title": title.name}
    return fingerprint(NAME, {**known, "scope": ",".join(scope), "org": org, "test": "yes" if title.test else ""})


def _status(transition: str, kind_of_alert: str) -> Status:
    if transition.endswith("recovered"):
        return "resolved"
    if transition in _FIRING:
        return "firing"
    return "resolved" if kind_of_alert == "success" else "firing"


def _severity(event: dict[str, Any], title: _Title, transition: str, kind_of_alert: str) -> str:
    if transition in {"warn", "re-warn"}:
        return "warning"  # a monitor's priority is that of its alert threshold: its warning never wakes anybody
    priority = _field(event, "alert_priority", "severity") or title.priority
    if priority:
        return priority
    return "" if kind_of_alert == "success" else kind_of_alert


def _labels(event: dict[str, Any], scope: tuple[str, ...], monitor: str, org: str) -> dict[str, str]:
    """Return tags as labels; values of a tag that stands twice are joined, and the scope, being exact, wins."""
    tags = event.get("tags")
    listed = [text(tag) for tag in tags] if isinstance(tags, list) else _field(event, "tags").split(",")
    labels = {**_by_name(listed), **_by_name(scope)}
    for name, value in (("host", _field(event, "hostname", "host")), ("monitor_id", monitor), ("org", org)):
        if value:
            labels.setdefault(name, value)
    return labels


def _by_name(tags: tuple[str, ...] | list[str]) -> dict[str, str]:
    values: dict[str, set[str]] = {}
    for tag in tags:
        name, _, value = tag.strip().partition(":")
        if name and not _UNSET.fullmatch(name):
            values.setdefault(name, set()).add(value or "true")
    return {name: ",".join(sorted(found)) for name, found in values.items()}


def _annotations(event: dict[str, Any], transition: str) -> dict[str, str]:
    names = ("alert_status", "alert_query", "alert_metric", "event_type")
    said = {name: _field(event, name) for name in names}
    said |= {"transition": transition, "cycle_key": _field(event, "alert_cycle_key", "cycle_key")}
    return {name: value for name, value in said.items() if value}
