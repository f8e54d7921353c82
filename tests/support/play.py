"""The language of scenarios: what comes in when, and what PagerDuty must have been told by when.

    play = Play(runtime)
    play.at("0m").push(alert("db-1 down", service="db"))
    play.at("4m").push(alert("db-1 down", service="db"))
    play.want(between("0m", "1m"), page("db-1"), once)

Alerts go in as Alertmanager's own JSON through `alerts.raw`; what is wanted is looked for in the topic `pages`. A
sender that PagerDuty always answers stands between: it reports at once whatever decide wants said.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, Self

from streamproc.core.event import Activated, Artifact
from streamproc.core.fold import CONFIG
from streamproc.core.record import Record
from streamproc.events.escalation import Escalation, Outcome, Page, PageAction, Verdict
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.events.incident import Incident
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.runtime.reports import outcome
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(seconds=5)
"""The sender looks so often while time passes."""
DESTINATIONS = {name: {"routing_key": name.ljust(32, "0")} for name in ("default", "database", "second")}
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Runtime(Protocol):
    """What a scenario needs of a runtime."""

    def append(self, entries: Iterable[Entry]) -> None:
        """Append what edges bring."""

    def advance(self, by: timedelta) -> None:
        """Let time pass: timers fire, and everything is folded. By nothing: everything is folded."""

    def records(self, topic: str) -> list[Record]:
        """Return every record of a topic."""


def in_memory(start: datetime = T0, partitions: int = 1) -> Memory:
    """Return the real topology on the memory runtime."""
    return Memory(TOPOLOGY, LETTERS, MemoryJournal(TOPICS, partitions), ManualClock(start))


def duration(text: str) -> timedelta:
    """Return what `90s`, `5m` or `1h 30m` means."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError(f"{text!r} is no duration")
    return timedelta(**{UNITS[unit]: float(number) for number, unit in parts})


@dataclass(frozen=True)
class Ringing:
    """One alert as Alertmanager sends it."""

    labels: Mapping[str, str]
    summary: str
    status: str = "firing"
    since: str | None = None
    """How long ago it started; None for when it was first pushed."""
    ended: str = "0s"
    """How long ago it was resolved."""

    @property
    def resolved(self) -> Ringing:
        """The same alert, resolved."""
        return replace(self, status="resolved")


def alert(
    summary: str, service: str = "", severity: str = "critical", *, since: str | None = None, **labels: str
) -> Ringing:
    """Return a firing alert; alerts of different summaries or labels are different ones."""
    name = re.sub(r"\W+", "_", summary)
    told = {"alertname": name, "severity": severity, "cluster": "eu-1", "environment": "prod", **labels}
    return Ringing(told | ({"service": service} if service else {}), summary, since=since)


def webhook(alerts: Iterable[Mapping[str, Any]], group: Mapping[str, str] | None = None) -> RawAlert:
    """Return a webhook of Alertmanager (version 4) with these alerts."""
    listed = list(alerts)
    key = "{}:" + json.dumps(group or {}, sort_keys=True)
    firing = any(each["status"] == "firing" for each in listed)
    body = {
        "version": "4",
        "groupKey": key,
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": "streamproc",
        "groupLabels": dict(group or {}),
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": listed,
    }
    return RawAlert(body=json.dumps(body).encode(), source="alertmanager", group=key)


def notification(ringing: Ringing, starts: datetime, now: datetime) -> dict[str, Any]:
    """Return one alert of a webhook's list, with the fingerprint that Alertmanager would give it."""
    sum_ = hashlib.sha256(json.dumps(sorted(ringing.labels.items())).encode()).hexdigest()[:16]
    ends = now - duration(ringing.ended)
    return {
        "status": ringing.status,
        "labels": dict(ringing.labels),
        "annotations": {"summary": ringing.summary},
        "startsAt": starts.isoformat(),
        "endsAt": ends.isoformat() if ringing.status == "resolved" else "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph",
        "fingerprint": sum_,
    }


@dataclass(frozen=True)
class Span:
    """A stretch of the scenario, both ends included."""

    start: timedelta
    end: timedelta

    def __str__(self) -> str:
        return f"between {self.start} and {self.end}"


def between(start: str, end: str) -> Span:
    """Return the stretch between two moments of the scenario."""
    return Span(duration(start), duration(end))


