"""An existing route to PagerDuty, as Alertmanager's own integration posts it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import httpx

THEIR_KEY = "their0key".ljust(32, "0")
"""Routing key of the service that the existing route pages."""
Form = Literal["text", "json"]


def event(*alerts: Mapping[str, Any], form: Form = "text", action: str = "trigger", group: str = "") -> dict[str, Any]:
    """Return the event that Alertmanager posts for one group; `form` is that of `firing`, before and since 0.28."""
    name = alerts[0]["labels"]["alertname"]
    key = group or f'{{}}/{{severity=~"critical|warning"}}:{{alertname="{name}"}}'
    told: dict[str, Any] = {
        "routing_key": THEIR_KEY,
        "event_action": action,
        "dedup_key": hashlib.sha256(key.encode()).hexdigest(),
    }
    if action != "trigger":
        return told
    others = " ".join(value for label, value in sorted(alerts[0]["labels"].items()) if label != "alertname")
    firing = listed(alerts) if form == "text" else json.dumps(alerts)
    details = {"firing": firing, "resolved": "", "num_firing": str(len(alerts)), "num_resolved": "0"}
    payload = {
        "summary": f"[FIRING:{len(alerts)}] {name} ({others})",
        "source": "Alertmanager",
        "severity": "critical",
        "custom_details": details,
    }
    return {**told, "client": "Alertmanager", "client_url": "http://alertmanager", "payload": payload}


def listed(alerts: Any) -> str:
    """Return alerts as Alertmanager's template `__text_alert_list` does."""
    lines = []
    for one in alerts:
        lines += ["Labels:", *(f" - {name} = {value}" for name, value in sorted(one["labels"].items()))]
        lines += ["Annotations:", *(f" - {name} = {value}" for name, value in sorted(one["annotations"].items()))]
        lines += ["Source: http://prometheus/graph", ""]
    return "\n".join(lines)


async def page(url: str, told: Mapping[str, Any]) -> None:
    """Post an event to PagerDuty."""
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{url}/v2/enqueue", json=told)
        assert answer.status_code == 202, answer.text
