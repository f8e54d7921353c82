"""The emulator's contract: named valid and invalid bodies."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from streamproc.emulator.contract import check

KEY = "0123456789abcdef0123456789abcdef"
PAYLOAD: dict[str, Any] = {"summary": "s", "source": "h", "severity": "error"}
TRIGGER: dict[str, Any] = {"routing_key": KEY, "event_action": "trigger", "payload": PAYLOAD}
RESOLVE: dict[str, Any] = {"routing_key": KEY, "event_action": "resolve", "dedup_key": "k"}
CHANGE: dict[str, Any] = {"routing_key": KEY, "payload": {"summary": "s"}}


def errors(kind: Literal["alert", "change"], event: Any, content_type: str = "application/json") -> tuple[str, ...]:
    return check(kind, content_type, json.dumps(event).encode()).errors


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        pytest.param("alert", TRIGGER, id="least trigger"),
        pytest.param(
            "alert",
            {
                **TRIGGER,
                "dedup_key": "k" * 255,
                "client": "c",
                "client_url": "https://c.example",
                "images": [{"src": "https://i.example", "href": "https://h.example", "alt": "a"}],
                "links": [{"href": "https://l.example", "text": "t"}, {"href": "https://m.example"}],
                "payload": {
                    **PAYLOAD,
                    "summary": "s" * 1024,
                    "timestamp": "2015-07-17T08:42:58.315+0000",
                    "component": "c",
                    "group": "",
                    "class": "c",
                    "custom_details": {"deep": [{"a": None}]},
                },
            },
            id="every field",
        ),
        pytest.param("alert", RESOLVE, id="resolve without payload"),
        pytest.param("alert", {**RESOLVE, "event_action": "acknowledge"}, id="acknowledge"),
        pytest.param("alert", {**RESOLVE, "payload": PAYLOAD}, id="resolve with a payload, as Alertmanager sends"),
        pytest.param("alert", {**TRIGGER, "routing_key": "R" + KEY[1:]}, id="trigger to a ruleset"),
        pytest.param("change", CHANGE, id="least change event"),
        pytest.param(
            "change",
            {
                "routing_key": KEY,
                "payload": {"summary": "s", "source": "h", "timestamp": "2026-11-22", "custom_details": {}},
                "links": [{"href": "https://l.example"}],
            },
            id="every field of a change event",
        ),
    ],
)
def test_valid(kind: Literal["alert", "change"], event: dict[str, Any]) -> None:
    checked = check(kind, "application/json; charset=utf-8", json.dumps(event).encode())
    assert checked.errors == ()
    assert checked.event == event


def without(event: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key != name}


ACTION = "'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')"
SEVERITY = "'payload.severity' is invalid (must be one of the following: 'critical', 'error', 'warning' or 'info')"
LENGTH = "Length of 'routing_key' is incorrect (should be 32 characters)"


@pytest.mark.parametrize(
    ("kind", "event", "error"),
    [
        pytest.param("alert", [TRIGGER], "JSON is not an object", id="array"),
        pytest.param("alert", without(TRIGGER, "routing_key"), "'routing_key' is missing or blank", id="no key"),
        pytest.param("alert", {**TRIGGER, "routing_key": ""}, "'routing_key' is missing or blank", id="blank key"),
        pytest.param("alert", {**TRIGGER, "routing_key": 5}, "'routing_key' is not a string", id="key of another type"),
        pytest.param("alert", {**TRIGGER, "routing_key": "nope"}, LENGTH, id="short key"),
        pytest.param("alert", {**TRIGGER, "event_action": "page"}, ACTION, id="unknown action"),
        pytest.param("alert", {**TRIGGER, "event_action": ["trigger"]}, ACTION, id="action of another type"),
        pytest.param("alert", without(TRIGGER, "event_action"), ACTION, id="no action"),
        pytest.param("alert", without(RESOLVE, "dedup_key"), "'dedup_key' is missing or blank", id="resolve of what"),
        pytest.param(
            "alert",
            {**TRIGGER, "dedup_key": "k" * 256},
            "'dedup_key' is too long (maximum is 255 characters)",
            id="long dedup key",
        ),
        pytest.param("alert", without(TRIGGER, "payload"), "'payload' is missing or not an object", id="no payload"),
        pytest.param(
            "alert", {**RESOLVE, "payload": None}, "'payload' is missing or not an object", id="null as payload"
        ),
        pytest.param("alert", {**TRIGGER, "client": None}, "'client' is not a string", id="null as client"),
        pytest.param("alert", {**TRIGGER, "class": "c"}, "'class' is not a field of this event", id="field at the top"),
        pytest.param("alert", {**TRIGGER, "links": {}}, "'links' is not an array", id="links of another type"),
        pytest.param("alert", {**TRIGGER, "links": ["x"]}, "'links[0]' is not an object", id="link of another type"),
        pytest.param("alert", {**TRIGGER, "links": [{}]}, "'links[0].href' is missing or blank", id="link without URL"),
        pytest.param(
            "alert",
            {**TRIGGER, "images": [{"src": "http://i"}]},
            "'images[0].src' is not served via HTTPS",
            id="insecure image",
        ),
        pytest.param(
            "alert",
            {**TRIGGER, "images": [{"src": "https://i", "text": "t"}]},
            "'images[0].text' is not a field of this event",
            id="text of an image",
        ),
        pytest.param(
            "change",
            {**CHANGE, "event_action": "trigger"},
            "'event_action' is not a field of this event",
            id="action of a change event",
        ),
        pytest.param(
            "change", {**CHANGE, "images": []}, "'images' is not a field of this event", id="change with image"
        ),
        pytest.param(
            "change",
            {**CHANGE, "routing_key": "R" + KEY[1:]},
            "'routing_key' of a ruleset does not take change events",
            id="change to a ruleset",
        ),
        pytest.param("change", without(CHANGE, "payload"), "'payload' is missing or not an object", id="empty change"),
    ],
)
def test_invalid(kind: Literal["alert", "change"], event: Any, error: str) -> None:
    assert errors(kind, event) == (error,)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"summary": " "}, "'payload.summary' is missing or blank", id="blank summary"),
        pytest.param(
            {"summary": "s" * 1025}, "'payload.summary' is too long (maximum is 1024 characters)", id="long summary"
        ),
        pytest.param({"source": ""}, "'payload.source' is missing or blank", id="blank source"),
        pytest.param({"severity": "nope"}, SEVERITY, id="unknown severity"),
        pytest.param({"severity": None}, SEVERITY, id="null as severity"),
        pytest.param({"timestamp": "yesterday"}, "'payload.timestamp' is not an ISO 8601 time", id="no time"),
        pytest.param({"timestamp": 5}, "'payload.timestamp' is not an ISO 8601 time", id="seconds as time"),
        pytest.param({"custom_details": "x"}, "'payload.custom_details' is not an object", id="details as text"),
        pytest.param({"group": 5}, "'payload.group' is not a string", id="group of another type"),
        pytest.param({"links": []}, "'payload.links' is not a field of this event", id="links in the payload"),
    ],
)
def test_invalid_payload(change: dict[str, Any], error: str) -> None:
    assert errors("alert", {**TRIGGER, "payload": {**PAYLOAD, **change}}) == (error,)


@pytest.mark.parametrize(
    ("content_type", "body", "error"),
    [
        pytest.param(
            "application/x-www-form-urlencoded", b"routing_key=x", "Content-Type is not application/json", id="form"
        ),
        pytest.param("", b"{}", "Content-Type is not application/json", id="no content type"),
        pytest.param("application/json", b"not json at all", "JSON is invalid", id="not JSON"),
        pytest.param("application/json", b"\xff{}", "JSON is invalid", id="not UTF-8"),
        pytest.param("application/json", b'{"a":NaN}', "JSON is invalid", id="NaN"),
        pytest.param("application/json", b'{"a":"\\ud800"}', "JSON is invalid", id="lone surrogate"),
        pytest.param("application/json", b"[" * 100_000, "JSON is invalid", id="too deep"),
    ],
)
def test_unreadable(content_type: str, body: bytes, error: str) -> None:
    assert check("alert", content_type, body).errors == (error,)


def test_size() -> None:
    head = json.dumps({**TRIGGER, "payload": {**PAYLOAD, "custom_details": {"x": ""}}}).encode()
    fits = head.replace(b'"x": ""', b'"x": "' + b"y" * (512_000 - len(head)) + b'"')
    assert len(fits) == 512_000
    assert check("alert", "application/json", fits).errors == ()
    assert check("alert", "application/json", fits + b" ").errors == ("Event size exceeds 512000 bytes",)
