"""Plays the whole topology in memory: what comes in from outside, time, and a sender that does as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from streamproc.core.event import DeadLetter
from streamproc.core.step import ACTIVE, ActiveRow, Topology
from streamproc.events.escalation import Escalation, Outcome, Verdict
from streamproc.events.feedback import Feedback, Policy
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.state import INTENT, IntentRow
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.versions import activation

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DESTINATIONS = {
    name: {"routing_key": f"K-{name}", "ticket_routing_key": f"T-{name}"} for name in ("default", "front", "boss")
}
SHOP = {
    "services": {
        "web": {"depends_on": ["api"], "destination": "front", "second_destination": "boss", "tier": 1},
        "api": {"depends_on": ["db"]},
        "db": {},
    }
}


class Play:
    """One pipeline from its first moment on."""

    def __init__(self, topology: Topology = TOPOLOGY) -> None:
        self.clock = ManualClock(T0)
        self.memory = Memory(topology, LETTERS, MemoryJournal(TOPICS), self.clock)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def append(self, *entries: Entry) -> None:
        self.memory.append(entries)

    def run(self) -> None:
        self.memory.run()

    def wait(self, minutes: float) -> None:
        self.memory.advance(timedelta(minutes=minutes))

    def post(self, body: Any, source: str = "generic") -> None:
        """Post a request body; nothing is folded before `run` or `wait`."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.append(Entry("alerts.raw", b"", raw, {"type": b"raw-alert.v1", "source": source.encode()}))

    def fire(self, *names: str, **says: Any) -> None:
        """Alerts fire, each known by its name; they began now unless `says` says otherwise."""
        self._say("firing", names, says)

    def resolve(self, *names: str, **says: Any) -> None:
        """Alerts end now; they began when `says` says, by default one minute ago."""
        self._say("resolved", names, {"ends_at": self.now.isoformat(), **says})

    def _say(self, status: str, names: tuple[str, ...], says: Mapping[str, Any]) -> None:
        """Send one body; `minutes_ago` states a start in minutes."""
        given = dict(says)
        labels = {key: given.pop(key) for key in ("service", "cluster") if key in given}
        start = self.now - timedelta(minutes=given.pop("minutes_ago", 1 if status == "resolved" else 0))
        common = {"status": status, "severity": "error", "starts_at": start.isoformat(), "labels": labels, **given}
        self.post({"alerts": [{"id": name, "name": "Down", **common} for name in names]})
        self.run()

    def want(self, **policy: Any) -> None:
        """Put a policy; it begins now."""
        said = {"kind": "silence", "version": 1, "starts_at": self.now, **policy}
        self.append(Entry.of("policies", Policy.model_validate(said)))

    def arm(self, version: int = 1, **policy: Any) -> None:
        self.want(policy_id="arm", kind="arm", version=version, **policy)
        self.run()

    def silence(self, service: str, minutes: float, version: int = 1, **policy: Any) -> None:
        matcher = {"name": "service", "op": "=", "value": service}
        ends = self.now + timedelta(minutes=minutes)
        self.want(policy_id=f"mute-{service}", version=version, matchers=[matcher], ends_at=ends, **policy)
        self.run()

    def feedback(self, kind: str, number: int, incident: str, **says: Any) -> None:
        said = {"feedback_id": f"w{number}", "incident_id": incident, "kind": kind, "at": self.now, **says}
        feedback = Feedback.model_validate(said)
        self.append(Entry.of("feedback", feedback, feedback.incident_id))
        self.run()

    def activate(self, kind: str, body: Any) -> None:
        active = self.memory.engine.part("decide").rows.get(ACTIVE.at(kind))
        assert active is None or isinstance(active, ActiveRow)
        raw = body if isinstance(body, str) else json.dumps(body)
        self.append(*activation(kind, raw, active, author="test", reason="test"))
        self.run()

    def configure(self, **sections: Any) -> None:
        """Activate a configuration, with destinations unless the section says otherwise."""
        escalate = {"destinations": DESTINATIONS, **sections.pop("escalate", {})}
        self.activate("config", {"escalate": escalate, **sections})

    def intents(self) -> dict[str, IntentRow]:
        return dict(self.memory.engine.part("deliver").rows.scan(INTENT))

    def waiting(self) -> Iterator[Escalation]:
        """Yield what the sender would send next: the first of each intent."""
        for _, row in sorted(self.intents().items()):
            if row.pending:
                yield row.pending[0]

    def answer(self, said: Escalation, verdict: str = Verdict.DELIVERED) -> None:
        outcome = Outcome.model_validate(
            {
                **said.model_dump(include={"routing_key", "dedup_key", "incident_id", "destination", "action", "seq"}),
                "verdict": verdict,
                "status": {"delivered": 202, "refused": 400}.get(verdict),
                "sent_at": self.now,
            }
        )
        self.append(Entry.of("escalations", outcome, outcome.routing_key))
        self.run()

    def send(self, verdict: str = Verdict.DELIVERED) -> None:
        """Let the sender work until nothing waits."""
        while waits := list(self.waiting()):
            for said in waits:
                self.answer(said, verdict)

    def letters(self) -> list[DeadLetter]:
        return [DeadLetter.model_validate_json(record.value) for record in self.memory.records("dead-letters")]
