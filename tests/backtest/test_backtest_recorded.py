"""What was recorded: the log of a data directory and of Kafka, read back, told as it was, and replayed."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from typer.testing import CliRunner

from streamproc.backtest.dossier import ACTIONS
from streamproc.backtest.interleaving import Gathered, compare
from streamproc.backtest.interleaving import told as said
from streamproc.backtest.ledger import masked
from streamproc.backtest.reading import Tally
from streamproc.backtest.recorded import EmbeddedInboxes, Inboxes
from streamproc.backtest.retold import Retold
from streamproc.cli import app
from streamproc.commands.progress import RATES
from streamproc.core.errors import Unusable
from streamproc.events.escalation import Escalation
from streamproc.events.incident import Incident
from streamproc.events.raw import RawAlert
from streamproc.ports import Entry
from streamproc.runtime.embedded.journal import FILE
from streamproc.runtime.faust.client import admin_client, close_producer, writer
from streamproc.runtime.faust.codec import partition_of
from streamproc.runtime.faust.config import Config
from streamproc.runtime.faust.described import Wanted, create
from streamproc.runtime.faust.inboxes import KafkaInboxes
from streamproc.runtime.memory import Memory
from streamproc.settings import load
from streamproc.sinks.pagerduty.encode import encode
from tests.backtest.living import OfMemory, OnEmbedded, check, held, live
from tests.backtest.recording import Backtested, datadog, line
from tests.backtest.recording import alert as recorded
from tests.kafka.broker import Broker, config_for
from tests.kafka.test_kafka_scenarios import OnKafka
from tests.support.play import T0, Play, alert, in_memory, notification, webhook


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which a pipeline has lived."""
    folder = tmp_path_factory.mktemp("lived")
    runtime = OnEmbedded(folder)
    with runtime.running():
        live(runtime)
    return folder


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAGERDUTY_ROUTING_KEY", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def backtested(named: Path | str, *options: str) -> Backtested:
    output = Path("output").absolute()
    result = CliRunner().invoke(app, ["backtest", "--input", str(named), "--output", str(output), *options])
    return Backtested(result, output)


def moment(minutes: float) -> str:
    return (T0 + timedelta(minutes=minutes)).isoformat()


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_log_is_read_from_an_offset_or_a_moment_on(lived: Path) -> None:
    with EmbeddedInboxes(lived) as inboxes:
        start, end = inboxes.start("alerts.raw", 0), inboxes.end("alerts.raw", 0)
        records = list(inboxes.records("alerts.raw", 0, start))
        assert [record.offset for record in records] == list(range(start, end))
        at = inboxes.at("alerts.raw", 0, T0 + timedelta(minutes=4))
        assert [record.stamp >= T0 + timedelta(minutes=4) for record in records] == [n >= at for n in range(end)]
        assert inboxes.at("alerts.raw", 0, T0 + timedelta(days=9)) == end
        assert (inboxes.partitions("alerts.raw"), inboxes.partitions("another")) == ((0,), ())
        assert (inboxes.start("another", 0), inboxes.end("another", 0)) == (0, 0)


