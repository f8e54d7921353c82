"""Parts of the Kafka runtime that need no broker."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from streamproc.core.errors import Defect
from streamproc.core.event import Activated, Wake
from streamproc.core.record import Outgoing, Position, Record
from streamproc.core.table import RowKey, RowStore
from streamproc.events.escalation import Page
from streamproc.events.feedback import Policy, PolicyKind
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.faust import chatter
from streamproc.runtime.faust.client import KafkaError, Place, options
from streamproc.runtime.faust.codec import address_of, partition_of, position_bytes, position_of, record_of, row_key
from streamproc.runtime.faust.commit import Router, commit
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.folding import STUCK_AFTER, Folding
from streamproc.runtime.faust.guards import FailStop, StallWatch, Stop, fail_stop
from streamproc.runtime.faust.part import OwnedPart
from streamproc.runtime.faust.sending import offer_to
from streamproc.runtime.faust.standing import Standing, _take
from streamproc.runtime.faust.state import Progress
from streamproc.runtime.faust.versions import Versions
from streamproc.runtime.faust.wakes import Waker
from streamproc.runtime.faust.worker import restoring
from streamproc.runtime.timers import Timers
from streamproc.state import INTENT, IntentRow
from tests.support import toy

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        pytest.param(b"21", -973932308, id="21"),
        pytest.param(b"foobar", -790332482, id="foobar"),
        pytest.param(b"", 275646681, id="nothing"),
    ],
)
def test_keys_go_where_kafkas_own_clients_send_them(key: bytes, hashed: int) -> None:
    """The vectors are those of Kafka's UtilsTest.testMurmur2."""
    assert partition_of(key, 8) == (hashed & 0x7FFFFFFF) % 8
    assert partition_of(key, 1) == 0


@given(st.text(min_size=1).filter(lambda name: "\0" not in name), st.text())
def test_a_row_key_reads_back(table: str, key: str) -> None:
    assert address_of(row_key(RowKey(table, key))) == RowKey(table, key)


@given(st.integers(0, 2**62), st.datetimes(timezones=st.just(UTC)), st.text())
def test_a_position_reads_back(offset: int, now: datetime, topic_id: str) -> None:
    position = Position(offset, now, topic_id)
    assert position_of(position_bytes(position)) == position


def test_a_record_of_a_bridge_has_the_brokers_time() -> None:
    message = SimpleNamespace(
        partition=1, offset=7, value=b"{}", key=None, headers=(("source", b"x"), ("odd", None)), timestamp=1772366400123
    )
    record = record_of(message, "alerts.raw")
    assert record.now == datetime(2026, 3, 1, 12, 0, 0, 123000, tzinfo=UTC)
    assert (record.key, record.headers) == (b"", {"source": b"x", "odd": b""})
    message.value, message.headers = None, ()
    assert record_of(message, "alerts.raw").value == b""


