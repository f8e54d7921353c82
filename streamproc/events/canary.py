"""The canary: an alert of our own that goes the way of all alerts, to see that the way is open. It concerns nobody."""

from __future__ import annotations

import json
from datetime import datetime

from streamproc.events.alert import Alert
from streamproc.events.incident import Member
from streamproc.events.raw import RawAlert

SOURCE = "generic"
NAME = "StreamprocCanary"
LABEL = "streamproc_canary"
"""Its value names the process that sends it."""
ENVIRONMENT = "streamproc"
"""A scope of its own, so that it never meets a real alert."""


def is_canary(one: Alert | Member) -> bool:
    """Return whether an alert is a canary."""
    return one.name == NAME and one.source == SOURCE and LABEL in one.labels


def canary_id(process: str, since: datetime) -> str:
    """Return the `alert_id` of a canary.

    Args:
        process: who sends it.
        since: when it began to fire.
    """
    return f"{_identity(process)}@{since.isoformat()}"


def canary(process: str, since: datetime, until: datetime | None = None) -> RawAlert:
    """Return a canary that begins to fire, or ends.

    Args:
        process: who sends it.
        since: when it began to fire.
        until: when it ends, None while it fires.
    """
    alert = {
        "id": _identity(process),
        "name": NAME,
        "status": "firing" if until is None else "resolved",
        "severity": "info",
        "summary": f"{process} looks whether the way of all alerts is open",
        "environment": ENVIRONMENT,
        "cluster": process,
        "labels": {LABEL: process},
        "starts_at": since.isoformat(),
        "ends_at": None if until is None else until.isoformat(),
    }
    return RawAlert(body=json.dumps(alert).encode(), source=SOURCE, group=_identity(process))


def _identity(process: str) -> str:
    return f"{LABEL}:{process}"
