"""Recordings made by hand, and what a backtest wrote of them."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from streamproc.backtest.reading import Recording
from streamproc.cli import app

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
STARTS = "2026-03-01T11:59:30.000Z"
"""As Alertmanager writes it, so that ids are seen to be verbatim."""


def at(seconds: float) -> str:
    """Return a moment of the recording."""
    return (T0 + timedelta(seconds=seconds)).isoformat()


def alert(
    name: str, service: str = "db", *, status: str = "firing", starts: str = STARTS, **labels: str
) -> dict[str, Any]:
    """Return one alert of a webhook; `name` is its fingerprint, too."""
    return {
        "status": status,
        "labels": {"alertname": name, "severity": "critical", "cluster": "eu-1", "service": service, **labels},
        "annotations": {"summary": f"{name} of {service}"},
        "startsAt": starts,
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else at(3000),
        "fingerprint": f"{name.encode().hex():0<16}"[:16],
    }


def alert_id(name: str, starts: str = STARTS) -> str:
    """Return the id of an alert, as the outputs name it."""
    return f"{alert(name)['fingerprint']}@{starts}"


def line(seconds: float, *alerts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded webhook of Alertmanager."""
    body = {"version": "4", "groupKey": "{}:{}", "groupLabels": {}, "status": "firing", "receiver": "x"}
    return {"at": at(seconds), "source": "alertmanager", "body": {**body, "alerts": alerts}}


def datadog(seconds: float, event_id: str, transition: str = "Triggered") -> dict[str, Any]:
    """Return a recorded event of Datadog."""
    body = {
        "id": event_id,
        "alert_id": "42",
        "alert_transition": transition,
        "alert_cycle_key": "1",
        "title": "Disk is full",
        "date": str(int((T0 + timedelta(seconds=seconds)).timestamp() * 1000)),
        "tags": "service:disk,env:prod",
        "alert_scope": "service:disk",
    }
    return {"at": at(seconds), "source": "datadog", "body": body}


@dataclass(frozen=True)
class Backtested:
    """A backtest that has ended."""

    result: Result
    folder: Path

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of an output."""
        return [json.loads(text) for text in (self.folder / f"{name}.jsonl").read_text().splitlines()]

    @property
    def report(self) -> dict[str, Any]:
        """The figures."""
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found

    @property
    def told(self) -> str:
        """What was said on standard error, as one line."""
        return " ".join(self.result.stderr.split())

    @property
    def files(self) -> dict[str, bytes]:
        """Every file that was written."""
        return {each.name: each.read_bytes() for each in self.folder.iterdir()}


def jsonl(file: Path, lines: Iterable[object]) -> Path:
    """Write lines; a text stands as it is."""
    file.write_text("".join(f"{text if isinstance(text, str) else json.dumps(text)}\n" for text in lines))
    return file


def recording(lines: Iterable[object]) -> Recording:
    """Return lines as if they stood in a file."""
    text = "".join(f"{json.dumps(one)}\n" for one in lines)
    return Recording(Path("raw.jsonl"), io.BytesIO(text.encode()))


def backtest(folder: Path, lines: Iterable[object], **more: Path) -> Backtested:
    """Run the command over a recording; `more` are its further files."""
    return run(jsonl(folder / "raw.jsonl", lines), **more)


def backtest_packed(folder: Path, lines: Iterable[object]) -> Backtested:
    """Run the command over a recording that is packed by gzip."""
    recorded = jsonl(folder / "raw.jsonl", lines)
    recorded.write_bytes(gzip.compress(recorded.read_bytes()))
    return run(recorded)


def run(recorded: Path, **more: Path) -> Backtested:
    """Run the command; it writes into the folder `output` beside the recording."""
    output = recorded.parent / "output"
    options = [word for name, file in more.items() for word in (f"--{name}", str(file))]
    result = CliRunner().invoke(app, ["backtest", "--input", str(recorded), "--output", str(output), *options])
    return Backtested(result, output)
