"""Which alert a person means, found in the log: among the alerts, else by reading the requests again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from streamproc.backtest import rawlog
from streamproc.backtest.reading import Line, Tally
from streamproc.backtest.recorded import Inboxes
from streamproc.core.errors import Rejected
from streamproc.core.record import Record
from streamproc.core.table import Rows
from streamproc.events.alert import Alert
from streamproc.events.raw import RawAlert
from streamproc.stages import normalise


@dataclass(frozen=True, slots=True)
class Target:
    """The alert that is asked about."""

    alert: Alert
    """Its first notification of that occurrence that the log holds."""
    heard: datetime
    """When that came in."""
    last: datetime
    """When it was last heard of."""
    record: Record | None
    """Its record in `alerts`, None where that is no longer held."""


def find(inboxes: Inboxes, text: str) -> Target | None:
    """Return the newest occurrence of an alert that the log holds, None where it holds nothing of it.

    Args:
        inboxes: the log.
        text: a fingerprint, with or without `fp:v1:`, or an alert id.
    """
    bare = text.removeprefix("fp:v1:").partition("@")[0].encode()
    told: list[tuple[datetime, Record | None, Alert]]
    told = [(record.now, record, alert) for record, alert in _alerts(inboxes, bare) if _is(alert, text)]
    if not told:
        told = [(now, None, alert) for now, alert in _raw_alerts(inboxes) if _is(alert, text)]
    # It may have resolved before it was ever seen firing.
    firing = [one for one in told if one[2].status == "firing"] or told
    if not firing:
        return None
    newest = max(firing, key=_moment)
    over = [one for one in told if one[2].status == "resolved" and one[0] <= newest[0]]
    ended = max(map(_moment, over), default=None)  # a producer may give an alert that fires again its old id
    same = [one for one in firing if one[2].alert_id == newest[2].alert_id and (ended is None or one[0] > ended)]
    heard, record, alert = min(same or [newest], key=_moment)
    return Target(alert, heard, max(now for now, _, _ in told), record)


def _moment(told: tuple[datetime, Record | None, Alert]) -> datetime:
    return told[0]


def _is(alert: Alert, text: str) -> bool:
    names = (alert.alert_id, alert.fingerprint, alert.fingerprint.removeprefix("fp:v1:"))
    return text in names or (text.startswith("fp:v1:") and text == f"fp:v1:{alert.alert_id}")


def _alerts(inboxes: Inboxes, needle: bytes) -> Iterator[tuple[Record, Alert]]:
    for record in records_of(inboxes, "alerts", None):
        if needle in record.value and record.headers.get("type") == b"alert.v1":
            yield record, Alert.decode(record.value, record.headers)


def _raw_alerts(inboxes: Inboxes) -> Iterator[tuple[datetime, Alert]]:
    """Yield the alerts of requests that are older than what `alerts` still holds."""
    places = [(partition, inboxes.start("alerts", partition)) for partition in inboxes.partitions("alerts")]
    if not any(start for _, start in places):
        return
    firsts = (next(inboxes.records("alerts", *place), None) for place in places)
    until = min((first.stamp for first in firsts if first is not None), default=None)
    for line in rawlog.Raw(inboxes, "alerts.raw", None, until).lines(Tally()):
        yield from ((line.at, alert) for alert in normalised(line, normalise.Config()))


def normalised(line: Line, config: normalise.Config) -> list[Alert]:
    """Return the alerts of a request, none where it is refused."""
    raw = RawAlert(body=line.body, source=line.source)
    try:
        step = normalise.step(raw, cast("Rows", None), line.at, config)  # it reads no rows
    except Rejected:
        return []
    return [event for event in step.emit if isinstance(event, Alert)]


def records_of(inboxes: Inboxes, topic: str, since: datetime | None) -> Iterator[Record]:
    """Yield the records of all partitions of a topic, one after the other, from a moment on; None for the beginning."""
    for partition in inboxes.partitions(topic):
        start = inboxes.start(topic, partition) if since is None else inboxes.at(topic, partition, since)
        yield from inboxes.records(topic, partition, start)
