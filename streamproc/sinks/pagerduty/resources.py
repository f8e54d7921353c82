"""What PagerDuty's REST API v2 answers, as far as it is used here. Pure; all else of an answer is ignored.

Source: PagerDuty's API reference. Fields that PagerDuty may leave out or answer with null have a default.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr, field_validator

Status = Literal["triggered", "acknowledged", "resolved"]


class Resource(BaseModel):
    """Base of everything that is answered: frozen, unknown fields ignored, null as if it were left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_absent(cls, given: Any, info: Any) -> Any:
        field = cls.model_fields[info.field_name]
        return field.get_default(call_default_factory=True) if given is None and not field.is_required() else given


class Reference(Resource):
    """Something by its id."""

    id: str
    type: str = ""
    """For example `user_reference`, `service_reference`."""
    summary: str = ""
    """Its name."""


class Incident(Resource):
    """An incident."""

    id: str
    number: int = Field(validation_alias=AliasChoices("incident_number", "number"))
    title: str = ""
    status: Status
    incident_key: str = ""
    """Dedup key of the alert that opened it; empty where a person did."""
    created_at: datetime
    last_status_change_at: datetime | None = None
    last_status_change_by: Reference | None = None
    """Who changed its status last: a user, or a service where an event did."""
    service: Reference
    urgency: Literal["high", "low"] = "high"
    priority: Reference | None = None
    escalation_policy: Reference | None = None
    assignments: tuple[Assignment, ...] = ()
    acknowledgements: tuple[Acknowledgement, ...] = ()
    teams: tuple[Reference, ...] = ()
    resolve_reason: ResolveReason | None = None
    alert_counts: AlertCounts | None = None
    html_url: str = ""

    @property
    def merged_into(self) -> str:
        """Id of the incident that it was merged into; empty where it was not."""
        reason = self.resolve_reason
        return reason.incident.id if reason is not None and reason.incident is not None else ""

    @property
    def assignees(self) -> tuple[Reference, ...]:
        """The people it is assigned to."""
        return tuple(one.assignee for one in self.assignments)


class Assignment(Resource):
    """To whom an incident is assigned."""

    at: datetime | None = None
    assignee: Reference


class Acknowledgement(Resource):
    """Who acknowledged an incident."""

    at: datetime | None = None
    acknowledger: Reference


class AlertCounts(Resource):
    """How many alerts an incident holds."""

    all: int


class ResolveReason(Resource):
    """Why an incident was resolved, where that is more than a person's click."""

    type: str = ""
    incident: Reference | None = None
    """The incident that it was merged into."""


class Alert(Resource):
    """An alert of an incident."""

    id: str
    status: Literal["triggered", "resolved"]
    alert_key: str = ""
    """The dedup key."""
    severity: str = ""
    summary: str = ""
    created_at: datetime
    service: Reference | None = None
    incident: Reference | None = None
    """Where it is now: a merge moves it."""
    details: Any = Field(default=None, validation_alias=AliasChoices(AliasPath("body", "details"), "details"))
    """What its sender told beside, as it was sent; mostly an object."""


class Note(Resource):
    """A note of an incident."""

    id: str
    content: str = ""
    created_at: datetime
    user: Reference | None = None


class LogEntry(Resource):
    """One thing that happened to an incident."""

    id: str
    type: str
    """For example `acknowledge_log_entry`."""
    summary: str = ""
    created_at: datetime
    agent: Reference | None = None
    """Who did it: a user, or a service where an event did."""


class Integration(Resource):
    """A way into a service."""

    id: str
    type: str = ""
    summary: str = ""
    integration_key: SecretStr = SecretStr("")
    """The routing key of an Events API v2 integration; empty for other kinds."""


class Service(Resource):
    """A service."""

    id: str
    name: str
    description: str = ""
    status: str = ""
    escalation_policy: Reference | None = None
    teams: tuple[Reference, ...] = ()
    integrations: tuple[Integration, ...] = ()
    html_url: str = ""


