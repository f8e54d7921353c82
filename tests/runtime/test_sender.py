from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.errors import Defect
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, Page, PageAction, Verdict
from streamproc.runtime.alarm import KEPT
from streamproc.runtime.intents import Intents
from streamproc.runtime.lanes import Lane
from streamproc.runtime.pace import Window
from streamproc.runtime.sender import Config, Sender
from streamproc.runtime.work import Work
from streamproc.state import IntentRow
from tests.support.sending import DOWN, REFUSED, T0, TAKEN, Answer, Request, World, settle

CRITICAL, WARNING = Severity.CRITICAL, Severity.WARNING
ACKNOWLEDGE, RESOLVE, CHANGE = PageAction.ACKNOWLEDGE, PageAction.RESOLVE, PageAction.CHANGE


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.running.cancel()
    await asyncio.gather(made.running, return_exceptions=True)


def down(_: Request) -> Answer:
    return DOWN


def taken(_: Request) -> Answer:
    return TAKEN


class TestDelivering:
    async def test_reports_what_was_sent_and_what_came_back(self, world: World) -> None:
        await world.begin()
        await world.trigger("a")
        [outcome] = world.log.outcomes
        assert outcome.verdict is Verdict.DELIVERED
        assert (outcome.status, outcome.message, outcome.attempts) == (202, "Event processed", 1)
        assert outcome.sent_at == T0
        assert outcome.delayed_seconds == 0.0
        assert '"dedup_key":"a"' in outcome.body.replace(" ", "")
        assert "routing_key" not in outcome.body
        [row] = world.log.standing().values()
        assert row is not None
        assert (row.pending, row.triggered) == ((), True)

    async def test_sends_a_row_in_order_one_at_a_time(self, world: World) -> None:
        world.pagerduty.latency = 2.0
        await world.begin()
        await world.trigger("a")
        await world.want(world.say("a", ACKNOWLEDGE))
        assert world.pagerduty.said == ["trigger a"]
        await world.timing.advance(2.0)
        assert world.pagerduty.said == ["trigger a", "acknowledge a"]
        await world.timing.advance(2.0)
        await world.resolve("a")
        await world.timing.advance(2.0)
        assert world.pagerduty.said == ["trigger a", "acknowledge a", "resolve a"]
        assert world.log.standing() == {}

    async def test_does_not_send_the_next_before_the_outcome_of_the_last_is_durable(self, world: World) -> None:
        await world.begin()
        world.log.overloads = 2
        await world.want(world.say("a"), world.say("a", ACKNOWLEDGE))
        assert world.pagerduty.said == ["trigger a"]
        assert world.log.outcomes == []
        await world.timing.advance(6.0)
        assert world.pagerduty.said == ["trigger a", "acknowledge a"]
        assert world.verdicts() == ["trigger a delivered", "acknowledge a delivered"]

    async def test_does_not_repeat_what_was_answered_while_the_row_still_shows_it(self, world: World) -> None:
        await world.begin()
        world.log.offer = lambda _: None
        escalation = world.say("a")
        world.sender.offer({"K1|a": IntentRow(pending=(escalation,), last=escalation)})
        await world.timing.advance(600.0)
        world.sender.offer({"K1|a": IntentRow(pending=(escalation,), last=escalation, stale=1)})
        await world.timing.advance(600.0)
        assert world.pagerduty.said == ["trigger a"]

    async def test_ignores_the_end_of_a_row_that_it_never_knew(self, world: World) -> None:
        await world.begin()
        world.sender.offer({"K1|gone": None, "K1|empty": IntentRow()})
        await world.timing.advance(10.0)
        assert world.pagerduty.said == []

    async def test_a_row_that_ends_while_a_request_is_in_flight_is_forgotten_with_it(self, world: World) -> None:
        world.pagerduty.latency = 1.0
        await world.begin()
        await world.trigger("a")
        assert world.pagerduty.wanted()
        world.sender.offer({"K1|a": None})
        assert not world.pagerduty.wanted(), "whoever has the row now may have said something newer"
        await world.timing.advance(1.0)
        assert world.pagerduty.said == ["trigger a"]
        await world.timing.advance(2.0)
        assert world.metric("streamproc_waiting", kind="other") == 0

    async def test_a_late_page_says_so(self, world: World) -> None:
        late = world.say("a")
        world.clock.advance(timedelta(minutes=7))
        await world.begin()
        await world.want(late)
        assert world.pagerduty.requests[0].body["payload"]["summary"] == "[delayed 7 min] a is down"
        assert world.log.outcomes[0].delayed_seconds == 420.0

    async def test_a_late_resolve_is_not_marked(self, world: World) -> None:
        await world.begin()
        await world.trigger("a")
        late = world.say("a", RESOLVE)
        await world.timing.advance(300.0)
        await world.want(late)
        assert world.log.outcomes[-1].delayed_seconds == 0.0

    async def test_a_defect_of_the_client_ends_the_run(self, world: World) -> None:
        def broken(_: Request) -> Answer:
            raise KeyError("client")

        world.pagerduty.answer = broken
        await world.begin()
        await world.trigger("a")
        with pytest.raises(KeyError, match="client"):
            await world.running

    async def test_nothing_is_kept_of_a_row_that_ended(self, world: World) -> None:
        await world.begin()
        intents = Intents(rate_limit=10, in_flight=1)
        escalation = world.say("a")
        row = IntentRow(pending=(escalation,), last=escalation)
        intents.take({"K1|a": row, "K1|b": row}, 0.0, in_doubt=False)
        [lane] = intents.lanes
        [work] = [work for work in intents.ready(0.0, 1) if work.begin()]
        intents.take({"K1|a": None, "K1|b": None}, 1.0, in_doubt=False)
        assert list(lane.works.values()) == [work]
        intents.release([work])
        assert lane.works == {}

    async def test_a_row_without_anything_to_send_has_nothing_to_begin(self) -> None:
        lane = Lane("K1", Window(1), reserve=0, in_flight=1)
        with pytest.raises(Defect, match=r"nothing waits in K1\|a"):
            Work("K1|a", lane).begin()


