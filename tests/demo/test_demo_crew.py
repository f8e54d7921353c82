from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from streamproc.demo.crew import Hand, decisions_in, environment, free_port

METRICS = """\
# TYPE streamproc_decisions_total counter
streamproc_decisions_total{intentional="true",reason="opened",stage="deduplicate"} 3.0
streamproc_decisions_total{intentional="true",reason="opened",stage="correlate"} 0.0
streamproc_decisions_created{intentional="true",reason="opened",stage="deduplicate"} 1.7e+09
streamproc_rows{node="decide"} 8.0
"""


def answering(ready: int, metrics: str = METRICS) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(ready) if request.url.path == "/ready" else httpx.Response(200, text=metrics)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def hand(folder: Path, client: httpx.AsyncClient) -> Hand:
    return Hand("worker-1", folder / "none.yaml", folder / "worker-1.log", free_port(), client, lambda *_: None)


def test_decisions_are_read_from_metrics() -> None:
    assert decisions_in(METRICS) == {"deduplicate/opened": 3}


def test_what_stands_over_a_settings_file_is_kept_from_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PAGERDUTY_EVENTS_URL", "pagerduty_routing_key", "KAFKA_BOOTSTRAP", "SOMETHING_ELSE"):
        monkeypatch.setenv(name, "given")
    assert [name for name, value in environment().items() if value == "given"] == ["SOMETHING_ELSE"]


async def test_a_worker_that_cannot_start_is_gone_for_good(tmp_path: Path) -> None:
    async with answering(503) as client:
        worker = hand(tmp_path, client)
        assert (worker.standing, worker.gone) == ("dead", None)
        await worker.start()
        keeping = asyncio.create_task(worker.keep())
        async with asyncio.timeout(120):
            while worker.gone is None:  # noqa: ASYNC110  it ends by itself
                await asyncio.sleep(0.05)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        assert worker.gone == 2
        assert "none.yaml cannot be read" in worker.log.read_text()
        await worker.stop()
        assert worker.gone is None


async def test_what_a_killed_worker_decided_still_counts(tmp_path: Path) -> None:
    async with answering(200) as client:
        worker = hand(tmp_path, client)
        await worker.start()
        assert worker.standing == "not ready"
        await worker._ask()
        assert (worker.standing, worker.decisions) == ("ready", {"deduplicate/opened": 3})
        await worker.kill()
        await worker._ask()
        assert (worker.standing, worker.decisions) == ("dead", {"deduplicate/opened": 3})
        await worker.start()
        await worker._ask()
        assert worker.decisions == {"deduplicate/opened": 6}
        await worker.stop()


async def test_a_worker_that_does_not_answer_is_not_ready(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as client:
        worker = hand(tmp_path, client)
        await worker.start()
        await worker._ask()
        assert worker.standing == "not ready"
        await worker.stop()
