"""Incident -> what is said, and to whom: page, ticket, hold or nothing; then acknowledge, escalate, resolve.

Last stage of node decide. Owns PAGE (what was said about each incident) and HEARD (feedback that was taken). Publishes
the incident with its decision; growing ones at most once a second, a worse severity or a new kind at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field, SecretStr, field_serializer

from streamproc.core.event import Event, Scalar, Wake
from streamproc.core.fold import CONFIG
from streamproc.core.step import Stage, StageConfig, Step
from streamproc.core.table import Rows
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction, PageText, Receipt
from streamproc.events.feedback import ARM, Feedback, FeedbackKind, Policy, PolicyKind
from streamproc.events.incident import Action, Decision, Incident, IncidentChange, Member
from streamproc.events.training import Label
from streamproc.state import HEARD, INCIDENT, PAGE, POLICY, HeardRow, PageRow, pins_of
from streamproc.wording import adoption_text, page_text

FORGET_AFTER = timedelta(hours=2)
"""A closed incident is remembered this long, which is longer than it may reopen: its numbers go on, and it is held."""
HEARD_FOR = timedelta(days=3)
"""PagerDuty delivers a webhook again for up to 48 hours."""
PENDING = 200
"""So many members wait for the next publication at most; then it is published at once."""
PENDING_BYTES = 256 * 1024
"""The same, in bytes of their JSON: 200 members with all the labels that they may have are 20 MB."""
TOLD_BYTES = 1024 * 1024
"""Bytes of members that one publication tells in full; those beyond are told in short. A silence of a
large incident tells all of them, 1,000 at a time."""
SHORT = 60
"""Characters of each text of a member that is told in short."""
DEFAULT = "default"
SECOND = "/2"
"""Ends the dedup key of the second destination; that of growth after an acknowledgement ends with `/` and severity."""
SOMEBODY = "somebody"
NEW_AGE = timedelta(minutes=10)
"""An alert that began this long before arming was firing before it, however late it is heard of."""
ADOPTS_FOR = timedelta(hours=12)
"""So long after arming, old alerts still come in for the first time: Alertmanager repeats every 4 hours by default."""


ANSWERS = frozenset(
    {
        FeedbackKind.ACKNOWLEDGED,
        FeedbackKind.ANNOTATED,
        FeedbackKind.MERGED,
        FeedbackKind.REASSIGNED,
    }
)
"""By these people answer pages; where they do, no answer says something too. A label is a word on one incident: who
labels and never acknowledges would else teach that every page is needless."""
TAKEN_OVER = frozenset({FeedbackKind.ACKNOWLEDGED, FeedbackKind.MERGED, FeedbackKind.RESOLVED})
"""By these a person has taken an incident over."""
GROWTH = 10
"""A page is brought up to date once so many times as many alerts fire as it says."""


class Destination(StageConfig):
    """Where pages of a service go."""

    routing_key: SecretStr
    """Integration key of a PagerDuty service (Events API v2): 32 characters."""
    ticket_routing_key: SecretStr | None = None
    """Integration key for tickets, for example of a low-urgency service. Without it tickets are shown, not sent."""

    @field_serializer("routing_key", "ticket_routing_key", when_used="json")
    def _reveal(self, secret: SecretStr | None) -> str | None:
        """Write the key itself into JSON: the activated configuration in the log needs it; repr and str stay masked."""
        return None if secret is None else secret.get_secret_value()


class Config(StageConfig):
    """When to page, and whom."""

    page: frozenset[Severity] = frozenset({Severity.CRITICAL, Severity.ERROR})
    """Severities that page."""
    ticket: frozenset[Severity] = frozenset({Severity.WARNING})
    """Severities that make a ticket."""
    learned_may_quiet: frozenset[Severity] = frozenset({Severity.ERROR, Severity.WARNING})
    """Severities whose page the learned model may turn into a ticket, where it is sure."""
    reopen_hold: timedelta = Field(default=timedelta(minutes=2), ge=timedelta(0))
    """An incident that reopens is paged again only if it still fires after this; criticals at once."""
    escalation_timeout: timedelta = Field(default=timedelta(seconds=900), gt=timedelta(0))
    """A page that nobody acknowledges goes to the service's second destination after this, where there is one."""
    update_every: timedelta = Field(default=timedelta(minutes=5), ge=timedelta(0))
    """A page is brought up to date with new kinds of alerts at most so often; a worse severity is said at once."""
    publish_every: timedelta = Field(default=timedelta(seconds=1), ge=timedelta(0))
    """A growing incident is published at most so often."""
    destinations: Mapping[str, Destination] = {}
    """Routing keys by name of destination; `default` is the catch-all."""


