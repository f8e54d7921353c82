"""What may befall an installation, each by the draw of a seed."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

from streamproc.emulator.faults import Fault as PagerDutyFault
from streamproc.emulator.faults import FaultKind
from tests.kafka.fleet import Fleet, Process

Fault = Callable[[Fleet, random.Random], Awaitable[None]]
BACK_WITHIN = 240.0


async def kill(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 of a worker."""
    chance.choice(_wanted(fleet.workers)).send(signal.SIGKILL)


async def kill_gateway(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 of a gateway, whatever it has not answered yet."""
    chance.choice(fleet.gateways).send(signal.SIGKILL)


async def freeze(fleet: Fleet, chance: random.Random) -> None:
    """SIGSTOP for longer than the session, then SIGCONT: a zombie."""
    worker = chance.choice(_wanted(fleet.workers))
    worker.send(signal.SIGSTOP)
    await asyncio.sleep(fleet.config.session_timeout + 3)
    worker.send(signal.SIGCONT)


async def terminate(fleet: Fleet, chance: random.Random) -> None:
    """SIGTERM: drained, and started again."""
    await _restart(fleet, chance.choice(_wanted(fleet.all)))


async def join_and_leave(fleet: Fleet, chance: random.Random) -> None:
    """One more worker for some seconds, four times."""
    for turn in range(4):
        worker = fleet.hire(f"x{turn}-{chance.randrange(1000)}")
        await _ready(worker)
        await asyncio.sleep(chance.random() * 3)
        worker.wanted = False
        worker.send(signal.SIGTERM)
        await asyncio.sleep(1)


async def restart_all(fleet: Fleet, chance: random.Random) -> None:
    """SIGTERM of one after the other, each ready before the next."""
    for each in _wanted(fleet.all):
        await _restart(fleet, each)
        begun = time.monotonic()
        await _ready(each)
        fleet.note("ready after a restart", time.monotonic() - begun)
        await asyncio.sleep(chance.random())


async def kill_broker(fleet: Fleet, chance: random.Random) -> None:
    """kill -9 of a broker, and its return with the same data."""
    node = chance.randrange(fleet.broker.nodes) + 1
    await asyncio.to_thread(fleet.broker.kill, node)
    await asyncio.sleep(1 + chance.random() * 4)
    await asyncio.to_thread(fleet.broker.start, node)


def broker_away(seconds: float) -> Fault:
    """Return the fault of brokers that keep their connections and answer nothing for so long.

    Beyond 15 s every request of a producer is past its time, with a transaction under way.
    """

    async def away(fleet: Fleet, chance: random.Random) -> None:
        fleet.broker.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            fleet.broker.go_on()

    return away


async def pagerduty_ails(fleet: Fleet, chance: random.Random) -> None:
    """PagerDuty fails, is slow, and takes requests without an answer; meanwhile a worker is replaced."""
    assert fleet.pagerduty is not None
    faults = fleet.pagerduty.faults
    seed = chance.randrange(1000)
    faults.add(PagerDutyFault(kind=FaultKind.STATUS_500, probability=0.4, seed=seed))
    faults.add(PagerDutyFault(kind=FaultKind.DROP_AFTER, probability=0.3, seed=seed))
    faults.add(PagerDutyFault(kind=FaultKind.SLOW, probability=0.5, seed=seed, seconds=2))
    try:
        await asyncio.sleep(2)
        await chance.choice((kill, freeze, terminate, join_and_leave))(fleet, chance)
        await asyncio.sleep(2)
    finally:
        faults.clear()


def _wanted(some: Sequence[Process]) -> list[Process]:
    return [each for each in some if each.wanted]


async def _ready(each: Process) -> None:
    async with asyncio.timeout(BACK_WITHIN):
        while each.wanted and not await each.ready():  # noqa: ASYNC110  other processes tell nobody
            await asyncio.sleep(0.1)


async def _restart(fleet: Fleet, each: Process) -> None:
    await _ready(each)  # one that only starts knows nothing of signals yet
    begun, before = time.monotonic(), len(each.codes)
    each.send(signal.SIGTERM)
    async with asyncio.timeout(BACK_WITHIN):
        while len(each.codes) == before and each.wanted:  # noqa: ASYNC110  the supervisor looks at it
            await asyncio.sleep(0.02)
    fleet.note("out after SIGTERM", time.monotonic() - begun)


FAULTS: dict[str, Fault] = {
    "kill": kill,
    "gateway": kill_gateway,
    "freeze": freeze,
    "terminate": terminate,
    "join": join_and_leave,
    "rolling": restart_all,
    "broker": kill_broker,
    "pagerduty": pagerduty_ails,
    "away": broker_away(20),
    "long": broker_away(120),
}
