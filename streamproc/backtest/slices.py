"""The stretch of a log around one alert, and what folding it again comes to for that alert.

Bounded: the requests of the alert's scope, up to its last notification, and two hours of timers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from streamproc.backtest import rawlog
from streamproc.backtest.changing import beside_with, line_with
from streamproc.backtest.heard import Target, normalised, records_of
from streamproc.backtest.reading import Beside, Line, Tally
from streamproc.backtest.recorded import Inboxes
from streamproc.backtest.replay import Replay
from streamproc.backtest.whynot import Change
from streamproc.core.event import Activated, Artifact, Why
from streamproc.core.fold import CONFIG
from streamproc.core.record import Record
from streamproc.events.escalation import PageAction
from streamproc.events.incident import Action
from streamproc.ports import Entry
from streamproc.services import CATALOGUE, Catalogue
from streamproc.settings import Settings
from streamproc.stages import normalise

MOST_LINES = 5_000
"""Requests that are folded again for each change at most; those around the alert are kept."""
AFTER = timedelta(hours=1)
"""So long after it was first heard the requests go on, at least: what joins its incident may page it."""
MOMENT = timedelta(microseconds=1)
MODEL = "model"


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody was called about an incident."""

    at: datetime
    incident_id: str
    destination: str
    dedup_key: str
    chain: tuple[Why, ...]


@dataclass(slots=True)
class Seen:
    """What folding again came to for one alert."""

    incident_id: str = ""
    joined_at: datetime | None = None
    call: Call | None = None
    """The page of it, None where nobody was called after it joined."""
    covered: Call | None = None
    """The page that was out when it joined."""
    chain: tuple[Why, ...] = ()
    """From the request to the decision."""
    reasons: set[tuple[str, str]] = field(default_factory=set)

    @property
    def page(self) -> Call | None:
        """The page by which people hear of it."""
        return self.covered or self.call

    @property
    def heard_at(self) -> datetime | None:
        """When people hear of it, None where they do not."""
        return self.joined_at if self.covered else None if self.call is None else self.call.at

    @property
    def whole(self) -> tuple[Why, ...]:
        """The reason chain from the request to the page; to the decision where there is none."""
        if self.call is None or self.covered is not None:
            return self.chain
        timed = not self.chain or not self.call.chain or self.call.chain[0].origin != self.chain[0].origin
        return (*self.chain, *self.call.chain) if timed else self.call.chain


@dataclass(frozen=True, slots=True)
class Bound:
    """What was folded again, each time."""

    since: datetime
    until: datetime
    requests: int
    left_out: int
    """Requests of that time that are of other scopes, or too many."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What is folded again."""

    lines: tuple[tuple[Line, bool], ...]
    """Requests, and whether the alert is among them."""
    beside: tuple[Beside, ...]
    bound: Bound
    config: Mapping[str, Any]
    """The settings of the stages when the alert was first heard."""
    catalogue: Catalogue | None


class _NoFiles:
    def write(self, name: str, line: dict[str, Any]) -> None:
        """Keep nothing."""


class Watch:
    """Reads along in a replay, for what becomes of one alert.

    Args:
        fingerprint: of the alert.
        since: when it was first heard; what it was before is another occurrence.
    """

    def __init__(self, fingerprint: str, since: datetime) -> None:
        self.seen = Seen()
        self._fingerprint = fingerprint
        self._since = since
        self._action: dict[str, str] = {}
        self._open: dict[str, dict[str, Call]] = {}

    def __call__(self, record: Record) -> None:
        """Take note of a record."""
        kind = record.headers.get("type", b"")
        if kind == b"incident.v1":
            self._incident(record)
        elif kind == b"escalation.v1":
            self._escalation(record)

    def _incident(self, record: Record) -> None:
        told = orjson.loads(record.value)
        incident_id, seen = told["incident_id"], self.seen
        self._action[incident_id] = told["decision"]["action"]
        joins = record.now >= self._since and any(one["fingerprint"] == self._fingerprint for one in told["joined"])
        if joins and not seen.incident_id:
            seen.incident_id, seen.joined_at = incident_id, record.now
            if self._action[incident_id] == Action.PAGE:  # else a person has resolved it at PagerDuty, say
                seen.covered = next(iter(self._open.get(incident_id, {}).values()), None)
        if incident_id == seen.incident_id:
            trail = tuple(Why.model_validate(why) for why in told["trail"])
            seen.reasons.update((why.stage, why.reason) for why in trail)
            seen.chain = seen.chain or trail

    def _escalation(self, record: Record) -> None:
        said = orjson.loads(record.value)
        incident_id, key = said["incident_id"], said["dedup_key"]
        out = self._open.setdefault(incident_id, {})
        if said["action"] == PageAction.RESOLVE:
            out.pop(key, None)
        elif said["action"] == PageAction.TRIGGER and said["routing_key"] and key not in out:
            if self._action.get(incident_id) != Action.PAGE:
                return
            chain = tuple(Why.model_validate(why) for why in said["trail"])
            out[key] = call = Call(record.now, incident_id, said["destination"], key, chain)
            if incident_id == self.seen.incident_id and self.seen.call is None:
                self.seen.call = call


