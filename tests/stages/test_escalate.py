from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from pydantic import SecretStr

from streamproc.core.event import Wake
from streamproc.core.fold import Overlay
from streamproc.core.step import Step
from streamproc.core.table import Row, RowKey
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, PageAction
from streamproc.events.feedback import Feedback, Policy
from streamproc.events.incident import Action, Classification, Context, Incident, Member
from streamproc.events.training import Label
from streamproc.stages.escalate import (
    FORGET_AFTER,
    HEARD_FOR,
    PENDING,
    PENDING_BYTES,
    SHORT,
    STAGE,
    TOLD_BYTES,
    Config,
    Destination,
    Reason,
    decide,
    step,
)
from streamproc.state import HEARD, INCIDENT, PAGE, POLICY, HeardRow, IncidentRow, PageRow, PolicyRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
OUTAGE = "in:v1:prod:eu:1"


def minute(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


def destination(name: str, *, tickets: bool = True) -> Destination:
    return Destination(
        routing_key=SecretStr(f"K-{name}"), ticket_routing_key=SecretStr(f"T-{name}") if tickets else None
    )


CONFIG = Config(destinations={name: destination(name) for name in ("default", "front", "boss")})
MOVED = Config(destinations={"default": Destination(routing_key=SecretStr("K-new"))})
WITH_SECOND = Context(known=True, destination="front", second_destination="boss")


def member(name: str = "a", **changes: Any) -> Member:
    given = {"fingerprint": f"fp:v1:{name}", "alert_id": name, "name": "Down", "severity": "error", "summary": name}
    return Member.model_validate({"starts_at": T0, **given, **changes})


def now(change: str, severity: str = "error", *, id_: str = OUTAGE, **changes: Any) -> Incident:
    """The incident as it stands now, after enrich and classify."""
    given = {
        "incident_id": id_,
        "scope": "prod:eu",
        "change": change,
        "status": "resolved" if change == "resolved" else "open",
        "title": "Down",
        "severity": severity,
        "root": member(),
        "opened_at": T0,
        "changed_at": T0,
        "open_count": 0 if change == "resolved" else 1,
        "total_count": 1,
    }
    return Incident.model_validate({**given, **changes})


def heard(kind: str, number: int = 1, **changes: Any) -> Feedback:
    given = {"feedback_id": f"w{number}", "incident_id": OUTAGE, "kind": kind, "by": "kim", "at": T0}
    return Feedback.model_validate({**given, **changes})


def arm(version: int = 1, at: float = -600, **changes: Any) -> Policy:
    """Ten hours before the story begins, unless it says otherwise."""
    return Policy.model_validate(
        {"policy_id": "arm", "kind": "arm", "version": version, "starts_at": minute(at), **changes}
    )


def learned(p: float | None, *, abstain: bool = False) -> Classification:
    return Classification(category="application", urgency="high", p_page=p, abstain=abstain)


ARMED, ADOPTING = arm(adopt=False), arm()
QUIET, SURE = learned(0.1), learned(0.5)


def row(state: Any = "paged", said: str | None = "error", **changes: Any) -> PageRow:
    given = {"incident": now("opened"), "state": state, "reason": "severity", "severity_said": said}
    return PageRow.model_validate({"published_at": T0, **given, **changes})


OLD = member(starts_at=minute(-611))
"""Began eleven minutes before arming."""
AT_ARMING = member(starts_at=minute(-610))

DECISIONS = [
    pytest.param(now("opened", "critical"), None, ARMED, Action.PAGE, Reason.SEVERITY, id="critical"),
    pytest.param(now("opened", "error"), None, ARMED, Action.PAGE, Reason.SEVERITY, id="error"),
    pytest.param(now("opened", "warning"), None, ARMED, Action.TICKET, Reason.SEVERITY, id="warning"),
    pytest.param(now("opened", "info"), None, ARMED, Action.NONE, Reason.BELOW, id="info"),
    pytest.param(now("opened", "critical", canary=True), None, ARMED, Action.NONE, Reason.CANARY, id="a canary"),
    pytest.param(now("resolved", canary=True), row("quiet"), ARMED, Action.NONE, Reason.RESOLVED, id="a canary ends"),
    pytest.param(now("opened"), None, None, Action.PAGE, Reason.SEVERITY, id="dry run: what it would be"),
    pytest.param(now("resolved"), row(), ARMED, Action.NONE, Reason.RESOLVED, id="resolved"),
    pytest.param(now("resolved", muted=True), row(), ARMED, Action.NONE, Reason.RESOLVED, id="resolved, muted"),
    pytest.param(now("opened", "critical", muted=True), None, ARMED, Action.NONE, Reason.MUTED, id="muted"),
    pytest.param(
        now("grew", "critical", muted=True),
        row(),
        ADOPTING,
        Action.NONE,
        Reason.MUTED,
        id="muted stands before the rest",
    ),
    pytest.param(
        now("opened", classification=QUIET), None, ARMED, Action.TICKET, Reason.LEARNED_QUIET, id="error, learned quiet"
    ),
    pytest.param(
        now("opened", "critical", classification=QUIET),
        None,
        ARMED,
        Action.PAGE,
        Reason.SEVERITY,
        id="critical is never learned quiet",
    ),
    pytest.param(
        now("opened", "warning", classification=SURE),
        None,
        ARMED,
        Action.PAGE,
        Reason.LEARNED_PAGE,
        id="warning, learned worth a page",
    ),
    pytest.param(
        now("opened", "warning", classification=QUIET), None, ARMED, Action.TICKET, Reason.SEVERITY, id="warning, quiet"
    ),
    pytest.param(
        now("opened", "info", classification=SURE), None, ARMED, Action.NONE, Reason.BELOW, id="info is never learned"
    ),
    pytest.param(
        now("opened", classification=SURE), None, ARMED, Action.PAGE, Reason.SEVERITY, id="error, learned worth a page"
    ),
    pytest.param(
        now("opened", classification=learned(0.1, abstain=True)),
        None,
        ARMED,
        Action.PAGE,
        Reason.SEVERITY,
        id="the model abstains",
    ),
    pytest.param(
        now("opened", classification=learned(None)), None, ARMED, Action.PAGE, Reason.SEVERITY, id="there is no model"
    ),
    pytest.param(now("grew"), row(), ARMED, Action.PAGE, Reason.SAID, id="paged already"),
    pytest.param(now("grew", "critical"), row(), ARMED, Action.PAGE, Reason.WORSE, id="worse than was said"),
    pytest.param(now("grew", new_kind=True), row(), ARMED, Action.PAGE, Reason.NEW_KIND, id="a new kind"),
    pytest.param(
        now("grew", "critical", new_kind=True), row(), ARMED, Action.PAGE, Reason.WORSE, id="worse stands before new"
    ),
    pytest.param(now("shrank", "warning"), row(), ARMED, Action.TICKET, Reason.SEVERITY, id="better than was said"),
    pytest.param(
        now("grew"), row("held", resolved_by="kim"), ARMED, Action.HOLD, Reason.HANDLED, id="resolved by a person"
    ),
    pytest.param(
        now("reconsidered", "info"),
        row("held", None, resolved_by="kim"),
        ARMED,
        Action.HOLD,
        Reason.HANDLED,
        id="resolved by a person, nothing was said of its severity",
    ),
    pytest.param(
        now("grew", "critical"),
        row("held", resolved_by="kim"),
        ARMED,
        Action.PAGE,
        Reason.WORSE,
        id="resolved by a person, then worse",
    ),
    pytest.param(now("grew", "critical"), row(dry_run=True), None, Action.PAGE, Reason.WORSE, id="worse in a dry run"),
    pytest.param(
        now("reconsidered"), row(dry_run=True), ARMED, Action.PAGE, Reason.SEVERITY, id="noted in a dry run, then armed"
    ),
    pytest.param(
        now("reopened"), row("closed", None), ARMED, Action.HOLD, Reason.REOPENED, id="reopened: held for a while"
    ),
    pytest.param(now("grew"), row("held", None), ARMED, Action.HOLD, Reason.REOPENED, id="grows while held"),
    pytest.param(
        now("reopened", "critical"), row("closed", None), ARMED, Action.PAGE, Reason.SEVERITY, id="critical is not held"
    ),
    pytest.param(
        now("grew", "critical"), row("held", None), ARMED, Action.PAGE, Reason.SEVERITY, id="grows critical while held"
    ),
    pytest.param(
        now("reopened", "warning"),
        row("closed", None),
        ARMED,
        Action.TICKET,
        Reason.SEVERITY,
        id="a ticket is not held",
    ),
    pytest.param(now("reopened"), None, ARMED, Action.PAGE, Reason.SEVERITY, id="reopened, but forgotten here"),
    pytest.param(
        now("grew"), row("ticketed", "warning"), ARMED, Action.PAGE, Reason.SEVERITY, id="from a ticket to a page"
    ),
    pytest.param(now("opened", root=OLD), None, ADOPTING, Action.PAGE, Reason.ADOPTED, id="firing long before arming"),
    pytest.param(
        now("opened", root=OLD, opened_at=minute(120)),
        None,
        ADOPTING,
        Action.PAGE,
        Reason.SEVERITY,
        id="began before arming, but heard of twelve hours after it",
    ),
    pytest.param(
        now("opened", root=AT_ARMING), None, ADOPTING, Action.PAGE, Reason.SEVERITY, id="began just before arming"
    ),
    pytest.param(now("opened", root=OLD), None, ARMED, Action.PAGE, Reason.SEVERITY, id="arming adopts nothing"),
    pytest.param(now("grew"), row(dry_run=True), ADOPTING, Action.PAGE, Reason.ADOPTED, id="open when armed"),
    pytest.param(
        now("shrank", "warning"), row(adopted=True), ADOPTING, Action.TICKET, Reason.ADOPTED, id="adopted, and better"
    ),
    pytest.param(
        now("grew", "critical"),
        row(adopted=True, dry_run=True),
        ADOPTING,
        Action.PAGE,
        Reason.SEVERITY,
        id="adopted, worse",
    ),
    pytest.param(
        now("grew", "critical"),
        row("quiet", None, dry_run=True, incident=now("opened", "info")),
        ADOPTING,
        Action.PAGE,
        Reason.SEVERITY,
        id="quiet when armed, then critical: it was not critical then",
    ),
    pytest.param(
        now("reconsidered"),
        row("quiet", None, dry_run=True, incident=now("opened", muted=True)),
        ADOPTING,
        Action.PAGE,
        Reason.ADOPTED,
        id="muted when armed, and no worse once the mute ends",
    ),
    pytest.param(
        now("reopened"),
        row("closed", None, dry_run=True),
        ADOPTING,
        Action.PAGE,
        Reason.SEVERITY,
        id="closed when armed: its reopening is news",
    ),
]


@pytest.mark.parametrize(("incident", "known", "armed", "action", "reason"), DECISIONS)
def test_decide(
    incident: Incident, known: PageRow | None, armed: Policy | None, action: Action, reason: Reason
) -> None:
    assert decide(incident, known, armed, CONFIG) == (action, reason)


def test_decide_without_a_hold() -> None:
    config = CONFIG.model_copy(update={"reopen_hold": timedelta(0)})
    assert decide(now("reopened"), row("closed", None), ARMED, config) == (Action.PAGE, Reason.SEVERITY)


DUE = "the timer"
"""Stands in a story for the wake of the incident's row, at its due time."""
Said = tuple[float, Incident | Feedback | Policy | Config | str, Reason | None, list[str]]
"""Minute, what happens, the reason, and what is said to whom (a Config takes the place of the one before)."""

STORIES = [
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("grew"), Reason.SAID, []),
            (9, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (129, DUE, Reason.FORGOTTEN, []),
        ],
        id="a life",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", "info"), Reason.BELOW, []),
            (9, now("resolved", "info"), Reason.RESOLVED, []),
        ],
        id="a life that nobody hears of",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", "warning"), Reason.SEVERITY, ["trigger T-default"]),
            (1, now("grew", "warning"), Reason.SEVERITY, []),
            (2, now("grew", "error"), Reason.SEVERITY, ["trigger K-default"]),
            (3, now("shrank", "warning"), Reason.SEVERITY, []),
            (9, now("resolved"), Reason.RESOLVED, ["resolve T-default", "resolve K-default"]),
        ],
        id="a ticket, then a page: both are resolved",
    ),
    pytest.param(
        [
            (0, Config(destinations={"default": destination("default", tickets=False)}), None, []),
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", "warning"), Reason.SEVERITY, []),
            (9, now("resolved", "warning"), Reason.RESOLVED, []),
        ],
        id="a ticket without a place for tickets is shown, not sent",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=Context(known=True, destination="front")), Reason.SEVERITY, ["trigger K-front"]),
            (
                1,
                now("opened", id_="2", context=Context(known=True, destination="x")),
                Reason.SEVERITY,
                ["trigger K-default"],
            ),
        ],
        id="the service's destination, the catch-all where that is not configured",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, MOVED, None, []),
            (2, now("grew", "critical"), Reason.WORSE, ["trigger K-default"]),
            (3, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (4, now("reopened", "critical"), Reason.SEVERITY, ["trigger K-new"]),
        ],
        id="the routing key is pinned until the resolve",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (15, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
            (16, Config(), None, []),
            (20, now("resolved"), Reason.RESOLVED, ["resolve K-front", "resolve K-boss/2"]),
            (20, CONFIG, None, []),
            (21, now("reopened", "critical", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (36, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
        ],
        id="all that was said is resolved, though nothing is configured any more; anew in the next life",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, arm(2, withdrawn=True), Reason.ARMED, []),
            (2, now("grew", "critical"), Reason.WORSE, []),
            (3, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (4, now("reopened", "critical"), Reason.SEVERITY, []),
            (5, now("resolved"), Reason.RESOLVED, []),
        ],
        id="disarmed: nothing is triggered, what was is resolved",
    ),
    pytest.param(
        [
            (0, Config(), None, []),
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger "]),
            (1, CONFIG, None, []),
            (2, now("grew", "critical"), Reason.WORSE, ["trigger K-default"]),
            (3, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
        ],
        id="no routing key: deliver counts it, nothing is pinned, nothing is resolved there",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", "critical", muted=True), Reason.MUTED, []),
            (1, now("reconsidered", "critical"), Reason.SEVERITY, ["trigger K-default"]),
            (2, now("reconsidered", "critical", muted=True), Reason.MUTED, []),
            (3, now("reconsidered", "critical"), Reason.SAID, []),
            (4, now("resolved", muted=True), Reason.RESOLVED, ["resolve K-default"]),
        ],
        id="muted, unmuted, muted once more, resolved",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (2, now("reopened"), Reason.REOPENED, []),
            (3, now("grew"), Reason.REOPENED, []),
            (4, DUE, Reason.HOLD_OVER, ["trigger K-default"]),
            (5, now("grew"), Reason.SAID, []),
        ],
        id="reopened: paged once it stays",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (2, now("reopened"), Reason.REOPENED, []),
            (3, now("resolved"), Reason.RESOLVED, []),
            (4, now("reopened"), Reason.REOPENED, []),
            (5, now("shrank", "info"), Reason.BELOW, []),
            (5, now("grew"), Reason.SEVERITY, ["trigger K-default"]),
        ],
        id="flaps within the hold: not paged; eases, then it is no reopening any more",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (2, now("reopened"), Reason.REOPENED, []),
            (3, now("grew", "critical"), Reason.SEVERITY, ["trigger K-default"]),
        ],
        id="critical ends the hold",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (2, now("reopened", muted=True), Reason.MUTED, []),
            (3, now("reconsidered"), Reason.SEVERITY, ["trigger K-default"]),
        ],
        id="reopens muted: no hold once the mute ends",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("grew", new_kind=True), Reason.NEW_KIND, []),
            (2, now("grew", "critical"), Reason.WORSE, ["trigger K-default"]),
            (3, now("shrank", "error"), Reason.SAID, []),
            (4, now("grew", "critical"), Reason.SAID, []),
        ],
        id="a new kind, then worse; what was said once stays said",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("grew", new_kind=True), Reason.NEW_KIND, []),
            (2, now("grew", new_kind=True), Reason.NEW_KIND, []),
            (5, DUE, Reason.GREW, ["trigger K-default"]),
            (11, now("grew", new_kind=True), Reason.NEW_KIND, ["trigger K-default"]),
        ],
        id="new kinds of a cascade are said together",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", open_count=1), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("grew", open_count=9), Reason.SAID, []),
            (2, now("grew", open_count=10), Reason.GREW, []),
            (5, DUE, Reason.GREW, ["trigger K-default"]),
            (11, now("grew", open_count=99), Reason.SAID, []),
            (12, now("grew", open_count=100), Reason.GREW, ["trigger K-default"]),
        ],
        id="a storm is brought up to date at every power of ten",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("grew", new_kind=True), Reason.NEW_KIND, []),
            (2, now("reconsidered", muted=True), Reason.MUTED, []),
            (5, DUE, Reason.PUBLISHED, []),
            (6, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
        ],
        id="a muted page is not brought up to date",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (10, now("grew", new_kind=True, context=WITH_SECOND), Reason.NEW_KIND, ["trigger K-front"]),
            (15, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
            (16, heard("acknowledged"), Reason.ACKNOWLEDGED, ["acknowledge K-front", "acknowledge K-boss/2"]),
            (17, heard("acknowledged", 2), Reason.ACKNOWLEDGED, []),
        ],
        id="nobody acknowledges: the second destination; growing does not put that off; an answer counts for both",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (5, heard("acknowledged"), Reason.ACKNOWLEDGED, []),
            (6, now("grew", "critical", context=WITH_SECOND), Reason.WORSE, ["trigger K-front/critical"]),
            (21, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
        ],
        id="acknowledged, then worse: it must be acknowledged again",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (5, heard("acknowledged"), Reason.ACKNOWLEDGED, []),
            (6, now("grew", new_kind=True, context=WITH_SECOND), Reason.NEW_KIND, ["trigger K-front"]),
            (9, heard("unacknowledged", 2), Reason.FEEDBACK, []),
            (24, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
            (25, heard("acknowledged", 3), Reason.ACKNOWLEDGED, ["acknowledge K-front", "acknowledge K-boss/2"]),
            (26, heard("unacknowledged", 4), Reason.FEEDBACK, []),
            (30, now("resolved"), Reason.RESOLVED, ["resolve K-front", "resolve K-boss/2"]),
        ],
        id="acknowledged and taken back: once the timeout begins anew, then both know",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (1, now("reconsidered", context=WITH_SECOND, muted=True), Reason.MUTED, []),
            (15, DUE, Reason.MUTED, []),
            (20, now("reconsidered", context=WITH_SECOND), Reason.SAID, []),
            (30, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
        ],
        id="muted: the second destination waits with it",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (1, Config(destinations={"front": destination("front")}), None, []),
            (15, DUE, Reason.UNACKNOWLEDGED, []),
            (20, now("resolved"), Reason.RESOLVED, ["resolve K-front"]),
        ],
        id="the second destination is configured no more",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (15, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
            (16, heard("resolved"), Reason.HANDLED, ["resolve K-front", "resolve K-boss/2"]),
            (17, now("grew", context=WITH_SECOND), Reason.HANDLED, []),
            (18, now("grew", "critical", context=WITH_SECOND), Reason.WORSE, ["trigger K-front"]),
            (19, now("resolved"), Reason.RESOLVED, ["resolve K-front", "resolve K-boss/2"]),
        ],
        id="a person resolves at one: the other is resolved too, and worse is said again",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, heard("acknowledged"), Reason.ACKNOWLEDGED, []),
            (2, heard("acknowledged"), Reason.HEARD_BEFORE, []),
            (3, heard("annotated", 2), Reason.FEEDBACK, []),
            (4, heard("unacknowledged", 3), Reason.FEEDBACK, []),
            (5, heard("unacknowledged", 4), Reason.FEEDBACK, []),
            (9, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (10, heard("acknowledged", 5), Reason.FEEDBACK, []),
        ],
        id="a webhook delivered twice, a note, an answer after the end",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, heard("acknowledged"), Reason.ACKNOWLEDGED, []),
            (2, now("grew", "critical"), Reason.WORSE, ["trigger K-default/critical"]),
            (9, now("grew", "critical", new_kind=True), Reason.NEW_KIND, ["trigger K-default/critical"]),
            (
                10,
                heard("acknowledged", 2),
                Reason.ACKNOWLEDGED,
                ["acknowledge K-default", "acknowledge K-default/critical"],
            ),
            (11, heard("acknowledged", 3), Reason.ACKNOWLEDGED, []),
            (12, heard("resolved", 4), Reason.HANDLED, ["resolve K-default", "resolve K-default/critical"]),
            (13, now("resolved"), Reason.RESOLVED, ["resolve K-default", "resolve K-default/critical"]),
        ],
        id="worse after it was acknowledged: an alert of its own, since PagerDuty would not notify",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("grew", new_kind=True), Reason.NEW_KIND, []),
            (2, heard("resolved"), Reason.HANDLED, []),
            (20, now("grew", new_kind=True, open_count=50), Reason.HANDLED, []),
            (21, now("grew", muted=True), Reason.MUTED, []),
            (22, now("reconsidered"), Reason.HANDLED, []),
            (23, now("shrank", "warning"), Reason.HANDLED, []),
            (24, now("grew", "critical"), Reason.WORSE, ["trigger K-default"]),
            (25, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
            (26, now("reopened", "critical"), Reason.SEVERITY, ["trigger K-default"]),
        ],
        id="resolved by a person while it fires: held until it gets worse, not paged again",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", "warning"), Reason.SEVERITY, ["trigger T-default"]),
            (1, heard("resolved", by=""), Reason.HANDLED, []),
            (2, now("grew", "warning"), Reason.HANDLED, []),
            (3, now("grew", "error"), Reason.WORSE, ["trigger K-default"]),
            (4, now("resolved"), Reason.RESOLVED, ["resolve T-default", "resolve K-default"]),
        ],
        id="a ticket that a person resolved while it fires",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (1, heard("resolved"), Reason.HANDLED, []),
            (2, heard("reopened", 2), Reason.FEEDBACK, []),
            (10, now("grew", new_kind=True, context=WITH_SECOND), Reason.NEW_KIND, ["trigger K-front"]),
            (11, heard("reopened", 3), Reason.FEEDBACK, []),
            (12, now("resolved"), Reason.RESOLVED, ["resolve K-front"]),
        ],
        id="resolved by a person, and opened again by one",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (1, heard("merged"), Reason.ACKNOWLEDGED, []),
            (20, now("grew", context=WITH_SECOND), Reason.SAID, []),
            (21, now("resolved"), Reason.RESOLVED, ["resolve K-front"]),
        ],
        id="merged by a person: followed, nobody else is called",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (14, heard("missing", person=False), Reason.RESTORED, ["trigger K-front"]),
            (29, DUE, Reason.UNACKNOWLEDGED, ["trigger K-boss/2"]),
            (30, heard("missing", 2, person=False), Reason.RESTORED, ["trigger K-front", "trigger K-boss/2"]),
            (31, heard("resolved", 3), Reason.HANDLED, ["resolve K-front", "resolve K-boss/2"]),
            (32, heard("missing", 4, person=False), Reason.FEEDBACK, []),
        ],
        id="lost at PagerDuty: said again, but not what a person resolved",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, now("grew", muted=True), Reason.MUTED, []),
            (2, heard("missing", person=False), Reason.FEEDBACK, []),
        ],
        id="lost at PagerDuty while muted: not said again",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, ["trigger K-front"]),
            (1, heard("reassigned"), Reason.FEEDBACK, []),
            (20, now("grew", context=WITH_SECOND), Reason.SAID, []),
        ],
        id="reassigned by a person: the second destination is not called",
    ),
    pytest.param(
        [(0, heard("acknowledged"), Reason.UNKNOWN_INCIDENT, []), (1, heard("acknowledged"), Reason.HEARD_BEFORE, [])],
        id="feedback about what is not known",
    ),
    pytest.param(
        [
            (0, now("opened"), Reason.SEVERITY, []),
            (1, now("opened", "warning", id_="2"), Reason.SEVERITY, []),
            (2, now("opened", "info", id_="3"), Reason.BELOW, []),
            (3, arm(at=3), Reason.ARMED, ["change K-default"]),
            (4, now("grew"), Reason.ADOPTED, []),
            (5, now("grew", "critical"), Reason.SEVERITY, ["trigger K-default"]),
            (6, now("grew", "warning", id_="3"), Reason.SEVERITY, ["trigger T-default"]),
            (7, now("resolved", id_="2"), Reason.RESOLVED, []),
            (8, now("reopened", "warning", id_="2"), Reason.SEVERITY, ["trigger T-default"]),
            (9, now("resolved"), Reason.RESOLVED, ["resolve K-default"]),
        ],
        id="armed, adopting what is open; worse than then is said, and so is what closed and comes back",
    ),
    pytest.param(
        [
            (0, now("opened"), Reason.SEVERITY, []),
            (1, now("opened", "warning", id_="2"), Reason.SEVERITY, []),
            (2, now("opened", "info", id_="3"), Reason.BELOW, []),
            (3, arm(at=3, adopt=False), Reason.ARMED, []),
            (3, now("reconsidered"), Reason.SEVERITY, ["trigger K-default"]),
            (3, now("reconsidered", "warning", id_="2"), Reason.SEVERITY, ["trigger T-default"]),
            (3, now("reconsidered", "info", id_="3"), Reason.BELOW, []),
            (4, now("grew"), Reason.SAID, []),
            (5, now("grew", "warning", id_="2"), Reason.SEVERITY, []),
        ],
        id="armed, adopting nothing: what is open counts as new",
    ),
    pytest.param(
        [
            (0, arm(at=0), Reason.ARMED, []),
            (1, now("opened", root=OLD), Reason.ADOPTED, []),
            (2, now("grew", "warning"), Reason.ADOPTED, []),
            (3, now("resolved"), Reason.RESOLVED, []),
            (4, now("reopened"), Reason.SEVERITY, ["trigger K-default"]),
        ],
        id="heard of first after arming, though it began long before; its reopening is news",
    ),
    pytest.param(
        [
            (0, now("opened", context=WITH_SECOND), Reason.SEVERITY, []),
            (5, arm(at=5), Reason.ARMED, ["change K-default"]),
            (15, DUE, Reason.UNACKNOWLEDGED, []),
            (16, now("grew", context=WITH_SECOND), Reason.ADOPTED, []),
        ],
        id="armed while the second destination would be next: it hears of nothing that the first was not told",
    ),
    pytest.param(
        [
            (0, arm(at=0), Reason.ARMED, []),
            (1, now("opened", "critical", root=OLD), Reason.ADOPTED, []),
            (2, now("shrank", "error"), Reason.ADOPTED, []),
            (3, now("grew", "critical"), Reason.ADOPTED, []),
        ],
        id="adopted critical, better, and critical once more: no worse than it was",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (5, now("grew", new_kind=True), Reason.NEW_KIND, ["trigger K-default"]),
        ],
        id="a new kind once the page may be brought up to date again",
    ),
    pytest.param(
        [
            (0, now("opened"), Reason.SEVERITY, []),
            (1, now("resolved"), Reason.RESOLVED, []),
            (2, now("reopened"), Reason.REOPENED, []),
            (3, arm(at=3), Reason.ARMED, ["change K-default"]),
            (4, DUE, Reason.ADOPTED, []),
        ],
        id="armed while held: adopted",
    ),
    pytest.param(
        [
            (0, now("opened"), Reason.SEVERITY, []),
            (1, now("resolved"), Reason.RESOLVED, []),
            (2, now("reopened"), Reason.REOPENED, []),
            (3, arm(at=3, adopt=False), Reason.ARMED, []),
            (4, DUE, Reason.HOLD_OVER, ["trigger K-default"]),
        ],
        id="armed while held, adopting nothing: paged once it stays",
    ),
    pytest.param(
        [
            (0, ARMED, Reason.ARMED, []),
            (0, now("opened"), Reason.SEVERITY, ["trigger K-default"]),
            (1, arm(2, at=1, withdrawn=True), Reason.ARMED, []),
            (2, arm(3, at=2), Reason.ARMED, []),
            (3, now("grew"), Reason.SAID, []),
        ],
        id="armed anew: what was paged stays paged, and is not counted as adopted",
    ),
]


