"""The real topology as a world of laws: alerts that come, go, repeat, flap and overtake each other, and people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from streamproc.core.event import Activated, Artifact
from streamproc.core.fold import CONFIG
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.events.incident import Incident
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.runtime.memory import Memory
from streamproc.state import INTENT
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.laws.crash import Act, Pass, Push, World
from tests.support.play import DESTINATIONS, Ringing, alert, notification, outcome_of, webhook

REAL_WORLD = World(TOPOLOGY, dict(TOPICS), LETTERS)
AGES = Pass(timedelta(days=10))
"""After this no row of the pipeline waits any more."""

ALERTS = tuple(
    alert(summary, service, severity)
    for summary, service in (("down", "db"), ("errors", "payments"), ("slow", "checkout"), ("lost", ""))
    for severity in ("critical", "error", "warning")
)
CATALOGUES: tuple[dict[str, Any], ...] = (
    {"services": {"checkout": {"depends_on": ["payments"]}, "payments": {"depends_on": ["db"]}}},
    {"services": {"db": {"destination": "database", "second_destination": "second", "tier": 1}}},
)
SECTIONS: tuple[dict[str, Any], ...] = (
    {"escalate": {"destinations": DESTINATIONS}},
    {"escalate": {"destinations": DESTINATIONS, "reopen_hold": 0}, "correlate": {"max_members": 2, "window": 60}},
    {"escalate": {}, "learn": {"publish_every": 2}},
)


def post(*alerts: tuple[Ringing, int], group: str = "") -> Push:
    """Return a webhook of alerts, each with how many minutes ago it started (or, resolved, ended)."""

    def entries(memory: Memory) -> Sequence[Entry]:
        now = memory.clock.now()
        told = [_told(ringing, minutes, now) for ringing, minutes in alerts]
        raw = webhook(told, {"team": group} if group else None)
        return [Entry.of("alerts.raw", raw, raw.group)]

    return Push(entries)


def _told(ringing: Ringing, minutes: int, now: datetime) -> dict[str, Any]:
    """Return one alert; its severity changes without changing its identity, as a producer's mapping may."""
    named = {name: value for name, value in ringing.labels.items() if name != "severity"}
    sum_ = hashlib.sha256(json.dumps(sorted(named.items())).encode()).hexdigest()[:16]
    starts = now - timedelta(minutes=minutes)
    return {**notification(ringing, starts, starts), "fingerprint": sum_}


def junk(body: bytes) -> Push:
    return Push(lambda _: [Entry.of("alerts.raw", RawAlert(body=body), "junk")])


def foreign(topic: str, kind: bytes, value: bytes) -> Push:
    return Push(lambda _: [Entry(topic, b"", value, {"type": kind})])


def activate(kind: str, version: int, body: object) -> Push:
    text = json.dumps(body)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    artifact = Artifact(kind=kind, version=version, checksum=checksum, body=text)
    active = Activated(kind=kind, version=version, checksum=checksum)
    entries = [Entry.of("versions", artifact, artifact.artifact_id), Entry.of("policies", active)]
    return Push(lambda _: entries)


def policy(policy_id: str, kind: PolicyKind, version: int, minutes: tuple[int, int], **more: Any) -> Push:
    """Return a policy that starts and ends so many minutes from now."""

    def entries(memory: Memory) -> Sequence[Entry]:
        now = memory.clock.now()
        starts, ends = (now + timedelta(minutes=each) for each in minutes)
        said = Policy(policy_id=policy_id, kind=kind, version=version, starts_at=starts, ends_at=ends, **more)
        if kind is PolicyKind.ARM:
            said = said.model_copy(update={"ends_at": None})
        return [Entry.of("policies", said)]

    return Push(entries)


def respond(which: int, kind: FeedbackKind, name: str) -> Push:
    """Return what a person does about one of the incidents there are, or about one that is none of ours."""

    def entries(memory: Memory) -> Sequence[Entry]:
        known = sorted({_incident(record.value).incident_id for record in memory.records("incidents.enriched")})
        chosen = known[which % len(known)] if known else "Q123"
        told = Feedback(
            feedback_id=name,
            incident_id=chosen,
            kind=kind,
            at=memory.clock.now(),
            page=which % 2 == 0 if kind is FeedbackKind.LABEL else None,
        )
        return [Entry.of("feedback", told, chosen)]

    return Push(entries)


def _incident(value: bytes) -> Incident:
    return Incident.model_validate_json(value)


def send(memory: Memory) -> Sequence[Entry]:
    """Return what a sender reports that works through all intents at once."""
    deliver = [part for part in memory.engine.parts if part.node.name == "deliver"]
    waiting = [row for part in deliver for _, row in sorted(part.rows.scan(INTENT))]
    outcomes = [outcome_of(each) for row in waiting for each in row.pending]
    return [Entry.of("escalations", outcome, outcome.routing_key) for outcome in outcomes]


