"""Incident: alerts of a scope that belong together, with everything that was decided about them."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import AwareDatetime

from streamproc.core.event import Event, Explained, Frozen
from streamproc.events.alert import Link, Severity


class IncidentChange(StrEnum):
    """What happened to an incident."""

    OPENED = "opened"
    GREW = "grew"
    SHRANK = "shrank"
    CHANGED = "changed"
    RESOLVED = "resolved"
    REOPENED = "reopened"
    RECONSIDERED = "reconsidered"
    """A mute began or ended, or a person or a timer acted: the members are as they were."""


class Member(Frozen):
    """One alert of an incident, as the incident tells it."""

    fingerprint: str
    alert_id: str
    name: str
    severity: Severity
    summary: str
    service: str = ""
    resource: str = ""
    source: str = ""
    labels: dict[str, str] = {}
    runbook: str = ""
    links: tuple[Link, ...] = ()
    starts_at: AwareDatetime
    why: str = ""
    """Why it belongs here: the reason of correlate."""
    muted_by: str = ""
    """The policy that mutes it, empty while none does."""


class Context(Frozen):
    """What the service catalogue knows."""

    known: bool
    owner: str = ""
    tier: int | None = None
    impact: str = ""
    runbook: str = ""
    dashboards: tuple[Link, ...] = ()
    depends_on: tuple[str, ...] = ()
    """Services of this incident's services that they need and that alert too."""
    dependants: tuple[str, ...] = ()
    """Services that need one of this incident's services."""
    destination: str = "default"
    second_destination: str = ""
    catalogue_version: int = 0


class Classification(Frozen):
    """What rules and the learned model say."""

    category: Literal["infrastructure", "application", "security", "business"]
    urgency: Literal["high", "low"]
    p_page: float | None = None
    """Probability that a responder acts on a page, from the activated model; None while there is no model."""
    confidence: float | None = None
    abstain: bool = True
    """True where the model is not sure enough, so that the rules decide."""
    model_version: int = 0


class Action(StrEnum):
    """What is done about an incident."""

    PAGE = "page"
    TICKET = "ticket"
    HOLD = "hold"
    NONE = "none"


class Decision(Frozen):
    """The decision that stands, and the reason of escalate."""

    action: Action
    reason: str
    destination: str = ""
    dry_run: bool = False
    adopted: bool = False
    acknowledged_by: str = ""


class Incident(Explained):
    """A change of an incident. Members come as deltas (`joined`, `left`), counts are exact."""

    TYPE: ClassVar[str] = "incident.v1"

    incident_id: str
    scope: str
    change: IncidentChange
    status: Literal["open", "resolved"]
    title: str
    severity: Severity
    """Highest of the open members; of the root alert once resolved."""
    environment: str = ""
    cluster: str = ""
    service: str = ""
    """Service of the root alert."""
    services: tuple[str, ...] = ()
    root: Member
    """The alert that is likeliest the cause."""
    root_candidates: tuple[str, ...] = ()
    """Alert ids of the likeliest causes, the likeliest first, at most three."""
    opened_at: AwareDatetime
    resolved_at: AwareDatetime | None = None
    changed_at: AwareDatetime
    open_count: int
    total_count: int
    muted_count: int = 0
    reopened: int = 0
    new_kind: bool = False
    """True where a member of a kind (name and service) joined that the incident did not have."""
    joined: tuple[Member, ...] = ()
    """Members that are new, or that changed."""
    left: tuple[str, ...] = ()
    """Fingerprints of members that resolved."""
    muted: bool = False
    """True while every open member is muted."""
    context: Context | None = None
    classification: Classification | None = None
    decision: Decision | None = None
    canary: bool = False
    """True where it is no trouble at all, but a process that looks whether the way of all alerts is open."""


class Reconsider(Event):
    """Asks to decide an open incident anew, because a policy that mutes it has changed."""

    TYPE: ClassVar[str] = "reconsider.v1"

    scope: str
    incident_id: str
    fingerprint: str = ""
    """Members up to this one have been marked; empty for none."""
    reason: str = ""
