"""Takes notes of every page of a replay: what it covers, and why. Chains are kilobytes each, so they go to a file.

In memory stays a `Call` for each page; the reason chains of pages and of alerts, and what became of the incidents,
stand in the file in the order in which they came, and are found again in one reading.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from streamproc.backtest.difference import Call, Kind
from streamproc.backtest.dossier import Dossier
from streamproc.backtest.ledger import KEPT_OF_KEY
from streamproc.core.event import Why
from streamproc.core.identity import SUFFIX
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation

CORRELATE = "correlate"
PACKED = 1
"""Level of gzip: chains repeat themselves, so even the fastest makes a tenth of them."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What stood about an alert when it went."""

    incident_id: str
    action: str
    """`page`, `ticket`, `hold` or `none`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a log says of some calls and alerts."""

    titles: Mapping[str, str]
    """By id of a call: what the responder reads first."""
    trails: Mapping[str, tuple[Why, ...]]
    """By id of a call."""
    chains: Mapping[tuple[str, datetime], tuple[Why, ...]]
    """By alert and moment: by what it was last taken into an incident until then, else by what it was later."""
    fates: Mapping[str, Fate]
    """By alert; none for one that is in no incident."""


@dataclass(slots=True)
class _Page:
    """A page whose alert at PagerDuty is open."""

    call_id: str
    said: Escalation
    dossier: Dossier
    at: datetime
    lead: str
    urgency: str
    alerts: dict[str, None]


@dataclass(slots=True)
class _Watched:
    """An incident that is not over."""

    firing: dict[str, str] = field(default_factory=dict)
    """Alert ids by fingerprint."""
    others: list[str] = field(default_factory=list)
    """Further names of its alerts."""
    standing: tuple[str, str] = ("none", "")
    """Action and reason of the last publication before its resolve."""
    pages: dict[str, _Page] = field(default_factory=dict)
    """By dedup key."""
    latest: tuple[str, str] = ("", "")
    """The alert that the last publication was about, and the record that its chain begins with."""

    def join(self, member: Mapping[str, Any]) -> str | None:
        """Note an alert that joined or changed; return the id that it had, None for the same or none."""
        alert_id, fingerprint = sys.intern(member["alert_id"]), member["fingerprint"]
        old = self.firing.get(fingerprint)
        self.firing[fingerprint] = alert_id
        self.cover(alert_id)
        return None if old == alert_id else old

    def cover(self, alert_id: str) -> None:
        """Let the pages that are open cover an alert."""
        for page in self.pages.values():
            page.alerts[alert_id] = None