@dataclass(frozen=True)
class Said:
    """Something that PagerDuty was told: `text` is in the summary of the page that it is about."""

    action: PageAction
    text: str = ""
    destination: str = ""
    opens: bool = True
    """False for a trigger that only says more of what is open: PagerDuty notifies nobody anew."""

    def __str__(self) -> str:
        again = "" if self.opens else " again"
        return f"{self.action}{again} of {self.text!r}" + (f" at {self.destination}" if self.destination else "")


def page(text: str = "", destination: str = "") -> Said:
    """A trigger that opens an alert at PagerDuty, so that somebody is called."""
    return Said(PageAction.TRIGGER, text, destination)


def update(text: str = "", destination: str = "") -> Said:
    """A trigger that says more of an alert that is open at PagerDuty."""
    return Said(PageAction.TRIGGER, text, destination, opens=False)


def resolve(text: str = "", destination: str = "") -> Said:
    """A resolve of what such a page opened."""
    return Said(PageAction.RESOLVE, text, destination)


def acknowledge(text: str = "", destination: str = "") -> Said:
    """An acknowledge of what such a page opened."""
    return Said(PageAction.ACKNOWLEDGE, text, destination)


def change(text: str = "") -> Said:
    """A change event, which notifies nobody."""
    return Said(PageAction.CHANGE, text)


@dataclass(frozen=True)
class Times:
    """How often."""

    least: int
    most: int


never, once, twice = Times(0, 0), Times(1, 1), Times(2, 2)


