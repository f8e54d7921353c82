"""What people look at, read from the SQLite file by connections of its own, with or without a running pipeline."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from streamproc.core.errors import Unusable
from streamproc.core.event import Activated, Artifact, DeadLetter, Event
from streamproc.core.step import ActiveRow
from streamproc.events.escalation import Page
from streamproc.events.feedback import ARM, Policy
from streamproc.events.incident import Incident
from streamproc.reconcile.ours import Claim, claims_of
from streamproc.runtime.embedded.journal import FILE, moment_of
from streamproc.state import IntentRow, PageRow, PolicyRow
from streamproc.views import IncidentSummary, IncidentView, NodeStatus, PipelineStatus, Vitals, incident_view

E = TypeVar("E", bound=Event)
REAL = "json_extract(CAST(value AS TEXT), '$.incident.canary') IS NOT 1"
"""Canaries are shown to those only who ask for one by its id."""


class SqliteDesk:
    """Read models over a data directory. Every call opens the file anew and reads one consistent state of it.

    Raises:
        Unusable: the directory holds no data of streamproc; or, later, it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        if not self._path.is_file():
            raise Unusable(f"{folder} holds no data yet; start `streamproc run --data-dir {folder}` first")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        address = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=5)) as db:
                db.execute("BEGIN")
                yield db
        except sqlite3.Error as error:
            raise Unusable(f"{self._path} cannot be read: {error}") from error

    def status(self) -> PipelineStatus:
        """Return how the pipeline stands; without its process it is not ready, and has decided nothing."""
        with self._reading() as db:
            states = dict(
                db.execute(
                    "SELECT json_extract(CAST(value AS TEXT), '$.state'), count(*) FROM rows"
                    f" WHERE node='decide' AND tbl='page' AND {REAL} GROUP BY 1"
                ).fetchall()
            )
            waiting = db.execute(
                "SELECT count(*) FROM rows WHERE node='deliver' AND tbl='intent'"
                " AND json_array_length(CAST(value AS TEXT), '$.pending') > 0"
            ).fetchone()[0]
            letters = db.execute(f"SELECT count(*) FROM log WHERE topic={_number(db, 'dead-letters')}").fetchone()[0]
            arm = db.execute("SELECT value FROM rows WHERE node='decide' AND tbl='policy' AND key=?", (ARM,)).fetchone()
            nodes = self._nodes(db)
        return PipelineStatus(
            ready=False,
            why_not="no process of streamproc runs on this data directory",
            armed=arm is not None and not PolicyRow.model_validate_json(arm[0]).policy.withdrawn,
            open_incidents=sum(count for state, count in states.items() if state != "closed"),
            paged_incidents=states.get("paged", 0),
            waiting_to_send=waiting,
            dead_letters=letters,
            nodes=nodes,
            decisions={},
        )

    def _nodes(self, db: sqlite3.Connection) -> tuple[NodeStatus, ...]:
        counts = dict(db.execute("SELECT node, count(*) FROM rows GROUP BY node").fetchall())
        found = db.execute(
            "SELECT p.node, p.off, p.now, (SELECT max(off) + 1 FROM log WHERE topic=t.number)"
            " FROM positions p JOIN topics t ON t.topic_id = p.topic_id ORDER BY p.node"
        ).fetchall()
        return tuple(
            NodeStatus(
                node=node, partition=0, lag=max(0, (end or 0) - off), rows=counts.get(node, 0), now=moment_of(now)
            )
            for node, off, now, end in found
        )

    def incidents(
        self, status: Literal["open", "resolved", "all"] = "open", limit: int = 50, before: str = ""
    ) -> list[IncidentSummary]:
        """Return incidents, the latest change first; `before` is an incident id, the list goes on after it."""
        with self._reading() as db:
            if status == "open":
                return _open(db, limit, before)
            return _told(db, status, limit, before)

    def vitals(self, canary: str) -> Vitals:
        """Return what a heartbeat must know.

        Args:
            canary: `alert_id` of the canary that should have come through.
        """
        named = json.dumps(canary, ensure_ascii=False).encode()
        with self._reading() as db:
            shown = db.execute(
                "SELECT json_extract(CAST(value AS TEXT), '$.incident.status') FROM rows"
                " WHERE node='decide' AND tbl='page' AND instr(value, ?) > 0 LIMIT 1",
                (named,),
            ).fetchone()
            oldest = db.execute(
                "SELECT min(json_extract(CAST(value AS TEXT), '$.pending[0].at')) FROM rows"
                " WHERE node='deliver' AND tbl='intent'"
            ).fetchone()[0]
        return Vitals(canary=None if shown is None else shown[0], waits_since=oldest)

    def incident(self, incident_id: str) -> IncidentView | None:
        """Return one incident, or None."""
        with self._reading() as db:
            told = _values(db, "incidents.enriched", incident_id)
            sent = _values(db, "pages", incident_id)
        incidents = [Incident.model_validate_json(value) for value in told]
        return incident_view(incidents, [Page.model_validate_json(value) for value in sent])

    def publications(self, since: datetime) -> Iterator[Incident]:
        """Yield what was published of incidents since a moment, in the log's order; that of canaries too."""
        from_ = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        with self._reading() as db:
            found = db.execute(
                f"SELECT value FROM log WHERE topic={_number(db, 'incidents.enriched')}"
                " AND json_extract(CAST(value AS TEXT), '$.changed_at') >= ? ORDER BY off",
                (from_,),
            )
            for (value,) in found:
                yield Incident.model_validate_json(value)

    def claims(self) -> dict[str, Claim]:
        """Return how each incident stands that is open, or closed lately, by its id: for the reconciliation."""
        with self._reading() as db:
            pages = db.execute("SELECT value FROM rows WHERE node='decide' AND tbl='page'").fetchall()
            intents = db.execute("SELECT value FROM rows WHERE node='deliver' AND tbl='intent'").fetchall()
        return claims_of(
            [PageRow.model_validate_json(value) for (value,) in pages],
            [IntentRow.model_validate_json(value) for (value,) in intents],
        )

    def matching(self, prefix: str, limit: int = 5) -> list[str]:
        """Return ids of incidents that begin with `prefix`, or whose hash does: for people who type."""
        with self._reading() as db:
            number = _number(db, "incidents.enriched")
            found = db.execute(
                f"SELECT DISTINCT CAST(key AS TEXT) AS id FROM log INDEXED BY by_key_{number} WHERE topic={number}"
                " AND (substr(id, 1, ?) = ? OR instr(id, ?) > 0) LIMIT ?",
                (len(prefix), prefix, f":{prefix}", limit),
            ).fetchall()
        return [row[0] for row in found]

    def dead_letters(self, limit: int = 50, before: str = "") -> list[DeadLetter]:
        """Return dead letters, the newest first; `before` is a letter id, the list goes on after it."""
        with self._reading() as db:
            number = _number(db, "dead-letters")
            found = db.execute(
                f"SELECT value FROM log WHERE topic={number} AND (?='' OR off <"
                f" (SELECT min(off) FROM log WHERE topic={number} AND key=CAST(? AS BLOB))) ORDER BY off DESC LIMIT ?",
                (before, before, limit),
            ).fetchall()
        return [DeadLetter.model_validate_json(row[0]) for row in found]

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter, or None."""
        with self._reading() as db:
            found = _values(db, "dead-letters", letter_id)
        return DeadLetter.model_validate_json(found[-1]) if found else None

    def attended(self) -> bool:
        """Return whether a process works on the directory."""
        try:
            with (self._path.parent / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:  # a copy of a data directory may lack it
            return False
        return False

    def policies(self) -> list[Policy]:
        """Return the newest version of every policy, by id; those too that wait for the pipeline to take them."""
        with self._reading() as db:
            standing = db.execute("SELECT value FROM rows WHERE node='decide' AND tbl='policy'").fetchall()
            wished = _wished(db, Policy)
        found = [PolicyRow.model_validate_json(value).policy for (value,) in standing]
        found += wished
        newest: dict[str, Policy] = {}
        for policy in found:
            known = newest.get(policy.policy_id)
            if known is None or known.version < policy.version:
                newest[policy.policy_id] = policy
        return sorted(newest.values(), key=lambda policy: policy.policy_id)

    def active(self, kind: str) -> ActiveRow | None:
        """Return which version of a large thing is active, or will be once the pipeline takes what waits for it."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT value FROM rows WHERE node='decide' AND tbl='active' AND key=?", (kind,)
            ).fetchall()
            wished = _wished(db, Activated)
        found = [ActiveRow.model_validate_json(value) for (value,) in rows]
        found += [ActiveRow(**one.model_dump(include={"kind", "version", "checksum"})) for one in wished]
        return max((row for row in found if row.kind == kind), key=lambda row: row.version, default=None)

    def body(self, active: ActiveRow) -> str | None:
        """Return the body of a version, None where the log does not hold it."""
        key = f"{active.kind}/{active.version}/{active.checksum}"
        with self._reading() as db:
            found = db.execute(
                f"SELECT value FROM log WHERE topic={_number(db, 'versions')} AND key=CAST(? AS BLOB) UNION ALL"
                " SELECT value FROM spool WHERE topic='versions' AND key=CAST(? AS BLOB)",
                (key, key),
            ).fetchall()
        return Artifact.model_validate_json(found[0][0]).body if found else None


