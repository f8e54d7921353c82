"""What a look at PagerDuty came to, for people. Pure."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict

from streamproc.reconcile.compare import Difference, Kind


class Outcome(StrEnum):
    """What was done about a difference."""

    SEEN = "seen"
    """Nothing yet: a second look must see it, too."""
    REPAIRED = "repaired"
    """The records that mend it are in the log."""
    WAITING = "waiting"
    """They have been for a while, or it was said again within the hour: nothing more is done."""
    LEFT = "left"
    """Nothing: it is only reported, no routing key leads there, or nothing is to be changed (dry run)."""


class Shown(BaseModel):
    """Base of what is shown."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Found(Shown):
    """One difference."""

    kind: Kind
    outcome: Outcome
    incident_id: str
    dedup_key: str
    title: str
    there: str
    """PagerDuty's incident, empty where it has none."""
    by: str
    """Who did it there, empty where nobody did."""

    @classmethod
    def of(cls, difference: Difference, outcome: Outcome) -> Found:
        """Return how a difference is shown."""
        return cls(
            kind=difference.kind,
            outcome=outcome,
            incident_id=difference.incident_id,
            dedup_key=difference.key,
            title=difference.title,
            there=difference.there,
            by=difference.deed.by if difference.deed is not None else "",
        )


class Reconciliation(Shown):
    """The last look."""

    at: AwareDatetime
    """When it began."""
    seconds: float
    armed: bool
    """False in a dry run: then it only looks."""
    open_here: int
    """Incidents that must be open at PagerDuty."""
    open_there: int
    """Open alerts of ours that PagerDuty was found to have."""
    differences: dict[Kind, int]
    repaired: dict[Kind, int]
    found: tuple[Found, ...]


class ReconciliationStatus(Shown):
    """How the reconciliation stands."""

    enabled: bool
    """False where there is no key of PagerDuty's REST API, or `pagerduty.reconcile_every` is 0."""
    error: str = ""
    """Why the latest look failed, empty where it did not."""
    last: Reconciliation | None = None
    """The last look that succeeded, null before the first."""
