"""What a responder reads: incident -> the text of a page. Pure; the sink's encoder cuts it to size."""

from __future__ import annotations

from streamproc.core.event import Scalar
from streamproc.events.alert import Link, Severity
from streamproc.events.escalation import PageText
from streamproc.events.incident import Incident

SHOWN_MEMBERS = 20


def page_text(incident: Incident, reason: str, *, grown: bool = False) -> PageText:
    """Return the text of a trigger: what is broken, whose it is, what it touches, and why it pages.

    Args:
        incident: as it stands.
        reason: why it is said.
        grown: whether this is said beside an alert that somebody acknowledged before it got worse.
    """
    root, context, learned = incident.root, incident.context, incident.classification
    where = incident.service or root.resource or incident.cluster or incident.scope
    details: dict[str, Scalar | list[str]] = {
        "incident": incident.incident_id,
        "reason": reason,
        "firing": incident.open_count,
        "alerts_in_all": incident.total_count,
        "muted": incident.muted_count,
        "services": list(incident.services),
        "environment": incident.environment,
        "cluster": incident.cluster,
        "opened_at": incident.opened_at.isoformat(timespec="seconds"),
        "alerts": [f"{member.severity}: {member.summary or member.name}" for member in incident.joined[:SHOWN_MEMBERS]]
        or [f"{root.severity}: {root.summary or root.name}"],
    }
    runbook = root.runbook or (context.runbook if context else "")  # the alert's own is the nearer one
    links = [Link(href=runbook, text="Runbook")] if runbook else []
    if context is not None:
        details |= {"owner": context.owner, "tier": context.tier, "impact": context.impact}
        details |= {"dependants": list(context.dependants), "depends_on": list(context.depends_on)}
        links.extend(context.dashboards)
    links.extend(root.links)
    details["runbook"] = runbook
    if learned is not None:
        details |= {"category": learned.category, "urgency": learned.urgency}
        if learned.p_page is not None:
            unsure = ", not sure enough: the rules decided" if learned.abstain else ""
            details["learned"] = f"worth a page with probability {learned.p_page:.2f}{unsure}"
    if grown:
        details["continues"] = f"{incident.incident_id}, acknowledged before it got worse"
    labels = [f"{name}={value}" for name, value in sorted(root.labels.items())]
    title = f"{where}: {incident.title}" if where and where not in incident.title else incident.title
    return PageText(
        summary=f"Now {incident.severity}: {title}" if grown else title,
        source=root.resource or where,
        severity=incident.severity,
        component=incident.service,
        group=incident.scope,
        kind=root.name,
        details={name: value for name, value in details.items() if value not in ("", None, [])}
        | {"root_labels": labels},
        links=tuple(links),
    )


def adoption_text(count: int, paging: int, scope: str) -> PageText:
    """Return the one summary of what was open when the pipeline was armed."""
    what = "1 incident that was open already is" if count == 1 else f"{count} incidents that were open already are"
    return PageText(
        summary=f"streamproc is armed: {what} adopted without a page",
        source="streamproc",
        severity=Severity.INFO,
        group=scope,
        details={"adopted": count, "would_have_paged": paging},
    )