class Reason(StrEnum):
    """Why something is said, or is not."""

    SEVERITY = "severity"
    LEARNED_PAGE = "learned_page"
    LEARNED_QUIET = "learned_quiet"
    BELOW = "below"
    CANARY = "canary"
    """It is no trouble: a process looks whether the way of all alerts is open."""
    MUTED = "muted"
    REOPENED = "reopened"
    HOLD_OVER = "hold_over"
    ADOPTED = "adopted"
    WORSE = "worse"
    NEW_KIND = "new_kind"
    GREW = "grew"
    SAID = "said"
    RESOLVED = "resolved"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    HANDLED = "handled"
    """A person resolved it at PagerDuty while it fires: nothing is said until it clears or gets worse."""
    RESTORED = "restored"
    """PagerDuty had lost it: it is said again."""
    FEEDBACK = "feedback"
    HEARD_BEFORE = "heard_before"
    UNKNOWN_INCIDENT = "unknown_incident"
    ARMED = "armed"
    PUBLISHED = "published"
    FORGOTTEN = "forgotten"


def step(event: Incident | Feedback | Policy | Wake, rows: Rows, now: datetime, config: Config) -> Step:
    """Decide what is said about an incident, and take in what people say."""
    if isinstance(event, Policy):
        return _arm(event, rows, now, config)
    if isinstance(event, Feedback):
        return _hear(event, rows, now, config)
    if isinstance(event, Wake):
        return _look_again(event, rows, now, config)
    row = rows.get(PAGE, event.incident_id)
    armed = _armed(rows)
    action, reason = decide(event, row, armed, config)
    return _Saying(event, row, rows, now, config, dry_run=armed is None).run(action, reason)


def decide(incident: Incident, row: PageRow | None, armed: Policy | None, config: Config) -> tuple[Action, Reason]:
    """Return what an incident deserves now, and why. Total, no side effects."""
    if incident.status == "resolved":
        return Action.NONE, Reason.RESOLVED
    if incident.canary:
        return Action.NONE, Reason.CANARY
    if incident.muted:
        return Action.NONE, Reason.MUTED
    action, reason = _deserves(incident, config)
    if armed is not None and armed.adopt and _adopted(incident, row, armed):
        return action, Reason.ADOPTED
    if row is not None and row.resolved_by and not _worse(incident, row):
        return Action.HOLD, Reason.HANDLED
    if action is not Action.PAGE or row is None or (armed is not None and row.dry_run):
        return action, reason
    if row.resolved_by:
        return action, Reason.WORSE
    if row.state == "paged" and row.severity_said is not None:
        grew = 0 < GROWTH * row.count_said <= incident.open_count
        unsaid = Reason.NEW_KIND if incident.new_kind else Reason.GREW if grew else Reason.SAID
        return action, Reason.WORSE if _worse(incident, row) else unsaid
    holds = incident.change is IncidentChange.REOPENED or row.state == "held"
    if holds and incident.severity is not Severity.CRITICAL and config.reopen_hold:
        return Action.HOLD, Reason.REOPENED
    return action, reason


def _worse(incident: Incident, row: PageRow) -> bool:
    return row.severity_said is not None and incident.severity.rank > row.severity_said.rank