class TestOrder:
    async def test_what_is_urgent_goes_first_behind_a_storm(self, world: World) -> None:
        world.pagerduty.latency = 0.2
        await world.begin()
        await world.trigger("known")
        await world.timing.advance(61.0)
        await world.want(*(world.say(f"storm-{n:03}", severity=WARNING) for n in range(500)))
        await world.timing.advance(20.0)
        assert len(world.pagerduty.requests) == 1 + 108
        await world.trigger("worst", CRITICAL)
        await world.resolve("known")
        await world.timing.advance(0.4)
        assert world.pagerduty.said[109:] == ["trigger worst", "resolve known"]
        await world.timing.advance(400.0)
        assert Counter(world.pagerduty.said).most_common(1)[0][1] == 1
        assert len(world.pagerduty.said) == 503
        assert world.pagerduty.said[1:109] == [f"trigger storm-{n:03}" for n in range(108)]

    async def test_a_storm_that_resolves_does_not_hold_up_a_critical(self, world: World) -> None:
        await world.begin()
        keys = [f"storm-{n:03}" for n in range(200)]
        for begin in range(0, 200, 100):
            await world.want(*(world.say(key) for key in keys[begin : begin + 100]))
            await world.timing.advance(61.0)
        await world.want(*(world.say(key, RESOLVE) for key in keys))
        assert world.pagerduty.said.count("resolve storm-000") == 1
        assert len(world.pagerduty.said) == 200 + 114
        await world.trigger("worst", CRITICAL)
        assert world.pagerduty.said[-1] == "trigger worst"

    async def test_an_acknowledge_before_a_critical_is_as_urgent(self, world: World) -> None:
        world.config = Config(rate_limit=10)
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(61.0)
        await world.want(*(world.say(f"storm-{n}") for n in range(9)))
        await world.want(world.say("a", ACKNOWLEDGE), world.say("a", severity=CRITICAL))
        assert world.pagerduty.said[-1] == "acknowledge a"

    async def test_a_renewed_trigger_keeps_its_place(self, world: World) -> None:
        world.config = Config(rate_limit=1)
        await world.begin()
        for key in ("a", "b", "c"):
            await world.trigger(key)
            await world.timing.advance(1.0)
        await world.want(world.say("b", summary="b is worse"))
        await world.timing.advance(61.0)
        assert world.pagerduty.said == ["trigger a", "trigger b"]
        assert world.pagerduty.requests[-1].body["payload"]["summary"] == "b is worse"

    async def test_keeps_the_bounds_of_what_is_in_flight(self, world: World) -> None:
        world.config = Config(in_flight_per_key=3, in_flight=5)
        world.pagerduty.latency = 1.0
        await world.begin()
        await world.want(*(world.say(f"a{n}") for n in range(10)))
        assert world.pagerduty.most_flying == 3
        await world.want(*(world.say(f"b{n}", routing_key="K2") for n in range(10)))
        await world.timing.advance(30.0)
        assert world.pagerduty.most_flying == 5
        assert len(world.pagerduty.said) == 20


