"""A difference -> the records that mend it. Pure: all of them go through the log, so they are explained like any other.

Each names what it mends, and the stages take it only where that still stands: what is late, doubled, or sent by several
processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from streamproc.core.identity import scope_of
from streamproc.events.escalation import Escalation, PageAction
from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.reconcile.compare import Difference, Kind
from streamproc.reconcile.theirs import Theirs

TOLD: Mapping[Kind, FeedbackKind] = {
    Kind.MISSING: FeedbackKind.MISSING,
    Kind.RESOLVED: FeedbackKind.RESOLVED,
    Kind.MERGED: FeedbackKind.MERGED,
    Kind.ACKNOWLEDGED: FeedbackKind.ACKNOWLEDGED,
    Kind.REASSIGNED: FeedbackKind.REASSIGNED,
}
"""What a webhook would have told."""
VALUE_LIMIT = 500


def repairs(
    difference: Difference, theirs: Theirs, destinations: Mapping[str, str], now: datetime
) -> tuple[Feedback | Escalation, ...]:
    """Return what is to be said in the log; nothing where nothing can be done.

    Args:
        difference: what is found.
        theirs: what PagerDuty told.
        destinations: name of the destination of each routing key that is ours.
        now: the moment.
    """
    kind = TOLD.get(difference.kind)
    if kind is not None:
        return (_feedback(difference, kind, now),)
    if difference.kind is Kind.UNKNOWN:
        return ()
    named = {key: name for key, name in destinations.items() if theirs.services.get(key) == difference.service}
    name, pinned = difference.pinned
    if not named and pinned and pinned not in theirs.services:
        named = {pinned: name}  # a routing key that PagerDuty shows with no service
    return tuple(_resolve(difference, key, named[key], now) for key in sorted(named))


def _feedback(difference: Difference, kind: FeedbackKind, now: datetime) -> Feedback:
    deed = difference.deed
    return Feedback(
        feedback_id=f"reconcile:{kind}:{difference.identity}",
        incident_id=difference.incident_id,
        kind=kind,
        by=deed.by[:VALUE_LIMIT] if deed is not None else "reconciler",
        person=deed is not None,
        value=deed.value[:VALUE_LIMIT] if deed is not None else "",
        at=deed.at if deed is not None else now,
    )


def _resolve(difference: Difference, routing_key: str, destination: str, now: datetime) -> Escalation:
    """Return the resolve that was lost, with its own number: whatever was said of the incident since goes before it."""
    return Escalation(
        incident_id=difference.incident_id,
        scope=scope_of(difference.incident_id) or "",
        destination=destination,
        routing_key=routing_key,
        dedup_key=difference.key,
        action=PageAction.RESOLVE,
        seq=difference.seq,
        at=now,
        repair=True,
    )
