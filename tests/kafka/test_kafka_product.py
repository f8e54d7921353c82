"""The promise of the whole product on a real broker: HTTP in, pages out, and whatever befalls it in between.

By default the share that each change is tested with; with KAFKA_CAMPAIGN=all (`make chaos`) every fault alone, and
three brokers. SEED=n is another schedule. `python -m tests.kafka.product` plays what a seed draws.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from streamproc.runtime.faust.config import Config
from tests.kafka.broker import Broker, config_for, why_not
from tests.kafka.faults import (
    Fault,
    broker_away,
    freeze,
    join_and_leave,
    kill,
    kill_broker,
    kill_gateway,
    pagerduty_ails,
    restart_all,
    terminate,
)
from tests.kafka.product import run

pytestmark = pytest.mark.crash
SEED = int(os.environ.get("SEED", "1"))
LONG = pytest.mark.skipif(os.environ.get("KAFKA_CAMPAIGN") != "all", reason="of the long campaign: make chaos")


@pytest.mark.parametrize(
    ("faults", "dying"),
    [
        pytest.param([kill, terminate, kill_gateway], True, id="a gateway dies before it answers, and others too"),
        pytest.param([freeze, kill_broker], False, id="a zombie comes back, the broker is killed"),
        pytest.param([kill], False, id="a worker is killed", marks=LONG),
        pytest.param([kill_gateway, kill_gateway], False, id="gateways are killed", marks=LONG),
        pytest.param([terminate, terminate], False, id="some are told to stop", marks=LONG),
        pytest.param([join_and_leave], False, id="workers join and leave", marks=LONG),
        pytest.param([restart_all], False, id="all are restarted one by one", marks=LONG),
        pytest.param([pagerduty_ails], False, id="PagerDuty ails while a worker is replaced", marks=LONG),
        pytest.param([broker_away(20), kill], False, id="requests of producers time out", marks=LONG),
        pytest.param([broker_away(120)], False, id="the broker is away for two minutes", marks=LONG),
    ],
)
async def test_every_alert_is_paged_once(broker: Broker, config: Config, faults: list[Fault], dying: bool) -> None:  # noqa: FBT001  of the table
    figures = await run(broker, config, faults, SEED, dying_gateway=dying)
    assert figures["acknowledged"] > 100
    assert figures["opened"] > 0
    assert figures["resolved"] > 0
    assert not dying or 137 in figures["codes"][-2]


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if reason := why_not():
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    brokers = Broker(tmp_path_factory.mktemp("three"), 3)
    brokers.start()
    yield brokers
    brokers.stop()


@LONG
async def test_one_of_three_brokers_is_lost_and_comes_back(three_brokers: Broker) -> None:
    figures = await run(three_brokers, config_for(three_brokers), [kill_broker, kill, kill_broker], SEED)
    assert figures["opened"] > 0
