"""Feedback and policies -> the inboxes of the nodes that they concern, so that their order is in those logs."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from streamproc.core.errors import Rejected
from streamproc.core.event import Activated
from streamproc.core.identity import scope_of
from streamproc.core.step import Stage, Step
from streamproc.core.table import Rows
from streamproc.events.feedback import ARM, Feedback, Policy, PolicyKind
from streamproc.matching import fault_of, matches

YEARS = range(2000, 9000)
"""Years that a policy can name: near the ends of the calendar, reckoning with a moment fails."""
SHOWN = 300


class FeedbackReason(StrEnum):
    """What relay-feedback passed on."""

    FEEDBACK = "feedback"


class PolicyReason(StrEnum):
    """What relay-policy passed on."""

    POLICY = "policy"
    ACTIVATED = "activated"


def step_feedback(event: Feedback, rows: Rows, now: datetime, config: object) -> Step:  # noqa: ARG001
    """Pass feedback on to the partition of the incident's scope.

    Raises:
        Rejected: the id is none of ours.
    """
    scope = scope_of(event.incident_id)
    if scope is None:
        raise Rejected("foreign_incident", f"{event.incident_id[:80]!r} is no incident id of streamproc (in:v1:...)")
    return Step(
        {}, FeedbackReason.FEEDBACK, (event.model_copy(update={"scope": scope}),), figures={"kind": event.kind.value}
    )


def step_policy(event: Policy | Activated, rows: Rows, now: datetime, config: object) -> Step:  # noqa: ARG001
    """Pass a policy or an activation on to every partition.

    Raises:
        Rejected: the policy would mute everything, or for ever, or has a regular expression that does not compile.
    """
    if isinstance(event, Activated):
        return Step({}, PolicyReason.ACTIVATED, (event,), figures={"kind": event.kind, "version": event.version})
    refuse_unsafe(event)
    return Step({}, PolicyReason.POLICY, (event,), figures={"policy": event.policy_id, "version": event.version})


def refuse_unsafe(policy: Policy) -> None:
    """Refuse a policy that nobody can want.

    Raises:
        Rejected: as for `step_policy`.
    """
    if (policy.policy_id == ARM) is not (policy.kind is PolicyKind.ARM):
        raise Rejected(
            "reserved_id", f"policy {policy.policy_id}: the id {ARM!r} is kept for arming, and arming for it"
        )
    if {policy.starts_at.year, (policy.ends_at or policy.starts_at).year} - set(YEARS):
        raise Rejected("bad_time", f"policy {policy.policy_id} begins or ends when nobody can mean")
    if policy.kind is PolicyKind.ARM or policy.withdrawn:
        return
    if not policy.matchers:
        raise Rejected("mutes_everything", f"policy {policy.policy_id} has no matchers and would mute everything")
    if policy.ends_at is None or policy.ends_at <= policy.starts_at:
        raise Rejected("no_end", f"policy {policy.policy_id} needs an end after its start")
    for matcher in policy.matchers:
        if wrong := fault_of(matcher):
            # What it says is cut: the text of a refusal is kept, and an expression may be a whole request long.
            told = f"{matcher.name}{matcher.op}{matcher.value!r}"[:SHOWN]
            raise Rejected("bad_expression", f"policy {policy.policy_id}: {told}: {wrong[:SHOWN]}")
    if all(matches(matcher, "") for matcher in policy.matchers):
        message = f"policy {policy.policy_id} would mute everything: one matcher at least must not match the empty text"
        raise Rejected("mutes_everything", message)


FEEDBACK = Stage("relay-feedback", step_feedback, takes=(Feedback,), reasons=FeedbackReason)
POLICY = Stage("relay-policy", step_policy, takes=(Policy, Activated), reasons=PolicyReason)