def play(story: list[Said]) -> Overlay:
    rows, config = rows_of(), CONFIG
    for at, event, reason, said in story:
        if isinstance(event, Config):
            config = event
            continue
        if isinstance(event, Policy):
            rows.record = {POLICY.at("arm"): PolicyRow(policy=event)}
            rows.keep()
        taken = step(wake(rows, at) if isinstance(event, str) else event, rows, minute(at), config)
        commit(rows, taken)
        assert (taken.reason, told(taken)) == (reason, said), at
    return rows


def told(taken: Step) -> list[str]:
    return [
        f"{said.action.value} {said.routing_key}{said.dedup_key.removeprefix(said.incident_id)}"
        for said in escalations(taken)
    ]


def escalations(taken: Step) -> list[Escalation]:
    return [each for each in taken.emit if isinstance(each, Escalation)]


def published(taken: Step) -> list[Incident]:
    return [each for each in taken.emit if isinstance(each, Incident)]


def wake(rows: Overlay, at: float) -> Wake:
    held = page(rows)
    assert held.wake_at == minute(at)
    return Wake(table=PAGE.name, key=OUTAGE, due=minute(at))


def page(rows: Overlay) -> PageRow:
    held = rows.get(PAGE, OUTAGE)
    assert held is not None
    return held


