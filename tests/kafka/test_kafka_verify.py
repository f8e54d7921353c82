"""Pages of a pipeline on a real broker are derived again, and found by their alert."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from streamproc.events.escalation import Escalation, Verdict
from streamproc.ports import Entry
from streamproc.runtime.faust.config import Config
from streamproc.runtime.reports import outcome
from streamproc.sinks.pagerduty.encode import encode
from tests.cli.playing import call
from tests.embedded.pipelines import T0, alert, paging, raw
from tests.kafka.test_kafka_scenarios import OnKafka


def told(settings: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = call(*arguments, "--kafka", "--config", str(settings), "--json")
    return result.exit_code, json.loads(result.output)


def answers(said: Sequence[Escalation]) -> list[Entry]:
    made = []
    for one in said:
        body = encode(one, delayed_by=None).shown
        answered = outcome(one, Verdict.DELIVERED, one.at, status=202, message="", attempts=1, body=body)
        made.append(Entry.of("escalations", answered, one.routing_key))
    return made


def test_pages_on_kafka_are_derived_again(config: Config, tmp_path: Path) -> None:
    runtime = OnKafka(config)
    with runtime.running():
        runtime.append(paging())
        runtime.advance(timedelta(seconds=1))
        runtime.append([raw(alert("DatabaseDown", "db"), alert("MailDown", "mail"))])
        runtime.advance(timedelta(minutes=1))
        runtime.append([raw(alert("DatabaseDown", "db", status="resolved", since=T0))])
        runtime.advance(timedelta(seconds=5))
        said = [
            Escalation.decode(record.value, record.headers)
            for record in runtime.records("escalations")
            if record.headers["type"] == b"escalation.v1"
        ]
        assert len({one.incident_id for one in said}) == 2
        runtime.append(answers(said))
        runtime.advance(timedelta(seconds=1))
    settings = tmp_path / "streamproc.yaml"
    kafka = {"bootstrap": list(config.bootstrap), "prefix": config.prefix, "production": False}
    settings.write_text(yaml.safe_dump({"kafka": kafka}))
    down = next(one for one in said if one.text is not None and "DatabaseDown" in one.text.summary)
    code, found = told(settings, "verify", down.incident_id, "--deep")
    assert (code, found["finding"], found["upstream"]["finding"]) == (0, "verified", "verified")
    assert [page["action"] for page in found["pages"]] == ["trigger", "resolve"]
    fingerprint = alert("DatabaseDown", "db")["fingerprint"]
    code, found = told(settings, "explain", "--why-not", fingerprint)
    assert (code, found["finding"], found["incident_id"]) == (0, "paged", down.incident_id)
