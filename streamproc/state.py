"""Every row of the pipeline and the list of tables. JSON, never pickle; each table says what bounds it.

A model that changes, or whose parts do, says a higher `v`, else an older version would read its rows and lose what it
does not know. tests/upgrade/shapes.json holds every version that was shipped.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AwareDatetime

from streamproc.core.event import Event
from streamproc.core.step import ACTIVE, NO_PINS, ActiveRow, Pins
from streamproc.core.table import Row, Rows, Table
from streamproc.events.alert import Severity, Status
from streamproc.events.canary import is_canary
from streamproc.events.escalation import Escalation
from streamproc.events.feedback import Policy, PolicyKind
from streamproc.events.incident import Incident, IncidentChange, Member

BY_RANK = (Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.CRITICAL)


class EpisodeRow(Row):
    """deduplicate: what is known of one fingerprint; after a resolve it stands as a tombstone for a while."""

    v: int = 2
    status: Status
    scope: str
    starts_at: AwareDatetime
    """Of the occurrence that is open, or was the last."""
    at: AwareDatetime
    """Newest event time folded."""
    severity: Severity
    meaning: str
    """Hash of what would matter to a responder: name, severity, service, text without its numbers."""
    repeats: int = 0
    expires: bool = True
    seen_at: AwareDatetime
    """When the source was last heard about it (log time)."""
    alert: str = ""
    """The last alert that was passed on, as JSON, for the resolve that an expiry makes up; empty in a tombstone."""
    watchdog: Literal["", "heard", "late", "silent"] = ""
    """Of a watchdog, which opens nothing while it is heard. `late`: not heard in time, but neither were we there;
    `silent`: an episode of its silence is open."""


class SourceRow(Row):
    """deduplicate: when a source was last heard at all, to the minute."""

    heard_at: AwareDatetime


class IncidentRow(Row):
    """correlate: one incident, open or closed so lately that it may reopen."""

    v: int = 2
    incident_id: str
    scope: str
    status: Literal["open", "resolved"]
    root: Member
    environment: str = ""
    cluster: str = ""
    services: tuple[str, ...] = ()
    """Services that its members named, at most `max_services`."""
    groups: tuple[str, ...] = ()
    """Source groups that its members came in, at most `max_services`."""
    kinds: tuple[str, ...] = ()
    """Hashes of (name, service) seen, at most four times `max_services`."""
    opened_at: AwareDatetime
    joined_at: AwareDatetime
    """When the last member joined: the window rolls from here."""
    resolved_at: AwareDatetime | None = None
    open_count: int = 0
    total_count: int = 0
    severities: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Open members by severity rank, info first."""
    reopened: int = 0
    pinned: dict[str, ActiveRow] = {}
    """The settings and the catalogue that it was opened with, and is decided by until it is over."""
    digest: str = ""
    """SHA-256 over what its members said, in order: the receipt's hash of the inbox slice."""

    @property
    def severity(self) -> Severity:
        """Highest severity of the open members; that of the root where none is open."""
        worst = max((rank for rank, count in enumerate(self.severities) if count), default=None)
        return self.root.severity if worst is None else BY_RANK[worst]

    def event(self, change: IncidentChange, now: AwareDatetime) -> Incident:
        """Return the incident as an event without deltas."""
        more = f" (+{self.open_count - 1} more)" if self.open_count > 1 else ""
        return Incident(
            incident_id=self.incident_id,
            scope=self.scope,
            change=change,
            status=self.status,
            title=f"{self.root.summary or self.root.name}{more}",
            severity=self.severity,
            environment=self.environment,
            cluster=self.cluster,
            service=self.root.service,
            services=self.services,
            root=self.root,
            opened_at=self.opened_at,
            resolved_at=self.resolved_at,
            changed_at=now,
            open_count=self.open_count,
            total_count=self.total_count,
            reopened=self.reopened,
            canary=is_canary(self.root),
        )


class MemberRow(Row):
    """correlate: one open episode and the incident that holds it."""

    incident_id: str
    member: Member


class PolicyRow(Row):
    """suppress: one policy that stands, or its withdrawal while an older version could still arrive."""

    policy: Policy


class MuteRow(Row):
    """suppress: one open member that a policy mutes."""

    incident_id: str
    policy_id: str
    until: AwareDatetime


class ClassRow(Row):
    """classify: what was said of one open incident, so that a growing one is not scored anew for every member."""

    p_page: float | None = None
    model_version: int = 0
    category: Literal["infrastructure", "application", "security", "business"]


class PageRow(Row):
    """escalate: what was said about one incident, to whom, and what waits to be said."""

    v: int = 2
    incident: Incident
    """As it was last decided, with its reason chain, deltas left out."""
    state: Literal["quiet", "held", "ticketed", "paged", "closed"]
    reason: str
    adopted: bool = False
    dry_run: bool = False
    severity_said: Severity | None = None
    destination: str = ""
    routing_key: str = ""
    dedup_key: str = ""
    second: bool = False
    """True once the second destination was told."""
    said: tuple[tuple[str, str, str], ...] = ()
    """Alerts at PagerDuty that we have not resolved: (destination, routing key, dedup key). At most the first and the
    second destination, and one for each severity that it grew to after somebody had acknowledged it."""
    seq: int = 0
    paged_at: AwareDatetime | None = None
    acknowledged_by: str = ""
    resolved_by: str = ""
    """Who resolved it at PagerDuty while it fires: held until it clears or gets worse. Empty where nobody did."""
    hold_until: AwareDatetime | None = None
    escalate_at: AwareDatetime | None = None
    update_at: AwareDatetime | None = None
    """When the page is brought up to date with kinds that joined since."""
    published_at: AwareDatetime
    pending_joined: tuple[Member, ...] = ()
    pending_left: tuple[str, ...] = ()
    pending_bytes: int = 0
    """Bytes of `pending_joined` as JSON."""
    count_said: int = 0
    """Members that fired when the page was last said."""
    publish_at: AwareDatetime | None = None
    forget_at: AwareDatetime | None = None