def cut(inboxes: Inboxes, target: Target, since: datetime, most: int = MOST_LINES) -> Slice:
    """Return the requests around an alert, and what came in beside them.

    Args:
        inboxes: the log.
        target: the alert.
        since: from when on.
        most: requests at most; of more, those around its first notification.
    """
    until = max(target.last, target.heard + AFTER) + MOMENT
    beside = sorted(
        [*rawlog.beside(inboxes, since, until, settings_too=True), *_models(inboxes, since, until)],
        key=lambda came: came.at,
    )
    config, catalogue = _active(beside, target.heard)
    words = normalise.Config.model_validate(config.get("normalise", {}))
    raw = rawlog.Raw(inboxes, "alerts.raw", since, until)
    kept: list[tuple[Line, bool]] = []
    left_out = 0
    for line in raw.lines(Tally()):
        alerts = normalised(line, words)
        if any(alert.scope == target.alert.scope for alert in alerts):
            kept.append((line, any(alert.fingerprint == target.alert.fingerprint for alert in alerts)))
        else:
            left_out += 1
    if len(kept) > most:
        before = sum(line.at <= target.heard for line, _ in kept)
        begin = max(0, min(before - most // 2, len(kept) - most))
        left_out += len(kept) - most
        kept = kept[begin : begin + most]
    bound = Bound(since, until, len(kept), left_out)
    return Slice(tuple(kept), tuple(beside), bound, config, None if catalogue is None else Catalogue.of(catalogue))


def _models(inboxes: Inboxes, since: datetime, until: datetime) -> Iterator[Beside]:
    """Yield the learned models as they were switched to; versions above those that a replay learns itself."""
    for record in records_of(inboxes, "policies", None):
        if record.headers.get("type") != Activated.TYPE.encode() or record.stamp >= until:
            continue
        switch = Activated.decode(record.value, record.headers)
        body = inboxes.version(switch.checksum) if switch.kind == MODEL else None
        if body is not None:
            version = switch.version + 1_000_000
            artifact = Artifact(kind=MODEL, version=version, checksum=switch.checksum, body=body)
            entries = (
                Entry.of("versions", artifact, artifact.artifact_id),
                Entry.of("policies", switch.model_copy(update={"version": version})),
            )
            yield Beside(max(record.now, since - rawlog.INSTANT), entries)


def _active(beside: Iterable[Beside], moment: datetime) -> tuple[dict[str, Any], str | None]:
    """Return the settings and the catalogue that count at a moment."""
    bodies: dict[str, str] = {}
    for came in beside:
        for entry in came.entries:
            if came.at <= moment and entry.headers.get("type") == Artifact.TYPE.encode():
                artifact = Artifact.model_validate_json(entry.value)
                bodies[artifact.kind] = artifact.body
    config: dict[str, Any] = orjson.loads(bodies.get(CONFIG, "{}"))
    return config, bodies.get(CATALOGUE.name)


def fold_again(told: Slice, target: Target, changes: Sequence[Change] = ()) -> Seen:
    """Fold a slice again with something changed, and return what comes of the alert."""
    watch = Watch(target.alert.fingerprint, target.heard)
    fingerprint = target.alert.fingerprint
    lines = (line_with(line, fingerprint, changes) if named else line for line, named in told.lines)
    replay = Replay(Settings(), None, _NoFiles(), watch)
    replay.run(lines, beside_with(told.beside, changes), lambda: False)
    return watch.seen
