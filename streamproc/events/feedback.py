"""Feedback: what people did. Policy: what people want."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from streamproc.core.event import Event, Frozen


class FeedbackKind(StrEnum):
    """What a responder did or said about an incident."""

    ACKNOWLEDGED = "acknowledged"
    UNACKNOWLEDGED = "unacknowledged"
    RESOLVED = "resolved"
    REOPENED = "reopened"
    ANNOTATED = "annotated"
    REASSIGNED = "reassigned"
    ESCALATED = "escalated"
    PRIORITY = "priority"
    URGENCY = "urgency"
    TRIGGERED = "triggered"
    MERGED = "merged"
    """A person merged it into another incident of PagerDuty; its alert lives on there."""
    MISSING = "missing"
    """The reconciler found no open alert of it at PagerDuty although nobody closed one."""
    LABEL = "label"
    """An explicit verdict: `page` says whether the page was worth it."""


class Feedback(Event):
    """Something a person did about an incident. Public: others may produce it too."""

    TYPE: ClassVar[str] = "feedback.v1"

    feedback_id: str = Field(min_length=1, max_length=200)
    """The same on every redelivery (PagerDuty's webhook id); a second one with it changes nothing."""
    incident_id: str = Field(min_length=1, max_length=255)
    """Ours: the `dedup_key` of the page."""
    kind: FeedbackKind
    by: str = ""
    person: bool = True
    """False where a machine did it: PagerDuty tells of our own requests, too, and they answer nothing."""
    value: str = ""
    page: bool | None = None
    at: AwareDatetime
    scope: str = ""
    """Filled by the relay from the incident id."""


class Matcher(Frozen):
    """One condition on a label, in Alertmanager's sense: a missing label is the empty string."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str


ARM = "arm"
"""Id of the policy that arms the pipeline; no other may have it."""


class PolicyKind(StrEnum):
    """What a policy does."""

    SILENCE = "silence"
    MAINTENANCE = "maintenance"
    ARM = "arm"
    """Pages are delivered from `starts_at` on; what is open then is adopted with one summary."""


class Policy(Event):
    """A standing wish of a person, with author, reason and, but for arm, an end. A later version replaces it."""

    TYPE: ClassVar[str] = "policy.v1"

    policy_id: str = Field(min_length=1, max_length=200)
    kind: PolicyKind
    version: int = Field(ge=1)
    matchers: tuple[Matcher, ...] = ()
    """All must hold. A silence or maintenance window without any is refused at the door."""
    starts_at: AwareDatetime
    ends_at: AwareDatetime | None = None
    author: str = ""
    reason: str = ""
    withdrawn: bool = False
    adopt: bool = True
    """For arm: whether incidents that are open then are adopted (one summary) or treated as new."""
