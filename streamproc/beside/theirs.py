"""What the existing route made PagerDuty page, as it is kept here. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from streamproc.beside.clues import NO_CLUES, Clues, clues_of
from streamproc.core.identity import incident_of
from streamproc.reconcile.theirs import is_person
from streamproc.sinks.pagerduty.resources import Alert, Incident, LogEntry

MACHINES = frozenset({"notify_log_entry", "trigger_log_entry", "repeat_log_entry"})
"""Kinds of log entries that tell nothing that a person did, whoever they name."""
TRIGGERED = "trigger_log_entry"
LATER = timedelta(hours=1)
"""A resolved incident is read until so long after its resolve: the note on it is often written then."""
MOST_ALERTS, MOST_DEEDS = 20, 50
"""Of one incident so many are kept."""


class Kept(BaseModel):
    """Base of what is kept: frozen, and unknown fields of a later version are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class TheirAlert(Kept):
    """One alert of their incident."""

    key: str = ""
    """Its dedup key."""
    summary: str = ""
    clues: Clues = NO_CLUES


class TheirDeed(Kept):
    """What a person did about it."""

    what: str
    """As PagerDuty calls it, for example `acknowledge`."""
    by: str
    at: AwareDatetime


class TheirPage(Kept):
    """One incident of PagerDuty that another route made."""

    incident_id: str
    number: int = 0
    title: str = ""
    status: Literal["triggered", "acknowledged", "resolved"]
    urgency: Literal["high", "low"] = "high"
    service: str = ""
    """Name of PagerDuty's service."""
    key: str = ""
    """Dedup key of the alert that opened it; empty where a person did."""
    url: str = ""
    created_at: AwareDatetime
    changed_at: AwareDatetime
    """When its status changed last."""
    alerts: tuple[TheirAlert, ...] = ()
    deeds: tuple[TheirDeed, ...] = ()
    by_hand: bool = False
    """True where a person made it."""
    details_known: bool = False
    """True once its alerts were read."""
    deeds_known: bool = False
    """True once it was read what people did, as far as the status stands."""
    source: Literal["rest", "webhook"] = "rest"

    @property
    def ended_at(self) -> datetime | None:
        """When it was resolved, None while it is open."""
        return self.changed_at if self.status == "resolved" else None

    @property
    def ours(self) -> bool:
        """Whether streamproc made it: an earlier life of this pipeline, or another one."""
        return incident_of(self.key) != ""

    @property
    def acted(self) -> bool | None:
        """Whether a person acted upon it; None where that is not known."""
        if self.deeds:
            return True
        return False if self.deeds_known else None

    def final(self, now: datetime) -> bool:
        """Return whether there is nothing more to read."""
        return self.details_known and self.deeds_known and self.ended_at is not None and now >= self.ended_at + LATER

    def listed(self, incident: Incident) -> Self:
        """Return it with what a list of incidents says of it now; what a change may have added must be read again."""
        told = heading_of(incident)
        stale = (told.status, told.changed_at) != (self.status, self.changed_at)
        kept = self.model_dump(include={"alerts", "deeds", "by_hand", "details_known"})
        known = self.deeds_known and not stale and self.source == "rest"
        return type(self).model_validate({**dict(told), **kept, "deeds_known": known})

    def read(self, alerts: Sequence[Alert], log: Sequence[LogEntry]) -> Self:
        """Return it with all that PagerDuty told of it.

        Args:
            alerts: its alerts.
            log: what happened to it, the latest first.
        """
        triggers = [entry for entry in log if entry.type == TRIGGERED]
        return self.model_copy(
            update={
                "alerts": tuple(_alert(one) for one in alerts[:MOST_ALERTS]),
                "deeds": deeds_of(log)[-MOST_DEEDS:],
                "by_hand": bool(triggers) and is_person(triggers[-1].agent),
                "details_known": True,
                "deeds_known": True,
                "source": "rest",
            }
        )


def heading_of(incident: Incident) -> TheirPage:
    """Return what a list of incidents tells of one."""
    return TheirPage(
        incident_id=incident.id,
        number=incident.number,
        title=incident.title,
        status=incident.status,
        urgency=incident.urgency,
        service=incident.service.summary,
        key=incident.incident_key,
        url=incident.html_url,
        created_at=incident.created_at,
        changed_at=incident.last_status_change_at or incident.created_at,
    )


def deeds_of(log: Sequence[LogEntry]) -> tuple[TheirDeed, ...]:
    """Return what people did, in order. Events, timers and other tools are not people."""
    return tuple(
        TheirDeed(what=entry.type.removesuffix("_log_entry"), by=entry.agent.summary, at=entry.created_at)
        for entry in reversed(log)
        if entry.agent is not None and is_person(entry.agent) and entry.type not in MACHINES
    )


def _alert(alert: Alert) -> TheirAlert:
    return TheirAlert(key=alert.alert_key, summary=alert.summary, clues=clues_of(alert.details))
