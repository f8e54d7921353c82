"""The commands on a real broker: topics made and checked, and a worker as a process of its own that pages once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from streamproc import cli
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.server import serve as serve_emulator
from streamproc.listening import listen
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import writer
from streamproc.runtime.faust.config import Config
from streamproc.topology import TOPICS, TOPOLOGY
from tests.cli.playing import call
from tests.kafka.exact import at_rest

WITHIN = 60.0


@pytest.fixture
def settings(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a settings file for topics of this test; the brokers come from the environment."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP", ",".join(config.bootstrap))
    monkeypatch.delenv("PAGERDUTY_EVENTS_URL", raising=False)
    monkeypatch.delenv("PAGERDUTY_ROUTING_KEY", raising=False)
    return written(tmp_path, config, {})


def written(folder: Path, config: Config, more: dict[str, Any]) -> Path:
    kafka = {"prefix": config.prefix, "replication": config.replication, "production": False, "session_timeout": 6}
    file = folder / "streamproc.yaml"
    file.write_text(yaml.safe_dump({"kafka": kafka, **more}))
    return file


def test_topics_are_applied_once_checked_and_described(settings: Path, config: Config) -> None:
    wanted = catalogue.wanted(TOPICS, TOPOLOGY, config)
    before = call("topics", "check", "--config", str(settings))
    assert before.exit_code == 1
    assert f"{config.prefix}alerts.raw: does not exist; run `streamproc topics apply`" in before.output
    assert "missing" in call("topics", "describe", "--config", str(settings)).output
    first = call("topics", "apply", "--config", str(settings))
    assert (first.exit_code, len(first.output.splitlines())) == (0, len(wanted))
    again = call("topics", "apply", "--config", str(settings))
    assert (again.exit_code, again.output) == (0, "Nothing to do: every topic is as it must be.\n")
    after = call("topics", "check", "--config", str(settings))
    assert (after.exit_code, after.output) == (0, f"{len(wanted)} topics, all as they must be.\n")
    assert "168 h" in call("topics", "describe", "--config", str(settings)).output
    shown = json.loads(call("topics", "describe", "--json", "--config", str(settings)).output)
    assert {name: topic["partitions"] for name, topic in shown.items()} == {t.name: t.partitions for t in wanted}


async def test_another_number_of_partitions_is_refused_in_one_line(settings: Path, config: Config) -> None:
    raw = next(t for t in catalogue.wanted(TOPICS, TOPOLOGY, config) if t.name.endswith(".alerts.raw"))
    await catalogue.apply(config, [replace(raw, partitions=3)])
    refused = await asyncio.to_thread(call, "topics", "apply", "--config", str(settings))
    assert refused.exit_code == 2
    assert f"streamproc: {raw.name}: has 3 partitions, topics/ says 8; that number is fixed" in refused.output
    assert await asyncio.to_thread(lambda: call("topics", "check", "--config", str(settings)).exit_code) == 1


def test_a_worker_without_topics_says_what_to_do(settings: Path) -> None:
    refused = call("worker", "--config", str(settings))
    assert refused.exit_code == 2
    assert "does not exist; run `streamproc topics apply`" in refused.output


@pytest.mark.parametrize(
    "command", [("topics", "check"), ("topics", "apply"), ("topics", "describe"), ("worker",)], ids=" ".join
)
def test_a_broker_that_does_not_answer_is_no_mistake_of_the_settings(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    refused = call(*command)
    assert refused.exit_code == 5, "a supervisor starts it again"
    assert "streamproc: no Kafka broker answers at 127.0.0.1:1" in refused.output


@contextmanager
def worker(settings: Path, said: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "streamproc", "worker", "--armed", "--config", str(settings), "--port", str(port)]
    root = str(Path(cli.__file__).parents[1])
    with said.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  our own program
            command, env={**os.environ, "PYTHONPATH": root}, cwd=settings.parent, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def until_ready(http: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "the worker has ended"
        try:
            if (await http.get("/ready")).status_code == 200:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        await asyncio.sleep(0.1)


async def stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, WITHIN)


def webhook() -> bytes:
    labels = {"alertname": "HighErrorRate", "service": "checkout", "severity": "critical", "environment": "prod"}
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "12 % of requests to checkout fail"},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": "a1b2c3d4e5f60718",
    }
    return json.dumps({"version": "4", "groupKey": "{}", "status": "firing", "alerts": [alert]}).encode()


async def test_a_worker_pages_once_stops_with_code_zero_and_starts_again_without_a_page(
    settings: Path, config: Config, tmp_path: Path
) -> None:
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))
    emulator = await serve_emulator(EmulatorConfig())
    pagerduty = {"api": {"base_url": emulator.url}, "destinations": {"default": {"routing_key": "R" * 32}}}
    written(tmp_path, config, {"pagerduty": pagerduty})
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    log = tmp_path / "worker.log"
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http, asyncio.timeout(3 * WITHIN):
            with worker(settings, log, port) as first:
                await until_ready(http, first)
                while not await at_rest(config, TOPOLOGY):  # noqa: ASYNC110  settings and arming go through the log
                    await asyncio.sleep(0.2)
                producer = await writer(config)
                for _ in range(2):  # a bridge delivers twice
                    await producer.send_and_wait(config.topic("alerts.raw"), value=webhook())
                await producer.stop()
                while not emulator.emulator.requests:
                    assert first.poll() is None
                    await asyncio.sleep(0.05)
                while not await at_rest(config, TOPOLOGY):  # noqa: ASYNC110  likewise
                    await asyncio.sleep(0.2)
                metrics = (await http.get("/metrics")).text
                assert 'streamproc_lag_records{node="decide"} 0.0' in metrics
                assert await stopped(first) == 0
            with worker(settings, log, port) as second:
                await until_ready(http, second)
                while not await at_rest(config, TOPOLOGY):  # noqa: ASYNC110  likewise
                    await asyncio.sleep(0.2)
                assert await stopped(second) == 0
    except BaseException as error:
        error.add_note(log.read_text()[-20000:] if log.exists() else "it said nothing")
        raise
    finally:
        await emulator.stop()
    alerts = list(emulator.emulator.account.alerts.values())
    assert [(alert.triggers, alert.status) for alert in alerts] == [(1, "triggered")]
    assert [taken.action for taken in emulator.emulator.requests] == ["trigger"]
    assert log.read_text().count("What this start was told counts from now on") == 1, "the second changed nothing"
