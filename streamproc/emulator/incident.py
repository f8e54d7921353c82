"""One alert and one incident as PagerDuty keeps them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

Status = Literal["triggered", "acknowledged", "resolved"]


class LogEntry(BaseModel):
    """One thing that happened to an incident."""

    at: datetime
    what: str
    """`triggered`, `repeated`, or as in `Deed`; `merged` where another incident was merged into this one."""
    by: str = ""
    """The person; empty where an event of the API did it."""
    text: str = ""


class Note(BaseModel):
    """What a person wrote to an incident."""

    id: str
    content: str
    by: str
    at: datetime


class Alert(BaseModel):
    """One alert, from the trigger that opened it to its resolve."""

    id: str
    routing_key: str
    dedup_key: str
    status: Status
    severity: str
    summary: str
    incident_id: str
    triggers: int
    """How many triggers it took, the first one counted."""
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None = None
    event: dict[str, Any]
    """The last trigger."""


class Incident(BaseModel):
    """One incident."""

    id: str
    number: int
    status: Status
    incident_key: str
    """The dedup key of the event that opened it."""
    routing_key: str
    alert_ids: list[str]
    """Its alerts, the one that opened it first; a merge moves them."""
    title: str
    urgency: str
    created_at: datetime
    changed_at: datetime
    client: str = ""
    priority: str = ""
    assignee: str = "Responder 1"
    level: int = 1
    """Level of the escalation policy that it stands at."""
    policy: str = ""
    """Name of its escalation policy; empty for its service's."""
    merged_into: str = ""
    """The incident that it was merged into, by id."""
    resolved_by: str = ""
    """The person who resolved it; empty while it is open, and where an event did."""
    notes: list[Note] = []
    log: list[LogEntry] = []
    """What happened to it, in order."""
