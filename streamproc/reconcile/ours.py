"""What we think is open at PagerDuty: one claim for each incident that is remembered. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from streamproc.events.escalation import PageAction
from streamproc.state import IntentRow, PageRow
from streamproc.views import IncidentView

Said = tuple[str, str, str]
"""Destination, routing key, dedup key."""


@dataclass(frozen=True, slots=True)
class Claim:
    """How one incident stands here."""

    incident_id: str
    state: Literal["quiet", "held", "ticketed", "paged", "closed"]
    title: str
    seq: int
    """Number of the last thing that was said of it."""
    said_at: datetime
    """When it was last decided to say something, or to close it."""
    triggered_at: datetime
    """When it was last decided to trigger it."""
    said: tuple[Said, ...] = ()
    """What must be open at PagerDuty."""
    pinned: Said = ("", "", "")
    """Where it is paged; without keys for a ticket."""
    acknowledged: bool = False
    awaits: bool = False
    """True while the second destination is to be told unless somebody acts."""
    muted: bool = False
    pending: bool = False
    """True while something about it waits to be sent."""

    @property
    def lives(self) -> bool:
        """Whether it must be open at PagerDuty."""
        return self.state in ("paged", "ticketed") and bool(self.said)


def claims_of(pages: Iterable[PageRow], intents: Iterable[IntentRow]) -> dict[str, Claim]:
    """Return the claims by incident id.

    Args:
        pages: the rows of escalate.
        intents: the rows of deliver.
    """
    wanted: dict[str, list[IntentRow]] = defaultdict(list)
    for intent in intents:
        if intent.last is not None:
            wanted[intent.last.incident_id].append(intent)
    return {row.incident.incident_id: _claim(row, wanted[row.incident.incident_id]) for row in pages}


def _claim(row: PageRow, intents: list[IntentRow]) -> Claim:
    last = [intent.last for intent in intents if intent.last is not None]
    paged = [row.incident.opened_at, *filter(None, [row.paged_at])]
    closed = [row.published_at] if row.state == "closed" else []
    return Claim(
        incident_id=row.incident.incident_id,
        state=row.state,
        title=row.incident.title,
        seq=row.seq,
        said_at=max([*paged, *closed, *(one.at for one in last)]),
        triggered_at=max([*paged, *(one.at for one in last if one.action is PageAction.TRIGGER)]),
        said=row.said,
        pinned=(row.destination, row.routing_key, row.dedup_key),
        acknowledged=row.acknowledged_by != "",
        awaits=row.escalate_at is not None,
        muted=row.incident.muted,
        pending=any(intent.pending for intent in intents),
    )


def closed_long_ago(view: IncidentView | None) -> Claim | None:
    """Return the claim of an incident that only the log remembers, None unless that says that it is over.

    Its number is 0: anything that was said of a newer incident of this id overtakes a repair.
    """
    if view is None or view.summary.status != "resolved":
        return None
    one = view.summary
    return Claim(one.incident_id, "closed", one.title, 0, one.changed_at, one.opened_at)