class HeardRow(Row):
    """escalate: one feedback record that was taken; a redelivery of it changes nothing."""

    at: AwareDatetime
    answer: bool = False
    """True where a person answered a page, so that no answer says something too."""


class IntentRow(Row):
    """deliver: what one alert at PagerDuty shall become, and what was sent so far."""

    v: int = 2
    pending: tuple[Escalation, ...] = ()
    """In order; at most a trigger, an acknowledge and a resolve: newer ones replace older ones of their kind."""
    triggered: bool = False
    """True once PagerDuty took a trigger."""
    refused: bool = False
    stale: int = 0
    """Triggers that were never sent because they were overtaken."""
    last: Escalation | None = None
    title: str = ""
    """Of the newest trigger, also once it was overtaken: a digest names what came and went."""


class SampleRow(Row):
    """learn: the features of a decision that waits for its label."""

    features: dict[str, float]
    p_page: float | None = None
    model_version: int
    at: AwareDatetime
    page: bool | None = None
    """The label that was learned from; None while none has come."""
    said_by: str = ""
    """Source of that label."""


class LearnerRow(Row):
    """learn: the model as it stands, and what it was scored at. One row."""

    model: str
    """JSON of the learner; see `learning/model.py`."""
    labels: int = 0
    published_labels: int = 0
    version: int = 0
    replay: tuple[str, ...] = ()
    """Ids of the latest labelled samples, some of which each further label replays."""


def pins_of(event: Event, rows: Rows) -> Pins:
    """Return the versions that the incident of an event was opened with, none where it concerns no known one."""
    key: str = getattr(event, "incident_id", "") or getattr(event, "key", "")
    row = rows.get(INCIDENT, key)
    return NO_PINS if row is None else row.pinned


def _of_incident(row: MemberRow) -> tuple[str, ...]:
    return (row.incident_id,)


def _of_mute(row: MuteRow) -> tuple[str, ...]:
    return (f"incident:{row.incident_id}", f"policy:{row.policy_id}")


ANY = "label:"
"""Index name of the policies that no label finds."""
_BROAD = frozenset({"cluster", "datacenter", "env", "environment", "job", "namespace", "region", "severity", "team"})
"""Labels that many alerts share: another one of a policy finds it better."""


def label_index(name: str, value: str) -> str:
    """Return the index name of the policies that ask for a value of a label."""
    return f"label:{name}={value}"


def _of_policy(row: PolicyRow) -> tuple[str, ...]:
    """Return where a policy is looked for: under one label that it asks for, so that most alerts never read it."""
    policy = row.policy
    if policy.withdrawn or policy.kind is PolicyKind.ARM:
        return ()
    asked = [matcher for matcher in policy.matchers if matcher.op == "=" and matcher.value]
    asked.sort(key=lambda matcher: matcher.name in _BROAD)
    return (label_index(asked[0].name, asked[0].value) if asked else ANY,)


def _where(row: IncidentRow) -> tuple[str, ...]:
    return (
        *(service_index(row.scope, service) for service in row.services),
        *(group_index(row.scope, group) for group in row.groups),
    )


def service_index(scope: str, service: str) -> str:
    """Return the index name under which incidents of a service stand."""
    return f"service:{scope}/{service}"


def group_index(scope: str, group: str) -> str:
    """Return the index name under which incidents of a source group stand."""
    return f"group:{scope}/{group}"


def _by_dedup_key(row: IntentRow) -> tuple[str, ...]:
    return () if row.last is None else (row.last.dedup_key,)


def _open_page(row: PageRow) -> tuple[str, ...]:
    return () if row.state == "closed" else ("open",)


EVERY = "every"
"""The index name under which all rows of a table stand that are counted."""


def _every_sample(_row: SampleRow) -> tuple[str, ...]:
    return (EVERY,)


EPISODE = Table("episode", EpisodeRow, bound="open episodes, and resolved ones for `forget_after`")
SOURCE = Table("source", SourceRow, bound="one row for each kind of source")
INCIDENT = Table("incident", IncidentRow, bound="open incidents, and closed ones for `reopen_within`", index=_where)
MEMBER = Table("member", MemberRow, bound="open episodes; at most `max_members` an incident", index=_of_incident)
POLICY = Table("policy", PolicyRow, bound="policies; each ends at its `ends_at`, but for arm", index=_of_policy)
MUTE = Table("mute", MuteRow, bound="open episodes that a policy mutes", index=_of_mute)
CLASS = Table("class", ClassRow, bound="open incidents")
PAGE = Table("page", PageRow, bound="open incidents, and closed ones for two hours", index=_open_page)
HEARD = Table(
    "heard",
    HeardRow,
    bound="feedback of the last three days, longer than PagerDuty retries",
    index=lambda row: ("answer",) if row.answer else (),
)
INTENT = Table("intent", IntentRow, bound="alerts that are open at PagerDuty or wait to be said", index=_by_dedup_key)
SAMPLE = Table(
    "sample",
    SampleRow,
    bound="decisions of the last `label_within` and the latest 200 labelled ones, at most `most_samples`",
    index=_every_sample,
)
LEARNER = Table("learner", LearnerRow, bound="one row")

TABLES: tuple[Table[Any], ...] = (
    ACTIVE,
    EPISODE,
    SOURCE,
    INCIDENT,
    MEMBER,
    POLICY,
    MUTE,
    CLASS,
    PAGE,
    HEARD,
    INTENT,
    SAMPLE,
    LEARNER,
)
