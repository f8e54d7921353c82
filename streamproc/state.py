"""Every row of the pipeline and the list of tables. JSON, never pickle; each table says what bounds it.

A model that changes, or whose parts do, says a higher `v`, else an older version would read its rows and lose what it
does not know. tests/upgrade/shapes.json holds every version that was shipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

from pydantic import AwareDatetime

from streamproc.core.event import Event, Frozen
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


class Spot(Frozen):
    """What is known of one kind of alert (name and service) in an incident: what likeness to others is told by."""

    fingerprint: str
    """Of the first alert of the kind."""
    alert_id: str
    name: str
    service: str = ""
    place: str = ""
    """Where it is, for example its namespace; empty where it does not say."""
    words: tuple[str, ...] = ()
    """Telling words of its text, lower case."""
    names: tuple[str, ...] = ()
    """Services of the catalogue that its text names."""
    since: AwareDatetime
    """When its first alert started."""
    at: AwareDatetime
    """When its latest alert started."""

    @cached_property
    def telling(self) -> frozenset[str]:
        """The words as a set."""
        return frozenset(self.words)


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
    spots: tuple[Spot, ...] = ()
    """What it is told by, at most 24: the first kinds of alerts, and the latest."""
    root_candidates: tuple[str, ...] = ()
    """Alert ids of the likeliest causes, the likeliest first."""
    pinned: dict[str, ActiveRow] = {}
    """The settings and the catalogue that it was opened with, and is decided by until it is over."""
    digest: str = ""
    """SHA-256 over what its members said, in order: the receipt's hash of the inbox slice."""

    @property
    def told_by(self) -> tuple[Spot, ...]:
        """What likeness to it is told by: of an incident that an older version opened, its root."""
        if self.spots or not self.total_count:
            return self.spots
        root = self.root
        return (
            Spot(
                fingerprint=root.fingerprint,
                alert_id=root.alert_id,
                name=root.name,
                service=root.service,
                since=root.starts_at,
                at=root.starts_at,
            ),
        )

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
            root_candidates=self.root_candidates,
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

    v: int = 3
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


BUCKET = 1800
"""Seconds: incidents are found by the half hour in which the last alert joined, so that old ones are never read."""


def bucket_of(moment: AwareDatetime) -> int:
    """Return the half hour of a moment."""
    return int(moment.timestamp()) // BUCKET


def _where(row: IncidentRow) -> Iterator[str]:
    """Yield where an incident is looked for."""
    for spot in row.spots:
        yield alert_index(spot.fingerprint)
    if row.status == "resolved":
        for kind in row.kinds:
            yield kind_index(row.scope, kind)
    else:
        for group in row.groups:
            yield group_index(row.scope, group)
    bucket = bucket_of(row.resolved_at or row.joined_at)
    for service in row.services:
        yield service_index(row.scope, service, bucket)
    for spot in row.spots:
        yield name_index(row.scope, spot.name, bucket, served=spot.service != "")
        for named in spot.names:
            yield named_index(row.scope, named, bucket)


def alert_index(fingerprint: str) -> str:
    """Return the index name under which incidents stand that an alert was in."""
    return f"alert:{fingerprint}"


def kind_index(scope: str, kind: str) -> str:
    """Return the index name of closed incidents that had a kind of alert."""
    return f"kind:{scope}/{kind}"


def service_index(scope: str, service: str, bucket: int) -> str:
    """Return the index name of incidents of a service that took an alert, or were resolved, in a half hour."""
    return f"service:{bucket}:{scope}/{service.lower()}"


def name_index(scope: str, name: str, bucket: int, *, served: bool) -> str:
    """Return the index name of incidents with an alert name that names a service, or none, as `service_index` does."""
    return f"{'name' if served else 'only'}:{bucket}:{scope}/{name}"


def named_index(scope: str, service: str, bucket: int) -> str:
    """Return the index name of incidents whose texts name a service, as `service_index` does."""
    return f"named:{bucket}:{scope}/{service.lower()}"


def group_index(scope: str, group: str) -> str:
    """Return the index name under which open incidents of a source group stand."""
    return f"group:{scope}/{group}"


def _by_dedup_key(row: IntentRow) -> tuple[str, ...]:
    return () if row.last is None else (row.last.dedup_key,)


OPEN_STATES = ("quiet", "held", "ticketed", "paged", "acknowledged")
"""How an open incident stands: the state of its row, or `acknowledged` where it is paged and a person has taken it."""


def open_index(state: str) -> str:
    """Return the index name under which the open incidents of a state are counted."""
    return f"open:{state}"


def _open_page(row: PageRow) -> tuple[str, ...]:
    if row.state == "closed":
        return ()
    taken = row.state == "paged" and row.acknowledged_by
    return ("open", open_index("acknowledged" if taken else row.state))


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
