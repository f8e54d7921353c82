"""Channels: at most so many messages a minute, and what was held back is counted in the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streamproc.runtime.clock import ManualClock
from streamproc.sinks.notify.channels import Channels

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Told:
    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.takes = True

    async def tell(self, title: str, body: str) -> bool:
        self.messages.append((title, body))
        return self.takes


def channels(rate_limit: int) -> tuple[Channels, Told, ManualClock]:
    told, clock = Told(), ManualClock(NOW)
    return Channels(told, rate_limit, clock.now), told, clock


async def test_messages_pass_up_to_the_limit_of_any_minute() -> None:
    way, told, clock = channels(2)
    assert [await way.tell("a", "1"), await way.tell("b", "2"), await way.tell("c", "3")] == [True, True, False]
    clock.advance(59 * SECOND)
    assert await way.tell("d", "4") is False
    clock.advance(SECOND)
    assert await way.tell("e", "5") is True
    assert told.messages == [
        ("a", "1"),
        ("b", "2"),
        ("e", "5\n(2 earlier messages were held back by pagerduty.notifications.rate_limit.)"),
    ]


async def test_one_message_is_held_back_in_the_singular() -> None:
    way, told, clock = channels(1)
    await way.tell("a", "1")
    await way.tell("b", "2")
    clock.advance(60 * SECOND)
    await way.tell("c", "3")
    assert told.messages[-1] == (
        "c",
        "3\n(1 earlier message was held back by pagerduty.notifications.rate_limit.)",
    )


async def test_what_was_told_once_is_not_told_again() -> None:
    way, told, clock = channels(1)
    for _ in range(2):
        await way.tell("a", "1")
    clock.advance(61 * SECOND)
    await way.tell("b", "2")
    clock.advance(61 * SECOND)
    await way.tell("c", "3")
    assert told.messages[-1] == ("c", "3")
    assert way.held_back == 0


async def test_what_nobody_took_is_said_to_be_so_and_held_back_ones_are_kept() -> None:
    way, told, clock = channels(1)
    await way.tell("a", "1")
    await way.tell("b", "2")
    clock.advance(60 * SECOND)
    told.takes = False
    assert await way.tell("c", "3") is False
    assert way.held_back == 1
    clock.advance(60 * SECOND)
    told.takes = True
    assert await way.tell("c", "3") is True
    assert "1 earlier message" in told.messages[-1][1]
