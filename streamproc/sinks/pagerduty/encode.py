"""Escalation -> the body of an Events API v2 request. Pure, total: whatever text comes in, the body is valid.

Limits and field names: PagerDuty/developer-docs, `docs/events-API-v2` (read 2026-11-22).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from streamproc.core.event import Scalar, Why
from streamproc.core.identity import digest
from streamproc.events.alert import Link, Severity
from streamproc.events.escalation import Escalation, PageAction, PageText
from streamproc.sinks.pagerduty.cutting import Detail, clean, dump, fit, plain, shorten, size, unique

Path = Literal["/v2/enqueue", "/v2/change/enqueue"]

MOST_BYTES = 512_000
"""Of a body: the smaller reading of PagerDuty's 512 KB, which Alertmanager takes too."""
SUMMARY = 1024
"""Characters of a summary."""
DEDUP_KEY = 255
"""Characters of a dedup key."""

_FIELD = 1024
_URL = 2048
_TEXT = 255
_NAME = 128
_LINKS = 10
_WHY_HEAD, _WHY_TAIL, _WHY_LINE = 10, 30, 600
_NOTES = 50
_NOTES_ROOM = 64_000
_OURS = ("incident_id", "severity", "delayed", "why", "receipt", "streamproc_cut")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request that is ready to be sent."""

    body: bytes
    cut: tuple[str, ...]
    """What had to be cut or left out, one sentence each; in the body under `custom_details.streamproc_cut` too."""
    path: Path

    @property
    def shown(self) -> str:
        """The body without its routing key, for records that people read."""
        body = json.loads(self.body)
        del body["routing_key"]
        return dump(body).decode()


def encode(
    escalation: Escalation,
    *,
    delayed_by: timedelta | None,
    client: str = "streamproc",
    client_url: str = "",
) -> Encoded:
    """Return the request that says `escalation` to PagerDuty.

    Args:
        escalation: what to say. Acknowledge and resolve carry no payload; change becomes a change event.
        delayed_by: how late a page is because the pipeline was catching up, None where it is not.
        client: name of the sending system, shown beside the alert.
        client_url: where that name links to; empty for no link.
    """
    if escalation.action in (PageAction.ACKNOWLEDGE, PageAction.RESOLVE):
        return Encoded(dump(_head(escalation)), (), "/v2/enqueue")
    text = escalation.text or PageText(summary="", source="", severity=Severity.ERROR)
    cut: list[str] = []
    body = _body(escalation, text, delayed_by, cut)
    details = body["payload"]["custom_details"]
    if escalation.action is PageAction.TRIGGER:
        body |= _shown_by(client, client_url)
    foreign = unique(_told(escalation.action, text), _OURS, _NAME)
    fitted, notes = fit(foreign, MOST_BYTES - size(body) - _NOTES_ROOM)
    cut += notes
    body["payload"]["custom_details"] = {**_first(details), **fitted, **details}
    if cut:
        body["payload"]["custom_details"]["streamproc_cut"] = _bounded(cut)
    path: Path = "/v2/enqueue" if escalation.action is PageAction.TRIGGER else "/v2/change/enqueue"
    return Encoded(dump(body), tuple(_bounded(cut)), path)


def _head(escalation: Escalation) -> dict[str, Any]:
    key = clean(escalation.dedup_key)
    if len(key) > DEDUP_KEY:
        key = f"{key[: DEDUP_KEY - 33]}~{digest(key)[:32]}"
    return {"routing_key": clean(escalation.routing_key), "event_action": str(escalation.action), "dedup_key": key}


def _body(escalation: Escalation, text: PageText, delayed_by: timedelta | None, cut: list[str]) -> dict[str, Any]:
    minutes = 0 if delayed_by is None else max(1, math.ceil(delayed_by.total_seconds() / 60))
    summary = " ".join(clean(text.summary).split()) or f"Incident {shorten(clean(escalation.incident_id), _TEXT)}"
    marked = f"[delayed {minutes} min] {summary}" if minutes else summary
    payload = {
        "summary": _short("summary", marked, SUMMARY, cut),
        "source": _short("source", text.source, _FIELD, cut).strip() or "streamproc",
        "timestamp": escalation.at.isoformat(),
        "custom_details": _details(escalation, text, minutes, cut),
    }
    links = [
        _named_url("href", "text", link, cut) for link in _usable("link", text.links, ("http://", "https://"), cut)
    ]
    if escalation.action is PageAction.CHANGE:
        cut += [f"image left out, a change event has none: {shorten(clean(image.href), 80)}" for image in text.images]
        head = {"routing_key": clean(escalation.routing_key), "payload": payload}
        return head | ({"links": links} if links else {})
    payload["severity"] = str(text.severity)
    for name, value in (("component", text.component), ("group", text.group), ("class", text.kind)):
        if value:
            payload[name] = _short(name, value, _FIELD, cut)
    images = [_named_url("src", "alt", image, cut) for image in _usable("image", text.images, ("https://",), cut)]
    extras = {"images": images, "links": links}
    return _head(escalation) | {"payload": payload} | {name: given for name, given in extras.items() if given}


def _details(escalation: Escalation, text: PageText, minutes: int, cut: list[str]) -> dict[str, Any]:
    details: dict[str, Any] = {"incident_id": _short("incident_id", escalation.incident_id, _FIELD, cut)}
    if escalation.action is PageAction.CHANGE:
        details["severity"] = str(text.severity)
    if minutes:
        details["delayed"] = f"decided at {escalation.at.isoformat()}, said {minutes} min later: we were catching up"
    if escalation.trail:
        details["why"] = _chain(escalation.trail, cut)
    if escalation.receipt is not None:
        receipt: dict[str, Detail] = escalation.receipt.model_dump()
        details["receipt"] = {
            name: shorten(value, _TEXT) if isinstance(value := plain(given), str) else value
            for name, given in receipt.items()
        }
    return details


def _told(action: PageAction, text: PageText) -> Iterable[tuple[str, Detail]]:
    yield from text.details.items()
    if action is PageAction.CHANGE:
        # A change event has no fields for these.
        named = (("component", text.component), ("group", text.group), ("class", text.kind))
        yield from ((name, value) for name, value in named if value)


def _first(details: dict[str, Any]) -> dict[str, Any]:
    return {name: details[name] for name in ("incident_id", "severity", "delayed") if name in details}


def _chain(trail: tuple[Why, ...], cut: list[str]) -> list[str]:
    gone = len(trail) - _WHY_HEAD - _WHY_TAIL
    if gone <= 0:
        return [_line(why, cut) for why in trail]
    cut.append(f"why: {gone:,} of {len(trail):,} reasons left out")
    head = [_line(why, cut) for why in trail[:_WHY_HEAD]]
    return [*head, f"… [{gone:,} left out]", *(_line(why, cut) for why in trail[-_WHY_TAIL:])]


def _line(why: Why, cut: list[str]) -> str:
    figures = ", ".join(f"{name}={_figure(value)}" for name, value in why.figures.items())
    told = f"{why.stage}: {why.reason}{f' ({figures})' if figures else ''} [{why.origin}]"
    return _short(f"why, {shorten(clean(why.stage), 60)}", told, _WHY_LINE, cut)


def _figure(value: Scalar) -> str:
    told = plain(value)
    return f"{told:.4g}" if isinstance(told, float) else str(told)


def _short(name: str, text: str, most: int, cut: list[str]) -> str:
    whole = clean(text)
    if len(whole) > most:
        cut.append(f"{name}: {most:,} of {len(whole):,} characters kept")
    return shorten(whole, most)


def _usable(what: str, links: tuple[Link, ...], schemes: tuple[str, ...], cut: list[str]) -> Iterable[Link]:
    usable: list[Link] = []
    for link in links:
        # A cut URL leads nowhere: one that is too long is left out, as is one that PagerDuty would not show.
        fits = link.href.lower().startswith(schemes) and len(link.href) <= _URL and clean(link.href) == link.href
        if fits and len(usable) < _LINKS:
            usable.append(link)
        else:
            cut.append(f"{what} left out: {shorten(clean(link.href), 80)}")
    return usable


def _named_url(url: str, name: str, link: Link, cut: list[str]) -> dict[str, str]:
    return {url: link.href} | ({name: _short(f"{name} of {url}", link.text, _TEXT, cut)} if link.text else {})


def _shown_by(client: str, client_url: str) -> dict[str, str]:
    given = {"client": shorten(clean(client), _TEXT), "client_url": shorten(clean(client_url), _URL)}
    return {name: value for name, value in given.items() if value}


def _bounded(cut: list[str]) -> list[str]:
    notes = cut if len(cut) <= _NOTES else [*cut[:_NOTES], f"and {len(cut) - _NOTES:,} more"]
    return [shorten(note, 300) for note in notes]