@pytest.mark.parametrize("story", STORIES)
def test_stories(story: list[Said]) -> None:
    play(story)


def test_every_reason_is_reached() -> None:
    stories = [cast("list[Said]", case.values[0]) for case in STORIES]
    reached = {reason for story in stories for _, _, reason, _ in story}
    decided = {cast("Reason", case.values[-1]) for case in DECISIONS}
    assert reached | decided | {Reason.PUBLISHED} == {*Reason, None}
    assert STAGE.unintended == {Reason.UNKNOWN_INCIDENT}


def tell(rows: Overlay, at: float, event: Incident | Feedback | Policy | Wake, config: Config = CONFIG) -> Step:
    taken = step(event, rows, minute(at), config)
    commit(rows, taken)
    return taken


def armed(policy: Policy = ARMED, extra: dict[RowKey, Row] | None = None) -> Overlay:
    return rows_of({POLICY.at("arm"): PolicyRow(policy=policy), **(extra or {})})


def test_what_a_page_carries() -> None:
    held = IncidentRow(
        incident_id=OUTAGE,
        scope="prod:eu",
        status="open",
        root=member(),
        opened_at=T0,
        joined_at=T0,
        digest="abc",
    )
    rows = rows_of(
        {POLICY.at("arm"): PolicyRow(policy=ARMED), INCIDENT.at(OUTAGE): held},
        {"config": (4, "{}"), "catalogue": (5, "{}"), "model": (6, "{}")},
    )
    taken = tell(rows, 3, now("opened"))
    (said,) = escalations(taken)
    assert (said.incident_id, said.dedup_key, said.scope, said.destination) == (OUTAGE, OUTAGE, "prod:eu", "default")
    assert (said.seq, said.at) == (1, minute(3))
    assert said.text is not None
    assert (said.text.severity, said.text.details["reason"]) == (Severity.ERROR, "severity")
    assert said.receipt is not None
    assert said.receipt.model_dump() == {
        "inbox": "abc",
        "config_version": 4,
        "catalogue_version": 5,
        "model_version": 6,
    }
    assert taken.figures == {
        "incident": OUTAGE,
        "state": "paged",
        "severity": "error",
        "destination": "default",
        "dry_run": False,
    }
    (resolve,) = escalations(tell(rows, 4, now("resolved")))
    assert (resolve.action, resolve.text, resolve.seq) == (PageAction.RESOLVE, None, 2)


