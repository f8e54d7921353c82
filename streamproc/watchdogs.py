"""Watchdogs: alerts that must always fire. Which alert is one, and the alert that its silence is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from pydantic import Field, field_validator

from streamproc.core.errors import Unusable
from streamproc.core.identity import fingerprint
from streamproc.core.step import StageConfig
from streamproc.events.alert import Alert, Severity
from streamproc.events.feedback import Matcher
from streamproc.matching import all_match, parse

SILENT = "WatchdogSilent"
"""Name of the alert that is made up of a watchdog's silence."""
MINUTE = timedelta(minutes=1)


class Watchdog(StageConfig):
    """An alert that always fires, so that its silence says that the way of all alerts is broken."""

    matchers: tuple[str, ...] = Field(min_length=1)
    """Which alert it is, in Alertmanager's words on its labels: `alertname="Watchdog"`. All must hold. Whatever they
    match opens no incident while it is heard, and each alert is a watchdog of its own."""
    within: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(minutes=1))
    """It must be heard so often. Longer than the `repeat_interval` and `group_interval` of its route together."""
    severity: Severity = Severity.CRITICAL
    """How severe its silence is."""

    @field_validator("matchers")
    @classmethod
    def _can_be_used(cls, matchers: tuple[str, ...]) -> tuple[str, ...]:
        try:
            parsed = _parsed(matchers)
        except Unusable as error:
            raise ValueError(str(error)) from None
        if all_match(parsed, {}):
            raise ValueError("they match every alert: one of them at least must not match the empty text")
        return matchers


def find(watchdogs: Mapping[str, Watchdog], alert: Alert) -> Watchdog | None:
    """Return the first watchdog that an alert is a heartbeat of, None where it is none."""
    return next((one for one in watchdogs.values() if all_match(_parsed(one.matchers), alert.labels)), None)


def silence_of(last: Alert, watchdog: Watchdog, now: datetime, since: datetime) -> Alert:
    """Return the alert that says that a watchdog is silent.

    Args:
        last: what was heard of it last: its labels and places are those of the alert; where it is resolved, the source
            itself says that it no longer fires.
        watchdog: its settings.
        now: the moment.
        since: when it was heard last.
    """
    minutes = max(1, round((now - since) / MINUTE))
    resolved = last.status == "resolved"
    said = "has resolved, though it must always fire" if resolved else f"has not been heard for {minutes} min"
    named = fingerprint(SILENT, {"watchdog": last.fingerprint})
    return last.model_copy(
        update={
            "fingerprint": named,
            "alert_id": f"{named}@{now.isoformat()}",
            "status": "firing",
            "name": SILENT,
            "severity": watchdog.severity,
            "summary": f"{last.name} {said}: monitoring of {last.scope} may be down",
            "group": "",
            "starts_at": now,
            "ends_at": None,
            "at": now,
            "expires": False,
        }
    )


@lru_cache(maxsize=256)
def _parsed(matchers: tuple[str, ...]) -> tuple[Matcher, ...]:
    return tuple(parse(text) for text in matchers)
