"""Read models: what the operations API, `explain` and `status` show, derived from public records alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from streamproc.core.event import Why
from streamproc.events.alert import Severity
from streamproc.events.escalation import Page
from streamproc.events.incident import Action, Classification, Context, Incident, Member


class View(BaseModel):
    """Base of the read models."""

    model_config = ConfigDict(frozen=True)


class IncidentSummary(View):
    """An incident in a list."""

    incident_id: str
    status: Literal["open", "resolved"]
    title: str
    severity: Severity
    scope: str
    service: str
    services: tuple[str, ...]
    opened_at: AwareDatetime
    resolved_at: AwareDatetime | None
    changed_at: AwareDatetime
    open_count: int
    total_count: int
    muted: bool
    action: Action
    reason: str
    destination: str
    dry_run: bool
    adopted: bool
    acknowledged_by: str

    @classmethod
    def of(cls, incident: Incident) -> Self:
        """Return the summary of an incident as it was last published."""
        decision = incident.decision
        return cls(
            **incident.model_dump(include=set(_SHARED)),
            action=decision.action if decision else Action.NONE,
            reason=decision.reason if decision else "",
            destination=decision.destination if decision else "",
            dry_run=decision.dry_run if decision else False,
            adopted=decision.adopted if decision else False,
            acknowledged_by=decision.acknowledged_by if decision else "",
        )


_SHARED = (
    "incident_id",
    "status",
    "title",
    "severity",
    "scope",
    "service",
    "services",
    "opened_at",
    "resolved_at",
    "changed_at",
    "open_count",
    "total_count",
    "muted",
)


class MemberView(View):
    """A member, and whether it still fires."""

    member: Member
    firing: bool


class TimelineEntry(View):
    """One thing that happened to an incident, and why."""

    at: AwareDatetime
    what: str
    detail: str
    chain: tuple[Why, ...] = ()


class IncidentView(View):
    """Everything that is known of one incident."""

    summary: IncidentSummary
    root: Member
    context: Context | None
    classification: Classification | None
    members: tuple[MemberView, ...]
    timeline: tuple[TimelineEntry, ...]
    chain: tuple[Why, ...]
    """From the raw alert that opened it to the first decision."""
    pages: tuple[Page, ...]


def incident_view(incidents: Sequence[Incident], pages: Iterable[Page]) -> IncidentView | None:
    """Return what is known of one incident from its public records in log order; None where there are none.

    Args:
        incidents: records of `incidents.enriched` of this incident.
        pages: records of `pages` of this incident.
    """
    if not incidents:
        return None
    members: dict[str, MemberView] = {}
    timeline: list[TimelineEntry] = []
    for incident in incidents:
        for member in incident.joined:
            members[member.fingerprint] = MemberView(member=member, firing=True)
        for fingerprint in incident.left:
            if (gone := members.get(fingerprint)) is not None:
                members[fingerprint] = MemberView(member=gone.member, firing=False)
        timeline.append(_told(incident))
    sent = tuple(pages)
    timeline.extend(
        TimelineEntry(
            at=page.sent_at,
            what=f"{page.action} {page.verdict}",
            detail=f"{page.destination}: {page.message or page.status}",
            chain=page.trail,
        )
        for page in sent
    )
    last = incidents[-1]
    return IncidentView(
        summary=IncidentSummary.of(last),
        root=last.root,
        context=last.context,
        classification=last.classification,
        members=tuple(members.values()),
        timeline=tuple(sorted(timeline, key=lambda entry: entry.at)),
        chain=incidents[0].trail,
        pages=sent,
    )


def _told(incident: Incident) -> TimelineEntry:
    counts = f"{incident.open_count} firing of {incident.total_count}"
    joined = ", ".join(f"{member.name} ({member.why})" for member in incident.joined[:5])
    more = f" and {len(incident.joined) - 5} more" if len(incident.joined) > 5 else ""  # noqa: PLR2004
    decision = incident.decision
    said = f"; {decision.action}: {decision.reason}" if decision else ""
    detail = f"{incident.severity}, {counts}{f'; joined: {joined}{more}' if joined else ''}{said}"
    return TimelineEntry(at=incident.changed_at, what=str(incident.change), detail=detail, chain=incident.trail)


class NodeStatus(View):
    """How one node stands."""

    node: str
    partition: int
    lag: int
    """Records of the inbox that are not folded yet."""
    rows: int
    now: AwareDatetime | None


class WorkerStatus(View):
    """One worker of the group, on Kafka."""

    name: str
    host: str
    partitions: int
    """Partitions of inboxes that it owns."""


class Vitals(View):
    """What tells whether the pipeline lives: asked for a heartbeat."""

    canary: Literal["open", "resolved"] | None
    """How the canary that was asked for is shown, None where it is not."""
    waits_since: AwareDatetime | None
    """When the oldest of what waits to be sent was decided, None while nothing waits."""


class PipelineStatus(View):
    """How the pipeline stands."""

    ready: bool
    why_not: str
    armed: bool
    open_incidents: int
    paged_incidents: int
    waiting_to_send: int
    dead_letters: int
    nodes: tuple[NodeStatus, ...]
    decisions: dict[str, int]
    """How often each `stage/reason` was decided since the process started; empty where several processes share it."""
    workers: tuple[WorkerStatus, ...] = ()
    """Those that share the work, on Kafka."""
