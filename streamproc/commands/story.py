"""The story of one incident for people: what it is, what was decided, why, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.text import Text

from streamproc.commands.console import at, clock_time, columns, count_of, heading, lasting, severity
from streamproc.commands.reasons import sentence
from streamproc.core.event import Scalar, Why
from streamproc.events.escalation import Page, Verdict
from streamproc.events.incident import Action, Context
from streamproc.views import IncidentView, MemberView, TimelineEntry

ACTIONS = {
    Action.PAGE: ("page", "bold red"),
    Action.TICKET: ("ticket", "bold yellow"),
    Action.HOLD: ("hold", "bold cyan"),
    Action.NONE: ("nothing", "bold"),
}
VERDICTS = {
    Verdict.DELIVERED: "green",
    Verdict.REFUSED: "bold red",
    Verdict.SKIPPED: "dim",
    Verdict.AGAIN: "yellow",
}
HIDDEN = frozenset({"incident"})
"""Figures that say what the page shows anyway."""


def tell(view: IncidentView, now: datetime, *, most: int | None) -> RenderableType:
    """Return the story.

    Args:
        view: what is known of the incident.
        now: the moment, for how long it lasts.
        most: so many alerts and moments are shown; None for all.
    """
    return Group(
        *_title(view, now),
        heading("DECISION"),
        _decision(view),
        heading("WHY", "from the raw alert to the decision"),
        _chain(view.chain),
        heading("PAGES", "what was sent, and what came back"),
        _pages(view.pages),
        heading("ALERTS", _counted(view)),
        *_members(view, most),
        heading("TIMELINE", f"times are UTC, {view.summary.opened_at:%Y-%m-%d}"),
        *_timeline(view.timeline, most),
    )


def _title(view: IncidentView, now: datetime) -> Iterable[RenderableType]:
    summary = view.summary
    yield Text.assemble((summary.severity.upper(), severity(summary.severity).style), "  ", (summary.title, "bold"))
    span = (summary.resolved_at or now) - summary.opened_at
    state = Text(summary.status, "bold red" if summary.status == "open" else "bold green")
    muted = Text(" · muted", "yellow") if summary.muted else Text("")
    lasts = "for" if summary.status == "open" else "after"
    yield Text.assemble(state, f" {lasts} {lasting(span)}", muted, (f" · {summary.incident_id}", "dim"))


def _decision(view: IncidentView) -> RenderableType:
    facts = columns(11, None)
    summary = view.summary
    word, style = ACTIONS[summary.action]
    said = Text.assemble((word, style))
    if summary.destination and summary.action is not Action.NONE:
        said.append(f" to {summary.destination}")
    if summary.dry_run:
        said.append("  dry run: nothing was sent", "yellow")
    if summary.acknowledged_by:
        said.append(f"  acknowledged by {summary.acknowledged_by}", "green")
    for name, told in (("action", said), ("because", Text(because(view))), *_facts(view)):
        facts.add_row(Text(name, "dim"), told)
    return facts


def because(view: IncidentView) -> str:
    """Return why the decision stands, in sentences: the first reason, and the latest where it is another."""
    first = next((why.reason for why in reversed(view.chain) if why.stage == "escalate"), view.summary.reason)
    reasons = dict.fromkeys((first, view.summary.reason))
    return " Then: ".join(sentence("escalate", reason) for reason in reasons)


def _facts(view: IncidentView) -> Iterable[tuple[str, Text]]:
    if view.summary.services:
        yield "services", Text(", ".join(view.summary.services))
    if view.context is not None:
        yield from _context(view.context)
    learned = view.classification
    if learned is not None:
        said = f"{learned.category}, urgency {learned.urgency}"
        if learned.p_page is not None:
            sure = "" if learned.confidence is None else f", right {learned.confidence:.0%} of the time when so sure"
            rules = "; not sure enough, so the rules decided" if learned.abstain else ""
            said += f"; worth a page with {learned.p_page:.0%}{sure}{rules} (model {learned.model_version})"
        yield "class", Text(said)
    receipt = next((page.receipt for page in reversed(view.pages) if page.receipt is not None), None)
    if receipt is not None:
        versions = f"settings {receipt.config_version}, catalogue {receipt.catalogue_version}"
        said = f"{versions}, model {receipt.model_version} · inbox sha256 {receipt.inbox[:16] or 'none'}"
        yield "receipt", Text(said, "dim")


def _context(context: Context) -> Iterable[tuple[str, Text]]:
    tier = "" if context.tier is None else f"tier {context.tier}"
    if owner := " · ".join(filter(None, (context.owner, tier, context.impact))):
        yield "owner", Text(owner)
    if context.runbook:
        yield "runbook", Text(context.runbook, f"underline link {context.runbook}")
    if context.depends_on:
        yield "needs", Text(f"{', '.join(context.depends_on)} (alerting too)")
    if context.dependants:
        yield "touches", Text(", ".join(context.dependants))


def _chain(chain: Sequence[Why]) -> RenderableType:
    table = columns(12, 11, None)
    for why in chain:
        told = Text.assemble(sentence(why.stage, why.reason), ("\n" + _figures(why), "dim"))
        table.add_row(Text(clock_time(why.now), "dim"), Text(why.stage, "bold"), told)
    return table if chain else Text("  The log holds no reason chain of it.", "dim")


def _figures(why: Why) -> str:
    given = (f"{name}={_figure(value)}" for name, value in why.figures.items() if name not in HIDDEN)
    return " ".join((f"{why.reason} [{why.origin}]", *(text for text in given if not text.endswith("="))))


def _figure(value: Scalar) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _pages(pages: Sequence[Page]) -> RenderableType:
    if not pages:
        return Text("  Nothing was sent.", "dim")
    table = columns(12, 11, None)
    for page in pages:
        late = page.sent_at - page.decided_at
        tries = f", {page.attempts} attempts" if page.attempts > 1 else ""
        why = next((why for why in reversed(page.trail) if why.stage == "escalate"), None)
        because = sentence("escalate", why.reason) if why is not None else ""
        status = f" {page.status}" if page.status is not None else ""
        told = Text.assemble(
            (f"{page.verdict}{status}", VERDICTS[page.verdict]),
            f" {page.message}".rstrip(),
            f" · {page.destination} (key ...{page.routing_key_hint})" if page.routing_key_hint else "",
            f" · {late.total_seconds():.1f} s after the decision{tries}",
            (f" · #{page.seq}", "dim"),
            ("\n" + " · ".join(filter(None, (because, page.summary))), "dim"),
        )
        table.add_row(Text(clock_time(page.sent_at), "dim"), Text(page.action, "bold"), told)
    return table


def _counted(view: IncidentView) -> str:
    summary = view.summary
    return f"{summary.open_count:,} firing of {summary.total_count:,} in all"


def _members(view: IncidentView, most: int | None) -> Iterable[RenderableType]:
    # What fires stands first, the worst of it on top.
    listed = sorted(view.members, key=lambda one: (not one.firing, -one.member.severity.rank, one.member.starts_at))
    table = columns(8, None)
    for one in listed[:most]:
        table.add_row(Text("firing", "red") if one.firing else Text("resolved", "green"), _member(one))
    yield table
    if most is not None and len(listed) > most:
        yield Text(f"  and {count_of(len(listed) - most, 'more alert')} (--all shows them)", "dim")


def _member(one: MemberView) -> Text:
    member = one.member
    where = " ".join(filter(None, (member.service, member.resource)))
    told = Text.assemble(severity(member.severity), " ", (member.name, "bold"), f" {where}".rstrip())
    summary = member.summary if member.summary != member.name else ""
    told.append("\n" + " · ".join(filter(None, (summary, sentence("correlate", member.why)))), "dim")
    if member.muted_by:
        told.append(f" Muted by {member.muted_by}.", "yellow")
    return told


def _timeline(entries: Sequence[TimelineEntry], most: int | None) -> Iterable[RenderableType]:
    # The beginning says what it was, the end how it stands; what is left out lies between them.
    first = entries if most is None or len(entries) <= most else entries[: most // 2]
    last = () if most is None or len(entries) <= most else entries[len(entries) - most // 2 :]
    yield _moments(first)
    if last:
        left_out = len(entries) - len(first) - len(last)
        yield Text(f"  {count_of(left_out, 'moment')} left out (--all shows them)", "dim")
        yield _moments(last)


def _moments(entries: Sequence[TimelineEntry]) -> RenderableType:
    table = columns(12, 11, None)
    day = entries[0].at.date() if entries else None
    for entry in entries:
        shown = clock_time(entry.at) if entry.at.date() == day else at(entry.at)
        table.add_row(Text(shown, "dim"), Text(entry.what, "bold"), Text(entry.detail))
    return table
