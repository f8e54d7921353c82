"""The heartbeat: told where a canary comes through, withheld where anything is wrong, and news in the log only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamproc.core.errors import Unusable
from streamproc.ports import Entry, Overloaded
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.heartbeat import Health, Heart, Seen, judge
from streamproc.sinks.heartbeat import HeartbeatConfig
from streamproc.views import PipelineStatus, Vitals

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = timedelta(minutes=5)
WELL = Seen(taken=True, through=True, ready=True)


@pytest.mark.parametrize(
    ("seen", "health"),
    [
        pytest.param(WELL, Health.HEALTHY, id="all is well"),
        pytest.param(Seen(taken=False), Health.NOT_TAKEN, id="the log takes nothing"),
        pytest.param(Seen(taken=True, shown=False), Health.NOT_SHOWN, id="the desk cannot be read"),
        pytest.param(Seen(taken=True, ready=True), Health.NOT_THROUGH, id="the canary is lost"),
        pytest.param(Seen(taken=True, through=True), Health.NOT_READY, id="not ready"),
        pytest.param(
            Seen(taken=True, through=True, ready=True, waits=PATIENCE), Health.HEALTHY, id="pages wait, not too long"
        ),
        pytest.param(
            Seen(taken=True, through=True, ready=True, waits=PATIENCE + timedelta(seconds=1)),
            Health.PAGES_WAIT,
            id="pages wait too long",
        ),
    ],
)
def test_what_is_healthy(seen: Seen, health: Health) -> None:
    assert judge(seen, PATIENCE) is health


class Leaps:
    """Whoever waits has waited."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return (self._clock.now() - T0).total_seconds()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        assert seconds is not None
        self._clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)


class World:
    """An inlet, a desk and a watcher, each as a test wants it."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock(T0)
        self.registry = CollectorRegistry()
        self.refuses: Callable[[], bool] = lambda: False
        self.stuck = False
        self.unreadable = False
        self.looks_until_through: int | None = 0
        self.ready = True
        self.waits_since: datetime | None = None
        self.failure = ""
        self.sent: list[dict[str, Any]] = []
        self.pinged: list[datetime] = []
        self.on_ping: Callable[[], object] = lambda: None
        self._looks = 0
        self.heart = Heart(
            "gate",
            HeartbeatConfig.model_validate({"url": "http://127.0.0.1/x", **config}),
            PATIENCE,
            self,
            self,
            self,
            self.clock,
            self.registry,
            timing=Leaps(self.clock),
        )

    async def append(self, entries: Sequence[Entry]) -> None:
        if self.refuses():
            raise Overloaded("full", retry_after=1)
        if self.stuck:
            await asyncio.Event().wait()
        (entry,) = entries
        assert (entry.topic, entry.headers) == ("alerts.raw", {"type": b"raw-alert.v1", "source": b"generic"})
        self.sent.append(json.loads(entry.value))
        self._looks = 0

    def vitals(self, canary: str) -> Vitals:
        if self.unreadable:
            raise Unusable("gone")
        last = self.sent[-1]
        assert canary == f"{last['id']}@{last['starts_at']}"
        through = self.looks_until_through is not None and self._looks >= self.looks_until_through
        self._looks += 1
        shown: Literal["open", "resolved"] = "open" if (last["status"] == "firing") is through else "resolved"
        return Vitals(canary=shown if through or len(self.sent) > 1 else None, waits_since=self.waits_since)

    def status(self) -> PipelineStatus:
        return PipelineStatus(
            ready=self.ready,
            why_not="" if self.ready else "no worker",
            armed=True,
            open_incidents=0,
            paged_incidents=0,
            waiting_to_send=0,
            dead_letters=0,
            nodes=(),
            decisions={},
        )

    async def ping(self) -> str:
        self.pinged.append(self.clock.now())
        self.on_ping()
        return self.failure

    def count(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("streamproc_heartbeat_total", {"outcome": outcome})

    @property
    def seconds(self) -> float | None:
        return self.registry.get_sample_value("streamproc_canary_seconds")

    @property
    def statuses(self) -> list[str]:
        return [one["status"] for one in self.sent]


async def test_it_fires_and_ends_in_turn_and_each_is_a_beat() -> None:
    world = World()
    world.looks_until_through = 3
    for _ in range(3):
        await world.heart.beat()
    assert world.statuses == ["firing", "resolved", "firing"]
    first, ended, second = world.sent
    assert (first["starts_at"], ended["starts_at"]) == (T0.isoformat(), T0.isoformat())
    assert ended["ends_at"] > first["starts_at"]
    assert second["starts_at"] > ended["ends_at"]
    assert (len(world.pinged), world.seconds) == (3, 1.5)
    assert [world.count(outcome) for outcome in ("sent", "withheld", "failed")] == [3, 0, 0]


async def test_it_beats_every_so_often_whatever_a_round_took() -> None:
    world = World(every=10, within=30)
    world.looks_until_through = 3
    beating = asyncio.create_task(world.heart.run())

    def enough() -> None:
        if len(world.pinged) == 3:
            beating.cancel()

    world.on_ping = enough
    await asyncio.wait({beating})
    assert beating.cancelled()
    assert [(moment - T0).total_seconds() for moment in world.pinged] == [1.5, 11.5, 21.5]


async def test_a_canary_that_is_lost_withholds_it() -> None:
    world = World(within=10)
    world.looks_until_through = None
    await world.heart.beat()
    assert (world.pinged, world.count("withheld"), world.seconds) == ([], 1, 0)
    assert world.clock.now() == T0 + timedelta(seconds=10)
    world.looks_until_through = 0
    await world.heart.beat()
    assert (len(world.pinged), world.statuses) == (1, ["firing", "resolved"])


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"refuses": lambda: True}, id="the log is full"),
        pytest.param({"stuck": True}, id="the log is stuck"),
        pytest.param({"unreadable": True}, id="the desk cannot be read"),
        pytest.param({"ready": False}, id="not ready"),
        pytest.param({"waits_since": T0 - timedelta(hours=1)}, id="pages wait"),
    ],
)
async def test_what_withholds_it(wrong: dict[str, Any]) -> None:
    world = World(within=0.01)
    for name, value in wrong.items():
        setattr(world, name, value)
    await world.heart.beat()
    assert (world.pinged, world.count("withheld")) == ([], 1)


async def test_what_the_log_did_not_take_fires_anew() -> None:
    world = World()
    await world.heart.beat()
    world.refuses = lambda: True
    await world.heart.beat()
    world.refuses = lambda: False
    await world.heart.beat()
    assert world.statuses == ["firing", "firing"]
    assert len(world.pinged) == 2


async def test_only_news_are_told() -> None:
    world = World()
    with capture_logs() as told:
        await world.heart.beat()
        await world.heart.beat()
        world.ready = False
        await world.heart.beat()
        await world.heart.beat()
        world.waits_since, world.ready = T0 - timedelta(hours=1), True
        await world.heart.beat()
        world.waits_since, world.failure = None, "status 500"
        await world.heart.beat()
        world.failure = "ConnectError"
        await world.heart.beat()
        world.failure = ""
        await world.heart.beat()
    assert [(one["log_level"], one.get("why") or one.get("error"), one.get("detail")) for one in told] == [
        ("info", None, None),
        ("error", "the pipeline is not ready", "no worker"),
        ("error", "pages wait too long for PagerDuty", ""),
        ("warning", "status 500", None),
        ("info", None, None),
    ]
    assert [world.count(outcome) for outcome in ("sent", "withheld", "failed")] == [3, 3, 2]
