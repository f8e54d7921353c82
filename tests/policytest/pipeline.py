"""A pipeline that writes a data directory, on a clock of its own: what happened live, for cases made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from streamproc.backtest.driving import delivered
from streamproc.backtest.replay import with_default_destination
from streamproc.beginning import arming
from streamproc.core.fold import CONFIG
from streamproc.events.escalation import Escalation, PageAction
from streamproc.events.feedback import Feedback, FeedbackKind, Policy, PolicyKind
from streamproc.matching import parse
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.journal import SqliteJournal
from streamproc.runtime.engine import Engine
from streamproc.settings import load
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.versions import activation

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


def alert(name: str, service: str, *, status: str = "firing", severity: str = "error", **more: str) -> dict[str, Any]:
    """Return one alert of a webhook."""
    return {
        "status": status,
        "labels": {"alertname": name, "service": service, "severity": severity, "cluster": "eu-1", **more},
        "annotations": {"summary": f"{name} of {service}, ask anna@example.com, token=s3cr3t-of-ours"},
        "startsAt": "2026-03-01T11:59:30Z",
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-03-01T13:00:00Z",
        "fingerprint": f"{name.encode().hex():0<16}"[:16],
    }


class Live:
    """A pipeline under way; its records stand in the data directory."""

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        self._clock = ManualClock(T0 - timedelta(hours=1))
        self._journal = SqliteJournal(folder, TOPICS, "normal")
        self._engine = Engine(TOPOLOGY, LETTERS, self._journal, self._clock)
        self._folder = folder
        self._answered = 0
        body = with_default_destination(load(None, settings)).stages()
        self._append(
            [
                *activation(CONFIG, body, None, author="test", reason="test"),
                Entry.of("policies", arming(1, T0 - timedelta(hours=1), author="test", adopt=False)),
            ]
        )

    def post(self, minutes: float, *alerts: Mapping[str, Any]) -> None:
        """Let a webhook of Alertmanager come in."""
        body = {"version": "4", "groupKey": "{}:{}", "groupLabels": {}, "receiver": "x", "alerts": alerts}
        self.request(minutes, "alertmanager", body)

    def request(self, minutes: float, source: str, body: object) -> None:
        """Let any request come in."""
        self.advance(minutes)
        headers = {"type": b"raw-alert.v1", "source": source.encode()}
        self._append([Entry("alerts.raw", b"", json.dumps(body).encode(), headers)])

    def silence(
        self,
        minutes: float,
        matcher: str,
        lasts: int,
        *,
        name: str = "silence:works",
        version: int = 1,
        withdrawn: bool = False,
    ) -> None:
        """Let somebody silence something, or end that."""
        self.advance(minutes)
        now = self._clock.now()
        policy = Policy(
            policy_id=name,
            kind=PolicyKind(name.partition(":")[0]),
            version=version,
            matchers=(parse(matcher),),
            starts_at=now,
            ends_at=now + timedelta(minutes=lasts),
            withdrawn=withdrawn,
        )
        self._append([Entry.of("policies", policy)])

    def answer(self, minutes: float, kind: FeedbackKind) -> None:
        """Let somebody answer the newest incident."""
        self.advance(minutes)
        incident_id = self.newest()
        said = Feedback(feedback_id=f"{minutes}", incident_id=incident_id, kind=kind, by="anna", at=self._clock.now())
        self._append([Entry.of("feedback", said, incident_id)])

    def newest(self) -> str:
        """Return the id of the incident that changed last."""
        return SqliteDesk(self._folder).incidents("all")[0].incident_id

    def advance(self, minutes: float) -> None:
        """Let time pass; timers fire on the way."""
        until = T0 + timedelta(minutes=minutes)
        while (due := self._engine.next_due()) is not None and due <= until:
            self._clock.set(max(due, self._clock.now()))
            with self._journal.transaction():
                self._engine.fire(self._clock.now())
            self._rest()
        self._clock.set(max(until, self._clock.now()))

    def close(self) -> None:
        """Let go of the directory."""
        self._journal.close()

    def _append(self, entries: Iterable[Entry]) -> None:
        with self._journal.transaction():
            self._engine.append(entries)
        self._rest()

    def _rest(self) -> None:
        while not self._engine.idle or self._answer():
            for part in self._engine.parts:
                with self._journal.transaction():
                    self._engine.step(part)

    def _answer(self) -> bool:
        records = self._journal.read("escalations", 0, self._answered, 10_000)
        self._answered += len(records)
        said = [
            Escalation.decode(record.value, record.headers)
            for record in records
            if record.headers["type"] == b"escalation.v1"
        ]
        wanted = [one for one in said if one.routing_key and one.action is not PageAction.CHANGE]
        with self._journal.transaction():
            self._engine.append(Entry.of("escalations", delivered(one), one.routing_key) for one in wanted)
        return bool(wanted)
