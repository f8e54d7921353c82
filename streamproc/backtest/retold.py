"""Recorded inboxes, folded again exactly as they were, all nodes side by side: what was decided and paged live."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import orjson
from pydantic import ValidationError

from streamproc.backtest.ledger import Files, Ledger
from streamproc.backtest.reading import Tally
from streamproc.backtest.recorded import Inboxes
from streamproc.backtest.refold import Refold
from streamproc.core.event import Activated
from streamproc.core.fold import CONFIG, Folded
from streamproc.core.record import Outgoing, Record
from streamproc.core.step import ACTIVE
from streamproc.events.alert import Alert, Episode
from streamproc.events.feedback import Feedback
from streamproc.events.raw import RawAlert
from streamproc.services import CATALOGUE
from streamproc.stages import escalate
from streamproc.state import MEMBER, MemberRow
from streamproc.topology import TOPOLOGY


class Retold:
    """One telling of a recorded log. Inbox partitions are independent of one another; they are told in order of time.

    Args:
        inboxes: the log.
        files: where the outputs' lines go.
    """

    def __init__(self, inboxes: Inboxes, files: Files) -> None:
        self.reasons: dict[str, Counter[str]] = {}
        """How often each stage decided what."""
        self.feedback: Counter[str] = Counter()
        """Feedback that came to `decide`, as `applied`."""
        places = [(node, p) for node in TOPOLOGY for p in inboxes.partitions(node.inbox.name)]
        self._parts = [Refold(node, partition, inboxes) for node, partition in places]
        self.whole = all(part.whole for part in self._parts)
        """False where retention has taken the beginning of an inbox; see `Refold`."""
        self.total = sum(inboxes.end(part.node.inbox.name, part.partition) - part.start for part in self._parts)
        """Offsets that there are to fold."""
        self.until: datetime | None = None
        """The last moment that was told."""
        known = destinations(inboxes).values()
        keys = {each.routing_key.get_secret_value() for each in known}
        tickets = {each.ticket_routing_key.get_secret_value() for each in known if each.ticket_routing_key}
        self.ledger = Ledger(files, frozenset(tickets - keys))
        self._decide = [part for part in self._parts if part.node.name == "decide"]

    @property
    def has_catalogue(self) -> bool:
        """Whether a service catalogue was active in the end."""
        return any(part.rows.get(ACTIVE.at(CATALOGUE.name)) is not None for part in self._decide)

    def run(
        self,
        since: datetime | None,
        until: datetime | None,
        tally: Tally,
        moved: Callable[[int], None],
        stop: Callable[[], bool],
    ) -> bool:
        """Fold everything up to a moment; return False where `stop` said so before.

        Args:
            since: what is older is folded, and not told.
            until: the first moment that is left out.
            tally: counts the requests that are told.
            moved: called with how many records are folded.
            stop: asked before each record.

        Raises:
            Unusable: the log lacks something, see `Refold`.
        """
        waiting = [(part, part.records()) for part in self._parts]
        heap: list[tuple[datetime, int, int, Record]] = []

        def push(at: int) -> None:
            part, records = waiting[at]
            if (record := next(records, None)) is not None:
                heapq.heappush(heap, (_moment(record, part), at, record.offset, record))

        for at in range(len(waiting)):
            push(at)
        folded, complete = 0, True
        while heap and (until is None or heap[0][0] < until):
            if stop():
                complete = False
                break
            now, at, _, record = heapq.heappop(heap)
            if self.until is not None and now > self.until:
                self.ledger.settle(self.until, self._incident_of)
            came = waiting[at][0].take(record)
            if since is None or now >= since:
                self.until = now
                self._tell(waiting[at][0], record, came, now, tally)
            push(at)
            folded += 1
            moved(folded)
        if self.until is not None:
            self.ledger.settle(self.until, self._incident_of)
        self.ledger.finish()
        return complete

    def _tell(self, part: Refold, record: Record, folded: Folded, now: datetime, tally: Tally) -> None:
        for seen, times in folded.observations.items():
            self.reasons.setdefault(seen.stage, Counter())[seen.reason] += times
        kind = record.headers.get("type", part.node.default_type.TYPE.encode())
        if kind == RawAlert.TYPE.encode():
            tally.lines += 1
            tally.first_at, tally.last_at = tally.first_at or now, now
        elif kind == Alert.TYPE.encode() and not folded.dead_letters:
            # Told by the node that takes it, so that what came of it is told at the same time.
            self._take(record, kind, record.value, now)
        elif kind == Episode.TYPE.encode() and not folded.dead_letters:
            self._untold(record, now)
        elif kind == Feedback.TYPE.encode() and part.node.name == "decide":
            self.feedback["applied"] += 1
        for emit in folded.emits:
            if emit.headers["type"] != Alert.TYPE.encode():
                self.ledger.take(_record(emit, now))
        self.ledger.wanted.clear()

    def _untold(self, record: Record, now: datetime) -> None:
        """Tell of an alert by its episode, where the inbox of `deduplicate`, which is kept for less, lacks it."""
        alert = orjson.loads(record.value)["alert"]
        if alert["status"] == "firing" and alert["alert_id"] not in self.ledger.of:
            self._take(record, Alert.TYPE.encode(), orjson.dumps(alert), now)
            self._take(record, Episode.TYPE.encode(), record.value, now)

    def _take(self, record: Record, kind: bytes, value: bytes, now: datetime) -> None:
        headers = {**record.headers, "type": kind}
        self.ledger.take(Record(record.topic, record.partition, record.offset, value, now, b"", headers))

    def _incident_of(self, fingerprint: str) -> str | None:
        for part in self._decide:
            row = part.rows.get(MEMBER.at(fingerprint))
            if isinstance(row, MemberRow):
                return row.incident_id
        return None


def _moment(record: Record, part: Refold) -> datetime:
    """Return the moment at which a record is decided: time never goes back within a partition."""
    with suppress(ValueError):
        return max(record.now, part.position.now)
    return part.position.now


def _record(emit: Outgoing, now: datetime) -> Record:
    return Record(emit.topic, 0, -1, emit.value, now, emit.key, emit.headers)


def destinations(inboxes: Inboxes) -> dict[str, escalate.Destination]:
    """Return the destinations of all settings that were ever active, as far as the log tells; the newest of a name."""
    found: dict[str, escalate.Destination] = {}
    for partition in inboxes.partitions("policies"):
        for record in inboxes.records("policies", partition, inboxes.start("policies", partition)):
            with suppress(ValidationError):
                switch = Activated.model_validate_json(record.value)
                body = inboxes.version(switch.checksum) if switch.kind == CONFIG else None
                section: Mapping[str, Any] = {} if body is None else orjson.loads(body).get("escalate", {})
                found.update(escalate.Config.model_validate(section).destinations)
    return found