def test_what_is_published_of_a_decision() -> None:
    rows = armed()
    (incident,) = published(tell(rows, 0, now("opened", joined=(member(),))))
    assert incident.decision is not None
    assert incident.decision.model_dump() == {
        "action": Action.PAGE,
        "reason": "severity",
        "destination": "default",
        "dry_run": False,
        "adopted": False,
        "acknowledged_by": "",
    }
    (incident,) = published(tell(rows, 1, heard("acknowledged")))
    assert incident.decision is not None
    assert (incident.decision.acknowledged_by, incident.change, incident.changed_at) == (
        "kim",
        "reconsidered",
        minute(1),
    )
    (incident,) = published(tell(rows, 2, heard("unacknowledged", 2)))
    assert incident.decision is not None
    assert incident.decision.acknowledged_by == ""
    (incident,) = published(tell(rows, 3, heard("acknowledged", 3, by="")))
    assert incident.decision is not None
    assert incident.decision.acknowledged_by == "somebody"


@pytest.mark.parametrize(
    ("incident", "state"),
    [
        pytest.param(now("opened"), Action.PAGE, id="page"),
        pytest.param(now("opened", "warning"), Action.TICKET, id="ticket"),
        pytest.param(now("opened", "info"), Action.NONE, id="none"),
    ],
)
def test_a_dry_run_shows_what_it_would_do(incident: Incident, state: Action) -> None:
    taken = tell(rows_of(), 0, incident)
    assert not escalations(taken)
    (shown,) = published(taken)
    assert shown.decision is not None
    assert (shown.decision.action, shown.decision.dry_run) == (state, True)


