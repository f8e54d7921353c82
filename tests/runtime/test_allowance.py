"""One budget over all routing keys of an account, for the sender and by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from streamproc.events.alert import Severity
from streamproc.events.escalation import PageAction
from streamproc.runtime.allowance import OwnAllowance, least_urgent
from streamproc.runtime.sender import Config
from streamproc.runtime.work import CRITICAL, OTHER, RESOLVE
from tests.support.sending import Answer, World, settle

LIMIT = 20


class Doled:
    """An allowance that is given out by hand."""

    def __init__(self) -> None:
        self.free = 0
        self.rank = OTHER
        self.wanted: list[int] = []
        self.changed: Callable[[], None] = lambda: None

    def least_urgent(self, now: float) -> int:
        return self.rank if self.free > 0 else -1

    def spend(self, now: float, count: int = 1) -> None:
        self.free -= count

    def want(self, rank: int) -> None:
        self.wanted.append(rank)

    def next_free(self, now: float) -> float | None:
        return None

    def listen(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def give(self, count: int, rank: int = OTHER) -> None:
        self.free, self.rank = count, rank
        self.changed()
        await settle()


@pytest.mark.parametrize(
    ("free", "least"),
    [
        pytest.param(11, OTHER, id="more than the reserve"),
        pytest.param(10, RESOLVE, id="the reserve is for what is urgent"),
        pytest.param(5, CRITICAL, id="the last half of it for criticals"),
        pytest.param(1, CRITICAL, id="to the last one"),
        pytest.param(0, -1, id="none is left"),
        pytest.param(-3, -1, id="overdrawn"),
    ],
)
def test_who_may_use_what_is_left(free: int, least: int) -> None:
    assert least_urgent(free, 10) == least


def test_one_process_alone_has_all_of_it() -> None:
    own = OwnAllowance(LIMIT)
    own.listen(lambda: None)
    own.spend(0.0, LIMIT - 2)
    assert own.least_urgent(1.0) == RESOLVE
    own.spend(1.0)
    own.want(OTHER)
    assert own.least_urgent(1.0) == CRITICAL
    assert own.next_free(1.0) == 61.0
    assert own.least_urgent(61.0) == OTHER
    assert OwnAllowance(LIMIT).next_free(0.0) is None


class TestSending:
    async def test_all_routing_keys_share_it_and_nothing_stays_behind(self) -> None:
        world = World(Config(rate_limit=120), account=OwnAllowance(LIMIT))
        await world.begin()
        pages = [world.say(f"i{n}", routing_key=f"K{n % 5}") for n in range(60)]
        await world.want(*pages)
        assert len(world.pagerduty.said) == LIMIT - LIMIT // 10
        await world.timing.advance(300.0)
        await world.end()
        assert Counter(world.pagerduty.said) == Counter(f"trigger i{n}" for n in range(60))
        moments = [request.seconds for request in world.pagerduty.requests]
        assert max(sum(begin <= moment < begin + 60.0 for moment in moments) for begin in moments) <= LIMIT

    async def test_what_is_urgent_has_its_reserve_whatever_the_routing_key(self) -> None:
        world = World(Config(rate_limit=120), account=OwnAllowance(LIMIT))
        world.pagerduty.latency = 0.1
        await world.begin()
        await world.trigger("known", routing_key="K9")
        await world.want(*(world.say(f"storm-{n:02}", routing_key=f"K{n % 3}") for n in range(50)))
        await world.timing.advance(1.0)
        assert len(world.pagerduty.said) == 18
        await world.want(world.say("known", PageAction.RESOLVE, routing_key="K9"))
        await world.want(world.say("worst", severity=Severity.CRITICAL, routing_key="K8"))
        await world.timing.advance(1.0)
        assert world.pagerduty.said[18:] == ["resolve known", "trigger worst"]
        await world.end()

    async def test_the_clients_own_retries_count(self) -> None:
        account = OwnAllowance(LIMIT)
        world = World(account=account)
        world.pagerduty.answer = lambda _: Answer(attempts=4)
        await world.begin()
        for n in range(10):
            await world.trigger(f"i{n}", routing_key=f"K{n}")
        assert len(world.pagerduty.said) == 5
        await world.end()

    async def test_is_told_what_waits_and_goes_on_when_there_is_more(self) -> None:
        account = Doled()
        world = World(account=account)
        await world.begin()
        await world.trigger("a", routing_key="K1")
        await world.trigger("b", severity=Severity.CRITICAL, routing_key="K2")
        assert (world.pagerduty.said, account.wanted[-1]) == ([], CRITICAL)
        await account.give(1, CRITICAL)
        assert world.pagerduty.said == ["trigger b"]
        assert account.wanted[-1] == OTHER
        told = len(account.wanted)
        await account.give(5)
        assert world.pagerduty.said == ["trigger b", "trigger a"]
        await world.trigger("c")
        assert len(account.wanted) == told, "nothing waited in vain"
        await world.end()

    async def test_other_routing_keys_are_looked_at_anew_when_the_reserve_is_reached(self) -> None:
        world = World(account=OwnAllowance(LIMIT))
        await world.begin()
        await world.want(*(world.say(f"i{n}", routing_key=f"K{n}") for n in range(40)))
        assert len(world.pagerduty.said) == 18
        await world.end()
