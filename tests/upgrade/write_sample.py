"""Write what this version leaves behind: a data directory and state topics, for later versions to go on from.

Run it at the commit that is to be kept, with this file copied there if it has none, and commit what it writes:

    python -m tests.upgrade.write_sample tests/upgrade/samples/NAME
"""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from streamproc.core.event import Activated, Artifact
from streamproc.core.table import RowKey
from streamproc.events.escalation import Verdict
from streamproc.events.feedback import ARM, Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.journal import FILE, SqliteJournal
from streamproc.runtime.engine import Engine
from streamproc.runtime.faust.codec import POSITION, position_bytes, row_key
from streamproc.runtime.reports import outcome
from streamproc.state import INTENT, PAGE, PageRow
from streamproc.topology import TOPICS, TOPOLOGY
from tests.embedded.pipelines import T0, alert, raw

LATER = T0 + timedelta(minutes=2)
KEYS = {name: {"routing_key": sha256(name.encode()).hexdigest()[:32]} for name in ("default", "shop", "boss")}
SERVICES = {
    "checkout": {"owner": "shop", "tier": 1, "destination": "shop", "second_destination": "boss", "depends_on": ["db"]},
    "db": {"owner": "data", "tier": 1, "runbook": "https://wiki.example/db"},
}


class Story:
    """A pipeline whose clock a story moves."""

    def __init__(self, folder: Path, minutes: float = 0) -> None:
        self.clock = ManualClock(T0 + timedelta(minutes=minutes))
        self.journal = SqliteJournal(folder, TOPICS)
        self.engine = Engine(TOPOLOGY, TOPICS["dead-letters"], self.journal, self.clock)

    def tell(self, *entries: Entry) -> None:
        """Append, and fold until nothing waits."""
        self._append(entries)
        folded = 1
        while folded:
            with self.journal.transaction():
                folded = self.engine.fire(self.clock.now())
                folded += sum(self.engine.step(part) for part in self.engine.parts)

    def activate(self, kind: str, body: dict[str, Any]) -> None:
        """Activate a version of a large thing."""
        text = json.dumps(body)
        checksum = sha256(text.encode()).hexdigest()
        artifact = Artifact(kind=kind, version=1, checksum=checksum, body=text)
        active = Activated(kind=kind, version=1, checksum=checksum)
        self.tell(Entry.of("versions", artifact, artifact.artifact_id), Entry.of("policies", active))

    def answer(self, summary: str) -> None:
        """PagerDuty takes what waits for incidents of which the title says `summary`."""
        rows = [row for _, row in self.engine.part("deliver").rows.scan(INTENT)]
        self.tell(*(answered(one) for row in rows if summary in row.title for one in row.pending))

    def incident(self, name: str) -> str:
        """Return the id of the incident that an alert of this name opened."""
        rows: Iterable[PageRow] = (row for _, row in self.engine.part("decide").rows.scan(PAGE))
        return next(row.incident.incident_id for row in rows if row.incident.root.name == name)

    def wait(self, minutes: float) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(minutes=minutes))
        self.tell()

    def _append(self, entries: Iterable[Entry]) -> None:
        with self.journal.transaction():
            self.engine.append(entries)


def another(name: str, service: str, **labels: str) -> dict[str, Any]:
    """Return an alert of which there is another one of the same name and service."""
    said = alert(name, service)
    return {**said, "labels": {**said["labels"], **labels}, "fingerprint": said["fingerprint"][::-1]}


def answered(said: Any) -> Entry:
    """Return what a sender reports that PagerDuty answered."""
    taken = outcome(said, Verdict.DELIVERED, said.at, status=202, message="", attempts=1)
    return Entry.of("escalations", taken, said.routing_key)


def tell(story: Story) -> None:
    """Live through everything that leaves rows."""
    story.activate("config", {"escalate": {"destinations": KEYS}})
    story.activate("catalogue", {"services": SERVICES})
    armed = Policy(policy_id=ARM, kind=PolicyKind.ARM, version=1, starts_at=T0, adopt=False)
    silence = Policy(
        policy_id="nightly",
        kind=PolicyKind.SILENCE,
        version=1,
        matchers=(Matcher(name="service", op="=~", value="batch.*"),),
        starts_at=T0,
        ends_at=T0 + timedelta(hours=8),
        author="kim",
    )
    story.tell(Entry.of("policies", armed), Entry.of("policies", silence))
    story.tell(raw(alert("Gone", "cache")))
    story.wait(1)
    story.answer("Gone")
    story.tell(raw(alert("Gone", "cache", status="resolved")))
    story.answer("Gone")
    story.tell(raw(alert("DiskFull", "mail"), alert("BatchLate", "batch-1")))
    story.answer("DiskFull")
    story.tell(raw(value=b'{"version": "4", "alerts": 7}'))
    seen = Feedback(
        feedback_id="w1", incident_id=story.incident("DiskFull"), kind=FeedbackKind.ACKNOWLEDGED, by="kim", at=T0
    )
    story.tell(Entry.of("feedback", seen))
    story.wait(1)
    story.tell(raw(alert("Slow", "checkout"), alert("Errors", "checkout"), alert("Minor", "web", severity="warning")))
    story.tell(raw(alert("Down", "mail2", since=LATER)))
    story.answer("Down")
    story.tell(raw(another("Slow", "checkout", pod="2")))


def dumped(story: Story) -> Iterable[dict[str, Any]]:
    """Yield the records of the state topics, as Kafka would hold them."""
    for part in story.engine.parts:
        place = {"node": part.node.name, "partition": part.partition}
        for address, value in part.rows.raw().items():
            assert isinstance(address, RowKey)
            yield {**place, **_record(row_key(address), value)}
        yield {**place, **_record(POSITION, position_bytes(part.position))}


def _record(key: bytes, value: bytes) -> dict[str, str]:
    return {"key": base64.b64encode(key).decode(), "value": value.decode()}


def main(target: Path) -> None:
    """Write the sample."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder))
        tell(story)
        lines = [json.dumps(line) for line in dumped(story)]
        story.journal.close()
        with closing(sqlite3.connect(Path(folder) / FILE)) as db:
            db.execute("PRAGMA journal_mode=DELETE")
        (target / f"{FILE}.gz").write_bytes(gzip.compress((Path(folder) / FILE).read_bytes(), mtime=0))
    (target / "state.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
