"""Asks an Alertmanager for its alerts (API v2). Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from streamproc import __version__
from streamproc.commands.common import OutsideRefused
from streamproc.core.errors import Transient, Unusable

PATH = "/api/v2/alerts"
ASKS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts that Alertmanager puts into one notification."""

    labels: dict[str, str]
    """What they were grouped by; empty where by nothing, or where that is not known."""
    alerts: list[dict[str, Any]]
    """As its API tells them, the oldest first."""


@dataclass(frozen=True, slots=True)
class Firing:
    """What an Alertmanager has firing now."""

    address: str
    """Where it was asked, without a password."""
    groups: list[Group]
    left_out: int
    """Alerts that it silences or inhibits itself: no receiver hears of them."""

    @property
    def count(self) -> int:
        """How many alerts fire."""
        return sum(len(group.alerts) for group in self.groups)


def fetch(url: str, headers: Sequence[str], timeout: float) -> Firing:
    """Return what fires.

    Args:
        url: address of the Alertmanager, as in the browser; may hold user and password.
        headers: `Name: value` each.
        timeout: seconds.

    Raises:
        Unusable: the address or a header is none, or no Alertmanager answers there.
        OutsideRefused: it wants other credentials.
        Transient: it cannot be reached, or cannot answer now.
    """
    where = _address(url)
    shown = str(where.copy_with(username=None, password=None))
    try:
        with httpx.Client(timeout=timeout, follow_redirects=True, headers=_headers(headers)) as client:
            answer = client.get(where)
            grouped = client.get(where.copy_with(path=f"{where.path}/groups"))
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise Transient(f"{shown} cannot be reached: {why}; is the address right, and Alertmanager up?") from error
    listed = _alerts(answer, shown)
    active = [alert for alert in listed if _state(alert) != "suppressed"]
    active.sort(key=lambda alert: str(alert.get("startsAt")))
    return Firing(shown, _groups(active, _list(grouped) or []), len(listed) - len(active))


def _alerts(answer: httpx.Response, shown: str) -> list[dict[str, Any]]:
    if answer.status_code in ASKS:
        mend = "put user:password@ into the address, or give --header 'Authorization: Bearer ...'"
        raise OutsideRefused(f"{shown} answers {answer.status_code}: {mend}")
    if answer.is_server_error:
        raise Transient(f"{shown} answers {answer.status_code}: it cannot tell its alerts now")
    listed = _list(answer)
    if listed is None or not all("labels" in alert for alert in listed):
        said = f"HTTP {answer.status_code}" if not answer.is_success else "something that is no list of alerts"
        mend = "give the address of its own page, for example http://alertmanager:9093"
        raise Unusable(f"no Alertmanager answers at {shown} ({said}): {mend}")
    return listed


def _groups(alerts: list[dict[str, Any]], grouped: list[dict[str, Any]]) -> list[Group]:
    """Return the alerts by the first group that has them; those without one stand in a group without labels."""
    labels: dict[str, dict[str, str]] = {}
    for group in grouped:
        for alert in group.get("alerts", ()):
            labels.setdefault(str(alert.get("fingerprint")), group.get("labels") or {})
    found: dict[tuple[tuple[str, str], ...], Group] = {}
    for alert in alerts:
        by = labels.get(str(alert.get("fingerprint")), {})
        found.setdefault(tuple(sorted(by.items())), Group(by, [])).alerts.append(alert)
    return list(found.values())


def _address(url: str) -> httpx.URL:
    text = url.strip().partition("#")[0]
    try:
        given = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as error:
        raise Unusable(f"that is no address: {error}") from error
    if given.scheme not in ("http", "https") or not given.host:
        raise Unusable("that is no address; give for example http://alertmanager:9093")
    return given.copy_with(raw_path=(given.path.rstrip("/").removesuffix(PATH) + PATH).encode())


def _headers(given: Sequence[str]) -> dict[str, str]:
    found = {"User-Agent": f"streamproc/{__version__}", "Accept": "application/json"}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise Unusable("a --header is written 'Name: value'")
        found[name.strip()] = value.strip()
    return found


def _list(answer: httpx.Response) -> list[dict[str, Any]] | None:
    """Return the list of objects that was answered, None where it was something else."""
    if not answer.is_success:
        return None
    try:
        listed = answer.json()
    except ValueError:
        return None
    return listed if isinstance(listed, list) and all(isinstance(one, dict) for one in listed) else None


def _state(alert: dict[str, Any]) -> object:
    status = alert.get("status")
    return status.get("state") if isinstance(status, dict) else None