def _deserves(incident: Incident, config: Config) -> tuple[Action, Reason]:
    base = Action.PAGE if incident.severity in config.page else Action.NONE
    if base is Action.NONE and incident.severity in config.ticket:
        base = Action.TICKET
    learned = incident.classification
    if learned is None or learned.abstain or learned.p_page is None:
        return base, Reason.SEVERITY if base is not Action.NONE else Reason.BELOW
    worth = learned.p_page >= 0.5  # noqa: PLR2004  the side it is sure of
    if base is Action.PAGE and not worth and incident.severity in config.learned_may_quiet:
        return Action.TICKET, Reason.LEARNED_QUIET
    if base is Action.TICKET and worth:
        return Action.PAGE, Reason.LEARNED_PAGE
    return base, Reason.SEVERITY if base is not Action.NONE else Reason.BELOW


def _adopted(incident: Incident, row: PageRow | None, armed: Policy) -> bool:
    """Return whether an incident was firing before arming, and is no worse than it was then."""
    if row is None:
        began_before = incident.root.starts_at < armed.starts_at - NEW_AGE
        return began_before and incident.opened_at < armed.starts_at + ADOPTS_FOR
    if incident.new_kind and any(member.starts_at >= armed.starts_at - NEW_AGE for member in incident.joined):
        return False  # another kind of trouble that began after arming must not hide in what was adopted
    known = row.severity_said or row.incident.severity
    return (row.dry_run or row.adopted) and row.state != "closed" and incident.severity.rank <= known.rank


def _armed(rows: Rows) -> Policy | None:
    row = rows.get(POLICY, ARM)
    return None if row is None or row.policy.withdrawn else row.policy


UPDATES = (Reason.NEW_KIND, Reason.GREW)
"""What brings a page up to date, without anybody being called again."""


