"""What people see of a pipeline on Kafka: the same as of one on one machine; and how the copy is kept right."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import RecordsToDelete  # type: ignore[import-untyped]

from streamproc.core.errors import Transient, Unusable
from streamproc.core.fold import CONFIG
from streamproc.core.record import Position, Record
from streamproc.core.step import ACTIVE, ActiveRow
from streamproc.events.escalation import Page, PageAction, Verdict
from streamproc.events.feedback import ARM, Matcher, Policy, PolicyKind
from streamproc.ports import Entry
from streamproc.runtime.clock import Clock, ManualClock, SystemClock
from streamproc.runtime.embedded.desk import SqliteDesk
from streamproc.runtime.embedded.journal import FILE
from streamproc.runtime.faust import topics as catalogue
from streamproc.runtime.faust.client import (
    AIOKafkaConsumer,
    OffsetAndMetadata,
    Place,
    TopicPartition,
    admin_client,
    options,
    writer,
)
from streamproc.runtime.faust.codec import POSITION, position_bytes, row_key
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.desk import KafkaDesk
from streamproc.runtime.faust.group import Group, GroupStanding
from streamproc.runtime.faust.guards import FailStop
from streamproc.runtime.faust.inlet import KafkaInlet
from streamproc.runtime.faust.mirror import Mirror, look
from streamproc.runtime.faust.mirrorfile import FOLDER, Chunk, MirrorFile
from streamproc.runtime.faust.shown import Shown, shown_text
from streamproc.runtime.faust.worker import Worker
from streamproc.state import INTENT, POLICY, IntentRow, PolicyRow
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from streamproc.views import IncidentView, WorkerStatus
from tests.embedded.pipelines import T0, alert, outcome_of, paging, raw, started
from tests.kafka.broker import Broker

WITHIN = 60.0
WORKER = WorkerStatus(name="w", host="h", partitions=1)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN):
        while not holds():  # noqa: ASYNC110  what it waits for happens in a file, or at the broker
            await asyncio.sleep(0.05)


@asynccontextmanager
async def mirrored(config: Config, folder: Path, *, clock: Clock | None = None) -> AsyncIterator[Mirror]:
    mirror = Mirror(config, TOPICS, folder, clock)
    try:
        await mirror.start()
        yield mirror
    finally:
        await mirror.stop()


@asynccontextmanager
async def followed(config: Config, folder: Path) -> AsyncIterator[KafkaDesk]:
    async with mirrored(config, folder) as mirror:
        running = asyncio.create_task(mirror.run())
        yield KafkaDesk(folder, mirror.group)
        assert not running.done()
        running.cancel()


async def made(config: Config) -> None:
    await catalogue.apply(config, catalogue.wanted(TOPICS, TOPOLOGY, config))


def file_of(folder: Path) -> Path:
    return folder / FOLDER / FILE


def asked(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(statement).fetchall()


def logged(path: Path) -> list[Any]:
    return asked(
        path, "SELECT t.name, l.off, l.key, l.value FROM log l JOIN topics t ON t.number=l.topic ORDER BY 1, 2"
    )


def outcomes(path: Path) -> list[Entry]:
    """Return what a sender reports once PagerDuty took everything that waits."""
    rows = asked(path, "SELECT value FROM rows WHERE node='deliver' AND tbl='intent' ORDER BY key")
    return [outcome_of(row.pending[-1]) for (value,) in rows if (row := IntentRow.model_validate_json(value)).pending]


# -- the same as on one machine ---------------------------------------------------------------------------------------

LATER = {
    "incident_id",
    "opened_at",
    "resolved_at",
    "changed_at",
    "joined_at",
    "at",
    "sent_at",
    "now",
    "receipt",
    "detail",
    "trail",
}


def timeless(view: Any) -> Any:
    """Return what does not depend on when it happened; the id of an incident does."""
    if isinstance(view, dict):
        return {name: timeless(each) for name, each in view.items() if name not in LATER}
    return [timeless(each) for each in view] if isinstance(view, list | tuple) else view


def shown_by(desk: SqliteDesk) -> dict[str, Any]:
    incidents = {status: desk.incidents(status, 50, "") for status in ("open", "resolved", "all")}
    views = [desk.incident(one.incident_id) for one in incidents["all"]]
    assert all(isinstance(view, IncidentView) for view in views)
    letters = desk.dead_letters(50, "")
    assert [desk.dead_letter(letter.letter_id) for letter in letters] == letters
    status = desk.status()
    active = desk.active(CONFIG)
    assert active is not None
    return {
        "incidents": {
            name: timeless(sorted((each.model_dump(mode="json") for each in found), key=lambda one: one["title"]))
            for name, found in incidents.items()
        },
        "members": sorted(str([(one.member.name, one.firing) for one in view.members]) for view in views if view),
        "pages": sorted(
            (view.summary.title, page.action, page.verdict) for view in views if view for page in view.pages
        ),
        "told": sorted(str([entry.what for entry in view.timeline]) for view in views if view),
        "letters": sorted((letter.reason, letter.topic, letter.value) for letter in letters),
        "policies": [policy.model_dump() for policy in desk.policies()],
        "active": active,
        "body": desk.body(active),
        "counts": (status.armed, status.open_incidents, status.paged_incidents, status.waiting_to_send),
        "dead": status.dead_letters,
    }


class Inputs:
    """What is put into either pipeline."""

    def __init__(self) -> None:
        since = datetime.now(UTC) - timedelta(minutes=1)
        silence = Policy(
            policy_id="quiet", kind=PolicyKind.SILENCE, version=1, starts_at=T0, ends_at=since + timedelta(days=1),
            author="ann", matchers=(Matcher(name="service", op="=", value="nobody"),),
        )  # fmt: skip
        self.first = [*paging(), Entry.of("policies", silence)]
        self.opening = [raw(alert(name, since=since)) for name in "abc"] + [raw(value=b"broken")]
        self.closing = [raw(alert("b", since=since, status="resolved"))]


async def on_one_machine(inputs: Inputs, folder: Path) -> dict[str, Any]:
    async with started(folder, clock=SystemClock(), first=inputs.first) as pipeline:
        desk = SqliteDesk(folder)
        await pipeline.runtime.append(inputs.opening)
        await pipeline.until(lambda: desk.status().waiting_to_send == 3)
        await pipeline.runtime.append(outcomes(folder / FILE))
        await pipeline.until(lambda: desk.status().waiting_to_send == 0)
        await pipeline.runtime.append(inputs.closing)
        await pipeline.until(lambda: desk.status().waiting_to_send == 1)
        return shown_by(desk)


async def test_the_same_is_seen_as_of_one_machine(config: Config, tmp_path: Path) -> None:
    inputs = Inputs()
    await made(config)
    stopped: list[FailStop] = []
    worker = Worker(config, TOPOLOGY, TOPICS, LETTERS, SystemClock(), leave=stopped.append)
    inlet = KafkaInlet(config, TOPICS, SystemClock())
    await inlet.append(inputs.first)
    folder = tmp_path / "copy"
    try:
        await worker.start()
        async with followed(config, folder) as desk:
            await until(lambda: desk.status().ready and desk.active(CONFIG) is not None and desk.status().armed)
            await until(lambda: all(node.now is not None for node in desk.status().nodes if node.node == "decide"))
            await inlet.append(inputs.opening)
            await until(lambda: desk.status().waiting_to_send == 3)
            await inlet.append(outcomes(file_of(folder)))
            await until(lambda: desk.status().waiting_to_send == 0)
            await inlet.append(inputs.closing)
            await until(lambda: desk.status().waiting_to_send == 1 and desk.status().dead_letters == 1)
            await until(lambda: len(desk.incidents("resolved")) == 1)
            seen = shown_by(desk)
            (member,) = desk.status().workers
            assert (member.host, member.partitions) == ("127.0.0.1", sum(n.inbox.partitions for n in TOPOLOGY))
            assert desk.attended()
            await until(lambda: not any(node.lag for node in desk.status().nodes))
            await until(lambda: not desk.status().why_not)
            assert {node.node for node in desk.status().nodes} == {node.name for node in TOPOLOGY}
            assert sum(node.rows for node in desk.status().nodes) > 0
    finally:
        await worker.stop()
        await inlet.stop()
    assert not stopped
    assert seen == await on_one_machine(inputs, tmp_path / "embedded")
    kept = logged(file_of(folder))
    again = await look(config, TOPICS, folder)
    assert logged(file_of(folder)) == kept, "a restart goes on where it was"
    fresh = await look(config, TOPICS, tmp_path / "fresh")
    assert shown_by(fresh) == shown_by(again) == seen
    status = fresh.status()
    assert (status.ready, status.why_not, status.workers) == (False, "no worker runs", ())
    assert not any(node.lag for node in status.nodes), "what no fold will ever see does not wait"
    newest_first = [one.changed_at for one in fresh.incidents("all", 50, "")]
    assert newest_first == sorted(newest_first, reverse=True), "also where partitions were read one after the other"


# -- crafted topics ---------------------------------------------------------------------------------------------------


async def put(config: Config, topic: str, records: Iterable[tuple[int, bytes, bytes | None]]) -> None:
    producer = await writer(config)
    for partition, key, value in records:
        await producer.send_and_wait(config.topic(topic), key=key, value=value, partition=partition)
    await producer.stop()


def policy_row(version: int) -> bytes:
    policy = Policy(policy_id=ARM, kind=PolicyKind.ARM, version=version, starts_at=T0, adopt=False)
    return PolicyRow(policy=policy).model_dump_json().encode()


def active_row(version: int) -> bytes:
    return ActiveRow(kind=CONFIG, version=version, checksum=f"c{version}").model_dump_json().encode()


def page(incident_id: str, seq: int = 1) -> bytes:
    return Page(
        incident_id=incident_id, destination="default", dedup_key=f"dk:{incident_id}", action=PageAction.TRIGGER,
        seq=seq, verdict=Verdict.DELIVERED, sent_at=T0, decided_at=T0, routing_key_hint="0000",
    ).encode()  # fmt: skip


ARMED, CONFIGURED = row_key(POLICY.at(ARM)), row_key(ACTIVE.at(CONFIG))


async def test_the_newest_version_of_any_partition_counts(config: Config, tmp_path: Path) -> None:
    await made(config)
    await put(config, "state-decide", [(0, ARMED, policy_row(2)), (0, CONFIGURED, active_row(5))])
    async with mirrored(config, tmp_path) as mirror:
        await mirror.catch_up(["state-decide"])
        desk = KafkaDesk(tmp_path, mirror.group)
        garbage = position_bytes(Position(3, T0, "x"))
        await put(config, "state-decide", [(1, ARMED, policy_row(1)), (1, POSITION, garbage), (1, b"mute\0x", b"{}")])
        await put(config, "state-decide", [(1, CONFIGURED, active_row(4)), (2, CONFIGURED, active_row(6))])
        await mirror.catch_up(["state-decide"])
        assert [policy.version for policy in desk.policies()] == [2]
        assert desk.active(CONFIG) == ActiveRow(kind=CONFIG, version=6, checksum="c6")
        await put(config, "state-decide", [(0, ARMED, None), (2, CONFIGURED, None), (3, CONFIGURED, None)])
    desk = await look(config, TOPICS, tmp_path, only=["state-decide"])  # another process
    assert [policy.version for policy in desk.policies()] == [1], "what others still hold stands"
    assert desk.active(CONFIG) == ActiveRow(kind=CONFIG, version=5, checksum="c5")
    await put(config, "state-decide", [(1, ARMED, None)])
    await put(config, "policies", [(0, b"", b"no policy")])
    desk = await look(config, TOPICS, tmp_path)
    assert desk.policies() == []
    tables = {table for (table,) in asked(file_of(tmp_path), "SELECT DISTINCT tbl FROM rows")}
    assert tables == {ACTIVE.name}


async def test_only_what_is_named_is_read(config: Config, tmp_path: Path) -> None:
    await made(config)
    await put(config, "pages", [(0, b"in:1", page("in:1"))])
    await put(config, "dead-letters", [(0, b"dl:1", b"{}")])
    await put(config, "state-deliver", [(0, row_key(INTENT.at("k")), IntentRow().model_dump_json().encode())])
    await look(config, TOPICS, tmp_path, only=["pages"])
    assert [name for name, *_ in logged(file_of(tmp_path))] == ["pages"]
    await look(config, TOPICS, tmp_path)
    assert [name for name, *_ in logged(file_of(tmp_path))] == ["dead-letters", "pages"]
    assert asked(file_of(tmp_path), "SELECT node, tbl, key FROM rows") == [("deliver", INTENT.name, "k")]


async def made_anew(config: Config, topic: str) -> None:
    wanted = [each for each in catalogue.wanted(TOPICS, TOPOLOGY, config) if each.name == config.topic(topic)]
    async with admin_client(config) as client:
        await client.delete_topics([wanted[0].name])
    async with asyncio.timeout(WITHIN):
        while await catalogue.describe(config, wanted):  # noqa: ASYNC110  the broker tells nobody
            await asyncio.sleep(0.05)
    await catalogue.apply(config, wanted)


async def test_a_topic_made_anew_is_followed_from_its_beginning(config: Config, tmp_path: Path) -> None:
    await made(config)
    await put(config, "pages", [(0, b"in:old", page("in:old"))])
    await put(config, "dead-letters", [(0, b"dl:1", b"{}")])
    path = file_of(tmp_path)
    async with followed(config, tmp_path):
        await until(lambda: len(logged(path)) == 2)
        await made_anew(config, "pages")
        await put(config, "pages", [(0, b"in:new", page("in:new"))])
        await until(lambda: path.is_file() and [key for _, _, key, _ in _tried(path)] == [b"dl:1", b"in:new"])
    with pytest.raises(Transient, match="does not exist; run `streamproc topics apply`"):
        await look(config.model_copy(update={"prefix": "nowhere."}), TOPICS, tmp_path)


async def test_a_topic_that_is_cut_behind_the_reader_begins_anew(config: Config, tmp_path: Path) -> None:
    await made(config)
    async with mirrored(config, tmp_path) as mirror:
        await mirror.catch_up(["pages"])
        await put(config, "pages", [(0, b"in:%d" % at, page("in:1")) for at in range(5)])
        async with admin_client(config) as client:
            await client.delete_records({TopicPartition(config.topic("pages"), 0): RecordsToDelete(before_offset=3)})
        await mirror.catch_up(["pages"])
        assert [key for _, _, key, _ in logged(file_of(tmp_path))] == [b"in:3", b"in:4"]


async def test_old_records_go_while_it_follows(config: Config, tmp_path: Path) -> None:
    await made(config)
    clock = ManualClock(datetime.now(UTC))
    async with mirrored(config, tmp_path, clock=clock) as mirror:
        await put(config, "pages", [(0, b"in:%d" % at, page("in:1")) for at in range(3)])
        await mirror.catch_up(["pages"])
        await mirror.group.refresh()
        clock.advance(timedelta(days=200))
        await mirror._trim()
        assert [key for _, _, key, _ in logged(file_of(tmp_path))] == [b"in:2"], "the last one keeps the count"
        assert {position.now for position in mirror._file.positions.values()} == {clock.now()}


def _tried(path: Path) -> list[Any]:
    """Return what is logged, nothing while the file is made anew."""
    try:
        return logged(path)
    except sqlite3.OperationalError:
        return []


SPOILT = {
    "behind the end": "UPDATE positions SET off=99 WHERE node LIKE '%pages/0'",
    "another topic": "UPDATE positions SET topic_id='another' WHERE node LIKE '%pages/0'",
    "another installation": "UPDATE positions SET node='other.pages/0' WHERE node LIKE '%pages/0'",
    "too old for tombstones": "UPDATE positions SET now=0 WHERE node LIKE '%state-decide/0'",
}


async def test_a_copy_that_does_not_fit_is_built_anew(config: Config, tmp_path: Path) -> None:
    await made(config)
    await put(config, "pages", [(0, b"in:1", page("in:1"))])
    await look(config, TOPICS, tmp_path)
    fitting = logged(file_of(tmp_path))
    for case, spoil in SPOILT.items():
        with closing(sqlite3.connect(file_of(tmp_path))) as db, db:
            db.execute(spoil)
            db.execute("UPDATE log SET value='wrong'")
        await look(config, TOPICS, tmp_path)
        assert logged(file_of(tmp_path)) == fitting, case


async def test_a_broker_that_is_away_is_waited_for(broker: Broker, config: Config, tmp_path: Path) -> None:
    await made(config)
    path = file_of(tmp_path)
    async with followed(config, tmp_path) as desk:
        await put(config, "pages", [(0, b"in:1", page("in:1"))])
        await until(lambda: len(logged(path)) == 1)
        await until(lambda: desk.status().why_not == "no worker runs")
        await asyncio.to_thread(broker.kill)
        try:
            await until(lambda: desk.status().why_not == "the broker does not answer")
            with pytest.raises(Transient):
                await look(config, TOPICS, tmp_path / "other")
        finally:
            await asyncio.to_thread(broker.start)
        await put(config, "pages", [(0, b"in:2", page("in:2"))])
        await until(lambda: len(logged(path)) == 2)
        await until(lambda: desk.status().why_not == "no worker runs")


async def test_lag_is_what_is_committed_and_not_shown_as_folded(config: Config) -> None:
    await made(config)
    await put(config, "alerts", [(3, b"k", b"{}")] * 5)
    group = Group(config)
    await group.start()
    try:
        await group.refresh()
        before = {(node.node, node.partition): (node.lag, node.rows, node.now) for node in group.standing.nodes}
        consumer = AIOKafkaConsumer(**options(config), group_id=config.group_id, enable_auto_commit=False)
        await consumer.start()
        place = TopicPartition(config.topic("alerts"), 3)
        consumer.assign([place])
        await consumer.commit({place: OffsetAndMetadata(2, shown_text(Shown(T0, 7, ready=False, worker="w1")))})
        await consumer.stop()
        await group.refresh()
    finally:
        await group.stop()
    after = {(node.node, node.partition): (node.lag, node.rows, node.now) for node in group.standing.nodes}
    assert before.pop(("deduplicate", 3)) == (5, 0, None)
    assert after.pop(("deduplicate", 3)) == (3, 7, T0)
    assert before == after
    assert set(after.values()) == {(0, 0, None)}
    assert group.standing.behind == 3


# -- parts without a broker -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("standing", "ready", "why_not"),
    [
        pytest.param(GroupStanding(), False, "the broker does not answer", id="never seen"),
        pytest.param(GroupStanding("Stable", (WORKER,), error="x"), False, "the broker does not answer", id="away"),
        pytest.param(GroupStanding("Empty"), False, "no worker runs", id="empty"),
        pytest.param(GroupStanding("Dead"), False, "no worker runs", id="never joined"),
        pytest.param(
            GroupStanding("PreparingRebalance", (WORKER,)), False, "the group moves partitions", id="rebalance"
        ),
        pytest.param(GroupStanding("Stable", (WORKER,)), True, "", id="at work"),
        pytest.param(GroupStanding("Stable", (WORKER,), behind=7), True, "7 records wait", id="catching up"),
    ],
)
def test_how_the_group_stands(standing: GroupStanding, why_not: str, *, ready: bool) -> None:
    assert (standing.ready, standing.why_not) == (ready, why_not)


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    file_of(tmp_path).write_bytes(b"no database" * 1000)
    copy = MirrorFile(tmp_path, TOPICS)
    copy.open()
    other = MirrorFile(tmp_path, TOPICS)
    with pytest.raises(Unusable, match="another streamproc works in"):
        other.open()
    copy.close()
    assert SqliteDesk(tmp_path / FOLDER).policies() == []


def test_old_records_go_and_the_copy_is_known_to_be_fresh(tmp_path: Path) -> None:
    copy = MirrorFile(tmp_path, TOPICS)
    copy.open()
    place = Place("p.pages", 0)
    write_pages(copy, place, [T0, T0 + timedelta(days=200)])
    now = T0 + timedelta(days=201)
    assert not copy.trim(now)
    copy.confirm(now)
    copy.close()
    assert [off for _, off, _, _ in logged(file_of(tmp_path))] == [1]
    copy.open()
    assert copy.positions[place] == Position(2, now, "id")
    copy.close()


def write_pages(copy: MirrorFile, place: Place, stamps: Sequence[datetime]) -> None:
    records = [Record("pages", 0, at, page("in:1"), stamp, b"in:1") for at, stamp in enumerate(stamps)]
    copy.write(Chunk(records, reached={place: Position(len(stamps), T0, "id")}))
