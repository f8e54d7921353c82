"""Incident -> Incident, marked: members that a silence or maintenance window mutes stay in it, but are not paged.

Node decide, after correlate, so that a muted alert still holds its incident together. Owns POLICY (what people want)
and MUTE (open members that a policy mutes now). It marks and never removes, and a resolve always passes.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, timedelta
from enum import StrEnum

from streamproc.core.event import Event, Scalar, Wake
from streamproc.core.identity import scope_of
from streamproc.core.step import Stage, Step
from streamproc.core.table import Row, RowKey, Rows
from streamproc.events.feedback import Policy, PolicyKind
from streamproc.events.incident import Incident, IncidentChange, Member, Reconsider
from streamproc.matching import all_match, fault_of
from streamproc.state import ANY, INCIDENT, MEMBER, MUTE, PAGE, POLICY, MuteRow, PolicyRow, label_index

MUTING = (PolicyKind.SILENCE, PolicyKind.MAINTENANCE)
AT_ONCE = 1_000
"""Members of an incident that one record marks: the changes of a record are bounded."""
WITHDRAWN_FOR = timedelta(days=1)
"""A withdrawal is remembered this long, so that an older version that arrives late does not bring the policy back."""


class Reason(StrEnum):
    """What became of an incident, or of a policy."""

    CLEAR = "clear"
    PARTLY_MUTED = "partly_muted"
    MUTED = "muted"
    RESOLVED = "resolved"
    UNMUTED = "unmuted"
    GONE = "gone"
    POLICY_TAKEN = "policy_taken"
    POLICY_WITHDRAWN = "policy_withdrawn"
    POLICY_OLD = "policy_old"
    POLICY_STARTED = "policy_started"
    POLICY_ENDED = "policy_ended"
    POLICY_UNUSABLE = "policy_unusable"
    """A silence or window whose regular expression an older version took, and this one does not: it mutes nothing."""


def step(event: Incident | Policy | Reconsider | Wake, rows: Rows, now: datetime, config: object) -> Step:  # noqa: ARG001
    """Mark what is muted; take policies in."""
    if isinstance(event, Policy):
        return _take(event, rows, now)
    if isinstance(event, Reconsider):
        return _reconsider(event, rows, now)
    if isinstance(event, Wake):
        return _policy_due(event, rows, now) if event.table == POLICY.name else _mute_due(event, rows, now)
    return _mark(event, event.joined, rows, now)


def mutes(policy: Policy, member: Member) -> bool:
    """Return whether the matchers of a policy hold for a member. A policy without matchers mutes nothing."""
    return bool(policy.matchers) and all_match(policy.matchers, member.labels)


def _usable(policy: Policy) -> bool:
    return not any(fault_of(matcher) for matcher in policy.matchers)


class _Standing:
    """The policies that mute at a moment, found by the labels that they ask for; each is read once."""

    def __init__(self, rows: Rows, now: datetime) -> None:
        self._rows = rows
        self._now = now
        self._read: dict[str, tuple[datetime, Policy] | None] = {}
        self.unusable = False
        """True once one was met whose regular expression cannot be used."""

    def longest(self, member: Member) -> tuple[datetime, str] | None:
        """Return end and id of the policy that mutes a member for longest, None where none does."""
        names = (ANY, *(label_index(name, value) for name, value in member.labels.items()))
        found = (self._policy(key) for name in names for key in self._rows.keys(POLICY, name))
        return max(
            ((until, policy.policy_id) for until, policy in filter(None, found) if mutes(policy, member)), default=None
        )

    def _policy(self, key: str) -> tuple[datetime, Policy] | None:
        """Return when a policy ends, and the policy; None where it does not stand, or cannot be used."""
        if key not in self._read:
            row = self._rows.get(POLICY, key)
            until = None if row is None else _until(row.policy, self._now)
            if row is None or until is None:
                self._read[key] = None
            elif _usable(row.policy):
                self._read[key] = (until, row.policy)
            else:
                self._read[key], self.unusable = None, True
        return self._read[key]


def _until(policy: Policy, now: datetime) -> datetime | None:
    """Return when a policy that stands at `now` ends, None where it does not stand."""
    if policy.withdrawn or policy.ends_at is None or not policy.starts_at <= now < policy.ends_at:
        return None
    return policy.ends_at


def _mark(event: Incident, members: tuple[Member, ...], rows: Rows, now: datetime) -> Step:
    """Mark `members` of the incident, and the incident itself where all that fires is muted."""
    index = f"incident:{event.incident_id}"
    muted = rows.count(MUTE, index)
    changes: dict[RowKey, Row | None] = {}
    wakes: list[Wake] = []
    for fingerprint in event.left:
        if rows.get(MUTE, fingerprint) is not None:
            changes[MUTE.at(fingerprint)] = None
            muted -= 1
    standing = _Standing(rows, now)
    marked: list[Member] = []
    for member in members:
        found = standing.longest(member)
        was = rows.get(MUTE, member.fingerprint)
        if found is not None:
            until, policy_id = found
            changes[MUTE.at(member.fingerprint)] = MuteRow(
                incident_id=event.incident_id, policy_id=policy_id, until=until, wake_at=until
            )
            wakes.append(Wake(table=MUTE.name, key=member.fingerprint, due=until))
        elif was is not None:
            changes[MUTE.at(member.fingerprint)] = None
        muted += (found is not None) - (was is not None)
        policy_id = found[1] if found is not None else ""
        if event.joined or policy_id != (was.policy_id if was else ""):
            marked.append(member.model_copy(update={"muted_by": policy_id}))
    whole = 0 < event.open_count <= muted
    reason = Reason.MUTED if whole else Reason.PARTLY_MUTED if muted else Reason.CLEAR
    if standing.unusable and not whole:
        reason = Reason.POLICY_UNUSABLE
    if event.status == "resolved":
        reason = Reason.RESOLVED
    passed = event.model_copy(update={"muted": whole, "muted_count": muted, "joined": tuple(marked)})
    return Step(changes, reason, (passed,), tuple(wakes), {"muted": muted, "open": event.open_count})


def _reconsider(event: Reconsider, rows: Rows, now: datetime) -> Step:
    """Mark the members of an open incident anew, `AT_ONCE` a record: the rest is asked for again."""
    incident = event.incident_id
    row = rows.get(INCIDENT, incident)
    if row is None or row.status == "resolved":
        return Step({}, Reason.GONE)
    keys = rows.keys(MEMBER, incident)
    begin = bisect_right(keys, event.fingerprint)
    chosen = keys[begin : begin + AT_ONCE]
    members = tuple(held.member for key in chosen if (held := rows.get(MEMBER, key)) is not None)
    marked = _mark(row.event(IncidentChange.RECONSIDERED, now), members, rows, now)
    if begin + AT_ONCE >= len(keys):
        return marked
    more = event.model_copy(update={"fingerprint": chosen[-1]})
    return Step(marked.changes, marked.reason, (*marked.emit, more), marked.wake, marked.figures)


def _mute_due(wake: Wake, rows: Rows, now: datetime) -> Step:
    """A mute ends: look whether another policy mutes the member, and decide the incident anew."""
    held = rows.get(MEMBER, wake.key)
    row = None if held is None else rows.get(INCIDENT, held.incident_id)
    if held is None or row is None:
        return Step({MUTE.at(wake.key): None}, Reason.GONE)
    marked = _mark(row.event(IncidentChange.RECONSIDERED, now), (held.member,), rows, now)
    if marked.changes[MUTE.at(wake.key)] is not None:
        return marked
    return Step(marked.changes, Reason.UNMUTED, marked.emit, marked.wake, marked.figures)


def _take(policy: Policy, rows: Rows, now: datetime) -> Step:
    known = rows.get(POLICY, policy.policy_id)
    if known is not None and known.policy.version >= policy.version:
        return Step({}, Reason.POLICY_OLD, figures={"policy": policy.policy_id, "version": policy.version})
    due = policy.ends_at
    if policy.withdrawn:
        due = now + WITHDRAWN_FOR
    elif policy.kind in MUTING and policy.starts_at > now:
        due = policy.starts_at
    wake = () if due is None else (Wake(table=POLICY.name, key=policy.policy_id, due=due),)
    reason = Reason.POLICY_WITHDRAWN if policy.withdrawn else Reason.POLICY_TAKEN
    if policy.kind in MUTING and not policy.withdrawn and not _usable(policy):
        reason = Reason.POLICY_UNUSABLE
    # Arming that adopts nothing decides anew what a dry run only noted.
    affected = () if policy.kind is PolicyKind.ARM and policy.adopt else _affected(rows, reason)
    emit = affected if policy.kind in MUTING else (policy, *affected)
    figures: dict[str, Scalar] = {"policy": policy.policy_id, "version": policy.version, "author": policy.author}
    return Step({POLICY.at(policy.policy_id): PolicyRow(policy=policy, wake_at=due)}, reason, emit, wake, figures)


def _policy_due(wake: Wake, rows: Rows, now: datetime) -> Step:
    row = rows.get(POLICY, wake.key)
    until = None if row is None else _until(row.policy, now)
    if row is not None and until is not None:
        again = Wake(table=POLICY.name, key=wake.key, due=until)
        started = row.model_copy(update={"wake_at": again.due})
        return Step(
            {POLICY.at(wake.key): started}, Reason.POLICY_STARTED, _affected(rows, Reason.POLICY_STARTED), (again,)
        )
    return Step({POLICY.at(wake.key): None}, Reason.POLICY_ENDED)


def _affected(rows: Rows, why: Reason) -> tuple[Event, ...]:
    """Return one request for each open incident: each is decided anew as a record of its own."""
    return tuple(
        Reconsider(scope=scope_of(key) or "", incident_id=key, reason=str(why)) for key in rows.keys(PAGE, "open")
    )


STAGE = Stage(
    "suppress",
    step,
    takes=(Incident, Policy, Reconsider),
    reasons=Reason,
    owns=(POLICY, MUTE),
    unintended=frozenset({Reason.POLICY_UNUSABLE}),
)
