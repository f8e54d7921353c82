"""Pages of theirs and incidents of ours, to be compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from streamproc.beside.clues import NO_CLUES, Clues
from streamproc.beside.ours import OurIncident, ours_of
from streamproc.beside.theirs import TheirAlert, TheirDeed, TheirPage
from streamproc.core.event import Why
from streamproc.events.alert import Severity
from streamproc.events.incident import Action, Decision, Incident, IncidentChange, Member

T0 = datetime(2026, 11, 16, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
Said = tuple[float, Action, str]


def at(minutes: float) -> datetime:
    return T0 + minutes * MINUTE


def member(name: str = "DatabaseDown", service: str = "db", **more: Any) -> Member:
    labels = {"alertname": name, "severity": "critical", "service": service, "cluster": "eu-1"}
    base = {
        "fingerprint": f"fp:v1:{name.lower()}",
        "alert_id": f"{name.lower()}@{T0.isoformat()}",
        "name": name,
        "severity": Severity.CRITICAL,
        "summary": f"{name} of {service}",
        "service": service,
        "labels": labels,
        "starts_at": T0,
    }
    return Member.model_validate(base | more)


def told(
    minutes: float,
    action: Action,
    reason: str,
    *,
    joined: tuple[Member, ...] = (),
    left: tuple[str, ...] = (),
    **more: Any,
) -> Incident:
    """Return one publication of an incident, so many minutes after T0."""
    resolved = reason == "resolved"
    root = joined[0] if joined else member()
    base: dict[str, Any] = {
        "incident_id": "in:v1:prod:1",
        "scope": "prod",
        "change": IncidentChange.RESOLVED if resolved else IncidentChange.OPENED,
        "status": "resolved" if resolved else "open",
        "title": root.summary,
        "severity": root.severity,
        "services": (root.service,),
        "root": root,
        "opened_at": T0,
        "changed_at": at(minutes),
        "open_count": 0 if resolved else 1,
        "total_count": 1,
        "joined": joined,
        "left": left,
        "decision": Decision(action=action, reason=reason, dry_run=True),
        "trail": (Why(stage="escalate", reason=reason, now=at(minutes), origin="episodes/0/1"),),
    }
    return Incident.model_validate(base | more)


def ours(
    *said: Said, alert: Member | None = None, incident_id: str = "in:v1:prod:1", gone: float | None = None
) -> OurIncident:
    """Return an incident of ours with one alert, and what was decided when (minutes, action, reason)."""
    one = alert or member()
    first, *rest = said
    publications = [told(*first, joined=(one,), incident_id=incident_id)]
    publications += [told(*more, incident_id=incident_id) for more in rest]
    if gone is not None:
        publications.append(told(gone, Action.NONE, "resolved", left=(one.fingerprint,), incident_id=incident_id))
    return ours_of(publications)[incident_id]


def page(
    minutes: float = 0,
    title: str = "[FIRING:1] DatabaseDown (critical db eu-1)",
    *,
    incident_id: str = "Q1",
    ended: float | None = None,
    by: str | None = "Dana Ruiz",
    clues: Clues = NO_CLUES,
    urgency: Literal["high", "low"] = "high",
    **more: Any,
) -> TheirPage:
    """Return a page of theirs; `by` is who acknowledged it, empty for nobody, None where that is not known."""
    deeds = (TheirDeed(what="acknowledge", by=by, at=at(minutes + 1)),) if by else ()
    base: dict[str, Any] = {
        "incident_id": incident_id,
        "number": 7,
        "title": title,
        "status": "triggered" if ended is None else "resolved",
        "urgency": urgency,
        "key": "k",
        "created_at": at(minutes),
        "changed_at": at(minutes if ended is None else ended),
        "alerts": (TheirAlert(summary=title, clues=clues),),
        "deeds": deeds,
        "details_known": True,
        "deeds_known": by is not None,
    }
    return TheirPage.model_validate(base | more)
