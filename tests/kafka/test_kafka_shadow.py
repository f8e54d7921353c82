"""A candidate beside a pipeline on a real broker: followed, told by the commands, promoted and rolled back."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from streamproc import settings as configuration
from streamproc.distributed import append_to
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inboxes import KafkaInboxes
from streamproc.shadow.follower import Follower
from streamproc.shadow.telling import told
from tests.cli.playing import call
from tests.embedded.pipelines import body
from tests.kafka.test_kafka_gateway import WITHIN, answers, pipeline, until
from tests.service.standing import now_alert


async def test_a_candidate_on_kafka(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGERDUTY_EVENTS_URL", "PAGERDUTY_ROUTING_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", ",".join(config.bootstrap))
    monkeypatch.chdir(tmp_path)
    file = str(tmp_path / "streamproc.yaml")

    async def tell(*words: str) -> str:
        answer = await asyncio.to_thread(call, *words, "--kafka", "--config", file)
        assert answer.exit_code == 0, answer.output
        return answer.output

    async with pipeline(config, tmp_path) as (http, emulator):
        candidate(Path(file), tmp_path / "b.yaml")
        await tell("arm", "--yes", "--page-open", "--author", "kim")
        await until(lambda: answers(http, "/v1/status", lambda status: status["armed"]))
        assert "is the candidate" in await tell("shadow", "start", "b.yaml", "--reason", "nights")
        await http.post("/v1/ingest/alertmanager", content=body(now_alert("Slow", "db", severity="error")))
        async with asyncio.timeout(WITHIN):
            while not emulator.account.alerts:  # noqa: ASYNC110  it happens at a broker
                await asyncio.sleep(0.1)
        await asyncio.to_thread(followed, file)
        progress = json.loads(await tell("shadow", "status", "--json"))["progress"]
        assert (progress["pages_current"], progress["pages_candidate"]) == (1, 0)
        assert "b.yaml is promoted" in await tell("shadow", "promote", "--reason", "better")
        assert json.loads(await tell("history", "--json"))[0]["reason"] == "better"
        assert "Back to" in await tell("rollback", "--reason", "worse")
        assert "There is no candidate" in await tell("shadow", "stop")


def candidate(current: Path, file: Path) -> None:
    """Write the settings of a pipeline with another rule of what pages."""
    file.write_text(yaml.safe_dump({**yaml.safe_load(current.read_text()), "escalate": {"page": ["critical"]}}))


def followed(file: str) -> None:
    """Follow until the page is counted, and the candidate's incident."""
    settings = configuration.load(Path(file))
    until = time.monotonic() + WITHIN
    with KafkaInboxes(settings.kafka) as inboxes:
        publish = lambda entries: asyncio.run(append_to(settings, entries))  # noqa: E731
        follower = Follower(inboxes, publish, SystemClock(), timedelta(seconds=1))
        while time.monotonic() < until:
            follower.step()
            found = told(inboxes)
            progress = None if found is None else found.progress
            if progress is not None and progress.pages_current and progress.incidents_candidate:
                return
            time.sleep(0.5)
    raise TimeoutError