@dataclass
class Play:
    """A scenario under way. Its moments count from its start and must not go back."""

    runtime: Runtime = field(default_factory=in_memory)
    start: datetime = T0
    armed: bool = True
    passed: timedelta = timedelta()
    _starts: dict[str, datetime] = field(default_factory=dict)
    _sent: set[tuple[int, int]] = field(default_factory=set)
    _versions: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        self.configure()
        if self.armed:
            self.arm()

    @property
    def now(self) -> datetime:
        """The moment that the scenario stands at."""
        return self.start + self.passed

    def at(self, moment: str) -> Self:
        """Let time pass until a moment of the scenario."""
        self._pass_to(duration(moment))
        return self

    # -- what comes in ------------------------------------------------------------------------------------------------

    def push(self, *alerts: Ringing, group: Mapping[str, str] | None = None) -> Self:
        """Alertmanager posts these alerts, in one webhook."""
        told = [notification(each, self._starts_of(each), self.now) for each in alerts]
        return self.post(webhook(told, group))

    def post(self, raw: RawAlert) -> Self:
        """A producer posts a body of its own."""
        return self._append(Entry.of("alerts.raw", raw, raw.group))

    def silence(self, policy_id: str, until: str, kind: PolicyKind = PolicyKind.SILENCE, **labels: str) -> Self:
        """A person mutes alerts with these labels until a moment of the scenario."""
        matchers = tuple(Matcher(name=name, op="=", value=value) for name, value in labels.items())
        return self._policy(policy_id, kind, matchers=matchers, ends_at=self.start + duration(until))

    def withdraw(self, policy_id: str, kind: PolicyKind = PolicyKind.SILENCE) -> Self:
        """A person takes a policy back."""
        return self._policy(policy_id, kind, withdrawn=True)

    def arm(self, *, adopt: bool = True) -> Self:
        """A person arms the pipeline."""
        return self._policy("arm", PolicyKind.ARM, adopt=adopt)

    def respond(self, text: str, kind: FeedbackKind = FeedbackKind.ACKNOWLEDGED, by: str = "ann") -> Self:
        """A person acts at PagerDuty on the incident whose last page says `text`."""
        found = [told for told in self.pages() if told.action is PageAction.TRIGGER and text in told.summary]
        assert found, f"nothing was paged that says {text!r}"
        self._count += 1
        event = Feedback(
            feedback_id=f"webhook-{self._count}", incident_id=found[-1].incident_id, kind=kind, by=by, at=self.now
        )
        return self._append(Entry.of("feedback", event, event.incident_id))

    def configure(self, **sections: Mapping[str, Any]) -> Self:
        """A person activates settings of the stages, over those of the scenario."""
        escalate = {"destinations": DESTINATIONS, **sections.pop("escalate", {})}
        return self.activate(CONFIG, {"escalate": escalate, **sections})

    def services(self, **services: Mapping[str, Any]) -> Self:
        """A person activates a service catalogue."""
        return self.activate("catalogue", {"services": services})

    def activate(self, kind: str, body: Mapping[str, Any]) -> Self:
        """A person publishes the next version of a large thing and switches it on."""
        text = json.dumps(body)
        version = self._versions[kind] = self._versions.get(kind, 0) + 1
        checksum = hashlib.sha256(text.encode()).hexdigest()
        artifact = Artifact(kind=kind, version=version, checksum=checksum, body=text)
        active = Activated(kind=kind, version=version, checksum=checksum, author="ann")
        return self._append(Entry.of("versions", artifact, artifact.artifact_id), Entry.of("policies", active))

    # -- what comes out -----------------------------------------------------------------------------------------------

    def want(self, when: Span, said: Said, times: Times = once) -> Self:
        """Assert how often something is said in a stretch of time; the scenario goes on to its end if need be."""
        if when.end > self.passed:
            self._pass_to(when.end)
        pages = self.pages()
        found = [told for told in _matching(pages, said) if when.start <= told.sent_at - self.start <= when.end]
        log = "\n".join(
            f"  {each.sent_at - self.start} {each.action} {each.destination}: {each.summary}" for each in pages
        )
        assert times.least <= len(found) <= times.most, (
            f"{said} was said {len(found)} times {when}, not {times.least} to {times.most}; all that was said:\n{log}"
        )
        return self

    def pages(self) -> list[Page]:
        """Return everything that PagerDuty was told, as the topic `pages` has it."""
        return [Page.model_validate_json(record.value) for record in self.runtime.records("pages")]

    def incidents(self) -> list[Incident]:
        """Return every change of every incident that was published."""
        return [Incident.model_validate_json(record.value) for record in self.runtime.records("incidents.enriched")]

    # -- how it goes on -----------------------------------------------------------------------------------------------

    def _starts_of(self, ringing: Ringing) -> datetime:
        """Return when an alert started: as it says, else when it was first pushed since it was last resolved."""
        key = json.dumps(sorted(ringing.labels.items()))
        starts = self.now - duration(ringing.since) if ringing.since else self._starts.get(key, self.now)
        if ringing.status == "resolved":
            self._starts.pop(key, None)
        else:
            self._starts[key] = starts
        return starts

    def _policy(self, policy_id: str, kind: PolicyKind, **more: Any) -> Self:
        version = self._versions[policy_id] = self._versions.get(policy_id, 0) + 1
        policy = Policy(policy_id=policy_id, kind=kind, version=version, starts_at=self.now, author="ann", **more)
        return self._append(Entry.of("policies", policy))

    def _append(self, *entries: Entry) -> Self:
        self.runtime.append(entries)
        self._settle()
        return self

    def _pass_to(self, moment: timedelta) -> None:
        assert moment >= self.passed, f"the scenario stands at {self.passed} already"
        while self.passed < moment:
            step = min(TICK, moment - self.passed)
            self.runtime.advance(step)
            self.passed += step
            self._settle()

    def _settle(self) -> None:
        """Fold everything, and send everything that is wanted, until nothing is left to do."""
        self.runtime.advance(timedelta())
        while wanted := self._wanted():
            self.runtime.append([Entry.of("escalations", outcome, outcome.routing_key) for outcome in wanted])
            self.runtime.advance(timedelta())

    def _wanted(self) -> list[Outcome]:
        records = self.runtime.records("escalations")
        fresh = [each for each in records if (each.partition, each.offset) not in self._sent]
        self._sent.update((each.partition, each.offset) for each in fresh)
        asked = (
            Escalation.decode(each.value, each.headers)
            for each in fresh
            if each.headers["type"] == Escalation.TYPE.encode()
        )
        return [outcome_of(escalation) for escalation in asked if escalation.routing_key]


def _matching(pages: Iterable[Page], said: Said) -> Iterator[Page]:
    """Yield what matches; acknowledges and resolves have no words, and are about the page with their key."""
    summaries: dict[str, str] = {}
    for told in pages:
        opens = told.dedup_key not in summaries
        if told.summary:
            summaries[told.dedup_key] = told.summary
        about = told.summary or summaries.get(told.dedup_key, "")
        if told.action is PageAction.RESOLVE:
            summaries.pop(told.dedup_key, None)
        fits = told.action is not PageAction.TRIGGER or opens is said.opens
        if told.action is said.action and fits and said.text in about and said.destination in ("", told.destination):
            yield told


def outcome_of(escalation: Escalation) -> Outcome:
    """Return what a sender reports that was answered 202 as soon as it was asked."""
    return outcome(escalation, Verdict.DELIVERED, escalation.at, status=202, message="", attempts=1)