class _Saying:
    """What is said about one incident in one step: collects escalations and the next row."""

    def __init__(
        self, incident: Incident, row: PageRow | None, rows: Rows, now: datetime, config: Config, *, dry_run: bool
    ) -> None:
        self.incident = incident
        self.rows = rows
        self.now = now
        self.config = config
        self.dry_run = dry_run
        self.known = row
        self.row = row or PageRow(incident=incident, state="quiet", reason="", dry_run=dry_run, published_at=now)
        self.emit: list[Event] = []

    def change(self, **update: object) -> None:
        self.row = self.row.model_copy(update=update)

    def run(self, action: Action, reason: Reason) -> Step:
        """Say what is due and return the step."""
        before = (self.row.state, self.row.reason)
        if reason is Reason.RESOLVED:
            self.close(reason)
        elif reason is Reason.ADOPTED:
            self.change(adopted=True, dry_run=True, severity_said=self.row.severity_said or self.incident.severity)
            self.settle(action, reason)
        elif reason is Reason.HANDLED:
            self.change(state="held", reason=str(reason), hold_until=None, forget_at=None)
        elif action is Action.HOLD:
            until = self.row.hold_until or self.now + self.config.reopen_hold
            self.change(state="held", reason=str(reason), hold_until=until, forget_at=None)
        elif reason in UPDATES and self.updates_at > self.now:
            self.change(update_at=self.updates_at)
        elif action is Action.PAGE and reason is not Reason.SAID:
            self.page(reason)
        elif action is Action.TICKET and (self.row.state not in ("paged", "ticketed") or self.only_noted):
            self.ticket(reason)
        elif self.row.state in ("quiet", "held", "closed"):
            self.change(state="quiet", reason=str(reason), hold_until=None, forget_at=None)
        decided = before != (self.row.state, self.row.reason)
        return self.finish(reason, at_once=decided or reason in (Reason.WORSE, Reason.NEW_KIND))

    @property
    def updates_at(self) -> datetime:
        """When the page may be brought up to date again: a cascade is one page, not one for each service it reaches."""
        return (self.row.paged_at or self.now) + self.config.update_every

    @property
    def only_noted(self) -> bool:
        """True where a dry run noted what should be said, and now it can be said."""
        return self.row.dry_run and not self.dry_run

    def settle(self, action: Action, reason: Reason) -> None:
        """Note what would have been said, without saying it."""
        state = {Action.PAGE: "paged", Action.TICKET: "ticketed"}.get(action, "quiet")
        self.change(state=state, reason=str(reason), hold_until=None, forget_at=None)

    def page(self, reason: Reason) -> None:
        """Trigger at the destination, the pinned one if the incident was paged before."""
        row = self.row
        pinned = (row.destination, row.routing_key, row.dedup_key)
        stands = pinned in row.said and (row.state == "paged" or row.resolved_by != "")
        name, key, dedup = pinned if stands else self.pin(ticket=False)
        heeded = reason is Reason.WORSE and row.acknowledged_by != ""
        if heeded and not row.resolved_by:
            # PagerDuty notifies nobody of a trigger whose alert is acknowledged: growth gets an alert of its own.
            dedup = f"{self.incident.incident_id}/{self.incident.severity}"
        anew = row.state != "paged" or row.dry_run or heeded
        waits = self.now + self.config.escalation_timeout if self.second_destination() else None
        self.change(
            state="paged",
            reason=row.reason if reason in UPDATES else str(reason),  # why it pages stays why it pages
            count_said=self.incident.open_count,
            adopted=False,
            dry_run=self.dry_run,
            severity_said=max(self.incident.severity, row.severity_said or Severity.INFO, key=lambda s: s.rank),
            paged_at=self.now,
            update_at=None,
            acknowledged_by="" if anew else row.acknowledged_by,
            resolved_by="",
            hold_until=None,
            forget_at=None,
            escalate_at=waits if anew else row.escalate_at,
            destination=name,
            routing_key=key,
            dedup_key=dedup,
        )
        self.trigger(name, key, dedup, str(reason))

    def ticket(self, reason: Reason) -> None:
        """Trigger at the destination's place for tickets, where it has one."""
        name, key, dedup = self.pin(ticket=True)
        self.settle(Action.TICKET, reason)
        self.change(adopted=False, dry_run=self.dry_run, severity_said=self.incident.severity, destination=name)
        if key:
            self.trigger(name, key, dedup, str(reason))

    def escalate(self) -> None:
        """Tell the second destination that nobody has acknowledged."""
        self.change(escalate_at=None)
        second = self.second_destination()
        if self.row.second or not second or self.only_noted:
            return
        self.change(second=True)
        key = self.config.destinations[second].routing_key.get_secret_value()
        self.trigger(second, key, f"{self.incident.incident_id}{SECOND}", str(Reason.UNACKNOWLEDGED))

    def heed(self, event: Feedback) -> Reason:
        """Let what people do at PagerDuty stand, and say again what was lost there."""
        row, open_ = self.row, self.row.state in ("paged", "ticketed")
        if event.person and event.kind in TAKEN_OVER and open_:
            return self.hand_over(event)
        if event.kind is FeedbackKind.MISSING and open_ and row.said and not row.incident.muted:
            for name, key, dedup in row.said:
                self.say(PageAction.TRIGGER, name, key, dedup, page_text(self.incident, str(Reason.RESTORED)))
            self.change(acknowledged_by="", escalate_at=self.patience())
            return Reason.RESTORED
        if event.person and event.kind is FeedbackKind.REOPENED and row.resolved_by:
            self.change(state="paged", resolved_by="", acknowledged_by=event.by or SOMEBODY)
        elif event.person and event.kind is FeedbackKind.REASSIGNED:
            self.change(escalate_at=None)  # they know whom they want
        elif event.kind is FeedbackKind.UNACKNOWLEDGED and row.acknowledged_by:
            self.change(acknowledged_by="", escalate_at=self.patience())
        return Reason.FEEDBACK

    def hand_over(self, event: Feedback) -> Reason:
        """Note that a person has taken the incident over; other alerts of it at PagerDuty follow."""
        row, by = self.row, event.by or SOMEBODY
        resolved = event.kind is FeedbackKind.RESOLVED
        follow = PageAction.RESOLVE if resolved else PageAction.ACKNOWLEDGE
        if len(row.said) > 1 and (resolved or not row.acknowledged_by):
            for name, key, dedup in row.said:  # whichever was answered: for that one the request says nothing new
                self.say(follow, name, key, dedup, None)
        self.change(acknowledged_by=by, escalate_at=None)
        if not resolved:
            return Reason.ACKNOWLEDGED
        self.change(state="held", reason=str(Reason.HANDLED), resolved_by=by, hold_until=None, update_at=None)
        return Reason.HANDLED

    def patience(self) -> datetime | None:
        """Return when the second destination is told, unless somebody acknowledges before; None where there is none."""
        if not self.second_destination() or self.row.second:
            return None
        return self.now + self.config.escalation_timeout

    def close(self, reason: Reason) -> None:
        """Resolve whatever was said, wherever it was said."""
        for name, key, dedup in self.row.said:
            self.say(PageAction.RESOLVE, name, key, dedup, None)
        unheeded = self.row.state == "paged" and self.row.said and not self.row.acknowledged_by
        if unheeded and self.rows.count(HEARD, "answer"):  # without feedback from people, silence says nothing
            label = Label(
                sample_id=self.row.incident.incident_id, page=False, weight=0.5, source="unheeded", at=self.now
            )
            self.emit.append(label)
        self.change(
            state="closed",
            reason=str(reason),
            said=(),
            second=False,
            severity_said=None,
            adopted=False,
            acknowledged_by="",
            resolved_by="",
            hold_until=None,
            escalate_at=None,
            update_at=None,
            forget_at=self.now + FORGET_AFTER,
        )

    def trigger(self, name: str, key: str, dedup: str, reason: str) -> None:
        if self.dry_run:
            return
        if key and (name, key, dedup) not in self.row.said:
            self.change(said=(*self.row.said, (name, key, dedup)))
        grown = dedup not in (self.incident.incident_id, f"{self.incident.incident_id}{SECOND}")
        self.say(PageAction.TRIGGER, name, key, dedup, page_text(self.incident, reason, grown=grown))

    def say(self, action: PageAction, name: str, key: str, dedup: str, text: PageText | None) -> None:
        self.change(seq=self.row.seq + 1)
        held = self.rows.get(INCIDENT, self.incident.incident_id)
        receipt = Receipt(
            inbox=held.digest if held else "",
            config_version=self.rows.version(CONFIG),
            catalogue_version=self.rows.version("catalogue"),
            model_version=self.rows.version("model"),
        )
        self.emit.append(
            Escalation(
                incident_id=self.incident.incident_id,
                scope=self.incident.scope,
                destination=name,
                routing_key=key,
                dedup_key=dedup,
                action=action,
                seq=self.row.seq,
                text=text,
                at=self.now,
                receipt=receipt,
                trail=self.incident.trail,
            )
        )

    def first_destination(self) -> str:
        context = self.incident.context
        named = context.destination if context else DEFAULT
        return named if named in self.config.destinations else DEFAULT

    def second_destination(self) -> str:
        context = self.incident.context
        named = context.second_destination if context else ""
        return named if named in self.config.destinations else ""

    def pin(self, *, ticket: bool) -> tuple[str, str, str]:
        """Return the destination's name, routing key (empty where none is configured) and our dedup key."""
        name = self.first_destination()
        destination = self.config.destinations.get(name)
        secret = None
        if destination is not None:
            secret = destination.ticket_routing_key if ticket else destination.routing_key
        return name, secret.get_secret_value() if secret else "", self.incident.incident_id

    def finish(self, reason: Reason, *, at_once: bool) -> Step:
        """Publish the incident, now or with the next publication, and return the step."""
        joined = (*self.row.pending_joined, *self.incident.joined)
        weight = (self.row.pending_bytes or _weight(self.row.pending_joined)) + _weight(self.incident.joined)
        again = {member.fingerprint for member in self.incident.joined}
        left = (*(gone for gone in self.row.pending_left if gone not in again), *self.incident.left)
        soon = self.row.published_at + self.config.publish_every
        full = len(joined) + len(left) > PENDING or weight > PENDING_BYTES
        at_once = at_once or self.known is None or soon <= self.now or full
        kept = self.told((), ())
        shortened = 0
        if at_once:
            if weight > TOLD_BYTES:
                joined, shortened = _shortened(joined)
            self.emit.insert(0, self.told(joined, left))
            joined, left, weight = (), (), 0
        row, publish_at = self.row, None if at_once else soon
        due = min(
            filter(None, (row.hold_until, row.escalate_at, row.update_at, publish_at, row.forget_at)), default=None
        )
        self.change(
            incident=kept,
            pending_joined=joined,
            pending_left=left,
            pending_bytes=weight,
            published_at=self.now if at_once else row.published_at,
            publish_at=publish_at,
            wake_at=due,
        )
        key = self.incident.incident_id
        wake = () if due is None else (Wake.trusted(table=PAGE.name, key=key, due=due),)
        figures: dict[str, Scalar] = {
            "incident": key,
            "state": row.state,
            "severity": self.incident.severity.value,
            "destination": row.destination,
            "dry_run": self.dry_run,
        }
        if shortened:
            figures["shortened"] = shortened
        return Step({PAGE.at(key): self.row}, reason, tuple(self.emit), wake, figures)

    def told(self, joined: tuple[Member, ...], left: tuple[str, ...]) -> Incident:
        row = self.row
        actions = {"paged": Action.PAGE, "ticketed": Action.TICKET, "held": Action.HOLD}
        decision = Decision.trusted(
            action=actions.get(row.state, Action.NONE),
            reason=row.reason,
            destination=row.destination,
            dry_run=row.dry_run,
            adopted=row.adopted,
            acknowledged_by=row.acknowledged_by,
        )
        return self.incident.model_copy(update={"joined": joined, "left": left, "decision": decision})


