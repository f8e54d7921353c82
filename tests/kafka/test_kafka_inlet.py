"""The inlet: durable when it returns, bounded, and honest while the broker is away."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.ports import Entry, Overloaded
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.inlet import KafkaInlet
from tests.kafka.broker import Broker
from tests.kafka.exact import left_by
from tests.support import toy


def line(text: str, key: str = "") -> Entry:
    return Entry.of("lines", toy.Line(sender="ann", text=text), key)


async def test_what_was_taken_is_in_the_log_in_order_and_stamped(config: Config) -> None:
    await catalogue.apply(config, catalogue.wanted(toy.TOPICS, toy.TOY, config))
    inlet = KafkaInlet(config, toy.TOPICS, SystemClock())
    await inlet.append([line(str(at), "ann") for at in range(50)])
    await inlet.append([line("no key") for _ in range(40)])
    left = await left_by(config, toy.TOY, toy.TOPICS)
    logs = {p: [toy.Line.decode(r.value, r.headers).text for r in left.logs["lines", p]] for p in range(2)}
    assert [str(at) for at in range(50)] in [[text for text in log if text != "no key"] for log in logs.values()]
    assert all(log.count("no key") for log in logs.values()), "what has no key is spread"
    assert all("now" in r.headers for log in left.logs.values() for r in log)
    await inlet.stop()


async def test_while_the_broker_is_away_nothing_is_promised(broker: Broker, config: Config) -> None:
    """Defect 9 of stock Faust: its send returns before anything is delivered."""
    await catalogue.apply(config, catalogue.wanted(toy.TOPICS, toy.TOY, config))
    inlet = KafkaInlet(config.model_copy(update={"queue_bytes": 1024}), toy.TOPICS, SystemClock())
    await inlet.append([line("before")])
    broker.pause()
    try:
        waiting = asyncio.create_task(inlet.append([line("x" * 900)]))
        with pytest.raises(Overloaded, match="more arrives than the broker takes"):
            await _after(waiting, inlet.append([line("y" * 900)]))
        async with asyncio.timeout(30):
            while not inlet.silent:  # noqa: ASYNC110  time makes it so, nobody tells
                await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="the broker does not answer"):
            await inlet.append([line("z")])
        assert not waiting.done()
    finally:
        broker.go_on()
    async with asyncio.timeout(40):
        await waiting
    left = await left_by(config, toy.TOY, toy.TOPICS)
    texts = [toy.Line.decode(r.value, r.headers).text[:1] for p in range(2) for r in left.logs["lines", p]]
    assert sorted(texts) == ["b", "x"]
    await inlet.stop()


async def _after(begun: asyncio.Task[None], then: object) -> None:
    await asyncio.sleep(0)
    assert not begun.done()
    await then  # type: ignore[misc]
