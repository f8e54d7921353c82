"""Pages and evidence made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from streamproc.advise.evidence import Evidence, Page, Standing
from streamproc.backtest.difference import Call, Kind
from streamproc.events.alert import Severity

T0 = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 24 * 60.0
LENGTH = 9 * DAY
"""Minutes of the recording: the first six days propose."""


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def call(
    minutes: float,
    *alerts: str,
    rule: str = "HighLoad",
    kind: Kind = Kind.FIRST,
    name: str = "",
    severity: Severity = Severity.ERROR,
) -> Call:
    covered = alerts or (f"{rule}@{minutes}",)
    return Call(
        name or f"{rule}{minutes}{kind}", f"in:v1:prod:eu:{rule}{minutes}", at(minutes), covered[0], covered,
        severity, kind, rule=rule,
    )  # fmt: skip


def page(
    minutes: float,
    rule: str = "HighLoad",
    service: str = "batch",
    *,
    lasts: float | None = 5,
    acted: bool = False,
    needless: bool = False,
    scope: str = "prod:eu",
    severity: Severity = Severity.ERROR,
) -> Page:
    ended = None if lasts is None else at(minutes + lasts)
    told = call(minutes, rule=rule, name=f"{rule}{service}{scope}{minutes}", severity=severity)
    return Page(told, rule, service, scope, frozenset({rule}), ended, acted, needless)


def daily(
    rule: str = "HighLoad", service: str = "batch", *, count: int = 9, first: float = 600, **more: Any
) -> list[Page]:
    return [page(first + number * DAY, rule, service, **more) for number in range(count)]


def answered(count: int = 3) -> list[Page]:
    """Pages of another rule that people acted upon."""
    return daily("DatabaseDown", "db", count=count, first=300, acted=True, lasts=30)


def evidence(
    pages: Iterable[Page], *, rules: Iterable[str] = (), alerts: Iterable[str] = (), standing: Iterable[Standing] = (),
    teams: dict[str, str] | None = None, length: float = LENGTH,
) -> Evidence:  # fmt: skip
    ordered = tuple(sorted(pages, key=lambda each: each.at))
    acted = {rule for each in ordered if each.acted for rule in each.rules}
    covered = {alert for each in ordered if each.acted for alert in each.call.alerts}
    return Evidence(
        ordered,
        T0,
        at(length),
        frozenset({*covered, *alerts}),
        frozenset({*acted, *rules}),
        teams or {},
        tuple(standing),
    )