def _weight(members: tuple[Member, ...]) -> int:
    return sum(len(member.model_dump_json().encode()) for member in members)


def _shortened(members: tuple[Member, ...]) -> tuple[tuple[Member, ...], int]:
    """Return members of which the first `TOLD_BYTES` are told in full, and how many are told in short."""
    told: list[Member] = []
    room, shortened = TOLD_BYTES, 0
    for member in members:
        room -= _weight((member,))
        if room >= 0:
            told.append(member)
            continue
        shortened += 1
        texts = {name: getattr(member, name)[:SHORT] for name in ("name", "summary", "service", "resource")}
        told.append(member.model_copy(update={**texts, "labels": {}, "links": (), "runbook": ""}))
    return tuple(told), shortened


def _look_again(wake: Wake, rows: Rows, now: datetime, config: Config) -> Step:
    if wake.table == HEARD.name:
        return Step({HEARD.at(wake.key): None}, Reason.FORGOTTEN)
    row = rows.get(PAGE, wake.key)
    if row is None or (row.forget_at is not None and row.forget_at <= now):
        return Step({PAGE.at(wake.key): None}, Reason.FORGOTTEN)
    incident = row.incident.model_copy(
        update={"change": IncidentChange.RECONSIDERED, "changed_at": now, "new_kind": False}
    )
    armed = _armed(rows)
    saying = _Saying(incident, row, rows, now, config, dry_run=armed is None)
    if row.hold_until is not None and row.hold_until <= now:
        if armed is not None and armed.adopt and _adopted(incident, row, armed):
            return saying.run(Action.PAGE, Reason.ADOPTED)
        saying.page(Reason.HOLD_OVER)
        return saying.finish(Reason.HOLD_OVER, at_once=True)
    if row.escalate_at is not None and row.escalate_at <= now and row.incident.muted:
        saying.change(escalate_at=now + config.escalation_timeout)
        return saying.finish(Reason.MUTED, at_once=False)
    if row.escalate_at is not None and row.escalate_at <= now:
        saying.escalate()
        return saying.finish(Reason.UNACKNOWLEDGED, at_once=True)
    if row.update_at is not None and row.update_at <= now:
        saying.change(update_at=None)
        if not (row.incident.muted or saying.only_noted):
            saying.page(Reason.GREW)
            return saying.finish(Reason.GREW, at_once=True)
    return saying.finish(Reason.PUBLISHED, at_once=True)