class TestPace:
    @settings(deadline=None, max_examples=25)
    @given(
        limit=st.integers(1, 25),
        bursts=st.lists(
            st.tuples(st.integers(0, 90), st.lists(st.sampled_from([*Severity]), min_size=1, max_size=30)),
            min_size=1,
            max_size=6,
        ),
    )
    def test_never_above_the_limit_in_any_minute_and_nothing_stays_behind(
        self, limit: int, bursts: list[tuple[int, list[Severity]]]
    ) -> None:
        async def play() -> World:
            world = World(Config(rate_limit=limit))
            world.pagerduty.latency = 0.25
            await world.begin()
            count = 0
            for pause, severities in bursts:
                await world.timing.advance(pause)
                batch = [world.say(f"i{count + n}", severity=severity) for n, severity in enumerate(severities)]
                count += len(batch)
                await world.want(*batch)
            await world.timing.advance(61.0 * (count // limit + count // max(1, limit - limit // 10) + 2))
            await world.end()
            return world

        world = asyncio.run(play())
        moments = [request.seconds for request in world.pagerduty.requests]
        assert max(sum(begin <= moment < begin + 60.0 for moment in moments) for begin in moments) <= limit
        assert Counter(world.pagerduty.said) == Counter(
            f"trigger i{n}" for n in range(sum(len(severities) for _, severities in bursts))
        )

    async def test_counts_the_clients_own_retries(self, world: World) -> None:
        world.config = Config(rate_limit=10)
        world.pagerduty.answer = lambda _: Answer(attempts=3)
        await world.begin()
        for n in range(5):
            await world.trigger(f"i{n}")
        assert len(world.pagerduty.said) == 3

    async def test_another_routing_key_has_its_own(self, world: World) -> None:
        world.config = Config(rate_limit=1)
        await world.begin()
        for n in range(2):
            await world.trigger(f"a{n}")
            await world.trigger(f"b{n}", routing_key="K2")
        assert world.pagerduty.said == ["trigger a0", "trigger b0"]


class TestSkipping:
    async def test_what_resolves_before_its_page_was_sent_needs_no_request(self, world: World) -> None:
        await world.begin()
        await world.want(world.say("a"), world.say("a", RESOLVE))
        assert world.pagerduty.said == []
        [outcome] = world.log.outcomes
        assert (outcome.verdict, outcome.status) == (Verdict.SKIPPED, None)
        assert outcome.message == "resolved before PagerDuty could hear of it"
        assert world.log.standing() == {}
        assert world.log.digests == []

    async def test_what_was_attempted_is_resolved(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        await world.resolve("a")
        world.pagerduty.answer = taken
        await world.timing.advance(5.0)
        assert world.pagerduty.said[:2] == ["trigger a", "resolve a"]

    async def test_what_fires_again_is_told_without_the_resolve_before_it(self, world: World) -> None:
        await world.begin()
        await world.want(world.say("a"), world.say("a", RESOLVE), world.say("a"))
        assert world.verdicts() == ["resolve a skipped", "trigger a delivered"]

    async def test_waits_until_a_request_in_flight_is_answered(self, world: World) -> None:
        world.pagerduty.latency = 5.0
        await world.begin()
        await world.trigger("a")
        await world.want(world.say("b"), world.say("b", RESOLVE))
        assert world.log.outcomes == []
        await world.timing.advance(5.0)
        assert sorted(world.verdicts()) == ["resolve b skipped", "trigger a delivered"]

    async def test_a_forgotten_row_that_comes_back_is_fresh(self, world: World) -> None:
        await world.begin()
        await world.trigger("a")
        await world.resolve("a")
        await world.want(world.say("a"), world.say("a", RESOLVE))
        assert world.pagerduty.said == ["trigger a", "resolve a"]
        assert world.verdicts()[-1] == "resolve a skipped"


class TestDoubt:
    async def test_a_crash_repeats_the_last_request_and_none_before(self, world: World) -> None:
        await world.begin()
        await world.trigger("a")
        world.pagerduty.latency = 60.0
        await world.want(world.say("a", ACKNOWLEDGE))
        await world.crash()
        world.pagerduty.latency = 0.0
        await world.begin()
        assert world.pagerduty.said == ["trigger a", "acknowledge a", "acknowledge a"]

    async def test_what_resolved_meanwhile_may_have_been_sent_so_the_resolve_is(self, world: World) -> None:
        world.pagerduty.latency = 60.0
        await world.begin()
        await world.trigger("a")
        await world.crash()
        await world.resolve("a")
        world.pagerduty.latency = 0.0
        await world.begin()
        assert world.pagerduty.said[:2] == ["trigger a", "resolve a"]
        assert world.verdicts()[0] == "resolve a delivered"

    async def test_rows_of_a_partition_that_came_over_are_in_doubt_too(self, world: World) -> None:
        await world.begin()
        escalation = world.say("a", RESOLVE)
        world.sender.offer({"K1|a": IntentRow(pending=(escalation,), last=escalation, stale=1)}, in_doubt=True)
        await settle()
        assert world.pagerduty.said[0] == "resolve a"


class TestOutage:
    async def test_tries_for_ever_and_sends_only_the_newest_state(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        for n in range(20):
            await world.want(world.say("a", summary=f"state {n}"))
            await world.timing.advance(60.0)
        world.pagerduty.answer = taken
        before = len(world.pagerduty.requests)
        await world.timing.advance(61.0)
        [request] = world.pagerduty.requests[before:]
        assert request.body["payload"]["summary"].endswith("state 19")
        assert world.verdicts() == ["trigger a delivered"]

    async def test_backs_off_doubling_up_to_a_minute(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(250.0)
        moments = [request.seconds for request in world.pagerduty.requests]
        gaps = [round(after - before) for before, after in pairwise(moments)]
        assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    async def test_jitter_takes_up_to_half_off(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin(jitter=1.0)
        await world.trigger("a")
        await world.timing.advance(20.0)
        moments = [request.seconds for request in world.pagerduty.requests]
        gaps = [round(after - before) for before, after in pairwise(moments)]
        assert gaps == [1, 1, 2, 4, 8]

    @pytest.mark.parametrize(
        ("asked", "waited"),
        [
            pytest.param(30.0, 30, id="longer than the backoff"),
            pytest.param(0.5, 1, id="shorter than the backoff"),
            pytest.param(1e9, 600, id="absurd"),
        ],
    )
    async def test_waits_as_long_as_it_is_asked_to(self, world: World, asked: float, waited: int) -> None:
        answers = iter([Answer(Verdict.AGAIN, 429, "Slow down", retry_after=asked)])
        world.pagerduty.answer = lambda _: next(answers, TAKEN)
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(700.0)
        assert [round(request.seconds) for request in world.pagerduty.requests] == [0, waited]

    async def test_asks_with_one_request_at_a_time(self, world: World) -> None:
        world.pagerduty.answer = down
        world.pagerduty.latency = 0.5
        await world.begin()
        await world.want(*(world.say(f"i{n:02}") for n in range(40)))
        await world.timing.advance(0.5)
        assert len(world.pagerduty.said) == 16
        await world.timing.advance(100.0)
        assert len(world.pagerduty.said) < 16 + 8
        world.pagerduty.answer = taken
        await world.timing.advance(62.0)
        assert sorted(outcome.dedup_key for outcome in world.log.outcomes) == [f"i{n:02}" for n in range(40)]

    async def test_tells_when_it_is_answered_again(self, world: World) -> None:
        told: list[float] = []
        await world.begin()
        world.sender.listen(lambda: told.append(world.timing.monotonic()))
        await world.trigger("a")
        assert told == []
        world.pagerduty.answer = down
        await world.trigger("b")
        world.pagerduty.answer = taken
        await world.timing.advance(120.0)
        await world.trigger("c")
        assert len(told) == 1

    async def test_other_routing_keys_go_on(self, world: World) -> None:
        world.pagerduty.answer = lambda request: DOWN if request.body["routing_key"] == "K1" else TAKEN
        await world.begin()
        await world.trigger("a")
        for n in range(5):
            await world.trigger(f"b{n}", routing_key="K2")
        assert world.verdicts() == [f"trigger b{n} delivered" for n in range(5)]

    async def test_one_request_that_never_succeeds_does_not_hold_up_the_others(self, world: World) -> None:
        world.pagerduty.answer = lambda request: DOWN if request.said == "trigger poison" else TAKEN
        await world.begin()
        await world.trigger("poison", CRITICAL)
        for n in range(30):
            await world.trigger(f"i{n:02}")
            await world.timing.advance(10.0)
        assert len(world.log.outcomes) == 30
        late = [outcome for outcome in world.log.outcomes if outcome.delayed_seconds]
        assert late == []
        assert world.pagerduty.said.count("trigger poison") < 15

    async def test_a_volley_counts_as_one_failure(self, world: World) -> None:
        world.pagerduty.answer = down
        world.pagerduty.latency = 1.0
        await world.begin()
        await world.want(*(world.say(f"i{n:02}") for n in range(16)))
        await world.timing.advance(1.0)
        world.pagerduty.answer = taken
        await world.timing.advance(3.5)
        assert len(world.log.outcomes) == 16


class TestDigest:
    async def test_tells_once_what_came_and_went_in_an_outage(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(100.0)
        for key in ("b", "c", "d"):
            await world.trigger(key)
            await world.resolve(key)
        await world.resolve("a")
        assert world.log.outcomes == []
        world.pagerduty.answer = taken
        await world.timing.advance(61.0)
        [digest] = world.log.digests
        assert digest.dedup_key == digest.incident_id == f"digest:{T0.isoformat()}"
        assert (digest.action, digest.routing_key, digest.destination) == (CHANGE, "K1", "default")
        assert digest.scope == "prod"
        assert digest.text is not None
        assert digest.text.details["titles"] == ["a is down", "b is down", "c is down", "d is down"]
        assert digest.text.summary.startswith("4 incidents came and went")
        assert world.log.standing() == {}
        assert [request.path for request in world.pagerduty.requests].count("/v2/change/enqueue") == 1
        assert sorted(world.verdicts())[-4:] == [
            "resolve a delivered",
            "resolve b skipped",
            "resolve c skipped",
            "resolve d skipped",
        ]
        await world.timing.advance(600.0)
        assert len(world.log.digests) == 1

    async def test_the_next_outage_has_its_own(self, world: World) -> None:
        await world.begin()
        for key in ("a", "b"):
            world.pagerduty.answer = down
            await world.trigger(key)
            await world.resolve(key)
            world.pagerduty.answer = taken
            await world.timing.advance(100.0)
        assert len({digest.dedup_key for digest in world.log.digests}) == 2
        assert [digest.text.details["incidents"] for digest in world.log.digests if digest.text] == [1, 1]

    async def test_says_nothing_where_everything_still_fires(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        world.pagerduty.answer = taken
        await world.timing.advance(61.0)
        assert world.verdicts() == ["trigger a delivered"]
        assert world.log.digests == []

    async def test_does_not_list_what_was_taken_while_the_resolve_came(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        world.pagerduty.answer = taken
        world.pagerduty.latency = 2.0
        await world.timing.advance(1.0)
        await world.resolve("a")
        await world.timing.advance(10.0)
        assert world.verdicts() == ["trigger a delivered", "resolve a delivered"]
        assert world.log.digests == []

    async def test_tells_what_came_and_went_while_no_process_was_there(self, world: World) -> None:
        for key, routing_key in (("a", "K1"), ("b", "K1"), ("c", "K2")):
            await world.trigger(key, routing_key=routing_key)
            await world.timing.advance(60.0)
            await world.resolve(key, routing_key=routing_key)
        await world.trigger("d")
        await world.timing.advance(600.0)
        await world.begin()
        await world.timing.advance(5.0)
        assert {
            digest.routing_key: digest.text.details["incidents"] for digest in world.log.digests if digest.text
        } == {
            "K1": 2,
            "K2": 1,
        }
        first = next(digest for digest in world.log.digests if digest.routing_key == "K1")
        assert first.dedup_key == f"digest:{(T0 + timedelta(minutes=1)).isoformat()}"
        assert first.text is not None
        assert first.text.details["titles"] == ["a is down", "b is down"]
        assert "trigger d" in world.pagerduty.said
        assert "trigger a" not in world.pagerduty.said

    async def test_what_an_outage_held_back_is_told_by_the_next_process(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        await world.want(world.say("b"), world.say("b", RESOLVE))
        await world.crash()
        world.pagerduty.answer = taken
        await world.begin()
        await world.timing.advance(5.0)
        [digest] = world.log.digests
        assert digest.text is not None
        assert digest.text.details["incidents"] == 1

    async def test_what_was_listed_is_not_listed_again(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.want(world.say("a"), world.say("b"))
        await world.want(world.say("a", RESOLVE), world.say("b", RESOLVE))
        once = iter([TAKEN])
        world.pagerduty.answer = lambda _: next(once, DOWN)
        await world.timing.advance(3.0)
        assert [digest.text.details["incidents"] for digest in world.log.digests if digest.text] == [2]
        world.pagerduty.answer = taken
        await world.timing.advance(61.0)
        assert world.log.standing() == {}
        assert len(world.log.digests) == 1

    async def test_bounds_what_it_lists(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("first")
        await world.want(*(event for n in range(50) for event in both(world, f"i{n:02}")))
        world.pagerduty.answer = taken
        await world.timing.advance(61.0)
        [digest] = world.log.digests
        assert digest.text is not None
        titles = digest.text.details["titles"]
        assert isinstance(titles, list)
        assert len(titles) == 31
        assert titles[-1] == "and 20 more"
        assert 51 in world.log.batches, "the digest and what it tells of are one append"

    async def test_names_no_scope_where_there_are_several(self, world: World) -> None:
        for key, scope in (("a", "prod"), ("b", "dev")):
            events = [event.model_copy(update={"scope": scope}) for event in both(world, key)]
            await world.want(*events)
        await world.begin()
        [digest] = world.log.digests
        assert digest.scope == ""

    async def test_a_refusal_says_that_pagerduty_answers_but_tells_nothing(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        await world.want(*both(world, "b"))
        world.pagerduty.answer = lambda _: REFUSED
        await world.timing.advance(1.0)
        assert world.log.digests == []
        await world.timing.advance(1.0)
        assert sorted(world.verdicts()) == ["resolve b skipped", "trigger a refused"]


def both(world: World, key: str) -> tuple[Escalation, Escalation]:
    return world.say(key), world.say(key, RESOLVE)


class TestFallback:
    async def test_tells_once_that_pages_wait_and_once_that_it_is_over(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("small", WARNING)
        await world.timing.advance(60.0)
        await world.trigger("worst", CRITICAL)
        await world.timing.advance(239.0)
        assert world.notifier.told == []
        await world.timing.advance(2.0)
        assert world.notifier.titles == ["2 pages not delivered"]
        body = world.notifier.told[0][1]
        assert body.splitlines()[1:] == ["- critical: worst is down", "- warning: small is down"]
        assert T0.isoformat() in body
        assert "(5 min)" in body
        assert "Service Unavailable" in body
        await world.timing.advance(3600.0)
        assert len(world.notifier.told) == 1
        world.pagerduty.answer = taken
        await world.timing.advance(62.0)
        assert world.notifier.titles == ["2 pages not delivered", "PagerDuty takes pages again"]
        await world.timing.advance(600.0)
        assert world.notifier.tried == 2

    async def test_a_page_that_resolves_meanwhile_does_not_end_the_outage(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(301.0)
        await world.resolve("a")
        await world.timing.advance(600.0)
        await world.trigger("b")
        await world.timing.advance(600.0)
        assert len(world.notifier.told) == 1

    async def test_a_page_that_was_taken_in_the_last_moment_is_no_reason(self, world: World) -> None:
        world.config = Config(fallback_after=timedelta(seconds=9.9))
        world.pagerduty.latency = 9.8
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(20.0)
        assert world.verdicts() == ["trigger a delivered"]
        assert world.notifier.tried == 0

    async def test_a_resolve_that_waits_is_no_reason(self, world: World) -> None:
        await world.begin()
        await world.trigger("a")
        world.pagerduty.answer = down
        await world.resolve("a")
        await world.timing.advance(1000.0)
        assert world.notifier.told == []

    async def test_pages_that_wait_for_the_pace_are_told_too(self, world: World) -> None:
        world.config = Config(rate_limit=10)
        await world.begin()
        await world.want(*(world.say(f"i{n:03}") for n in range(100)))
        await world.timing.advance(302.0)
        [(title, body)] = world.notifier.told
        assert title == "55 pages not delivered"
        assert "more come than PagerDuty takes in a minute" in body
        assert body.splitlines()[-1] == "- and 45 more"
        await world.timing.advance(400.0)
        assert world.notifier.titles[-1] == "PagerDuty takes pages again"

    async def test_names_the_error_of_the_one_page_that_never_succeeds(self, world: World) -> None:
        world.pagerduty.answer = lambda request: DOWN if request.said == "trigger poison" else TAKEN
        await world.begin()
        await world.trigger("poison")
        for n in range(32):
            await world.trigger(f"i{n}")
            await world.timing.advance(10.0)
        [(title, body)] = world.notifier.told
        assert title == "1 page not delivered"
        assert "Service Unavailable" in body

    async def test_tries_again_where_nobody_takes_the_message(self, world: World) -> None:
        world.pagerduty.answer = down
        world.notifier.takes = False
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(330.0)
        assert world.notifier.tried == 1
        world.notifier.takes = True
        await world.timing.advance(32.0)
        assert world.notifier.titles == ["1 page not delivered"]
        assert world.metric("streamproc_alarms_total", kind="stuck", result="failed") == 1
        assert world.metric("streamproc_alarms_total", kind="stuck", result="told") == 1

    async def test_what_nobody_was_told_of_is_not_declared_over(self, world: World) -> None:
        world.pagerduty.answer = down
        world.notifier.takes = False
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(301.5)
        assert world.notifier.tried == 1
        world.pagerduty.answer = taken
        world.notifier.takes = True
        await world.timing.advance(300.0)
        assert world.notifier.told == []

    async def test_without_a_channel_it_is_counted(self, world: World) -> None:
        world.channel = None
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a")
        await world.timing.advance(900.0)
        assert world.metric("streamproc_alarms_total", kind="stuck", result="nobody") == 1

    async def test_pages_that_were_waiting_at_the_start_get_their_time(self, world: World) -> None:
        await world.trigger("a")
        await world.timing.advance(3600.0)
        world.pagerduty.answer = down
        await world.begin()
        await world.timing.advance(290.0)
        assert world.notifier.told == []
        await world.timing.advance(15.0)
        assert len(world.notifier.told) == 1


def nowhere(world: World, summary: str = "db is down", update: dict[str, object] | None = None) -> Page:
    page = Page(
        incident_id="in:v1:prod:1",
        destination="team-b",
        routing_key_hint="",
        dedup_key="in:v1:prod:1",
        action=PageAction.TRIGGER,
        seq=1,
        verdict=Verdict.REFUSED,
        message="destination team-b has no routing key",
        decided_at=world.clock.now(),
        sent_at=world.clock.now(),
        summary=summary,
    )
    return page.model_copy(update=update)


class TestRefused:
    async def test_a_refused_page_is_told_at_once(self, world: World) -> None:
        world.pagerduty.answer = lambda _: REFUSED
        await world.begin()
        await world.trigger("a")
        [(title, body)] = world.notifier.told
        assert title == "1 page refused"
        assert body.splitlines()[1:] == ["- a is down (default: Event object is invalid)"]
        assert world.verdicts() == ["trigger a refused"]
        await world.timing.advance(600.0)
        assert world.pagerduty.said == ["trigger a"]

    async def test_a_refused_acknowledge_is_only_reported(self, world: World) -> None:
        await world.begin()
        await world.trigger("a")
        world.pagerduty.answer = lambda _: REFUSED
        await world.want(world.say("a", ACKNOWLEDGE))
        assert world.verdicts()[-1] == "acknowledge a refused"
        assert world.notifier.told == []

    async def test_a_page_that_has_nowhere_to_go_is_told_at_once(self, world: World) -> None:
        await world.begin()
        world.sender.offer_pages([nowhere(world)])
        await settle()
        assert world.notifier.titles == ["1 page refused"]
        assert "- db is down (team-b: destination team-b has no routing key)" in world.notifier.told[0][1]

    @pytest.mark.parametrize(
        "update",
        [
            pytest.param({"verdict": Verdict.DELIVERED}, id="delivered"),
            pytest.param({"action": CHANGE}, id="a summary, which pages nobody"),
            pytest.param({"routing_key_hint": "abcd"}, id="refused by PagerDuty: told when it answered"),
        ],
    )
    async def test_other_pages_are_none_of_its_business(self, world: World, update: dict[str, object]) -> None:
        await world.begin()
        world.sender.offer_pages([nowhere(world, update=update)])
        await world.timing.advance(120.0)
        assert world.notifier.told == []

    async def test_is_told_at_most_once_a_minute(self, world: World) -> None:
        await world.begin()
        for n in range(40):
            world.sender.offer_pages([nowhere(world, f"page {n}")])
            await world.timing.advance(1.0)
        assert len(world.notifier.told) == 1
        await world.timing.advance(30.0)
        assert world.notifier.titles == ["1 page refused", "39 pages refused"]
        assert world.notifier.told[1][1].splitlines()[-1] == "- and 29 more"

    async def test_keeps_what_was_not_taken_within_a_bound(self, world: World) -> None:
        world.notifier.takes = False
        await world.begin()
        world.sender.offer_pages([nowhere(world, f"page {n}") for n in range(KEPT + 50)])
        await world.timing.advance(10.0)
        assert world.notifier.tried == 1
        world.notifier.takes = True
        await world.timing.advance(60.0)
        assert world.notifier.titles == [f"{KEPT + 50} pages refused"]
        world.sender.offer_pages([nowhere(world)])
        await world.timing.advance(60.0)
        assert world.notifier.titles[-1] == "1 page refused"


class TestStopping:
    async def test_reports_what_is_answered_within_the_grace(self, world: World) -> None:
        world.pagerduty.latency = 3.0
        await world.begin()
        await world.want(world.say("a"), world.say("b"), world.say("a", ACKNOWLEDGE))
        stopping = asyncio.create_task(world.sender.stop(grace=5.0))
        await world.timing.advance(2.0)
        assert not stopping.done()
        assert not world.running.done()
        await world.timing.advance(1.0)
        assert stopping.done()
        await world.running
        assert sorted(world.verdicts()) == ["trigger a delivered", "trigger b delivered"]
        assert sorted(world.pagerduty.said) == ["trigger a", "trigger b"]
        await world.begin()
        assert world.pagerduty.said[2:] == ["acknowledge a"]

    async def test_breaks_off_what_is_not(self, world: World) -> None:
        world.pagerduty.latency = 60.0
        await world.begin()
        await world.trigger("a")
        stopping = asyncio.create_task(world.sender.stop(grace=5.0))
        await world.timing.advance(5.0)
        assert stopping.done()
        await world.running
        assert world.log.outcomes == []
        world.pagerduty.latency = 0.0
        await world.begin()
        assert world.pagerduty.said == ["trigger a", "trigger a"]
        assert world.verdicts() == ["trigger a delivered"]

    async def test_gives_up_a_log_that_takes_nothing(self, world: World) -> None:
        world.log.overloads = 10**6
        await world.begin()
        await world.trigger("a")
        await world.end()
        assert world.log.outcomes == []

    async def test_tells_of_refused_pages_that_wait_for_their_minute(self, world: World) -> None:
        await world.begin()
        for n in range(2):
            world.sender.offer_pages([nowhere(world, f"page {n}")])
            await settle()
        await world.end()
        assert [body.splitlines()[1][:8] for _, body in world.notifier.told] == ["- page 0", "- page 1"]

    async def test_ends_at_once_where_nothing_is_in_flight(self, world: World) -> None:
        await world.begin()
        await world.sender.stop()
        await world.running

    async def test_a_defect_in_the_last_moment_is_not_hidden(self, world: World) -> None:
        world.pagerduty.latency = 1.0
        await world.begin()
        await world.trigger("a")
        world.log.broken = KeyError("log")
        stopping = asyncio.create_task(world.sender.stop())
        await world.timing.advance(2.0)
        await stopping
        with pytest.raises(KeyError, match="log"):
            await world.running


class TestMetrics:
    async def test_every_label_set_stands_from_the_start(self, world: World) -> None:
        await world.begin()
        for action in PageAction:
            for verdict in Verdict:
                assert world.metric("streamproc_deliveries_total", action=action.value, verdict=verdict.value) == 0
        for kind in ("urgent", "other"):
            assert world.metric("streamproc_waiting", kind=kind) == 0
        for name in ("delivery_seconds_count", "decision_latency_seconds_count", "delivery_oldest_seconds"):
            assert world.metric(f"streamproc_{name}") == 0

    async def test_counts_what_came_of_each_request_and_how_long_it_took(self, world: World) -> None:
        world.pagerduty.latency = 2.0
        await world.begin()
        late = world.say("a")
        await world.timing.advance(3.0)
        await world.want(late, *both(world, "b"))
        await world.timing.advance(2.0)
        assert world.metric("streamproc_deliveries_total", action="trigger", verdict="delivered") == 1
        assert world.metric("streamproc_deliveries_total", action="resolve", verdict="skipped") == 1
        assert world.metric("streamproc_delivery_seconds_sum") == 2.0
        assert world.metric("streamproc_decision_latency_seconds_sum") == 5.0

    async def test_shows_what_waits_and_for_how_long(self, world: World) -> None:
        world.pagerduty.answer = down
        await world.begin()
        await world.trigger("a", CRITICAL)
        await world.timing.advance(5.0)
        await world.trigger("b")
        await world.timing.advance(25.0)
        assert world.metric("streamproc_waiting", kind="urgent") == 1
        assert world.metric("streamproc_waiting", kind="other") == 1
        assert world.metric("streamproc_delivery_oldest_seconds") == pytest.approx(30.0, abs=1.5)
        world.pagerduty.answer = taken
        await world.timing.advance(62.0)
        assert world.metric("streamproc_waiting", kind="urgent") == 0
        assert world.metric("streamproc_delivery_oldest_seconds") == 0


async def test_works_on_the_machines_own_time() -> None:
    world = World()
    await world.begin()
    sender = Sender(Config(), world.pagerduty, world.log, world.clock, None, world.registry.__class__())
    world.log.offer = sender.offer
    sender.offer({})
    running = asyncio.create_task(sender.run())
    await world.trigger("a")
    await sender.stop()
    await running
    assert world.verdicts() == ["trigger a delivered"]
    await world.end()
