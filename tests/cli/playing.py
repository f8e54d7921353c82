from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from typer.testing import CliRunner, Result

from streamproc import cli
from streamproc.core.event import Event
from streamproc.events.escalation import Escalation, PageAction, Verdict
from streamproc.events.feedback import Policy, PolicyKind
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.journal import SqliteJournal
from streamproc.runtime.engine import Engine
from streamproc.runtime.reports import outcome
from streamproc.topology import TOPICS, TOPOLOGY
from streamproc.versions import activation

T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = "R0" + "k" * 30


class Pipeline:
    """The embedded runtime without its thread: folds when it is told to. Answers for PagerDuty like the sender."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(T0)
        self.journal = SqliteJournal(folder, TOPICS, "normal")
        self.engine = Engine(TOPOLOGY, TOPICS["dead-letters"], self.journal, self.clock)
        self.sent = 0

    def put(self, topic: str, event: Event, key: str = "") -> None:
        self.append([Entry.of(topic, event, key)])

    def append(self, entries: list[Entry]) -> None:
        with self.journal.transaction():
            self.engine.append(entries)
        self.run()

    def run(self) -> None:
        moved = True
        while moved:
            moved = False
            with self.journal.transaction():
                self.engine.append(self.journal.take_spool())
                for part in self.engine.parts:
                    moved = bool(self.engine.step(part)) or moved

    def advance(self, **by: float) -> None:
        moment = self.clock.now() + timedelta(**by)
        while (due := self.engine.next_due()) is not None and due <= moment:
            self.clock.set(max(due, self.clock.now()))
            with self.journal.transaction():
                self.engine.fire(self.clock.now())
            self.run()
        self.clock.set(moment)

    def alert(self, name: str, status: str = "firing", severity: str = "critical", **labels: str) -> None:
        body = {
            "version": "4",
            "groupKey": "",
            "status": status,
            "alerts": [
                {
                    "status": status,
                    "labels": {"alertname": name, "severity": severity, "environment": "prod", **labels},
                    "annotations": {"summary": f"{name} of {labels.get('service', 'something')}"},
                    "startsAt": T0.isoformat(),
                    "endsAt": self.clock.now().isoformat() if status == "resolved" else "0001-01-01T00:00:00Z",
                }
            ],
        }
        self.raw(json.dumps(body).encode())

    def raw(self, body: bytes, source: str = "alertmanager") -> None:
        self.append([Entry("alerts.raw", b"", body, {"type": b"raw-alert.v1", "source": source.encode()})])

    def arm(self) -> None:
        policy = Policy(
            policy_id="arm", kind=PolicyKind.ARM, version=1, starts_at=self.clock.now(), author="alice", adopt=False
        )
        self.put("policies", policy)

    def activate(self, kind: str, body: dict[str, Any]) -> None:
        self.append(activation(kind, json.dumps(body), None, "test", "test"))

    def configure(self) -> None:
        destinations = {"default": {"routing_key": KEY}}
        self.activate("config", {"escalate": {"destinations": destinations, "update_every": "PT0S"}})

    def deliver(self, status: int = 202, message: str = "Event processed") -> None:
        """Report the outcome of every escalation that was not reported yet."""
        records = self.journal.read("escalations", 0, self.sent, 1000)
        self.sent += len(records)
        for record in records:
            if record.headers["type"] != b"escalation.v1":
                continue
            wanted = Escalation.decode(record.value, record.headers)
            at = self.clock.now() + timedelta(milliseconds=400)
            body = "{}" if wanted.action is PageAction.TRIGGER else ""
            answered = outcome(
                wanted,
                Verdict.DELIVERED if status == 202 else Verdict.REFUSED,
                at,
                status=status,
                message=message,
                attempts=1,
                body=body,
            )
            self.put("escalations", answered, wanted.routing_key)

    def close(self) -> None:
        self.journal.close()


class Answers:
    """A web server on a thread that gives prepared answers: by path, the status and the body (JSON, or text)."""

    def __init__(self, prepared: Mapping[str, tuple[int, Any]]) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, body = prepared.get(self.path, (404, "404 page not found"))
                raw = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_POST = do_GET  # noqa: N815  http.server names it so

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def call(*arguments: str, stdin: str = "", **env: str) -> Result:
    """Run one command in this process; a defect is raised here, not swallowed."""
    result = CliRunner().invoke(cli.app, list(arguments), input=stdin, env=env, prog_name="streamproc")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