def _hear(event: Feedback, rows: Rows, now: datetime, config: Config) -> Step:
    """Take in what a person did; a redelivery of it changes nothing."""
    if rows.get(HEARD, event.feedback_id) is not None:
        return Step({}, Reason.HEARD_BEFORE, figures={"feedback": event.feedback_id})
    due = now + HEARD_FOR
    heard = {HEARD.at(event.feedback_id): HeardRow(at=now, answer=event.person and event.kind in ANSWERS, wake_at=due)}
    wake = (Wake(table=HEARD.name, key=event.feedback_id, due=due),)
    figures = {"feedback": event.feedback_id, "kind": event.kind.value, "by": event.by}
    row = rows.get(PAGE, event.incident_id)
    labels = _labels(event, now)
    if row is None:
        return Step(heard, Reason.UNKNOWN_INCIDENT, labels, wake, figures)
    incident = row.incident.model_copy(
        update={"change": IncidentChange.RECONSIDERED, "changed_at": now, "new_kind": False}
    )
    saying = _Saying(incident, row, rows, now, config, dry_run=_armed(rows) is None)
    reason = saying.heed(event)
    saying.emit.extend(labels)
    said = saying.finish(reason, at_once=True)
    return Step({**said.changes, **heard}, reason, said.emit, (*said.wake, *wake), figures)