def test_what_is_adopted_says_so() -> None:
    rows = rows_of()
    tell(rows, 0, now("opened"))
    rows.record = {POLICY.at("arm"): PolicyRow(policy=arm(at=1))}
    rows.keep()
    (shown,) = published(tell(rows, 2, now("grew")))
    assert shown.decision is not None
    assert (shown.decision.action, shown.decision.adopted, shown.decision.dry_run) == (Action.PAGE, True, True)
    (shown,) = published(tell(rows, 3, now("resolved")))
    assert shown.decision is not None
    assert (shown.decision.adopted, shown.decision.dry_run) == (False, True)
    (shown,) = published(tell(rows, 4, now("reopened", "critical")))
    assert shown.decision is not None
    assert (shown.decision.adopted, shown.decision.dry_run) == (False, False)


def test_a_canary_is_never_said_nor_adopted() -> None:
    rows = armed(arm(withdrawn=True))
    taken = tell(rows, 0, now("opened", "critical", canary=True))
    (shown,) = published(taken)
    assert (shown.canary, escalations(taken)) == (True, [])
    assert shown.decision is not None
    assert (shown.decision.action, shown.decision.reason) == (Action.NONE, "canary")
    assert tell(rows, 1, ADOPTING).emit == ()
    assert escalations(tell(rows, 2, now("resolved", "critical", canary=True))) == []


