"""What the Events API v2 takes, as PagerDuty's documentation says it, and nothing else. Pure.

Source: PagerDuty/developer-docs, `docs/events-API-v2/{01-Overview,02-Trigger-Events,03-Change-Events}.md`. Two points
are stricter than PagerDuty is known to be, on purpose, since whoever tests against this wants to hear of them: a field
that the documentation does not name is refused (PagerDuty would drop it unseen, for example `links` inside `payload`),
and 512 KB are taken as 512,000 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Kind = Literal["alert", "change"]

MOST_BYTES = 512_000
ACTIONS = ("trigger", "acknowledge", "resolve")
SEVERITIES = ("critical", "error", "warning", "info")

_KEY = 32
_DEDUP_KEY = 255
_SUMMARY = 1024
_TOP = {
    "alert": {"routing_key", "event_action", "dedup_key", "payload", "images", "links", "client", "client_url"},
    "change": {"routing_key", "payload", "links"},
}
_PAYLOAD = {
    "alert": {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"},
    "change": {"summary", "source", "timestamp", "custom_details"},
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A request body as far as it could be read, and what is wrong with it."""

    event: dict[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def check(kind: Kind, content_type: str, body: bytes) -> Checked:
    """Check a request to /v2/enqueue ("alert") or /v2/change/enqueue ("change")."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return Checked(errors=("Content-Type is not application/json",))
    try:
        event = json.loads(body.decode("utf-8"), parse_constant=_refuse)
        json.dumps(event, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return Checked(errors=("JSON is invalid",))
    if not isinstance(event, dict):
        return Checked(errors=("JSON is not an object",))
    errors = (f"Event size exceeds {MOST_BYTES} bytes",) if len(body) > MOST_BYTES else ()
    return Checked(event, (*errors, *_event(kind, event)))


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _event(kind: Kind, event: dict[str, Any]) -> Iterator[str]:
    yield from _unknown(event, _TOP[kind], "")
    yield from _text(event, "routing_key", required=True)
    key = event.get("routing_key")
    if isinstance(key, str) and key and len(key) != _KEY:
        yield f"Length of 'routing_key' is incorrect (should be {_KEY} characters)"
    if kind == "change" and isinstance(key, str) and key.startswith("R"):
        yield "'routing_key' of a ruleset does not take change events"
    action = "trigger" if kind == "change" else event.get("event_action")
    if action not in ACTIONS:
        yield "'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')"
    yield from _text(event, "dedup_key", required=action in ACTIONS[1:], most=_DEDUP_KEY)
    yield from _text(event, "client")
    yield from _text(event, "client_url")
    yield from _links(event, "links", needs="href", may="text")
    yield from _links(event, "images", needs="src", may="alt")
    payload = event.get("payload")
    if isinstance(payload, dict):
        yield from _payload(kind, payload)
    elif "payload" in event or action == "trigger":
        yield "'payload' is missing or not an object"


def _payload(kind: Kind, payload: dict[str, Any]) -> Iterator[str]:
    yield from _unknown(payload, _PAYLOAD[kind], "payload.")
    yield from _text(payload, "summary", "payload.", required=True, most=_SUMMARY)
    yield from _text(payload, "source", "payload.", required=kind == "alert")
    for name in ("component", "group", "class"):
        yield from _text(payload, name, "payload.")
    if kind == "alert" and payload.get("severity") not in SEVERITIES:
        yield "'payload.severity' is invalid (must be one of the following: 'critical', 'error', 'warning' or 'info')"
    if "timestamp" in payload and not _is_moment(payload["timestamp"]):
        yield "'payload.timestamp' is not an ISO 8601 time"
    if not isinstance(payload.get("custom_details", {}), dict):
        yield "'payload.custom_details' is not an object"


def _text(
    given: dict[str, Any], name: str, path: str = "", *, required: bool = False, most: int | None = None
) -> Iterator[str]:
    if name not in given:
        if required:
            yield f"'{path}{name}' is missing or blank"
        return
    value = given[name]
    if not isinstance(value, str):
        yield f"'{path}{name}' is not a string"
    elif required and not value.strip():
        yield f"'{path}{name}' is missing or blank"
    elif most is not None and len(value) > most:
        yield f"'{path}{name}' is too long (maximum is {most} characters)"


def _links(event: dict[str, Any], name: str, *, needs: str, may: str) -> Iterator[str]:
    links = event.get(name, [])
    if not isinstance(links, list):
        yield f"'{name}' is not an array"
        return
    for index, link in enumerate(links):
        path = f"{name}[{index}]."
        if not isinstance(link, dict):
            yield f"'{name}[{index}]' is not an object"
            continue
        yield from _unknown(link, {needs, may, "href"}, path)
        for text in {needs, may, "href"}:
            yield from _text(link, text, path, required=text == needs)
        source = link.get("src")
        if isinstance(source, str) and not source.startswith("https://"):
            yield f"'{path}src' is not served via HTTPS"


def _unknown(given: dict[str, Any], known: set[str], path: str) -> Iterator[str]:
    for name in given:
        if name not in known:
            yield f"'{path}{name}' is not a field of this event"


def _is_moment(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True
