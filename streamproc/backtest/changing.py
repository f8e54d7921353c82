"""Lays a change over recorded requests, settings, policies and feedback, so that they can be folded again. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from streamproc.backtest.reading import Beside, Line
from streamproc.backtest.whynot import Change
from streamproc.core.errors import Rejected
from streamproc.core.event import Activated, Artifact, Event
from streamproc.core.fold import CONFIG
from streamproc.events.feedback import ARM, Feedback, Policy
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.services import CATALOGUE
from streamproc.sources import SOURCES, recognise
from streamproc.sources.alertmanager import NAME as ALERTMANAGER
from streamproc.sources.datadog import NAME as DATADOG

E = TypeVar("E", bound=Event)
WARNINGS = frozenset({"warn", "re-warn"})
"""Transitions of Datadog that are warnings whatever the priority says."""


def beside_with(beside: Iterable[Beside], changes: Iterable[Change]) -> list[Beside]:
    """Return what came in beside the requests, as it would have been."""
    changed = tuple(changes)
    found = (Beside(came.at, tuple(_entries(came.entries, changed))) for came in beside)
    return [came for came in found if came.entries]


def _entries(entries: tuple[Entry, ...], changes: tuple[Change, ...]) -> Iterator[Entry]:
    renamed: dict[str, str] = {}
    for entry in entries:
        kind = entry.headers.get("type", b"").decode()
        if kind == Policy.TYPE:
            policy_id = Policy.model_validate_json(entry.value).policy_id
            if any(policy_id == change.policy or (change.armed and policy_id == ARM) for change in changes):
                continue
        elif kind == Feedback.TYPE:
            said = read(Feedback, entry)
            if said is not None and any(said.feedback_id == change.feedback for change in changes):
                continue
        elif kind == Artifact.TYPE:
            artifact = Artifact.model_validate_json(entry.value)
            body = _body(artifact, changes)
            checksum = hashlib.sha256(body.encode()).hexdigest()
            renamed[artifact.checksum] = checksum
            other = artifact.model_copy(update={"body": body, "checksum": checksum})
            yield Entry.of(entry.topic, other, other.artifact_id)
            continue
        elif kind == Activated.TYPE:
            switch = Activated.model_validate_json(entry.value)
            checksum = renamed.get(switch.checksum, switch.checksum)
            yield Entry.of(entry.topic, switch.model_copy(update={"checksum": checksum}))
            continue
        yield entry


def read(kind: type[E], entry: Entry) -> E | None:
    """Return the event of an entry; None where it is of another kind, or unreadable: then it was a dead letter live."""
    if entry.headers.get("type") != kind.TYPE.encode():
        return None
    try:
        return kind.decode(entry.value, entry.headers)
    except ValidationError:
        return None


def _body(artifact: Artifact, changes: tuple[Change, ...]) -> str:
    """Return the settings or the catalogue as they would have been."""
    told: dict[str, Any] = orjson.loads(artifact.body)
    for change in changes:
        if artifact.kind == CONFIG:
            for section, name, value in change.settings:
                told = {**told, section: {**told.get(section, {}), name: value}}
        elif artifact.kind == CATALOGUE.name and change.dependency is not None:
            told = _without(told, *change.dependency)
    return orjson.dumps(told).decode()


def _without(catalogue: Mapping[str, Any], service: str, needed: str) -> dict[str, Any]:
    services = dict(catalogue["services"])
    kept = services.get(service) or {}
    services[service] = {**kept, "depends_on": [name for name in kept.get("depends_on", ()) if name != needed]}
    return {**catalogue, "services": services}


def line_with(line: Line, fingerprint: str, changes: Iterable[Change]) -> Line:
    """Return a request as it would have been, had the alert with this fingerprint said something else."""
    severity = next((change.severity for change in changes if change.severity is not None), None)
    starts_at = next((change.starts_at for change in changes if change.starts_at is not None), None)
    if severity is None and starts_at is None:
        return line
    try:
        source, body = recognise(RawAlert(body=line.body, source=line.source))
        said = _Said(source, fingerprint, line.at, None if severity is None else str(severity), starts_at)
        return replace(line, body=orjson.dumps(said.rewritten(body)))
    except Rejected:  # it was refused live, and is again
        return line


class _Said:
    """What one alert says instead, whichever its source."""

    def __init__(
        self, source: str, fingerprint: str, now: datetime, severity: str | None, starts_at: datetime | None
    ) -> None:
        self._source = source
        self._fingerprint = fingerprint
        self._now = now
        self._severity = severity
        self._starts = None if starts_at is None else starts_at.isoformat()

    def rewritten(self, body: Any) -> Any:
        """Return a body in which that alert says it."""
        if isinstance(body, list):
            return [self._one(alert) for alert in body]
        if isinstance(body.get("alerts"), list):
            return {**body, "alerts": [self._one(alert) for alert in body["alerts"]]}
        return self._one(body)

    def _one(self, alert: Any) -> Any:
        found, _ = SOURCES[self._source].read(alert if self._source == DATADOG else [alert], self._now)
        if not found or found[0].fingerprint != self._fingerprint or found[0].status != "firing":
            return alert
        if self._source == DATADOG:
            return self._event(alert)
        told = dict(alert)
        if self._source == ALERTMANAGER:
            told["fingerprint"] = alert.get("fingerprint") or self._fingerprint.rpartition(":")[2]
            if self._severity is not None:
                told["labels"] = {**alert["labels"], "severity": self._severity}
            return told | ({} if self._starts is None else {"startsAt": self._starts})
        severity = {} if self._severity is None else {"severity": self._severity}
        return told | severity | ({} if self._starts is None else {"starts_at": self._starts})

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        if self._severity is None:
            return event
        warned = str(event.get("alert_transition", "")).lower() in WARNINGS
        return {**event, "alert_priority": self._severity} | ({"alert_transition": "Triggered"} if warned else {})
