"""Escalation -> intent -> page: what an alert at PagerDuty shall become, kept until the sender reports the outcome.

Inbox escalations, keyed by routing key. Owns INTENT. The fold only writes what is wanted; a sender outside works
through rows with something pending, and its outcome comes back as a record here. So the rows are a function of the
log, and no slow endpoint holds up a partition.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from streamproc.core.errors import Rejected
from streamproc.core.event import DeadLetter
from streamproc.core.step import Stage, Step
from streamproc.core.table import Rows
from streamproc.events.escalation import Escalation, Outcome, Page, PageAction, Verdict
from streamproc.state import INTENT, IntentRow

HINT = 4
MASK = "..."


class Reason(StrEnum):
    """What became of something to say."""

    WANTED = "wanted"
    RENEWED = "renewed"
    """A newer trigger replaces one that was not sent yet."""
    OVERTAKEN = "overtaken"
    """Resolved before its page was sent: the page is not sent, the resolve is."""
    OUTDATED = "outdated"
    NO_ROUTING_KEY = "no_routing_key"
    DELIVERED = "delivered"
    REFUSED = "refused"
    SKIPPED = "skipped"
    """Resolved before PagerDuty heard of it: nothing had to be sent."""
    UNKNOWN_INTENT = "unknown_intent"


def step(event: Escalation | Outcome, rows: Rows, now: datetime, config: object) -> Step:  # noqa: ARG001
    """Take in what is wanted, or what came of it."""
    return _reported(event, rows) if isinstance(event, Outcome) else _wanted(event, rows, now)


def intent_key(routing_key: str, dedup_key: str) -> str:
    """Return the key of the intent row of one alert at PagerDuty."""
    return f"{routing_key}|{dedup_key}"


def _wanted(event: Escalation, rows: Rows, now: datetime) -> Step:
    if not event.routing_key:
        page = _page(event, Verdict.REFUSED, now).model_copy(
            update={"message": f"destination {event.destination} has no routing key"}
        )
        return Step({}, Reason.NO_ROUTING_KEY, (page,), figures={"destination": event.destination})
    event = _unmasked(event, rows)
    key = intent_key(event.routing_key, event.dedup_key)
    row = rows.get(INTENT, key) or IntentRow()
    reason, pending, stale = decide(event, row)
    if reason is Reason.OUTDATED:
        return Step({}, reason)
    title = event.text.summary if event.text else row.title
    changed = row.model_copy(
        update={
            "pending": pending,
            "triggered": row.triggered or event.repair,
            "stale": row.stale + stale,
            "last": event,
            "title": title,
            "refused": False,
        }
    )
    figures = {"action": event.action.value, "waiting": len(pending), "overtaken": stale}
    return Step({INTENT.at(key): changed}, reason, figures=figures)


def decide(event: Escalation, row: IntentRow) -> tuple[Reason, tuple[Escalation, ...], int]:
    """Return what waits to be sent once `event` is wanted, and how many triggers it overtakes. Total."""
    retried = row.refused and row.last is not None and event.seq == row.last.seq
    if row.last is not None and event.seq <= row.last.seq and not retried:
        return Reason.OUTDATED, row.pending, 0
    if event.action is PageAction.RESOLVE:
        stale = sum(waiting.action is PageAction.TRIGGER for waiting in row.pending)
        return (Reason.OVERTAKEN if stale else Reason.WANTED), (event,), stale
    kept = tuple(waiting for waiting in row.pending if waiting.action is not event.action)
    renewed = len(kept) < len(row.pending)
    return (Reason.RENEWED if renewed else Reason.WANTED), (*kept, event), 0


def _reported(event: Outcome, rows: Rows) -> Step:
    key = intent_key(event.routing_key, event.dedup_key)
    row = rows.get(INTENT, key)
    if row is None or row.last is None:
        return Step({}, Reason.UNKNOWN_INTENT, figures={"seq": event.seq})
    said = next((waiting for waiting in row.pending if waiting.seq == event.seq), None)
    source = said or row.last
    pending = tuple(waiting for waiting in row.pending if waiting.seq != event.seq)
    refused = event.verdict is Verdict.REFUSED
    page = _page(source, event.verdict, event.sent_at).model_copy(
        update={
            "action": event.action,
            "seq": event.seq,
            "status": event.status,
            "message": event.message,
            "attempts": event.attempts,
            "body": event.body,
            "decided_at": event.decided_at or source.at,
            "severity": event.severity,
            "summary": event.summary,
        }
    )
    closes = event.action in (PageAction.RESOLVE, PageAction.CHANGE) and not pending
    delivered = event.verdict is Verdict.DELIVERED
    triggered = row.triggered or (event.action is PageAction.TRIGGER and delivered)
    left = row.model_copy(update={"pending": pending, "triggered": triggered, "refused": row.refused or refused})
    reason = {Verdict.REFUSED: Reason.REFUSED, Verdict.SKIPPED: Reason.SKIPPED}.get(event.verdict, Reason.DELIVERED)
    figures = {"action": event.action.value, "status": event.status, "attempts": event.attempts}
    emit = (page, _refused(said, event)) if refused and said is not None else (page,)
    return Step({INTENT.at(key): None if closes else left}, reason, emit, figures=figures)


def _refused(said: Escalation, outcome: Outcome) -> DeadLetter:
    """Return what PagerDuty will not take as it is, with its words; retried, it is wanted once more."""
    return DeadLetter(
        reason="refused_by_pagerduty",
        detail=f"{outcome.status}: {outcome.message}",
        value=said.model_copy(update={"routing_key": f"{MASK}{said.routing_key[-HINT:]}"}).encode(),
        headers={"type": said.TYPE},
    )


def _unmasked(event: Escalation, rows: Rows) -> Escalation:
    """Return a retried escalation with the routing key that its dead letter, which others read, does not show."""
    if not event.routing_key.startswith(MASK):
        return event
    for key in rows.keys(INTENT, event.dedup_key):
        row = rows.get(INTENT, key)
        if row is not None and row.last is not None and row.last.routing_key.endswith(event.routing_key[len(MASK) :]):
            return event.model_copy(update={"routing_key": row.last.routing_key})
    raise Rejected("forgotten", f"nothing is known any more of {event.dedup_key}: its incident is over")


def _page(event: Escalation, verdict: Verdict, sent_at: datetime) -> Page:
    return Page(
        incident_id=event.incident_id,
        destination=event.destination,
        routing_key_hint=event.routing_key[-HINT:],
        dedup_key=event.dedup_key,
        action=event.action,
        seq=event.seq,
        verdict=verdict,
        decided_at=event.at,
        sent_at=sent_at,
        severity=event.text.severity if event.text else None,
        summary=event.text.summary if event.text else "",
        receipt=event.receipt,
        trail=event.trail,
    )


STAGE = Stage(
    "deliver",
    step,
    takes=(Escalation, Outcome),
    reasons=Reason,
    owns=(INTENT,),
    unintended=frozenset({Reason.NO_ROUTING_KEY, Reason.REFUSED, Reason.UNKNOWN_INTENT}),
)
