"""The retry budget: a bounded share of requests may be quick retries, in any window."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.runtime.retries import LEAST, SHARE, SPAN, RetryBudget
from streamproc.sinks.pagerduty.encode import Encoded
from tests.support.sending import DOWN, TAKEN, Answer, FakePagerDuty, World

ATTEMPTS = 3


class Retrying(FakePagerDuty):
    """Sends as the real client does: up to three attempts, a second apart, each but the first only where wanted."""

    async def send(self, encoded: Encoded, /, wanted: Callable[[], bool]) -> Answer:
        made = 1
        answer = await super().send(encoded, wanted)
        while answer is DOWN and made < ATTEMPTS:
            await self._timing.wait(self._never, 1.0)
            if not wanted():
                break
            made += 1
            answer = await super().send(encoded, wanted)
        return Answer(answer.verdict, answer.status, answer.message, made)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.pagerduty = Retrying(made.timing)
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


def test_the_least_is_always_allowed_and_no_more_where_nothing_else_is_sent() -> None:
    budget = RetryBudget()
    assert [budget.take(0.0) for _ in range(LEAST + 2)] == [True] * LEAST + [False] * 2


def test_first_attempts_allow_their_share() -> None:
    budget = RetryBudget(share=0.2, least=0)
    for _ in range(10):
        budget.note(0.0)
    assert [budget.take(1.0) for _ in range(3)] == [True, True, False]


def test_what_is_past_counts_no_longer() -> None:
    budget = RetryBudget(share=0.5, least=1, span=60.0)
    budget.note(0.0)
    budget.note(0.0)
    assert [budget.take(1.0) for _ in range(3)] == [True, True, False]
    assert not budget.take(60.5), "the first attempts are past, the retries are not"
    assert budget.take(61.0)


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.booleans()), max_size=300),
    st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    st.integers(0, 5),
)
def test_no_window_holds_more_retries_than_the_two_before_it_allow(
    steps: list[tuple[float, bool]], share: float, least: int
) -> None:
    budget, now = RetryBudget(share, least, span=10.0), 0.0
    firsts: list[float] = []
    taken: list[float] = []
    for pause, first in steps:
        now += pause
        if first:
            budget.note(now)
            firsts.append(now)
        elif budget.take(now):
            taken.append(now)
            window = [moment for moment in taken if moment + 10.0 > now]
            assert len(window) < least + share * sum(moment + 10.0 > now for moment in firsts) + 1


async def test_a_single_page_is_tried_again_at_once(world: World) -> None:
    answers = iter([DOWN, DOWN, TAKEN])
    world.pagerduty.answer = lambda _: next(answers)
    await world.begin()
    await world.trigger("a")
    await world.timing.advance(2.0)
    assert world.verdicts() == ["trigger a delivered"]
    assert world.metric("streamproc_delivery_retries_total", result="made") == 2
    assert world.metric("streamproc_delivery_retries_total", result="denied") == 0


async def test_an_outage_of_many_keys_is_not_multiplied(world: World) -> None:
    world.pagerduty.answer = lambda _: DOWN
    await world.begin()
    for number in range(40):
        await world.trigger(f"a{number}", routing_key=f"K{number}")
    await world.timing.advance(SPAN - 1)
    retried = world.metric("streamproc_delivery_retries_total", result="made")
    firsts = len(world.pagerduty.requests) - retried
    assert world.metric("streamproc_delivery_retries_total", result="denied") > 0
    assert 0 < retried <= LEAST + SHARE * firsts + 1
    assert len(world.pagerduty.requests) <= 1.2 * firsts + LEAST + 1, "without a budget it would be 3 times as much"
    world.pagerduty.answer = lambda _: TAKEN
    await world.timing.advance(130.0)
    assert len(world.log.outcomes) == 40, "what was denied waited, and is lost for nobody"
