"""What settings counted when, who wanted it and why; and what must be told to go on to a candidate, or back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from streamproc.backtest.recorded import Inboxes
from streamproc.core.errors import Unusable
from streamproc.core.event import Activated
from streamproc.core.record import Record
from streamproc.core.step import ActiveRow
from streamproc.events.feedback import Policy
from streamproc.ports import Entry
from streamproc.shadow.candidate import Candidate, Standing, ended
from streamproc.versions import CHANGED, EMPTY, FILE, activation, as_replaced, switched

TOGETHER = timedelta(seconds=5)
"""Switches of one change are appended together; a broker may stamp them some milliseconds apart."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of settings, and what counted from then on."""

    at: datetime
    author: str
    reason: str
    kinds: tuple[str, ...]
    """What was changed."""
    stands: Mapping[str, Activated]
    """Every version after it, by kind."""

    @property
    def number(self) -> int:
        """Rises with every change, by how many kinds were changed: so it stays the same when older ones are gone."""
        return sum(switch.version for switch in self.stands.values())


@dataclass(frozen=True, slots=True)
class Known:
    """What counts now."""

    active: Mapping[str, ActiveRow]
    policies: Iterable[Policy]
    file: str | None
    """Body of the artifact `file`, None where no start has written one."""


def changes(records: Iterable[Record]) -> list[Change]:
    """Return every change that records of the topic `policies` tell, the oldest first."""
    found: list[Change] = []
    stands: dict[str, Activated] = {}
    for record in records:
        if record.headers.get("type") != Activated.TYPE.encode():
            continue
        try:
            switch = Activated.model_validate_json(record.value)
        except ValidationError:
            continue
        known = stands.get(switch.kind)
        if switch.kind not in CHANGED or (known is not None and known.version >= switch.version):
            continue
        stands = {**stands, switch.kind: switch}
        last = found[-1] if found else None
        kinds: tuple[str, ...] = (switch.kind,)
        if last is not None and _together(last, switch, record.stamp):
            found.pop()
            kinds = (*last.kinds, switch.kind)
        found.append(Change(record.stamp, switch.author, switch.reason, kinds, stands))
    return found


def _together(last: Change, switch: Activated, at: datetime) -> bool:
    same = (last.author, last.reason) == (switch.author, switch.reason)
    return same and switch.kind not in last.kinds and at - last.at <= TOGETHER


def history(inboxes: Inboxes) -> list[Change]:
    """Return every change that the log still tells, the oldest first."""
    return changes(
        record
        for partition in inboxes.partitions("policies")
        for record in inboxes.records("policies", partition, inboxes.start("policies", partition))
    )


def promotion(
    candidate: Candidate, running: Standing, known: Known, now: datetime, author: str, reason: str
) -> list[Entry]:
    """Return the records that make a candidate what counts, and end it as a candidate."""
    entries = _told(candidate.bodies, known, now, author, reason)
    return [*entries, *ended(running, author, reason)]


def before(told: list[Change], number: int | None) -> Change:
    """Return the change to roll back to: the one with a number, by default the one before the last.

    Raises:
        Unusable: there is none.
    """
    if number is None:
        if len(told) < 2:  # noqa: PLR2004  the one that counts, and one before it
            raise Unusable("nothing counted before what counts now")
        return told[-2]
    found = next((change for change in told if change.number == number), None)
    if found is None:
        raise Unusable(f"the log knows no settings {number}: `streamproc history` lists them")
    return found


def return_to(
    change: Change,
    find: Callable[[str], str | None],
    known: Known,
    now: datetime,
    author: str,
    reason: str,
) -> list[Entry]:
    """Return the records that make count what counted after a change; none where it counts already.

    Args:
        change: the change.
        find: bodies by checksum.
        known: what counts now.
        now: the moment.
        author: who wants it.
        reason: why.

    Raises:
        Unusable: a body is no longer held.
    """
    bodies = dict(EMPTY)
    for kind, switch in change.stands.items():
        body = find(switch.checksum)
        if body is None:
            raise Unusable(f"version {switch.version} of {kind} is no longer held by the log")
        bodies[kind] = body
    return _told({kind: body for kind, body in bodies.items() if kind in known.active}, known, now, author, reason)


def _told(bodies: Mapping[str, str], known: Known, now: datetime, author: str, reason: str) -> list[Entry]:
    entries = switched(bodies, known.active, known.policies, now, author, reason)
    if entries and known.file is not None:
        entries += activation(FILE, as_replaced(known.file), known.active.get(FILE), author, reason)
    return sorted(entries, key=lambda entry: entry.topic != "versions")