def test_emits_go_to_their_partition_or_to_every_one() -> None:
    config = Config(prefix="p.")
    router = Router(config, toy.TOPICS)
    everywhere = Outgoing("words", b"", b"all", {}, everywhere=True)
    routed = router.route([Outgoing("words", b"ape", b"one", {"type": b"t"}), everywhere])
    at = partition_of(b"ape", 2)
    assert [value for _, value, _ in routed[Place("p.words", at)]] == [b"one", b"all"]
    assert [value for _, value, _ in routed[Place("p.words", 1 - at)]] == [b"all"]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        pytest.param({"sasl": "PLAIN"}, "needs a username", id="a login without a name"),
        pytest.param({"sasl": "OAUTHBEARER"}, "needs a token", id="a login without a token"),
        pytest.param({"prefix": "a b"}, "pattern", id="a prefix that no topic may have"),
    ],
)
def test_settings_that_cannot_work_are_refused(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(given_)


def test_clients_are_told_how_to_log_in(tmp_path: Path) -> None:
    plain = options(Config(sasl="SCRAM-SHA-512", username="u", password=SecretStr("p"), tls=True))
    assert (plain["security_protocol"], plain["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (plain["sasl_plain_username"], plain["sasl_plain_password"]) == ("u", "p")
    token = tmp_path / "token"
    token.write_text("abc\n")
    bearer = options(Config(sasl="OAUTHBEARER", token_file=token))
    assert bearer["security_protocol"] == "SASL_PLAINTEXT"
    assert asyncio.run(bearer["sasl_oauth_token_provider"].token()) == "abc"
    assert options(Config())["security_protocol"] == "PLAINTEXT"


# -- guards ----------------------------------------------------------------------------------------------------------


def test_a_fail_stop_leaves_with_its_own_code() -> None:
    codes: list[int] = []
    fail_stop(FailStop(Stop.POSITION, "offset 3 was handed over twice"), leave=codes.append)
    assert codes == [71]
    assert len({stop.value for stop in Stop}) == len(Stop)


def test_a_fail_stop_leaves_although_its_last_words_fail() -> None:
    codes: list[int] = []

    def dumb(error: FailStop) -> None:
        raise OSError(str(error))

    with pytest.raises(OSError, match="twice"):
        fail_stop(FailStop(Stop.POSITION, "handed over twice"), dumb, codes.append)
    assert codes == [71]


async def test_a_loop_that_stands_still_is_noticed_by_a_thread() -> None:
    left = threading.Event()
    codes: list[int] = []

    def leave(error: FailStop) -> None:
        codes.append(error.code)
        left.set()

    watch = StallWatch(0.6, leave)
    watch.start()
    await asyncio.sleep(0)
    assert left.wait(20)  # this blocks the loop on purpose
    watch.stop()
    assert codes == [Stop.STALLED]


async def test_a_loop_that_stood_still_notices_it_before_it_goes_on() -> None:
    left: list[FailStop] = []
    watch = StallWatch(0.6, left.append)
    watch.look()
    assert not left
    watch._beat -= 1
    watch.look()
    assert [stop.code for stop in left] == [Stop.STALLED]


class Commits:
    """A producer that takes everything."""

    def __init__(self) -> None:
        self._txn_manager = SimpleNamespace(maybe_add_partition_to_txn=lambda place: None, _pid_and_epoch=None)
        self.failing: KafkaError | None = None

    async def begin_transaction(self) -> None:
        return None

    async def commit_transaction(self) -> None:
        if self.failing is not None:
            raise self.failing

    def create_batch(self) -> Any:
        return SimpleNamespace(append=lambda **_: True, close=lambda: None)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[object]:
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def part_at(offset: int) -> OwnedPart:
    node = toy.TOY[1]
    return OwnedPart(node, 0, RowStore(node.tables), Position(offset, BEGINNING, "id"), Timers(), Commits())


def folding(clock: ManualClock | None = None) -> Folding:
    versions = cast("Versions", SimpleNamespace(find=lambda checksum: None))
    return Folding(Config(), toy.TOPICS, toy.LETTERS, versions, clock or ManualClock(T0))


def record(offset: int, now: bytes | None = None) -> Record:
    headers = {} if now is None else {"now": now}
    return Record("lines", 0, offset, toy.Line(sender="a", text="ape").encode(), T0, headers=headers)


async def test_what_was_handed_over_twice_stops_the_process() -> None:
    part = part_at(5)
    with pytest.raises(FailStop, match="handed over where offset 5 was due") as stopped:
        await folding().take(part, [record(4)])
    assert stopped.value.code is Stop.POSITION
    with pytest.raises(FailStop, match="handed over where offset 7 was due"):
        await folding().take(part, [record(6), record(6)])


async def test_gaps_are_legal_and_a_failed_commit_changes_nothing() -> None:
    work, part = folding(), part_at(5)
    part.producer.failing = KafkaError("gone")
    with pytest.raises(KafkaError):
        await work.take(part, [record(8)])
    assert part.position.next_offset == 5
    part.producer.failing = None
    await work.take(part, [record(8)])
    assert part.position.next_offset == 9


async def test_an_unreadable_stamp_is_the_folds_to_refuse() -> None:
    part = part_at(0)
    await folding().take(part, [record(0, b"yesterday")])
    assert part.position.next_offset == 1


async def test_batches_are_as_large_as_the_loop_can_bear() -> None:
    work, part = folding(), part_at(0)
    assert work.limit(part) == 20
    part.seconds = 0.0001
    assert work.limit(part) == 500
    part.seconds = 10.0
    assert work.limit(part) == 20
    part.seconds = 0.0000001
    assert work.limit(part) == Config().batch


async def test_a_commit_without_end_is_an_alarm_only_while_the_broker_answers() -> None:
    work, part = folding(), part_at(0)
    assert work.stuck(part) is None
    part.begun = time.monotonic() - STUCK_AFTER - 1
    work.answered = part.begun - 1
    assert work.stuck(part) is None, "the broker is away for everyone: it is waited for"
    work.answered = time.monotonic()
    alarm = work.stuck(part)
    assert alarm is not None
    assert alarm.code is Stop.COMMIT


async def test_a_record_that_no_topic_takes_is_a_defect() -> None:
    producer = Commits()
    producer.create_batch = lambda: SimpleNamespace(append=lambda **_: None, close=lambda: None)  # type: ignore[method-assign]
    with pytest.raises(Defect, match="larger than any topic takes"):
        await commit(cast("Any", producer), {Place("words", 0): [(b"k", b"v" * 100, [])]})


# -- wakes -----------------------------------------------------------------------------------------------------------


class FakeUpstream:
    def __init__(self, folded: datetime) -> None:
        self.at = folded

    async def folded(self, node: str, now: datetime) -> datetime:
        return min(now, self.at)


class FakeWriter:
    def __init__(self) -> None:
        self.lines: list[tuple[bytes, bytes | None, list[tuple[str, bytes]]]] = []
        self.failing = False

    async def write(self, topic: str, partition: int, lines: Sequence[Any]) -> None:
        if self.failing:
            raise KafkaError("away")
        self.lines.extend(lines)


def waker(clock: ManualClock, upstream: FakeUpstream, writer: FakeWriter, part: OwnedPart) -> Waker:
    return Waker(Config(), clock, cast("Any", upstream), cast("Any", writer), lambda: [part])


async def test_a_wake_waits_for_its_upstream_but_not_for_ever() -> None:
    clock, upstream, writer, part = ManualClock(T0), FakeUpstream(T0 - timedelta(minutes=1)), FakeWriter(), part_at(0)
    part.timers.add(RowKey("count", "ape"), T0)
    wakes = waker(clock, upstream, writer, part)
    assert await wakes.fire() == 0
    clock.advance(timedelta(seconds=119))
    assert await wakes.fire() == 0
    clock.advance(timedelta(seconds=1))
    assert await wakes.fire() == 1
    assert b'"forced":true' in (writer.lines[0][1] or b"")


async def test_a_wake_goes_once_its_upstream_is_past_it() -> None:
    clock, upstream, writer, part = ManualClock(T0), FakeUpstream(T0 + timedelta(days=1)), FakeWriter(), part_at(0)
    part.timers.add(RowKey("count", "ape"), T0)
    part.timers.add(RowKey("count", "bee"), T0 + timedelta(seconds=1))
    wakes = waker(clock, upstream, writer, part)
    assert await wakes.fire() == 1
    key, value, headers = writer.lines[0]
    assert (key, dict(headers)["type"], b'"forced":false' in (value or b"")) == (b"", b"wake.v1", True)
    assert Wake.decode(value or b"", {}).fired == clock.now()


async def test_wakes_that_cannot_be_produced_stay_due() -> None:
    clock, upstream, writer, part = ManualClock(T0), FakeUpstream(T0), FakeWriter(), part_at(0)
    part.timers.add(RowKey("count", "ape"), T0)
    wakes = waker(clock, upstream, writer, part)
    writer.failing = True
    with pytest.raises(KafkaError):
        await wakes.fire()
    writer.failing = False
    assert await wakes.fire() == 1


# -- the rest --------------------------------------------------------------------------------------------------------


def test_intents_are_offered_with_their_partition_and_withdrawn_with_it() -> None:
    offered: list[tuple[dict[str, Any], bool]] = []
    listeners: list[Any] = []
    worker: Any = SimpleNamespace(listen=lambda node, changed, owned: listeners.extend([changed, owned]))
    pages: list[Sequence[Page]] = []
    lost = [cast("Page", object())]

    def offer(changes: Any, *, in_doubt: bool = False) -> None:
        offered.append((dict(changes), in_doubt))

    offer_to(worker, offer, pages.append, lambda: lost)
    changed, owned = listeners
    rows = RowStore([INTENT])
    rows.apply({INTENT.at("k"): IntentRow()})
    part: Any = SimpleNamespace(rows=rows)
    owned(part, True)
    changed(part, {INTENT.at("k"): None, RowKey("active", "config"): None})
    owned(part, False)
    assert offered == [({"k": IntentRow()}, True), ({"k": None}, False), ({"k": None}, False)]
    assert pages == [lost]


def test_how_far_restoring_is_is_said_once_it_is_known() -> None:
    assert restoring(3, 12, []) == "restoring 3 of 12 partitions"
    under_way = [Progress(400_000, 600_000), Progress(12_000, 400_000)]
    assert restoring(3, 12, under_way) == "restoring 3 of 12 partitions (412,000 of 1,000,000 records)"


def test_the_newest_version_stands() -> None:
    standing = Standing()
    for version in (1, 3, 2):
        active = Activated(kind="config", version=version, checksum="0" * 64)
        _take(standing, Activated.TYPE, active.encode())
        policy = Policy(policy_id="arm", kind=PolicyKind.ARM, version=version, starts_at=T0)
        _take(standing, Policy.TYPE, policy.encode())
    _take(standing, Policy.TYPE, b"no JSON")
    _take(standing, "other.v1", b"{}")
    assert (standing.active["config"].version, standing.policies["arm"].version) == (3, 3)


def test_libraries_say_the_same_thing_once(caplog: pytest.LogCaptureFixture) -> None:
    once = chatter._Once()
    said = [logging.LogRecord("aiokafka", logging.ERROR, "conn.py", line, "no", None, None) for line in (1, 1, 2)]
    assert [once.filter(each) for each in said] == [True, False, True]
    for at in range(chatter.KEPT + 5):
        once.filter(logging.LogRecord("aiokafka", logging.ERROR, f"{random.random()}", at, "no", None, None))  # noqa: S311
    assert len(once._said) <= chatter.KEPT + 1