def test_what_is_no_version_is_passed_over(lived: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(lived / FILE)) as here, closing(sqlite3.connect(tmp_path / FILE)) as there:
        here.backup(there)
        there.execute(
            "UPDATE log SET value='{' WHERE off=1 AND topic=(SELECT number FROM topics WHERE name='versions')"
        )
        there.commit()
    with EmbeddedInboxes(lived) as inboxes:
        checksums = [record.key.rpartition(b"/")[2].decode() for record in held(inboxes, "versions", 0)]
        assert all(inboxes.version(each) for each in checksums)
    with EmbeddedInboxes(tmp_path) as inboxes:
        assert [inboxes.version(each) is None for each in checksums] == [n == 1 for n in range(len(checksums))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "holds no data of streamproc", id="an empty folder"),
        pytest.param(b"no database, whatever it is called, by far", "cannot be read: file is not", id="no database"),
        pytest.param(b"", "cannot be read: no such table", id="another database"),
    ],
)
def test_a_folder_without_a_log_is_told(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(Unusable, match=said):
        EmbeddedInboxes(tmp_path)


# -- told as it was --------------------------------------------------------------------------------------------------


def logged(inboxes: Inboxes, topic: str, kind: type[Any]) -> list[Any]:
    """Return the events of a topic by moment, then partition and offset."""
    records = [record for p in inboxes.partitions(topic) for record in held(inboxes, topic, p)]
    records.sort(key=lambda record: (record.now, record.partition, record.offset))
    return [kind.decode(each.value, each.headers) for each in records if each.headers["type"] == kind.TYPE.encode()]


def check_told(done: Backtested, inboxes: Inboxes) -> None:
    """Assert that a backtest tells every decision and every page of a log."""
    assert done.result.exit_code == 0, done.result.output
    assert done.report["replayed"] == "inboxes"
    bodies = [orjson.loads(encode(said, delayed_by=None).body) for said in logged(inboxes, "escalations", Escalation)]
    wanted = [{**body, "routing_key": masked(body["routing_key"])} for body in bodies]
    assert sorted(map(orjson.dumps, wanted)) == sorted(orjson.dumps(told["body"]) for told in done.lines("pages"))
    incidents = logged(inboxes, "incidents.enriched", Incident)
    decided: dict[str, tuple[str, ...]] = {}
    for told in incidents:
        for member in told.joined:
            if told.decision is not None:  # what is told is the first decision about an id
                decision = ACTIONS[told.decision.action], told.decision.reason, told.severity.value
                decided.setdefault(member.alert_id, (told.incident_id, *decision))
    names = ("incident_id", "action", "reason", "severity")
    assert {each["alert"]: tuple(each[name] for name in names) for each in done.lines("decisions")} == decided
    assert {told["incident_id"] for told in done.lines("incidents")} == {told.incident_id for told in incidents}


def test_a_data_directory_is_told_as_it_was_decided(lived: Path) -> None:
    done = backtested(lived)
    with EmbeddedInboxes(lived) as inboxes:
        check_told(done, inboxes)
    assert [each["at"] for each in done.lines("pages")] == sorted(each["at"] for each in done.lines("pages"))
    assert "Told exactly as it was decided live" in done.told
    assert done.report["feedback"]["applied"] == 2
    assert done.report["interleaving"] is None
    assert done.report["input"]["catalogue"] is True
    assert "Told exactly as it was decided live" in done.files["report.html"].decode()
    assert done.report["muted"] == {"maintenance": 1}


def test_the_window_leaves_out_what_is_told_and_not_what_is_known(lived: Path) -> None:
    whole = backtested(lived).lines("pages")
    done = backtested(lived, "--from", moment(4), "--to", moment(20))
    shown = [each for each in whole if moment(4) <= each["at"] < moment(20)]
    assert done.lines("pages") == shown
    assert 0 < len(shown) < len(whole)
    assert done.report["input"]["from"] == moment(4)


def test_every_event_of_datadog_is_told_with_the_incident_that_holds_it(tmp_path: Path) -> None:
    runtime = OnEmbedded(tmp_path / "data")
    with runtime.running():
        play = Play(runtime)
        for minute, (event_id, transition) in enumerate((("e1", "Triggered"), ("e2", "Renotify"))):
            told = datadog(60 * minute, event_id, transition)["body"]
            play.at(f"{minute}m").post(RawAlert(body=json.dumps(told).encode(), source="datadog"))
        play.at("2m").push(alert("later", "later"))
    done = backtested(tmp_path / "data")
    incident, _ = done.lines("incidents")
    assert incident["alerts"] == ["e1", "e2"]
    found = [(each["alert"], each["incident_id"]) for each in done.lines("decisions")][:2]
    assert found == [("e1", incident["incident_id"]), ("e2", incident["incident_id"])]


def test_a_trimmed_log_says_so_and_tells_what_is_held(tmp_path: Path) -> None:
    runtime = OnEmbedded(tmp_path / "data")
    with runtime.running():
        play = Play(runtime).at("1m").push(alert("old", "old"))
        play.at("5m").push(alert("new", "new")).at("6m")
    with EmbeddedInboxes(tmp_path / "data") as inboxes:
        first = next(each.offset for each in held(inboxes, "alerts", 0) if b'"old"' in each.value)
    with closing(sqlite3.connect(tmp_path / "data" / FILE)) as db:
        cut = "DELETE FROM log WHERE off<=? AND topic=(SELECT number FROM topics WHERE name='alerts')"
        db.execute(cut, (first,))
        db.commit()
    done = backtested(tmp_path / "data")
    assert done.result.exit_code == 0
    assert "Retention has taken the beginning of the log" in done.told
    assert [len(each["alerts"]) for each in done.lines("incidents")] == [1, 1]
    assert [each["action"] for each in done.lines("decisions")] == ["page", "page"]


# -- replayed under other settings -----------------------------------------------------------------------------------


def test_with_settings_the_requests_are_replayed_with_what_people_did_beside_them(lived: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"escalate": {"page": ["critical"], "ticket": []}}))
    done = backtested(lived, "--config", str(tmp_path / "c.yaml"))
    assert "not those that the log holds" in done.told
    report = done.report
    summaries = {each["body"]["payload"]["summary"] for each in done.lines("pages") if "payload" in each["body"]}
    assert not any("disk" in summary for summary in summaries)
    assert any("db-1" in summary for summary in summaries)
    assert done.result.exit_code == 0, done.result.output
    assert (report["replayed"], report["interleaving"]) == ("requests", None)
    assert report["muted"] == {"maintenance": 1}
    assert report["reasons"]["escalate"]["acknowledged"] == 1
    assert report["funnel"]["alerts"] == backtested(lived).report["funnel"]["alerts"]