def test_the_summary_of_what_is_adopted() -> None:
    rows = rows_of()
    for number, severity in enumerate(("error", "critical", "warning", "info")):
        tell(rows, 0, now("opened", severity, id_=f"in:v1:prod:eu:{number}"))
    tell(rows, 0, now("opened", id_="in:v1:prod:eu:9"))
    tell(rows, 0, now("resolved", id_="in:v1:prod:eu:9"))
    (summary,) = escalations(tell(rows, 1, arm(3, author="kim")))
    assert (summary.action, summary.routing_key, summary.seq) == (PageAction.CHANGE, "K-default", 1)
    assert summary.dedup_key == summary.incident_id == "adopted:3:prod:eu"
    assert summary.text is not None
    assert summary.text.details == {"adopted": 4, "would_have_paged": 2}
    (silent,) = escalations(tell(rows, 1, arm(4), Config()))
    assert silent.routing_key == ""


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(arm(adopt=False), id="adopts nothing"),
        pytest.param(arm(withdrawn=True), id="disarms"),
        pytest.param(arm().model_copy(update={"kind": "silence"}), id="is no arming"),
    ],
)
def test_no_summary(policy: Policy) -> None:
    rows = rows_of()
    tell(rows, 0, now("opened"))
    assert not tell(rows, 1, policy).emit


