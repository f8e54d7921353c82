"""What is large on Kafka: it is taken whole, or refused at once, and never stands in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamproc.core.errors import Unusable
from streamproc.core.event import DeadLetter
from streamproc.distributed import apply_topics, both, working
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.topology import TOPICS, TOPOLOGY
from tests.kafka.exact import at_rest, left_by
from tests.service.standing import settings_of, until_told


async def test_the_largest_body_that_the_gateway_takes_becomes_a_whole_dead_letter(
    config: Config, tmp_path: Path
) -> None:
    settings = settings_of("http://127.0.0.1:9", tmp_path, kafka=config)
    body = b"\xff" * settings.gateway.body_limit
    await apply_topics(settings)
    inlet = KafkaInlet(config, TOPICS, SystemClock())
    try:
        await inlet.append([Entry.of("alerts.raw", RawAlert(body=body, source="generic"))])
    finally:
        await inlet.stop()
    async with working(settings, armed=False):
        await until_told(lambda: at_rest(config, TOPOLOGY))
    left = await left_by(config, TOPOLOGY, TOPICS)
    (record,) = [record for (topic, _), log in left.logs.items() for record in log if topic == "dead-letters"]
    letter = DeadLetter.decode(record.value, record.headers)
    assert (letter.reason, letter.value == body, letter.left_out) == ("not_json", True, None)


async def test_a_limit_of_bodies_that_no_topic_keeps_is_refused(tmp_path: Path) -> None:
    settings = settings_of("http://127.0.0.1:9", tmp_path, gateway={"body_limit": 5_500_000})
    with pytest.raises(Unusable, match=r"gateway.body_limit: on Kafka a body of 5,400,000 bytes fits at most"):
        async with both(settings, armed=False):
            pass
