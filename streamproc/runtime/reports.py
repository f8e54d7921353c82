"""What the sender reports to deliver's own inbox: outcomes, and the digest of what came and went unheard. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from streamproc.core.event import Event
from streamproc.core.trace import TRACEPARENT
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, Outcome, PageAction, PageText, Verdict
from streamproc.ports import Entry
from streamproc.runtime.work import Work

TOPIC = "escalations"
SHOWN = 30
"""Titles that a digest lists."""

Final = Literal[Verdict.DELIVERED, Verdict.REFUSED, Verdict.SKIPPED]


def entry(event: Event, routing_key: str, traceparent: str = "") -> Entry:
    """Return the record of an outcome or a digest, with the trace that it continues."""
    made = Entry.of(TOPIC, event, routing_key)
    return replace(made, headers={**made.headers, TRACEPARENT: traceparent.encode()}) if traceparent else made


def outcome(
    said: Escalation,
    verdict: Final,
    now: datetime,
    *,
    status: int | None,
    message: str,
    attempts: int,
    body: str = "",
    delay: timedelta | None = None,
) -> Outcome:
    """Return what came of a request, `delay` late."""
    return Outcome(
        routing_key=said.routing_key,
        dedup_key=said.dedup_key,
        incident_id=said.incident_id,
        destination=said.destination,
        action=said.action,
        seq=said.seq,
        verdict=verdict,
        status=status,
        message=message,
        attempts=attempts,
        sent_at=now,
        body=body,
        delayed_seconds=0.0 if delay is None else delay.total_seconds(),
        decided_at=said.at,
        severity=said.text.severity if said.text else None,
        summary=said.text.summary if said.text else "",
    )


def skipped(said: Escalation, now: datetime) -> Outcome:
    """Return the outcome of a resolve that PagerDuty need not hear."""
    message = "resolved before PagerDuty could hear of it"
    return outcome(said, Verdict.SKIPPED, now, status=None, message=message, attempts=0)


def digest(gone: Sequence[Work], routing_key: str, since: datetime, now: datetime) -> Escalation:
    """Return the one summary of what came and went unheard: a change event, which notifies nobody.

    Args:
        gone: at least one row, with a resolve waiting.
        routing_key: of the rows.
        since: when PagerDuty fell silent, or the first of them resolved while no process was there.
        now: the moment.
    """
    resolves = [work.row.pending[0] for work in gone if work.row is not None]
    name = f"digest:{since.isoformat(timespec='seconds')}"
    titles = [work.title or said.incident_id for work, said in zip(gone, resolves, strict=True)]
    return Escalation(
        incident_id=name,
        scope=resolves[0].scope if len({said.scope for said in resolves}) == 1 else "",
        destination=resolves[0].destination,
        routing_key=routing_key,
        dedup_key=name,
        action=PageAction.CHANGE,
        seq=1,
        text=_text(titles, since, now),
        at=now,
    )


def _text(titles: Sequence[str], since: datetime, now: datetime) -> PageText:
    count = "1 incident" if len(titles) == 1 else f"{len(titles):,} incidents"
    more = [f"and {len(titles) - SHOWN:,} more"] if len(titles) > SHOWN else []
    return PageText(
        summary=f"{count} came and went, as far as is known without a page, while PagerDuty or we were out of reach",
        source="streamproc",
        severity=Severity.INFO,
        details={
            "incidents": len(titles),
            "since": since.isoformat(timespec="seconds"),
            "until": now.isoformat(timespec="seconds"),
            "titles": [*titles[:SHOWN], *more],
        },
    )
