"""Nine days of alerts of which it is known what is to be advised, and what never."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

T0 = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 9
HOUR = 60


def moment(minutes: float) -> datetime:
    """Return a moment of the recording."""
    return T0 + timedelta(minutes=minutes)


def alert(name: str, service: str, begins: float, ends: float | None = None, *, team: str = "") -> dict[str, Any]:
    """Return an alert of a webhook, firing or resolved; minutes since the beginning."""
    return {
        "status": "firing" if ends is None else "resolved",
        "labels": {"alertname": name, "severity": "error", "cluster": "eu-1", "service": service, "team": team},
        "annotations": {"summary": f"{name} at {service}"},
        "startsAt": moment(begins).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z" if ends is None else moment(ends).isoformat(),
        "fingerprint": f"{name}{service}".encode().hex()[:16],
    }


def line(at: float, told: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded webhook."""
    body = {"version": "4", "groupKey": "{}:{}", "groupLabels": {}, "status": "firing", "receiver": "x"}
    return {"at": moment(at).isoformat(), "source": "alertmanager", "body": {**body, "alerts": [told]}}


def fired(name: str, service: str, begins: float, lasts: float, team: str = "") -> Iterator[dict[str, Any]]:
    """Yield what is heard of an alert that fires once."""
    yield line(begins, alert(name, service, begins, team=team))
    yield line(begins + lasts, alert(name, service, begins, begins + lasts, team=team))


def judged(name: str, service: str, begins: float, *, worth: bool = True) -> dict[str, Any]:
    """Return what a person said of an alert half an hour later."""
    told = alert(name, service, begins)
    alert_id = f"{told['fingerprint']}@{told['startsAt']}"
    return {"at": moment(begins + 30).isoformat(), "alert": alert_id, "field": "page", "value": worth}


def day(number: int) -> int:
    """Return the minute with which a day begins."""
    return number * 24 * HOUR


def traffic() -> list[dict[str, Any]]:
    """Return the lines in order of time."""
    lines: list[dict[str, Any]] = []
    for number in range(DAYS):
        start = day(number)
        lines += fired("DiskPredicted", "batch", start + 3 * HOUR, 6, team="storage")  # nobody ever acts on it
        lines += fired("ApiErrors", "api", start + 5 * HOUR, 30)  # acted upon twice
        lines += fired("RouterDown", "edge", start + 9 * HOUR, 40)  # these two always together
        lines += fired("LoginFails", "portal", start + 9 * HOUR + 4, 30)
        for again in range(6 if number % 2 == 0 else 0):  # flaps: 1 minute on, 7 minutes off
            lines += fired("QueueLag", "queue", start + 14 * HOUR + 8 * again, 1)
    return sorted(lines, key=lambda each: str(each["at"]))


def said() -> list[dict[str, Any]]:
    """Return what people said."""
    worth = [judged("ApiErrors", "api", day(number) + 5 * HOUR) for number in (1, 7)]
    worth += [judged("RouterDown", "edge", day(number) + 9 * HOUR) for number in (0, 3, 6)]
    worth += [judged("LoginFails", "portal", day(number) + 9 * HOUR + 4) for number in (0, 3)]
    return worth + [judged("QueueLag", "queue", day(number) + 14 * HOUR) for number in (0, 2, 8)]