def _labels(event: Feedback, now: datetime) -> tuple[Label, ...]:
    """Return what the learner may take from it: an acknowledgement, or an explicit verdict."""
    if event.kind is FeedbackKind.LABEL and event.page is not None:
        return (Label(sample_id=event.incident_id, page=event.page, source="label", at=now),)
    if event.kind is FeedbackKind.ACKNOWLEDGED and event.person:
        return (Label(sample_id=event.incident_id, page=True, source="acknowledged", at=now),)
    return ()


def _arm(policy: Policy, rows: Rows, now: datetime, config: Config) -> Step:
    """Tell once what was open already when the pipeline was armed."""
    figures: dict[str, Scalar] = {"author": policy.author, "withdrawn": policy.withdrawn}
    keys = rows.keys(PAGE, "open")
    found = (row for key in keys if (row := rows.get(PAGE, key)) is not None)
    held = [row for row in found if row.dry_run and not row.incident.canary]
    if policy.kind is not PolicyKind.ARM or policy.withdrawn or not policy.adopt or not held:
        return Step({}, Reason.ARMED, figures=figures)
    secret = config.destinations[DEFAULT].routing_key.get_secret_value() if DEFAULT in config.destinations else ""
    scope = held[0].incident.scope
    summary = Escalation(
        incident_id=f"adopted:{policy.version}:{scope}",
        scope=scope,
        destination=DEFAULT,
        routing_key=secret,
        dedup_key=f"adopted:{policy.version}:{scope}",
        action=PageAction.CHANGE,
        seq=1,
        text=adoption_text(len(held), sum(row.state == "paged" for row in held), scope),
        at=now,
    )
    return Step({}, Reason.ARMED, (summary,), figures={**figures, "adopted": len(held)})


STAGE = Stage(
    "escalate",
    step,
    takes=(Incident, Feedback, Policy),
    reasons=Reason,
    config=Config,
    owns=(PAGE, HEARD),
    pins=pins_of,
    unintended=frozenset({Reason.UNKNOWN_INCIDENT}),
)
