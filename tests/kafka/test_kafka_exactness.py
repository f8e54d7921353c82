"""The runtime's promise on a real broker, with a toy pipeline under load: logs and rows are those of one thread.

By default the share that each change is tested with; with KAFKA_CAMPAIGN=all (`make chaos`) every fault.
`python -m tests.kafka.campaign` plays any other. The whole product under faults: test_kafka_product.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from streamproc.runtime.faust.config import Config
from tests.kafka.broker import Broker
from tests.kafka.campaign import run
from tests.kafka.faults import Fault, broker_away, freeze, join_and_leave, kill, kill_broker, restart_all, terminate

pytestmark = pytest.mark.crash
SEED = int(os.environ.get("SEED", "1"))
BROKEN = Path(__file__).with_name("broken_worker.py")
STOCK = Path(__file__).with_name("stock_worker.py")
LONG = pytest.mark.skipif(os.environ.get("KAFKA_CAMPAIGN") != "all", reason="of the long campaign: make chaos")


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([kill, kill], id="workers are killed", marks=LONG),
        pytest.param([freeze], id="a zombie comes back", marks=LONG),
        pytest.param([terminate], id="a worker is told to stop", marks=LONG),
        pytest.param([join_and_leave], id="workers join and leave", marks=LONG),
        pytest.param([restart_all], id="all are restarted one by one", marks=LONG),
        pytest.param([kill_broker], id="the broker is killed", marks=LONG),
        pytest.param([broker_away(15), kill], id="the broker is away and a worker is killed", marks=LONG),
    ],
)
async def test_none_lost_none_doubled(broker: Broker, config: Config, faults: list[Fault]) -> None:
    figures = await run(broker, config, faults, SEED, rate=300, seconds=8)
    assert figures["acknowledged"] > 500
    assert figures["emitted"] > figures["acknowledged"]


@LONG
async def test_a_worker_told_to_stop_leaves_with_code_zero(broker: Broker, config: Config) -> None:
    figures: dict[str, Any] = await run(broker, config, [terminate], SEED + 1, rate=300, seconds=4)
    assert [code for codes in figures["codes"] for code in codes] == [0]


@pytest.fixture
def _dies_in_a_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRASH_AT", "10")
    monkeypatch.setenv("CRASHED", str(tmp_path / "crashed"))


@pytest.mark.usefixtures("_dies_in_a_commit")
async def test_a_death_between_writing_and_commit_changes_nothing(
    broker: Broker, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "right")
    figures = await run(broker, config, [], SEED, rate=300, seconds=6, script=BROKEN)
    assert sorted(code for codes in figures["codes"] for code in codes) == [137]


@pytest.mark.usefixtures("_dies_in_a_commit")
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param("rows_outside", id="rows outside the transaction", marks=LONG),
        pytest.param("shared_id", id="a shared transactional id", marks=LONG),
        pytest.param("no_transaction", id="no transaction"),
    ],
)
async def test_what_is_broken_is_found_out(
    broker: Broker, config: Config, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", variant)
    with pytest.raises(AssertionError):
        await run(broker, config, [], SEED, rate=300, seconds=6, script=BROKEN)


@LONG
async def test_fausts_own_consumer_is_found_out(broker: Broker, config: Config) -> None:
    with pytest.raises(AssertionError):
        await run(broker, config, [kill, kill], SEED, rate=300, seconds=8, script=STOCK)