def test_growing_is_published_once_a_second() -> None:
    rows = armed()
    tell(rows, 0, now("opened", joined=(member("a"),)))
    second = 1 / 60
    assert not tell(rows, second / 4, now("grew", joined=(member("b"),))).emit
    assert not tell(rows, second / 2, now("shrank", left=("fp:v1:a",))).emit
    held = page(rows)
    assert [each.alert_id for each in held.pending_joined] == ["b"]
    assert (held.pending_left, held.publish_at, held.wake_at) == (("fp:v1:a",), minute(second), minute(second))
    taken = tell(rows, second, wake(rows, second))
    (incident,) = published(taken)
    assert taken.reason is Reason.PUBLISHED
    assert ([each.alert_id for each in incident.joined], incident.left) == (["b"], ("fp:v1:a",))
    assert (page(rows).pending_joined, page(rows).publish_at, page(rows).wake_at) == ((), None, None)
    (incident,) = published(tell(rows, 2 * second, now("grew", joined=(member("c"),))))
    assert [each.alert_id for each in incident.joined] == ["c"]


def test_who_leaves_and_joins_again_before_the_publication_fires() -> None:
    rows = armed()
    tell(rows, 0, now("opened", joined=(member("a"), member("b"))))
    tell(rows, 0, now("shrank", left=("fp:v1:a",)))
    tell(rows, 0, now("shrank", left=("fp:v1:b",)))
    tell(rows, 0, now("grew", joined=(member("a"),)))
    held = page(rows)
    assert ([each.alert_id for each in held.pending_joined], held.pending_left) == (["a"], ("fp:v1:b",))