def _number(db: sqlite3.Connection, topic: str) -> int:
    """Return the number of a topic. It must stand in a statement as itself: else SQLite uses no index `by_key_*`."""
    found = db.execute("SELECT number FROM topics WHERE name=?", (topic,)).fetchone()
    if found is None:
        raise Unusable(f"the data directory has no topic {topic}; start the pipeline of this version on it first")
    return int(found[0])


def _values(db: sqlite3.Connection, topic: str, key: str) -> list[bytes]:
    found = db.execute(
        f"SELECT value FROM log WHERE topic={_number(db, topic)} AND key=CAST(? AS BLOB) ORDER BY off", (key,)
    ).fetchall()
    return [row[0] for row in found]


def _wished(db: sqlite3.Connection, kind: type[E]) -> list[E]:
    """Return the events of one type that people and commands put into `policies`, taken or still waiting.

    What cannot be read there is none: the pipeline makes it a dead letter.
    """
    found = db.execute(
        f"SELECT value, headers FROM log WHERE topic={_number(db, 'policies')} UNION ALL"
        " SELECT value, headers FROM spool WHERE topic='policies'"
    ).fetchall()
    wished: list[E] = []
    for value, headers in found:
        if json.loads(headers).get("type") == kind.TYPE:
            with suppress(ValidationError):
                wished.append(kind.model_validate_json(value))
    return wished