def test_a_replay_ends_before_the_end_of_its_window(lived: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}")
    report = backtested(lived, "--config", str(tmp_path / "c.yaml"), "--to", moment(2)).report
    assert report["funnel"]["alerts"] == 4
    assert "acknowledged" not in report["reasons"]["escalate"]
    assert report["input"]["to"] == moment(1)


def test_a_replay_of_a_window_begins_with_the_policies_that_stand(lived: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{}")
    runtime = OnEmbedded(tmp_path / "data")
    with runtime.running():
        play = Play(runtime).silence("early", until="2h", service="web").at("1m").push(alert("old", "old"))
        play.at("30m").push(alert("web down", "web"), alert("new", "new")).at("31m")
    done = backtested(tmp_path / "data", "--config", str(tmp_path / "c.yaml"), "--from", moment(20))
    assert [each["body"]["payload"]["summary"] for each in done.lines("pages")][:1] == ["new"]
    assert done.report["muted"] == {"early": 1}
    assert done.report["funnel"]["alerts"] == 2
    nothing = backtested(tmp_path / "data", "--config", str(tmp_path / "c.yaml"), "--from", moment(40))
    assert nothing.result.exit_code == 2
    assert "alerts.raw holds no requests of that time" in nothing.told


def test_ctrl_c_ends_the_telling_and_leaves_what_was_told(lived: Path) -> None:
    moved: list[float] = []
    gathered = Gathered()
    with EmbeddedInboxes(lived) as inboxes:
        retold = Retold(inboxes, gathered)
        complete = retold.run(None, None, Tally(), moved.append, lambda: len(moved) == 25)
    assert (complete, moved) == (False, list(range(1, 26)))
    assert retold.total > 60
    assert 0 < len(gathered.incidents) < 4


@pytest.mark.parametrize(
    ("unit", "shown"),
    [
        pytest.param("bytes", "12.3 MB/s", id="a file"),
        pytest.param("records", "12,345,678 records/s", id="a log"),
        pytest.param("seconds", "3,429.4 hours of history/s", id="a Prometheus"),
    ],
)
def test_every_input_has_a_rate(unit: str, shown: str) -> None:
    assert RATES[unit](12_345_678) == shown


# -- several partitions ----------------------------------------------------------------------------------------------


def raced(number: int) -> Memory:
    """Return a log in which the later of two alerts of one service may have been decided first."""
    memory = in_memory(partitions=4)
    Play(memory)
    for at, key in enumerate(("b", "a")):
        told = notification(alert(f"{key} {number}", "db"), T0, T0)
        memory.append([Entry.of("alerts.raw", webhook([told], {"group": key}), f"{key}{number}")])
        memory.clock.advance(timedelta(seconds=at + 1))
    memory.run()
    return memory


def test_what_comes_of_another_interleaving_is_counted() -> None:
    found = [compare(OfMemory(raced(n)), "alerts.raw", load(None), None, None, lambda: False) for n in range(12)]
    parted = [one for one in found if one is not None and one["incidents"]["only_live"]]
    same = [one for one in found if one is not None and not one["incidents"]["only_live"]]
    assert parted
    assert same
    for one in parted:
        assert one["partitions"] == 4
        assert one["incidents"]["live"] == one["incidents"]["replayed"] == one["incidents"]["only_replayed"] == 1
        first = {side: one["incidents"]["first"][side] for side in ("only_live", "only_replayed")}
        assert one["pages"] == {"live": 1, "replayed": 1, "only_live": 1, "only_replayed": 1, "first": first}
    assert "1 pages, live it were 1 (1 only live, 1 only replayed)" in said(parted[0])
    assert all(one["pages"]["only_live"] == 0 for one in same)


def test_the_comparison_can_be_broken_off() -> None:
    memory = OfMemory(raced(0))
    left = iter([False] * Retold(memory, Gathered()).total)  # so often it is asked until the requests are replayed
    for stop in (lambda: True, lambda: next(left, True)):
        assert compare(memory, "alerts.raw", load(None), None, None, stop) is None
    assert next(left, None) is None


# -- Kafka -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(broker: Broker) -> Config:
    """Settings for topics that no other test uses."""
    return config_for(broker)


def on_kafka(config: Config, tmp_path: Path) -> Path:
    """Write settings that say where Kafka is."""
    kafka = {"bootstrap": list(config.bootstrap), "prefix": config.prefix, "production": False}
    (tmp_path / "streamproc.yaml").write_text(yaml.safe_dump({"kafka": kafka}))
    return tmp_path / "streamproc.yaml"


def test_a_log_on_kafka_is_told_as_it_was_decided_and_replayed(config: Config, tmp_path: Path) -> None:
    runtime = OnKafka(config)
    with runtime.running():
        live(runtime)
    settings = on_kafka(config, tmp_path)
    with KafkaInboxes(config) as inboxes:
        assert len(inboxes.partitions("episodes")) > 1
        assert check(inboxes, runtime.appended, partition_of) > 100
        check_told(backtested("kafka"), inboxes)
        start = inboxes.at("alerts.raw", 0, T0 - timedelta(days=1))
        assert start == inboxes.start("alerts.raw", 0)
        assert inboxes.at("alerts.raw", 0, datetime.now(UTC) + timedelta(days=1)) == inboxes.end("alerts.raw", 0)
        assert inboxes.version("0" * 64) is None
        with pytest.raises(Unusable, match=r"alerts\.raw has no partition 99"):
            inboxes.start("alerts.raw", 99)
    done = backtested("kafka", "--config", str(settings))
    told = done.report["interleaving"]
    assert told["partitions"] == 8
    assert told["incidents"]["live"] == told["incidents"]["replayed"] > 0
    assert told["pages"]["only_live"] == told["pages"]["only_replayed"] == 0
    assert "The order across 8 partitions is not in the requests" in done.told


async def filled(config: Config, topic: str, bodies: Sequence[bytes]) -> None:
    """Make a topic of others, and produce requests to it."""
    async with admin_client(config) as client:
        await create(client, [Wanted(topic, 2, {})], config)
    producer = await writer(config)
    for at, body in enumerate(bodies):
        headers = [("source", b"generic")] if at else []
        await producer.send_and_wait(topic, body, headers=headers, partition=at % 2)
    await close_producer(producer)


def test_any_topic_of_requests_is_replayed(config: Config, tmp_path: Path) -> None:
    topic = f"{config.prefix}bridge"
    bodies = [json.dumps(line(0, recorded("Down"))["body"]).encode(), b"{"]
    asyncio.run(filled(config, topic, bodies))
    on_kafka(config, tmp_path)
    done = backtested(f"kafka:{topic}")
    assert done.result.exit_code == 0, done.result.output
    assert (done.report["replayed"], done.report["interleaving"]) == ("requests", None)
    assert (done.report["funnel"]["incidents"], done.report["dead_letters"]["count"]) == (1, 1)
    missing = backtested(f"kafka:{topic}s")
    assert (missing.result.exit_code, f"has no topic {topic}s" in missing.told) == (2, True)


def test_kafka_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        on_kafka(Config(bootstrap=(f"127.0.0.1:{taken.getsockname()[1]}",)), tmp_path)
        done = backtested("kafka")
    assert (done.result.exit_code, "does not answer" in done.told) == (5, True)
    assert not done.folder.exists()