def heavy(name: str, size: int) -> Member:
    """A member of a little more than `size` bytes of JSON."""
    return member(name, labels={"x": "é" * (size // 2)}, links=({"href": "https://a"},), runbook="https://b")


AT_ONCE = [
    pytest.param(now("grew", "critical"), True, id="worse"),
    pytest.param(now("grew", new_kind=True), True, id="a new kind"),
    pytest.param(now("resolved"), True, id="resolved"),
    pytest.param(now("grew"), False, id="grows"),
    pytest.param(now("grew", joined=tuple(member(str(i)) for i in range(PENDING + 1))), True, id="more than may wait"),
    pytest.param(now("grew", joined=tuple(member(str(i)) for i in range(PENDING))), False, id="as many as may wait"),
    pytest.param(now("grew", joined=(heavy("b", PENDING_BYTES),)), True, id="heavier than may wait"),
    pytest.param(now("grew", joined=(heavy("b", PENDING_BYTES // 2),)), False, id="heavy, but may wait"),
    pytest.param(now("shrank", left=tuple(str(i) for i in range(PENDING + 1))), True, id="more that left"),
    pytest.param(heard("annotated"), True, id="a person did something"),
]


@pytest.mark.parametrize(("event", "at_once"), AT_ONCE)
def test_what_is_published_at_once(event: Incident | Feedback, *, at_once: bool) -> None:
    rows = armed()
    tell(rows, 0, now("opened"))
    assert bool(published(tell(rows, 0, event))) is at_once


def test_pending_is_published_with_what_is_said_at_once() -> None:
    rows = armed()
    tell(rows, 0, now("opened"))
    tell(rows, 0, now("grew", joined=(member("b"),)))
    taken = tell(rows, 0, now("grew", "critical", joined=(member("c"),)))
    (incident,) = published(taken)
    assert taken.emit[0] == incident  # before the page, so that readers know it when that comes
    assert [each.alert_id for each in incident.joined] == ["b", "c"]


def test_members_that_are_heavy_together_do_not_wait() -> None:
    rows = armed()
    tell(rows, 0, now("opened"))
    assert not published(tell(rows, 0, now("grew", joined=(heavy("b", PENDING_BYTES // 2),))))
    assert PENDING_BYTES // 2 < page(rows).pending_bytes < PENDING_BYTES
    (incident,) = published(tell(rows, 0, now("grew", joined=(heavy("c", PENDING_BYTES // 2),))))
    assert [each.alert_id for each in incident.joined] == ["b", "c"]
    assert (page(rows).pending_bytes, page(rows).pending_joined) == (0, ())


def test_members_that_an_older_version_left_waiting_are_weighed() -> None:
    rows = rows_of({PAGE.at(OUTAGE): row(pending_joined=(heavy("b", PENDING_BYTES),), published_at=T0)})
    assert [len(each.joined) for each in published(tell(rows, 0, now("grew", joined=(member("c"),))))] == [2]


def test_what_one_publication_weighs_is_bounded() -> None:
    """A silence tells every member of an incident, and an incident has up to 5,000."""
    rows = armed()
    tell(rows, 0, now("opened"))
    long = {"summary": "s" * 1000, "service": "v" * 1000}
    members = [heavy(str(number), TOLD_BYTES // 4).model_copy(update=long) for number in range(8)]
    taken = tell(rows, 0, now("reconsidered", joined=tuple(members)))
    (incident,) = published(taken)
    assert taken.figures["shortened"] == 5
    assert incident.joined[:3] == tuple(members[:3])
    assert [(each.alert_id, each.fingerprint) for each in incident.joined[3:]] == [
        (each.alert_id, each.fingerprint) for each in members[3:]
    ]
    short = incident.joined[3]
    assert (short.summary, short.service) == ("s" * SHORT, "v" * SHORT)
    assert (short.labels, short.links, short.runbook) == ({}, (), "")
    assert len(incident.encode()) < TOLD_BYTES + 10_000


def test_several_timers_of_one_row_fire_one_by_one() -> None:
    rows = armed()
    tell(rows, 0, now("opened", context=WITH_SECOND))
    tell(rows, 15, now("grew", context=WITH_SECOND, joined=(member("b"),)))
    tell(rows, 15, now("grew", context=WITH_SECOND, joined=(member("c"),)))
    fired = tell(rows, 15, wake(rows, 15))
    assert (fired.reason, told(fired), len(published(fired))) == (Reason.UNACKNOWLEDGED, ["trigger K-boss/2"], 1)
    assert page(rows).wake_at is None


def test_a_closed_incident_is_forgotten() -> None:
    rows = armed()
    tell(rows, 0, now("opened"))
    tell(rows, 1, now("resolved"))
    assert page(rows).wake_at == minute(1) + FORGET_AFTER
    gone = tell(rows, 121, wake(rows, 121))
    assert (gone.reason, gone.changes) == (Reason.FORGOTTEN, {PAGE.at(OUTAGE): None})


def test_a_row_that_is_gone() -> None:
    gone = step(Wake(table=PAGE.name, key=OUTAGE, due=T0), rows_of(), T0, CONFIG)
    assert (gone.reason, gone.changes) == (Reason.FORGOTTEN, {PAGE.at(OUTAGE): None})


def test_feedback_is_remembered_longer_than_pagerduty_repeats_it() -> None:
    rows = armed()
    taken = tell(rows, 0, heard("annotated"))
    assert taken.figures == {"feedback": "w1", "kind": "annotated", "by": "kim"}
    (due,) = taken.wake
    assert (due.table, due.due) == (HEARD.name, T0 + HEARD_FOR)
    gone = tell(rows, 5000, due)
    assert (gone.reason, gone.changes) == (Reason.FORGOTTEN, {HEARD.at("w1"): None})


LABELS = [
    pytest.param(heard("acknowledged"), [(True, 1.0, "acknowledged")], id="acknowledged"),
    pytest.param(heard("label", page=False), [(False, 1.0, "label")], id="a person's verdict"),
    pytest.param(heard("label"), [], id="a verdict that says nothing"),
    pytest.param(heard("resolved"), [], id="resolved by hand"),
]


@pytest.mark.parametrize(("feedback", "wanted"), LABELS)
@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
def test_labels_of_feedback(feedback: Feedback, wanted: list[Any], *, known: bool) -> None:
    rows = armed()
    if known:
        tell(rows, 0, now("opened"))
    assert labels(tell(rows, 1, feedback)) == wanted


def labels(taken: Step) -> list[tuple[bool, float, str]]:
    found = [each for each in taken.emit if isinstance(each, Label)]
    assert all(label.sample_id == OUTAGE for label in found)
    return [(label.page, label.weight, label.source) for label in found]


SOMEBODY: dict[RowKey, Row] = {HEARD.at("w9"): HeardRow(at=T0, answer=True)}


@pytest.mark.parametrize(
    ("extra", "severity", "feedback", "wanted"),
    [
        pytest.param(SOMEBODY, "error", None, [(False, 0.5, "unheeded")], id="nobody cared, though people are heard"),
        pytest.param({}, "error", None, [], id="people are never heard: their silence says nothing"),
        pytest.param(SOMEBODY, "error", heard("acknowledged"), [], id="acknowledged"),
        pytest.param(SOMEBODY, "warning", None, [], id="a ticket wakes nobody"),
    ],
)
def test_labels_of_a_page_that_resolves(
    extra: dict[RowKey, Row], severity: str, feedback: Feedback | None, wanted: list[Any]
) -> None:
    rows = armed(extra=extra)
    tell(rows, 0, now("opened", severity))
    if feedback:
        tell(rows, 1, feedback)
    assert labels(tell(rows, 2, now("resolved", severity))) == wanted


def test_who_labels_and_never_acknowledges_does_not_teach_that_pages_are_needless() -> None:
    rows = armed()
    tell(rows, 0, heard("label", page=True))
    tell(rows, 1, now("opened"))
    assert labels(tell(rows, 2, now("resolved"))) == []


def test_a_dry_run_is_no_unheeded_page() -> None:
    rows = rows_of(SOMEBODY)
    tell(rows, 0, now("opened"))
    assert labels(tell(rows, 2, now("resolved"))) == []


def test_routing_keys_are_in_the_activated_configuration_and_nowhere_else() -> None:
    where = destination("front")
    assert '"K-front"' in where.model_dump_json()
    assert "K-front" not in f"{where!r} {where} {where.model_dump()}"
    assert Destination.model_validate_json(where.model_dump_json()) == where
    bare = destination("front", tickets=False)
    assert Destination.model_validate_json(bare.model_dump_json()) == bare


@pytest.mark.parametrize("kind", ["acknowledged", "resolved"])
def test_what_no_person_did_answers_nothing(kind: str) -> None:
    """PagerDuty tells of our own requests, too: the resolve of before must not silence the page of now."""
    rows = armed()
    tell(rows, 0, now("opened", context=WITH_SECOND))
    taken = tell(rows, 1, heard(kind, person=False))
    assert (taken.reason, page(rows).acknowledged_by, labels(taken)) == (Reason.FEEDBACK, "", [])
    assert page(rows).escalate_at is not None
    assert rows.count(HEARD, "answer") == 0


@pytest.mark.parametrize(
    ("started", "reason"),
    [
        pytest.param(T0 + timedelta(minutes=20), Reason.SEVERITY, id="another trouble that began after arming"),
        pytest.param(T0 - timedelta(days=1), Reason.ADOPTED, id="another one from before"),
    ],
)
def test_a_new_kind_does_not_hide_in_what_was_adopted(started: datetime, reason: Reason) -> None:
    rows = armed(arm(at=10), {PAGE.at(OUTAGE): row(dry_run=True)})
    grown = now("grew", new_kind=True, joined=[member().model_copy(update={"starts_at": started})])
    assert tell(rows, 21, grown).reason is reason