class EscalationRule(Resource):
    """One level of an escalation policy."""

    id: str
    escalation_delay_in_minutes: int = 0
    targets: tuple[Reference, ...] = ()
    """Schedules and users."""


class EscalationPolicy(Resource):
    """An escalation policy."""

    id: str
    name: str
    escalation_rules: tuple[EscalationRule, ...] = ()
    teams: tuple[Reference, ...] = ()


class Schedule(Resource):
    """A schedule."""

    id: str
    name: str = Field(validation_alias=AliasChoices("name", "summary"))
    time_zone: str = ""
    users: tuple[Reference, ...] = ()


class OnCall(Resource):
    """Who is on call for a level of an escalation policy."""

    escalation_policy: Reference
    escalation_level: int
    user: Reference
    schedule: Reference | None = None
    start: datetime | None = None
    end: datetime | None = None
    """None where it has no end."""


class User(Resource):
    """A person."""

    id: str
    name: str
    email: str = ""
    time_zone: str = ""


class Team(Resource):
    """A team."""

    id: str
    name: str


class Priority(Resource):
    """A priority of the account, the highest first in its list."""

    id: str
    name: str


class MaintenanceWindow(Resource):
    """A time in which services do not page."""

    id: str
    description: str = ""
    start_time: datetime
    end_time: datetime
    services: tuple[Reference, ...] = ()


class ChangeEvent(Resource):
    """A change, as it was told to PagerDuty."""

    id: str
    summary: str = ""
    timestamp: datetime | None = None
    source: str = ""
    services: tuple[Reference, ...] = ()


class Scope(Resource):
    """Whose events a subscription gets: all of the account, or those of a service or team."""

    type: Literal["account_reference", "service_reference", "team_reference"] = "account_reference"
    id: str = ""
    """Of the service or team; empty for the account."""


class WebhookSubscription(Resource):
    """A webhook subscription."""

    id: str
    url: str = Field(validation_alias=AliasPath("delivery_method", "url"))
    active: bool = True
    temporarily_disabled: bool = Field(
        default=False, validation_alias=AliasPath("delivery_method", "temporarily_disabled")
    )
    """Switched off by PagerDuty for 24 h, since three webhooks in a row were refused."""
    secret: SecretStr = Field(default=SecretStr(""), validation_alias=AliasPath("delivery_method", "secret"))
    """Key of the signatures; only the answer to its creation has it."""
    events: frozenset[str] = frozenset()
    filter: Scope = Scope()
    description: str = ""


class IncidentQuery(BaseModel):
    """Which incidents are asked for; without anything all that ever were."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    incident_key: str = ""
    """Incidents that have an alert of this dedup key, wherever a merge has moved it."""
    statuses: tuple[Status, ...] = ()
    service_ids: tuple[str, ...] = ()
    since: datetime | None = None
    """Only those created from then on."""
    until: datetime | None = None
    """Only those created before; counts only with `since`."""


class IncidentChange(BaseModel):
    """What is changed of an incident; what is None stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    status: Literal["acknowledged", "resolved"] | None = None
    resolution: str | None = None
    """A note with the resolve."""
    title: str | None = None
    urgency: Literal["high", "low"] | None = None
    priority_id: str | None = None
    escalation_level: int | None = Field(default=None, ge=1)

    def body(self) -> dict[str, Any]:
        """Return the object of the request."""
        told = self.model_dump(exclude_none=True, exclude={"priority_id"})
        if self.priority_id is not None:
            told["priority"] = {"id": self.priority_id, "type": "priority_reference"}
        return {"type": "incident_reference", **told}


class NewSubscription(BaseModel):
    """A webhook subscription that is to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: str
    events: frozenset[str]
    description: str = ""
    filter: Scope = Scope()

    def body(self) -> dict[str, Any]:
        """Return the object of the request."""
        return {
            "type": "webhook_subscription",
            "active": True,
            "description": self.description,
            "delivery_method": {"type": "http_delivery_method", "url": self.url},
            "events": sorted(self.events),
            "filter": self.filter.model_dump(exclude_defaults=True) | {"type": self.filter.type},
        }


Incident.model_rebuild()