def _open(db: sqlite3.Connection, limit: int, before: str) -> list[IncidentSummary]:
    found = db.execute("SELECT value FROM rows WHERE node='decide' AND tbl='page'").fetchall()
    rows = [PageRow.model_validate_json(value) for (value,) in found]
    # An incident that closed between two pages still says where the next one begins.
    after = next((_rank(row) for row in rows if row.incident.incident_id == before), ()) if before else None
    listed = [
        row
        for row in rows
        if row.state != "closed" and not row.incident.canary and (after is None or _rank(row) < after)
    ]
    listed.sort(key=_rank, reverse=True)
    return [IncidentSummary.of(row.incident) for row in listed[:limit]]


def _rank(row: PageRow) -> tuple[datetime, str] | tuple[()]:
    return row.incident.changed_at, row.incident.incident_id


def _told(db: sqlite3.Connection, status: str, limit: int, before: str) -> list[IncidentSummary]:
    """Return the last publication of each incident, page by page until `limit` of the wanted status are found."""
    number = _number(db, "incidents.enriched")
    log = f"log INDEXED BY by_key_{number} WHERE topic={number}"
    found = db.execute(
        f"SELECT max(off) AS last FROM {log} GROUP BY key HAVING (?='' OR last <"
        f" (SELECT max(off) FROM {log} AND key=CAST(? AS BLOB))) ORDER BY last DESC",
        (before, before),
    )
    listed: list[IncidentSummary] = []
    for (off,) in found:
        value = db.execute(f"SELECT value FROM log WHERE topic={number} AND off=?", (off,)).fetchone()
        incident = Incident.model_validate_json(value[0])
        if status in ("all", incident.status) and not incident.canary:
            listed.append(IncidentSummary.of(incident))
        if len(listed) == limit:
            break
    return listed
