"""The doctor on a real broker: what it says before there is anything, when all is well, and of clocks and rights."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from streamproc.core.errors import Transient, Unusable
from streamproc.doctor.brokers import find_broker_clock, find_brokers, find_group, find_rights, find_topics
from streamproc.doctor.finding import Finding, State
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import writer
from streamproc.runtime.faust.config import Config
from streamproc.topology import TOPICS, TOPOLOGY


def states(found: Sequence[Finding]) -> set[State]:
    return {finding.state for finding in found}


async def made(config: Config) -> None:
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))


async def test_brokers_and_their_release(config: Config) -> None:
    (found,) = await find_brokers(config)
    assert (found.state, found.said) == (State.OK, "1 broker, Kafka 4.0 or newer")
    (unsafe,) = await find_brokers(config.model_copy(update={"production": True}))
    assert (unsafe.state, bool(unsafe.mend)) == (State.FAIL, True)


async def test_topics_that_are_missing_and_then_made(config: Config) -> None:
    before = await find_topics(config)
    assert states(before) == {State.FAIL}
    assert before[0].mend == "run `streamproc topics apply`"
    assert before[-1].said.startswith("and ")
    assert len(before) == 6
    await made(config)
    (after,) = await find_topics(config)
    assert after.state is State.OK


async def test_a_group_that_nobody_has_joined(config: Config) -> None:
    await made(config)
    (found,) = await find_group(config)
    assert found.state is State.FAIL
    assert found.said == f"no worker of {config.group_id} runs, 0 records wait"


async def test_rights_where_everybody_may_do_everything(config: Config) -> None:
    assert await find_rights(config) == [
        Finding("kafka rights", State.OK, "to produce, to commit and to join the group")
    ]


@pytest.mark.parametrize(
    ("ours", "state"),
    [
        pytest.param(timedelta(0), State.OK, id="the same"),
        pytest.param(timedelta(hours=1), State.OK, id="ahead, which cannot be seen"),
        pytest.param(-timedelta(minutes=2), State.WARN, id="behind"),
        pytest.param(-timedelta(minutes=20), State.FAIL, id="far behind"),
    ],
)
async def test_a_clock_that_brokers_are_ahead_of(config: Config, ours: timedelta, state: State) -> None:
    assert await find_broker_clock(config, datetime.now(UTC)) == [], "without topics there is nothing to compare"
    await made(config)
    producer = await writer(config)
    await producer.send_and_wait(config.topic("alerts.raw"), b"{}")
    await producer.stop()
    (found,) = await find_broker_clock(config, datetime.now(UTC) + ours)
    assert found.state is state


async def test_brokers_that_are_away(config: Config) -> None:
    away = config.model_copy(update={"bootstrap": ("127.0.0.1:1",)})
    with pytest.raises(Transient, match="no Kafka broker answers"):
        await find_brokers(away)


async def test_a_certificate_that_is_not_there(config: Config) -> None:
    lost = config.model_copy(update={"tls": True, "tls_ca": "no-such-file"})
    with pytest.raises(Unusable, match="No such file"):
        await find_brokers(lost)
