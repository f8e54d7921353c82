"""The requests of a recorded log in order of time, and what people did and wanted beside them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import ValidationError

from streamproc.backtest.reading import Beside, Line, Tally
from streamproc.backtest.recorded import Inboxes
from streamproc.core.errors import Unusable
from streamproc.core.event import Activated, Artifact
from streamproc.core.record import Record
from streamproc.events.feedback import ARM, Feedback, Policy, PolicyKind
from streamproc.events.raw import RawAlert
from streamproc.learning.linear import MODEL
from streamproc.policies import PREFIX
from streamproc.ports import Entry

OWN = 2
"""Versions that a replay uses up itself when it begins: recorded ones stand above them."""
INSTANT = timedelta(microseconds=1)


class Raw:
    """The requests that a topic holds.

    Args:
        inboxes: the log.
        topic: which one.
        since: the first moment; None for the beginning of the log.
        until: the first moment that is left out; None for its end.

    Raises:
        Unusable: it holds none.
    """

    def __init__(self, inboxes: Inboxes, topic: str, since: datetime | None, until: datetime | None) -> None:
        self._inboxes = inboxes
        self._topic = topic
        self._until = until
        self._starts = {
            partition: inboxes.start(topic, partition) if since is None else inboxes.at(topic, partition, since)
            for partition in inboxes.partitions(topic)
        }
        ends = {
            partition: inboxes.end(topic, partition) if until is None else inboxes.at(topic, partition, until)
            for partition in self._starts
        }
        self.total = sum(max(0, ends[partition] - start) for partition, start in self._starts.items())
        """Offsets between the two moments."""

    def first_at(self) -> datetime:
        """Return the moment of the first request.

        Raises:
            Unusable: there is none.
        """
        for record in self._records():
            return record.now
        raise Unusable(f"{self._topic} holds no requests of that time")

    def lines(self, tally: Tally) -> Iterator[Line]:
        """Yield the requests."""
        for number, record in enumerate(self._records(), 1):
            tally.lines = number
            tally.first_at, tally.last_at = tally.first_at or record.now, record.now
            source = record.headers.get("source", b"").decode("ascii", "replace")
            yield Line(record.now, number, source, record.value, number)

    def _records(self) -> Iterator[Record]:
        return heapq.merge(*map(self._partition, self._starts), key=lambda record: record.now)

    def _partition(self, partition: int) -> Iterator[Record]:
        """Yield the requests of a partition; one without a moment became a dead letter live."""
        for record in self._inboxes.records(self._topic, partition, self._starts[partition]):
            if not _has_moment(record):
                continue
            if self._until is not None and record.now >= self._until:
                return
            if _is_raw(record):
                yield record


def is_request(record: Record) -> bool:
    """Return whether a record of `alerts.raw` is what a producer posted; switches of settings stand there, too."""
    return _is_raw(record) and _has_moment(record)


def _is_raw(record: Record) -> bool:
    return record.headers.get("type", b"") in (b"", RawAlert.TYPE.encode())


def _has_moment(record: Record) -> bool:
    try:
        return record.now is not None
    except ValueError:
        return False


def beside(inboxes: Inboxes, since: datetime, until: datetime | None, *, settings_too: bool = False) -> list[Beside]:
    """Return what people did and wanted, in order of time.

    Feedback of that time; and silences and maintenance windows also from before it, which count from its beginning.
    Arming is left out, since a replay is armed from its first request on, and so are settings, with what they silence,
    and catalogue, since a replay has its own.

    Args:
        inboxes: the log.
        since: the moment of the first request.
        until: the first moment that is left out; None for the end of the log.
        settings_too: take arming, settings and catalogue as they were recorded, over those of the replay. Models are
            always the replay's own.
    """
    begin = since - INSTANT
    found: list[Beside] = []
    if settings_too:
        dry = Policy(policy_id=ARM, kind=PolicyKind.ARM, version=OWN, starts_at=begin, withdrawn=True)
        found.append(Beside(begin, (Entry.of("policies", dry),)))
    for record in _all(inboxes, "policies", until):
        entries = _wish(inboxes, record, settings_too=settings_too)
        if entries:
            found.append(Beside(max(record.now, begin), entries))
    found.extend(
        Beside(record.now, (Entry("feedback", record.key, record.value, {"type": Feedback.TYPE.encode()}),))
        for record in _all(inboxes, "feedback", until)
        if record.now >= since
    )
    return sorted(found, key=lambda came: came.at)


def _all(inboxes: Inboxes, topic: str, until: datetime | None) -> Iterator[Record]:
    for partition in inboxes.partitions(topic):
        for record in inboxes.records(topic, partition, inboxes.start(topic, partition)):
            if until is not None and record.stamp >= until:
                break
            if _has_moment(record):
                yield record


def _wish(inboxes: Inboxes, record: Record, *, settings_too: bool) -> tuple[Entry, ...]:
    """Return what to play of a record of `policies`; what cannot be read there became a dead letter live."""
    kind = record.headers.get("type", b"")
    with suppress(ValidationError):
        if kind == Policy.TYPE.encode():
            policy = Policy.model_validate_json(record.value)
            if policy.policy_id == ARM:
                armed = policy.model_copy(update={"version": policy.version + OWN})
                return (Entry.of("policies", armed),) if settings_too else ()
            if settings_too or not policy.policy_id.startswith(PREFIX):
                return (Entry.of("policies", policy),)
        elif kind == Activated.TYPE.encode() and settings_too:
            switch = Activated.model_validate_json(record.value)
            body = inboxes.version(switch.checksum)
            if switch.kind != MODEL.name and body is not None:
                version = switch.version + OWN
                artifact = Artifact(kind=switch.kind, version=version, checksum=switch.checksum, body=body)
                return (
                    Entry.of("versions", artifact, artifact.artifact_id),
                    Entry.of("policies", switch.model_copy(update={"version": version})),
                )
    return ()
