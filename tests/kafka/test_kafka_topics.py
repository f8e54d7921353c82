"""Topics at a real broker: made, described, checked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamproc.core.errors import Transient, Unusable
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import admin_client
from streamproc.runtime.faust.config import Config
from streamproc.topology import TOPICS, TOPOLOGY
from tests.support import toy


async def test_every_topic_of_the_catalogue_is_made_as_it_must_be(config: Config) -> None:
    wanted = catalogue.wanted(TOPICS, TOPOLOGY, config)
    assert [finding.problem for finding in await catalogue.check(config, wanted)] == ["does not exist"] * len(wanted)
    assert len(await catalogue.apply(config, wanted)) == len(wanted)
    assert await catalogue.check(config, wanted) == []
    assert await catalogue.apply(config, wanted) == []
    standing = await catalogue.require(config, wanted)
    raw, state = standing[config.topic("alerts.raw")], standing[config.state_topic("decide")]
    assert (raw.partitions, raw.settings["message.timestamp.type"]) == (8, "LogAppendTime")
    assert (state.partitions, state.settings["cleanup.policy"]) == (8, "compact")
    assert int(state.settings["max.message.bytes"]) == 8 * 1024 * 1024
    assert len({each.topic_id for each in standing.values()}) == len(wanted)


async def test_another_number_of_partitions_is_refused_with_the_way_to_do_it(config: Config) -> None:
    wanted = catalogue.wanted(toy.TOPICS, toy.TOY, config)
    await catalogue.apply(config, wanted)
    more = [replace(wanted[1], partitions=4), *wanted[2:]]
    with pytest.raises(Unusable, match=r"lines: has 2 partitions, topics/ says 4.*another kafka.prefix"):
        await catalogue.apply(config, more)
    assert (await catalogue.describe(config, wanted))[config.topic("lines")].partitions == 2


async def test_a_setting_that_differs_is_found_and_mended_and_others_are_left(config: Config) -> None:
    wanted = catalogue.wanted(toy.TOPICS, toy.TOY, config)
    await catalogue.apply(config, wanted)
    theirs = replace(wanted[1], settings={**wanted[1].settings, "segment.ms": "7200000"})
    assert await catalogue.apply(config, [theirs]) == [f"{theirs.name}: set segment.ms=7200000"]
    ours = replace(wanted[1], settings={**wanted[1].settings, "retention.ms": "7200000"})
    assert [str(each) for each in await catalogue.check(config, [ours])] == [
        f"{ours.name}: retention.ms is 604800000, not 7200000; run `streamproc topics apply`"
    ]
    assert await catalogue.apply(config, [ours]) == [f"{ours.name}: set retention.ms=7200000"]
    standing = (await catalogue.describe(config, [ours]))[ours.name]
    assert (standing.settings["segment.ms"], standing.settings["retention.ms"]) == ("7200000", "7200000")


async def test_production_demands_what_safety_needs(config: Config) -> None:
    wanted = catalogue.wanted(toy.TOPICS, toy.TOY, config)
    await catalogue.apply(config, wanted)
    strict = config.model_copy(update={"production": True})
    problems = {finding.problem for finding in await catalogue.check(strict, wanted)}
    assert {"has 1 replica(s), not 3", "min.insync.replicas is 1"} <= problems
    assert "transaction.state.log.min.isr is 1" in problems
    with pytest.raises(Unusable, match="not as they must be"):
        await catalogue.require(strict, wanted)


async def test_a_topic_made_anew_has_another_id(config: Config) -> None:
    wanted = catalogue.wanted(toy.TOPICS, toy.TOY, config)[1:2]
    await catalogue.apply(config, wanted)
    before = (await catalogue.describe(config, wanted))[wanted[0].name].topic_id
    async with admin_client(config) as client:
        await client.delete_topics([wanted[0].name])
    while await catalogue.describe(config, wanted):
        pass
    await catalogue.apply(config, wanted)
    assert (await catalogue.describe(config, wanted))[wanted[0].name].topic_id != before


async def test_a_broker_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(Transient, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        await catalogue.check(Config(bootstrap=("127.0.0.1:1",)), [])