class CallLog:
    """A watcher of a ledger that keeps its pages.

    Args:
        file: is written; the chains of a page are some hundred bytes in it.
        side: begins the ids of its calls.
    """

    def __init__(self, file: Path, side: str) -> None:
        self.calls: list[Call] = []
        """Pages that are over, or all of them once the replay has ended."""
        self._file = file
        self._side = side
        self._written = gzip.open(file, "wb", compresslevel=PACKED)  # noqa: SIM115  closed by `close`
        self._watched: dict[str, _Watched] = {}
        self._begun: dict[str, list[dict[str, Any]]] = {}
        self._count = 0

    def close(self) -> None:
        """Close the file; nothing more is noted."""
        self._written.close()

    def opened(self, episode: Mapping[str, Any]) -> None:
        """Note how an alert came until here; its incident tells only of one of those that join within a second."""
        self._begun[episode["alert"]["alert_id"]] = episode["trail"]

    def published(self, dossier: Dossier, told: Mapping[str, Any], at: datetime) -> None:
        """Note who joined and who left."""
        watched = self._watched.setdefault(dossier.incident_id, _Watched())
        before = watched.standing
        if told["status"] == "open":
            watched.standing = (told["decision"]["action"], told["decision"]["reason"])
        went = [old for member in told["joined"] if (old := watched.join(member)) is not None]
        joined = {member["fingerprint"] for member in told["joined"]}
        gone = [fingerprint for fingerprint in told["left"] if fingerprint in watched.firing]
        came_and_went = [watched.firing.pop(fingerprint) for fingerprint in gone if fingerprint in joined]
        went += [watched.firing.pop(fingerprint) for fingerprint in gone if fingerprint not in joined]
        self._went(dossier, came_and_went, watched.standing)
        self._went(dossier, went, before)
        if joined:
            self._joined(watched, told, at)

    def _joined(self, watched: _Watched, told: Mapping[str, Any], at: datetime) -> None:
        """Keep by which chain each alert came; that of a publication is about the last of them."""
        *others, latest = told["joined"]
        watched.latest = (latest["alert_id"], _begins(told["trail"]))
        self._begun.pop(latest["alert_id"], None)
        self._write(joined=latest["alert_id"], at=at, trail=told["trail"])
        for member in others:
            begun = self._begun.pop(member["alert_id"], None)
            if begun is not None:
                self._write(joined=member["alert_id"], at=at, trail=_composed(begun, member["why"], told["trail"]))

    def named(self, incident_id: str, alert_id: str) -> None:
        """Note one more name of an alert of an incident."""
        watched = self._watched.setdefault(incident_id, _Watched())
        watched.others.append(sys.intern(alert_id))
        watched.cover(sys.intern(alert_id))

    def called(self, dossier: Dossier, said: Escalation, at: datetime) -> None:
        """Note a page."""
        watched = self._watched.setdefault(said.incident_id, _Watched())
        firing = list(watched.firing.values()) or [sys.intern(dossier.root_alert)]
        latest, begins = watched.latest
        lead = dossier.root_alert if dossier.root_alert in firing else firing[0]
        if latest in firing and said.trail and said.trail[0].origin == begins:
            lead = latest
        self._count += 1
        call_id = f"{self._side}{self._count}"
        urgency = dossier.standing.get("urgency") or ""
        watched.pages[said.dedup_key] = _Page(call_id, said, dossier, at, lead, urgency, dict.fromkeys(firing))
        title = said.text.summary if said.text else dossier.title
        self._write(call=call_id, title=title, trail=[why.model_dump() for why in said.trail])

    def ended(self, incident_id: str, dedup_key: str) -> None:
        """Note that a page is over."""
        watched = self._watched.get(incident_id)
        page = None if watched is None else watched.pages.pop(dedup_key, None)
        if page is not None:
            self.calls.append(_call(page))

    def closed(self, dossier: Dossier) -> None:
        """Note what is left of an incident."""
        watched = self._watched.pop(dossier.incident_id, _Watched())
        self.calls.extend(_call(page) for page in watched.pages.values())
        self._went(dossier, [*watched.firing.values(), *watched.others], watched.standing)

    def _went(self, dossier: Dossier, alerts: list[str], standing: tuple[str, str]) -> None:
        if alerts:
            self._write(went=alerts, fate=(dossier.incident_id, *standing))

    def _write(self, **line: object) -> None:
        self._written.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def find(self, calls: Collection[str], chains: Collection[tuple[str, datetime]], fates: Collection[str]) -> Found:
        """Return what the log says, after it was closed, in one reading.

        Args:
            calls: ids of calls.
            chains: alerts, and the moment for which their reason chain is wanted.
            fates: alerts of which it is wanted what stood about them in the end.
        """
        titles: dict[str, str] = {}
        trails: dict[str, tuple[Why, ...]] = {}
        ended: dict[str, Fate] = {}
        moments: dict[str, list[datetime]] = {}
        for alert, moment in chains:
            moments.setdefault(alert, []).append(moment)
        latest: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
        for line in self._lines():
            call = line.get("call", "")
            if call in calls:
                titles[call], trails[call] = line["title"], _trail(line["trail"])
            alert = line.get("joined", "")
            for moment in moments.get(alert, ()):
                if (alert, moment) not in latest or datetime.fromisoformat(line["at"]) <= moment:
                    latest[alert, moment] = line["trail"]
            ended.update((alert, Fate(*line["fate"])) for alert in line.get("went", ()) if alert in fates)
        return Found(titles, trails, {key: _trail(trail) for key, trail in latest.items()}, ended)

    def _lines(self) -> Iterator[dict[str, Any]]:
        with gzip.open(self._file, "rb") as lines:
            for line in lines:
                yield orjson.loads(line)


def _begins(trail: list[dict[str, Any]]) -> str:
    return str(trail[0]["origin"]) if trail else ""


def _composed(begun: list[dict[str, Any]], why: str, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the chain of an alert that was published with others: its own beginning, and what its incident decided."""
    at = next((n for n, link in enumerate(told) if link["stage"] == CORRELATE), len(told))
    joined = [{**link, "reason": why, "figures": {}} for link in told[at : at + 1]]
    return [*begun, *joined, *told[at + 1 :]]


def _trail(links: list[dict[str, Any]]) -> tuple[Why, ...]:
    return tuple(Why.model_validate(link) for link in links)


def _call(page: _Page) -> Call:
    said, incident_id = page.said, page.said.incident_id
    tail = said.dedup_key.removeprefix(incident_id)
    kind = Kind.FIRST
    if SUFFIX.fullmatch(tail):
        kind = Kind.SECOND if tail == "/2" else Kind.GROWN
    return Call(
        call_id=page.call_id,
        incident_id=incident_id,
        at=page.at,
        lead=page.lead,
        alerts=tuple(page.alerts),
        severity=said.text.severity if said.text else Severity.ERROR,
        kind=kind,
        urgency=page.urgency,
        destination=said.destination,
        key_hint=said.routing_key[-KEPT_OF_KEY:],
        rule=sys.intern(page.dossier.rule),
        service=sys.intern(page.dossier.service),
    )
