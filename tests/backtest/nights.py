"""A night on one machine, with a sender that answers like PagerDuty: its log is what is verified and asked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from streamproc.events.escalation import Escalation, Outcome, Verdict
from streamproc.events.feedback import Feedback, FeedbackKind
from streamproc.runtime.embedded.journal import FILE, pack_headers
from streamproc.runtime.reports import outcome
from streamproc.sinks.pagerduty.encode import encode
from tests.cli.playing import KEY, Pipeline

SECOND_KEY = "R1" + "k" * 30
CATALOGUE = {
    "services": {
        "checkout": {"owner": "team-shop", "depends_on": ["db"]},
        "db": {"owner": "team-data", "second_destination": "managers"},
    }
}
SETTINGS: dict[str, Any] = {
    "escalate": {
        "destinations": {"default": {"routing_key": KEY}, "managers": {"routing_key": SECOND_KEY}},
        "update_every": "PT0S",
    }
}


class Night(Pipeline):
    """The embedded runtime without its thread; what it wants said is sent by `tell`, bodies as they would be."""

    def tell(self, delay: timedelta | None = None, verdict: Verdict = Verdict.DELIVERED) -> None:
        """Send everything that waits."""
        for record in self.journal.read("escalations", 0, self.sent, 1000):
            self.sent = record.offset + 1
            if record.headers["type"] == b"escalation.v1":
                wanted = Escalation.decode(record.value, record.headers)
                self.put("escalations", self.answer(wanted, delay, verdict), wanted.routing_key)

    def answer(self, wanted: Escalation, delay: timedelta | None = None, verdict: Any = Verdict.DELIVERED) -> Outcome:
        """Return what the sender reports of one request."""
        at = self.clock.now() + timedelta(milliseconds=400)
        body = encode(wanted, delayed_by=delay, client="streamproc").shown
        return outcome(wanted, verdict, at, status=202, message="", attempts=1, body=body, delay=delay)

    def feedback(self, incident_id: str, kind: FeedbackKind, number: int = 1) -> None:
        """Say what a person did at PagerDuty."""
        said = Feedback(
            feedback_id=f"w{number}", incident_id=incident_id, kind=kind, by="ann", at=self.clock.now(), page=None
        )
        self.put("feedback", said, incident_id)


def trouble(night: Night) -> None:
    """Play a database that fails, takes its neighbour along, is told to managers, comes back, and fails again."""
    night.activate("config", SETTINGS)
    night.activate("catalogue", CATALOGUE)
    night.arm()
    night.alert("DatabaseDown", service="db", severity="error")
    night.tell(delay=timedelta(minutes=7))
    night.advance(seconds=30)
    night.alert("HighErrorRate", service="checkout", severity="error")
    night.tell()
    night.advance(seconds=20 * 60)
    night.tell()
    for name, service in (("DatabaseDown", "db"), ("HighErrorRate", "checkout")):
        night.alert(name, "resolved", service=service, severity="error")
    night.tell()
    night.advance(minutes=1)
    night.alert("DatabaseDown", service="db", severity="critical")
    night.tell()
    night.advance(minutes=1)


def incident(folder: Path) -> str:
    """Return the id of the first incident."""
    with edited(folder) as db:
        found = db.execute("SELECT CAST(key AS TEXT) FROM log WHERE topic=? ORDER BY off", (number(db, "pages"),))
        return str(found.fetchone()[0])


@contextmanager
def edited(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the file of a data directory, to look into it or to forge it."""
    with closing(sqlite3.connect(folder / FILE)) as db, db:
        yield db


def number(db: sqlite3.Connection, topic: str) -> int:
    """Return the number of a topic."""
    return int(db.execute("SELECT number FROM topics WHERE name=?", (topic,)).fetchone()[0])


def forge(folder: Path, topic: str, old: str, new: str) -> None:
    """Replace a text in the newest record of a topic that has it."""
    with edited(folder) as db:
        rows = db.execute("SELECT off, value FROM log WHERE topic=? ORDER BY off DESC", (number(db, topic),)).fetchall()
        off, value = next((off, value) for off, value in rows if old.encode() in value)
        db.execute(
            "UPDATE log SET value=? WHERE topic=? AND off=?",
            (value.replace(old.encode(), new.encode(), 1), number(db, topic), off),
        )


def stamp(folder: Path, topic: str, name: str, value: str) -> None:
    """Give the newest record of a topic another header."""
    with edited(folder) as db:
        at = number(db, topic)
        off, packed = db.execute("SELECT off, headers FROM log WHERE topic=? ORDER BY off DESC", (at,)).fetchone()
        headers = {each: text.encode() for each, text in json.loads(packed).items()} | {name: value.encode()}
        db.execute("UPDATE log SET headers=? WHERE topic=? AND off=?", (pack_headers(headers), at, off))


def trim(folder: Path, topic: str, before: int) -> None:
    """Remove the records of a topic before an offset, as retention does."""
    with edited(folder) as db:
        db.execute("DELETE FROM log WHERE topic=? AND off<?", (number(db, topic), before))


def count(folder: Path, topic: str) -> int:
    """Return the offset after the last record of a topic."""
    with edited(folder) as db:
        return int(db.execute("SELECT max(off) FROM log WHERE topic=?", (number(db, topic),)).fetchone()[0]) + 1
