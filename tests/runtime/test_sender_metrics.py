"""What the sender counts: answers by destination, circuits, and the time from receipt to page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from streamproc.core.event import Why
from streamproc.events.escalation import Escalation
from streamproc.runtime.sender import Config
from streamproc.runtime.sender_metrics import OTHER, STATUSES, SenderMetrics, received_at, status_class
from tests.support.sending import DOWN, REFUSED, T0, TAKEN, World


def why(stage: str, origin: str, seconds: float = 0.0) -> Why:
    return Why(stage=stage, reason="x", now=T0 + timedelta(seconds=seconds), origin=origin)


ALERT = why("normalise", "alerts.raw/0/7")
JOINED = why("correlate", "episodes/0/3", 1.0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Config(destinations=("default", "payments")))
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


def said_to(world: World, key: str, destination: str) -> Escalation:
    return world.say(key, routing_key=f"R-{destination}").model_copy(update={"destination": destination})


@pytest.mark.parametrize(
    ("status", "named"),
    [
        pytest.param(202, "2xx", id="taken"),
        pytest.param(302, "3xx", id="a proxy"),
        pytest.param(400, "4xx", id="refused"),
        pytest.param(429, "429", id="slow down"),
        pytest.param(503, "5xx", id="down"),
        pytest.param(None, "none", id="no answer"),
        pytest.param(101, "none", id="no class that an answer has"),
        pytest.param(999, "none", id="no status at all"),
    ],
)
def test_the_class_of_a_status(status: int | None, named: str) -> None:
    assert status_class(status) == named
    assert named in STATUSES


@pytest.mark.parametrize(
    ("trail", "received"),
    [
        pytest.param((ALERT, JOINED, why("escalate", "episodes/0/3", 1.0)), True, id="decided on the alert"),
        pytest.param((ALERT, JOINED, why("escalate", "episodes/0/9", 90.0)), False, id="a timer made it due"),
        pytest.param((why("suppress", "episodes/0/9"), why("escalate", "episodes/0/9")), False, id="a mute ended"),
        pytest.param((ALERT,), False, id="cut short"),
        pytest.param((), False, id="no chain"),
    ],
)
def test_when_the_alert_was_received(trail: tuple[Why, ...], *, received: bool) -> None:
    assert received_at(trail) == (T0 if received else None)


def test_every_label_set_stands_from_the_start() -> None:
    registry = CollectorRegistry()
    SenderMetrics(registry, ("default", "payments"))
    for destination in ("default", "payments", OTHER):
        assert registry.get_sample_value("streamproc_delivery_circuit_open", {"destination": destination}) == 0
        for status in STATUSES:
            labels = {"destination": destination, "status": status}
            assert registry.get_sample_value("streamproc_delivery_answers_total", labels) == 0


async def test_counts_answers_by_destination_and_makes_one_of_all_unknown(world: World) -> None:
    answers = {"default": TAKEN, "payments": REFUSED, "gone": TAKEN, "gone too": TAKEN}
    world.pagerduty.answer = lambda request: answers[request.body["dedup_key"]]
    await world.begin()
    for name in answers:
        await world.want(said_to(world, name, name))
    assert world.metric("streamproc_delivery_answers_total", destination="default", status="2xx") == 1
    assert world.metric("streamproc_delivery_answers_total", destination="payments", status="4xx") == 1
    assert world.metric("streamproc_delivery_answers_total", destination=OTHER, status="2xx") == 2


async def test_shows_the_circuit_of_a_destination_until_it_answers(world: World) -> None:
    world.pagerduty.answer = lambda request: DOWN if request.said == "trigger p" else TAKEN
    await world.begin()
    await world.want(said_to(world, "p", "payments"), said_to(world, "d", "default"))
    await world.timing.advance(1.0)
    assert world.metric("streamproc_delivery_circuit_open", destination="payments") == 1
    assert world.metric("streamproc_delivery_circuit_open", destination="default") == 0
    world.pagerduty.answer = lambda _: TAKEN
    await world.timing.advance(60.0)
    assert world.metric("streamproc_delivery_circuit_open", destination="payments") == 0


async def test_a_page_counts_from_the_receipt_of_its_alert(world: World) -> None:
    world.pagerduty.latency = 2.0
    await world.begin()
    trail = (ALERT, JOINED, why("escalate", "episodes/0/3", 1.0))
    await world.timing.advance(5.0)
    await world.want(world.say("a").model_copy(update={"trail": trail}), world.say("b"))
    await world.timing.advance(2.0)
    assert world.metric("streamproc_receipt_to_page_seconds_sum") == 7.0
    assert world.metric("streamproc_receipt_to_page_seconds_count") == 1
    assert world.metric("streamproc_decision_latency_seconds_count") == 2
