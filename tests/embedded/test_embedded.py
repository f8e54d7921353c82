"""The embedded runtime: what it promises to whoever appends, sends, looks, stops it or kills it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamproc.core.errors import Defect, StreamprocError, Unusable
from streamproc.core.step import Step
from streamproc.core.table import Rows
from streamproc.events.alert import Episode
from streamproc.events.escalation import Escalation, Page, PageAction
from streamproc.events.incident import Incident
from streamproc.ports import Entry, Overloaded
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.journal import SqliteJournal, StorageFailure
from streamproc.runtime.embedded.runtime import FEW, ROUND, Config
from streamproc.runtime.embedded.spool import submit
from streamproc.runtime.engine import BATCH, Engine
from streamproc.stages import normalise
from streamproc.state import INCIDENT, IntentRow
from streamproc.topology import TOPICS
from tests.embedded.disks import small_disk
from tests.embedded.pipelines import (
    PATIENCE,
    QUICK,
    T0,
    HeldClock,
    Pipeline,
    WildClock,
    alert,
    body,
    broken,
    commits,
    kept,
    leave_unfolded,
    letters,
    outcome_of,
    paging,
    policy,
    raw,
    raws,
    records,
    started,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


# -- appending -------------------------------------------------------------------------------------------------------


async def test_a_record_is_durable_before_its_append_returns_and_not_sooner(folder: Path) -> None:
    clock = HeldClock()
    async with started(folder, clock=clock) as pipeline:
        clock.hold()
        appending = asyncio.create_task(pipeline.put(alert("a")))
        await clock.held()
        assert not appending.done()
        assert raws(folder) == []
        clock.release()
        await appending
        assert raws(folder) == [body(alert("a"))]


async def test_what_it_made_of_a_record_is_durable_with_it(folder: Path) -> None:
    async with started(folder, first=paging()) as pipeline:
        await pipeline.put(alert("a"))
        assert len(kept(folder, "incidents.enriched")) == 1
        assert len(kept(folder, "escalations", Escalation)) == 1


async def test_entries_are_appended_together_and_in_order(folder: Path) -> None:
    async with started(folder) as pipeline:
        await pipeline.runtime.append([raw(value=b"%d" % n) for n in range(50)])
        assert raws(folder) == [b"%d" % n for n in range(50)]


async def test_appending_nothing_is_done_at_once(folder: Path) -> None:
    async with started(folder) as pipeline:
        await pipeline.runtime.append([])


async def test_many_appends_share_one_transaction(folder: Path) -> None:
    clock = HeldClock()
    async with started(folder, clock=clock) as pipeline:
        clock.hold()
        first = asyncio.create_task(pipeline.put(alert("first")))
        await clock.held()
        others = [asyncio.create_task(pipeline.put(alert(f"a{n}"))) for n in range(100)]
        await asyncio.sleep(0)
        before = commits(folder)
        clock.release()
        await first
        await asyncio.gather(*others)
        assert len(raws(folder)) == 101
        assert commits(folder) - before <= 3  # the first, the hundred, and perhaps one that folds what was left


async def test_a_cancelled_append_harms_nobody(folder: Path) -> None:
    clock = HeldClock()
    async with started(folder, clock=clock) as pipeline:
        clock.hold()
        impatient = asyncio.create_task(pipeline.put(alert("a")))
        patient = asyncio.create_task(pipeline.put(alert("b")))
        await clock.held()
        impatient.cancel()
        clock.release()
        await patient
        assert impatient.cancelled()
    assert body(alert("b")) in raws(folder)


async def test_an_unknown_topic_is_refused_at_the_door(folder: Path) -> None:
    async with started(folder) as pipeline:
        with pytest.raises(Defect, match="no topic is called 'nonsense'"):
            await pipeline.runtime.append([raw(alert("a")), Entry("nonsense", b"", b"")])
        await pipeline.put(alert("b"))
        assert raws(folder) == [body(alert("b"))]


# -- backpressure ----------------------------------------------------------------------------------------------------


async def test_a_full_queue_turns_senders_away_and_takes_nothing(folder: Path) -> None:
    clock = HeldClock()
    config = Config(synchronous="normal", queue_bytes=1024)
    async with started(folder, clock=clock, config=config) as pipeline:
        append = pipeline.runtime.append
        clock.hold()
        taken = [asyncio.create_task(append([raw(value=b"first")]))]
        await clock.held()
        taken += [asyncio.create_task(append([raw(value=b"x" * 512)])) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="more arrives than the disk or the stages can take") as refusal:
            await append([raw(value=b"y")])
        assert refusal.value.retry_after == 2
        clock.release()
        await asyncio.gather(*taken)
        await append([raw(value=b"later")])
    assert raws(folder) == [b"first", b"x" * 512, b"x" * 512, b"later"]


async def test_what_is_larger_than_the_queue_goes_in_alone(folder: Path) -> None:
    async with started(folder, config=Config(synchronous="normal", queue_bytes=1024)) as pipeline:
        await pipeline.runtime.append([raw(value=b"x" * 5000)])
        assert raws(folder) == [b"x" * 5000]


async def test_a_backlog_turns_senders_away_until_it_is_folded(folder: Path) -> None:
    gate, calls = threading.Event(), iter(range(1_000_000))

    def slow(event: Any, rows: Rows, now: datetime, config: Any) -> Step:
        call = next(calls)
        if call == 0:
            time.sleep(2 * ROUND)  # longer than a round may fold: what is left waits for the next one
        elif call == FEW:
            assert gate.wait(PATIENCE)
        return normalise.step(event, rows, now, config)

    config = Config(synchronous="normal", backlog=FEW - 1)
    async with started(folder, config=config, topology=broken("normalise", slow)) as pipeline:
        await pipeline.runtime.append([raw(alert("a"))] * 2 * FEW)
        with pytest.raises(Overloaded):
            await pipeline.put(alert("b"))
        gate.set()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await pipeline.put(alert("c"))
                    break
                except Overloaded:
                    await asyncio.sleep(0.005)
    assert len(raws(folder)) == 2 * FEW + 1


# -- stopping --------------------------------------------------------------------------------------------------------


async def test_a_stop_under_load_answers_everybody_with_the_truth(folder: Path) -> None:
    taken: list[bytes] = []
    turned_away = 0
    one_is_in = asyncio.Event()

    async with started(folder) as pipeline:

        async def post(number: int) -> None:
            nonlocal turned_away
            for part in range(1000):
                value = body(alert(f"{number}-{part}"))
                try:
                    await pipeline.runtime.append([raw(value=value)])
                except Overloaded:
                    turned_away += 1
                    return
                taken.append(value)
                one_is_in.set()

        posters = [asyncio.create_task(post(number)) for number in range(50)]
        await one_is_in.wait()
        await pipeline.runtime.stop()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*posters)
    assert turned_away == 50
    assert sorted(raws(folder)) == sorted(taken)
    SqliteJournal(folder, TOPICS).close()


async def test_stopping_twice_or_before_the_start_does_no_harm(folder: Path) -> None:
    async with started(folder) as pipeline:
        await pipeline.runtime.stop()
        assert pipeline.runtime.standing()["why_not"] == "it is told to stop"
        await pipeline.runtime.stop()


async def test_a_stop_while_it_catches_up_does_not_wait_for_the_head(folder: Path) -> None:
    leave_unfolded(folder, [raw(alert("a"))] * 3 * BATCH)
    clock = HeldClock()
    begun = threading.Event()

    def telling(event: Any, rows: Rows, now: datetime, config: Any) -> Step:
        begun.set()
        time.sleep(0.0005)
        return normalise.step(event, rows, now, config)

    async def start() -> dict[str, IntentRow]:
        async with started(folder, clock=clock, topology=broken("normalise", telling)) as pipeline:
            return pipeline.intents

    starting = asyncio.create_task(start())
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    journal = SqliteJournal(folder, TOPICS)
    try:
        _, position = journal.load("normalise", 0)
        assert position is not None
        assert position.next_offset < 3 * BATCH
    finally:
        journal.close()


# -- failing ---------------------------------------------------------------------------------------------------------


def _poisonous(event: Any, rows: Rows, now: datetime, config: Any) -> Step:
    if b"poison" in event.body:
        raise Defect("a promise does not hold")
    return normalise.step(event, rows, now, config)


async def _drown(pipeline: Pipeline, clock: HeldClock, poison: bytes) -> list[BaseException | None]:
    """Post while a round is held: two that share it with the poison, one that waits for the next."""
    clock.hold()
    first = asyncio.create_task(pipeline.put(alert("held")))
    await clock.held()
    posts = [asyncio.create_task(pipeline.runtime.append([raw(value=value)])) for value in (b"{}", poison, b"[]")]
    await asyncio.sleep(0)
    clock.release()
    await first
    return await asyncio.gather(*posts, return_exceptions=True)


async def test_a_defect_stops_everything_and_acknowledges_nothing_of_its_round(folder: Path) -> None:
    clock = HeldClock()
    async with started(folder, clock=clock, topology=broken("normalise", _poisonous)) as pipeline:
        answers = await _drown(pipeline, clock, b'{"poison": 1}')
        assert [str(answer) for answer in answers] == ["the pipeline has stopped"] * 3
        assert [type(answer) for answer in answers] == [Overloaded] * 3
        with pytest.raises(Overloaded, match="the pipeline has stopped"):
            await pipeline.put(alert("too late"))
        await pipeline.runtime.stop()
        assert [str(error) for error in pipeline.fatal] == ["a promise does not hold"]
        assert pipeline.runtime.standing() == {
            "ready": False,
            "why_not": "a promise does not hold",
            "decisions": pipeline.runtime.standing()["decisions"],
        }
    assert raws(folder) == [body(alert("held"))]
    async with started(folder) as mended:
        await mended.put(alert("b"))
        assert mended.fatal == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_nobody_foresaw_stops_everything_too(folder: Path) -> None:
    clock = WildClock(T0)
    async with started(folder, clock=clock) as pipeline:
        clock.broken = True
        with pytest.raises(Overloaded):
            await pipeline.put(alert("a"))
        await pipeline.runtime.stop()
        assert [(type(error), str(error)) for error in pipeline.fatal] == [
            (Defect, "ZeroDivisionError: the clock fell off the wall")
        ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_nobody_foresaw_at_the_start_is_raised_there(folder: Path) -> None:
    clock = WildClock(T0)
    clock.broken = True
    with pytest.raises(Defect, match="ZeroDivisionError"):
        async with started(folder, clock=clock):
            pytest.fail("it started")


async def test_a_start_that_fails_says_why_and_gives_the_directory_back(folder: Path) -> None:
    async with started(folder):
        with pytest.raises(Unusable, match="another streamproc works in"):
            async with started(folder):
                pytest.fail("two at once")
    async with started(folder) as pipeline:
        assert pipeline.runtime.standing()["ready"] is True


async def test_a_row_that_cannot_be_read_is_a_clear_stop(folder: Path) -> None:
    async with started(folder) as pipeline:
        await pipeline.put(alert("a"))
    journal = SqliteJournal(folder, TOPICS)
    with journal.transaction():
        journal._db.execute("UPDATE rows SET value='{' WHERE tbl='incident'")
    journal.close()
    with pytest.raises(StorageFailure, match=r"what was kept cannot be read: [^\n]*docs/operations\.md"):
        async with started(folder):
            pytest.fail("it started")


async def test_a_log_that_was_cut_is_a_clear_stop(folder: Path) -> None:
    async with started(folder) as pipeline:
        await pipeline.put(alert("a"))
    journal = SqliteJournal(folder, TOPICS)
    with journal.transaction():
        journal._db.execute("DELETE FROM log WHERE topic=(SELECT number FROM topics WHERE name='alerts')")
    journal.close()
    with pytest.raises(Defect, match="alerts/0 holds offsets 0 to 0, but deduplicate stands at"):
        async with started(folder):
            pytest.fail("it started")


async def test_a_full_disk_stops_it_and_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    with small_disk(tmp_path, "6m") as disk:
        folder, ballast = disk.path / "data", disk.path / "ballast"
        ballast.write_bytes(bytes(2 * 1024 * 1024))
        taken: list[bytes] = []
        async with started(folder, config=Config()) as pipeline:
            with pytest.raises(Overloaded):
                await _post_for_ever(pipeline, taken)
            await pipeline.runtime.stop()
            assert [type(error) for error in pipeline.fatal] == [StorageFailure]
            assert "database or disk is full; free some disk, then start again" in str(pipeline.fatal[0])
        assert taken
        ballast.unlink()
        async with started(folder) as again:
            await again.put(alert("more"))
        assert raws(folder) == [*taken, body(alert("more"))]
        assert sum(incident.open_count for incident in _open_incidents(folder)) >= 1


async def _post_for_ever(pipeline: Pipeline, taken: list[bytes]) -> None:
    for number in itertools.count():
        value = body(alert(f"a{number}", "x" * 1000))
        await pipeline.runtime.append([raw(value=value)])
        taken.append(value)


def _open_incidents(folder: Path) -> list[Incident]:
    return [one for one in records(folder, "incidents.enriched", Incident) if one.status == "open"]


# -- catching up -----------------------------------------------------------------------------------------------------


async def test_it_folds_what_waited_before_anything_can_be_sent(folder: Path) -> None:
    async with started(folder, first=paging()):
        pass
    came_and_went = [raw(alert("a")), raw(alert("a", status="resolved")), raw(alert("b"))]
    leave_unfolded(folder, came_and_went)
    async with started(folder) as pipeline:
        assert sorted([said.action for said in row.pending] for row in pipeline.intents.values()) == [
            [PageAction.RESOLVE],
            [PageAction.TRIGGER],
        ]
        assert pipeline.runtime.standing()["ready"] is True


async def test_timers_that_came_due_while_it_was_down_fire_before_anything_is_sent(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=paging()) as pipeline:
        await pipeline.put(alert("a", severity="error"))
        await pipeline.put(alert("a", severity="error", status="resolved"))
        again = T0 + timedelta(minutes=2)
        clock.set(again)
        await pipeline.put(alert("a", severity="error", since=again))
    clock.set(T0 + timedelta(hours=1))
    async with started(folder, clock=clock) as pipeline:
        # The hold of the incident that came back is over; it was not when the process ended.
        assert [[said.action for said in row.pending] for row in pipeline.intents.values()] == [
            [PageAction.RESOLVE, PageAction.TRIGGER]
        ]


async def test_first_words_are_chosen_when_all_that_waited_is_folded(folder: Path) -> None:
    leave_unfolded(folder, [raw(alert("a"))])
    seen: list[tuple[bool, int]] = []

    def first(engine: Engine) -> list[Entry]:
        rows = engine.part("decide").rows
        seen.append((engine.idle, sum(1 for _ in rows.scan(INCIDENT))))
        return [raw(alert("b"))]

    async with started(folder, first=first):
        assert seen == [(True, 1)]
        assert len(kept(folder, "incidents.enriched")) == 2


# -- timers, spool, retention ----------------------------------------------------------------------------------------


async def test_timers_fire_while_nothing_else_happens(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, first=paging()) as pipeline:
        await pipeline.put(alert("a"))
        assert len(kept(folder, "episodes", Episode)) == 1
        clock.advance(timedelta(days=2))
        await pipeline.until(lambda: pipeline.runtime.tally.decisions["deduplicate/put_off"] > 0)


async def test_a_command_reaches_a_running_pipeline(folder: Path) -> None:
    async with started(folder) as pipeline:
        taken = await asyncio.to_thread(submit, folder, [policy(), raw(alert("a"))], PATIENCE)
        assert taken is True
        await pipeline.until(lambda: len(raws(folder)) == 1)
        decisions = pipeline.runtime.standing()["decisions"]
        assert isinstance(decisions, dict)
        assert decisions["escalate/armed"] == 1


async def test_a_command_waits_for_the_next_start(folder: Path) -> None:
    async with started(folder):
        pass
    assert submit(folder, [policy()], wait=0) is False
    async with started(folder) as pipeline:
        await pipeline.until(lambda: len(kept(folder, "policies")) == 1)


async def test_old_records_go_while_it_runs(folder: Path) -> None:
    clock = ManualClock(T0)
    async with started(folder, clock=clock, trim_every=0.0) as pipeline:
        await pipeline.put(alert("a"))
        await pipeline.put(alert("a"))
        clock.advance(timedelta(days=400))
        await pipeline.put(alert("b", since=clock.now()))
        await pipeline.until(lambda: raws(folder) == [body(alert("b", since=clock.now()))])
    async with started(folder, clock=clock) as again:
        await again.put(alert("c", since=clock.now()))
        assert again.fatal == []


# -- what the sender hears -------------------------------------------------------------------------------------------


async def test_intents_are_offered_after_their_commit(folder: Path) -> None:
    offered: list[tuple[Mapping[str, IntentRow | None], int]] = []
    async with started(folder, first=paging()) as pipeline:
        pipeline.runtime.offer_to(
            lambda changes: offered.append((changes, len(kept(folder, "escalations", Escalation)))), lambda _: None
        )
        await pipeline.put(alert("a"))
        (changes, durable) = offered.pop()
        (key, row) = next(iter(changes.items()))
        assert durable == 1
        assert row is not None
        assert [said.action for said in row.pending] == [PageAction.TRIGGER]
        await pipeline.runtime.append([outcome_of(row.pending[0])])
        assert [said.pending for said in offered.pop()[0].values() if said is not None] == [()]
        await pipeline.put(alert("a", status="resolved"))
        (changes, _) = offered.pop()
        resolving = changes[key]
        assert resolving is not None
        await pipeline.runtime.append([outcome_of(resolving.pending[0])])
        assert offered.pop()[0] == {key: None}
        await pipeline.put(alert("b", severity="info"))
        assert offered == []


async def test_what_is_decided_before_somebody_listens_is_told_later(folder: Path) -> None:
    offered: list[Mapping[str, IntentRow | None]] = []
    async with started(folder, first=paging()) as pipeline:
        await pipeline.put(alert("a"))
        await pipeline.put(alert("b"))
        pipeline.runtime.offer_to(offered.append, lambda _: None)
        assert [len(changes) for changes in offered] == [2]


async def test_pages_without_a_routing_key_are_told(folder: Path) -> None:
    nowhere: list[Page] = []
    async with started(folder, first=[policy()]) as pipeline:
        pipeline.runtime.offer_to(lambda _: None, nowhere.extend)
        await pipeline.put(alert("a"))
        assert [(page.destination, page.message) for page in nowhere] == [
            ("default", "destination default has no routing key")
        ]
        await pipeline.put(alert("a"))
        assert len(nowhere) == 1


# -- one bad input ---------------------------------------------------------------------------------------------------


async def test_poison_becomes_a_dead_letter_and_the_rest_goes_on(folder: Path) -> None:
    async with started(folder) as pipeline:
        await pipeline.runtime.append([raw(value=b"\xff\x00 no json"), raw(alert("a"))])
        assert [(letter.topic, letter.offset, letter.value) for letter in letters(folder)] == [
            ("alerts.raw", 0, b"\xff\x00 no json")
        ]
        assert len(kept(folder, "incidents.enriched")) == 1


async def test_errors_of_the_sensor_are_none_of_a_senders_business(folder: Path) -> None:
    errors: list[StreamprocError] = []
    async with started(folder, config=QUICK) as pipeline:
        pipeline.fatal = errors
        await pipeline.put(alert("a"))
    assert errors == []