RINGING = st.tuples(
    st.builds(
        lambda ringing, resolved: ringing.resolved if resolved else ringing, st.sampled_from(ALERTS), st.booleans()
    ),
    st.sampled_from([0, 0, 1, 5, 30]),
)
POSTS: st.SearchStrategy[Act] = st.builds(
    lambda alerts, group: post(*alerts, group=group),
    st.lists(RINGING, min_size=1, max_size=4),
    st.sampled_from(["", "", "shop"]),
)
MATCHERS = st.sampled_from(
    [
        (Matcher(name="service", op="=", value="db"),),
        (Matcher(name="severity", op="=~", value="error|warning"),),
        (Matcher(name="service", op="!~", value="("),),
        (),
    ]
)
SPANS = st.sampled_from([(0, 10), (-5, 3), (2, 60), (5, 1)])
MUTES: st.SearchStrategy[Act] = st.builds(
    lambda name, kind, version, span, matchers, withdrawn: policy(
        name, kind, version, span, matchers=matchers, withdrawn=withdrawn
    ),
    st.sampled_from(["one", "two"]),
    st.sampled_from([PolicyKind.SILENCE, PolicyKind.MAINTENANCE]),
    st.integers(1, 3),
    SPANS,
    MATCHERS,
    st.booleans(),
)
ARMS: st.SearchStrategy[Act] = st.builds(
    lambda version, adopt, withdrawn: policy("arm", PolicyKind.ARM, version, (0, 0), adopt=adopt, withdrawn=withdrawn),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([False, False, True]),
)
FEEDBACK: st.SearchStrategy[Act] = st.builds(
    respond, st.integers(0, 9), st.sampled_from(FeedbackKind), st.sampled_from(["f1", "f2", "f3", "f4"])
)
SWITCHES: st.SearchStrategy[Act] = st.one_of(
    st.builds(activate, st.just("catalogue"), st.integers(1, 3), st.sampled_from([*CATALOGUES, {"services": 1}])),
    st.builds(activate, st.just(CONFIG), st.integers(1, 3), st.sampled_from([*SECTIONS, {"escalate": {"no": 1}}])),
)
JUNK: st.SearchStrategy[Act] = st.one_of(
    st.builds(junk, st.sampled_from([b"", b"{", b"[]", b'{"alerts": [{"labels": {}}]}', b'{"a": 1}', b"\xff"])),
    st.builds(
        foreign,
        st.sampled_from(["alerts", "episodes", "escalations", "feedback", "policies", "training"]),
        st.sampled_from([b"alert.v1", b"nothing.v9", b"wake.v1"]),
        st.sampled_from([b"{}", b"no"]),
    ),
)
PASSES: st.SearchStrategy[Act] = st.builds(
    Pass, st.sampled_from([0, 1, 10, 60, 180, 1000, 20_000, 50_000]).map(lambda seconds: timedelta(seconds=seconds))
)
SENDS: st.SearchStrategy[Act] = st.just(Push(send))

START: tuple[Act, ...] = (
    activate(CONFIG, 1, SECTIONS[0]),
    activate("catalogue", 1, CATALOGUES[0]),
    policy("arm", PolicyKind.ARM, 1, (0, 0)),
    Pass(),
)
ACTS = st.one_of(POSTS, POSTS, POSTS, PASSES, PASSES, SENDS, MUTES, ARMS, FEEDBACK, SWITCHES, JUNK)


def scripts(acts: int) -> st.SearchStrategy[tuple[Act, ...]]:
    """Return scripts of at most so many acts."""
    begun = st.sampled_from([START, START, ()])
    return st.builds(lambda start, middle: (*start, *middle, AGES), begun, st.lists(ACTS, min_size=1, max_size=acts))


def _a(summary: str, severity: str) -> Ringing:
    return next(each for each in ALERTS if each.summary == summary and each.labels["severity"] == severity)


MINUTE: Callable[[float], Pass] = lambda minutes: Pass(timedelta(minutes=minutes))  # noqa: E731  reads as a word
A_BAD_DAY: tuple[Act, ...] = (
    *START,
    post((_a("down", "critical"), 0), (_a("errors", "error"), 0)),
    Pass(),
    post((_a("down", "critical"), 0)),
    post((_a("slow", "warning"), 1), group="shop"),
    junk(b"{"),
    Push(send),
    MINUTE(2),
    respond(0, FeedbackKind.ACKNOWLEDGED, "f1"),
    policy("one", PolicyKind.SILENCE, 1, (0, 10), matchers=(Matcher(name="service", op="=", value="db"),)),
    post((_a("errors", "critical"), 0), (_a("lost", "error"), 0)),
    MINUTE(3),
    Push(send),
    activate("catalogue", 2, CATALOGUES[1]),
    post((_a("errors", "critical").resolved, 0), (_a("slow", "warning").resolved, 0)),
    MINUTE(8),
    post((_a("down", "critical").resolved, 0), (_a("lost", "error").resolved, 0)),
    MINUTE(1),
    post((_a("down", "error"), 0)),
    respond(0, FeedbackKind.LABEL, "f2"),
    Push(send),
    MINUTE(30),
    Push(send),
    AGES,
)
"""Every stage, wakes of every table, refusals, feedback, a mute that ends, a flap."""
