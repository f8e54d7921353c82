"""`streamproc doctor`: each check finds its fault, and the command says all of them with their mends."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from pydantic import SecretStr

from streamproc.core.errors import Transient
from streamproc.doctor import machine
from streamproc.doctor.brokers import release, standing
from streamproc.doctor.finding import Check, Finding, State, compare_clocks, examine, failed
from streamproc.doctor.machine import MB, find_directory, find_disk, find_versions
from streamproc.doctor.outside import address_of, find_events, find_gateway, find_redis, find_rest
from streamproc.gateway.config import GatewayConfig
from streamproc.runtime.embedded.journal import FILE
from streamproc.runtime.faust.group import GroupStanding
from streamproc.runtime.redis.config import Config as RedisConfig
from streamproc.settings import Environment
from streamproc.sinks.pagerduty.config import ApiConfig, RestConfig
from streamproc.views import NodeStatus, WorkerStatus
from tests.cli.playing import KEY, Answers, Pipeline, call

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OK, WARN, FAIL = State.OK, State.WARN, State.FAIL


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a working directory and an environment of its own."""
    monkeypatch.chdir(tmp_path)
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def now() -> datetime:
    return NOW


def states(found: Sequence[Finding]) -> list[tuple[str, State]]:
    return [(finding.check, finding.state) for finding in found]


# -- checks side by side ----------------------------------------------------------------------------------------------


async def test_checks_run_side_by_side_and_are_told_in_order() -> None:
    second = asyncio.Event()

    async def waits() -> list[Finding]:
        await second.wait()
        return [Finding("first", OK, "x")]

    async def sets() -> list[Finding]:
        second.set()
        return [Finding("second", FAIL, "y")]

    found = await examine([Check("first", waits), Check("second", sets)])
    assert states(found) == [("first", OK), ("second", FAIL)]
    assert failed(found) == 1


async def test_a_check_without_an_answer_is_a_fault_and_harms_no_other() -> None:
    async def never() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def refuses() -> list[Finding]:
        raise Transient("no broker\nanswers")

    async def answers() -> list[Finding]:
        return [Finding("c", OK, "is there")]

    found = await examine([Check("a", never, "mend a"), Check("b", refuses, "mend b"), Check("c", answers)], 0.01)
    assert found == [
        Finding("a", FAIL, "there is no answer within 0.01 s", "mend a"),
        Finding("b", FAIL, "no broker answers", "mend b"),
        Finding("c", OK, "is there"),
    ]


@pytest.mark.parametrize(
    ("ahead", "state", "said"),
    [
        pytest.param(0, OK, "agrees with x's", id="the same"),
        pytest.param(-5, OK, "agrees with x's", id="within five seconds"),
        pytest.param(6, WARN, "this machine's is 6 s ahead of x's", id="ahead"),
        pytest.param(-300, WARN, "this machine's is 300 s behind x's", id="behind"),
        pytest.param(301, FAIL, "this machine's is 301 s ahead of x's", id="too far ahead"),
        pytest.param(-4000, FAIL, "this machine's is 4,000 s behind x's", id="too far behind"),
    ],
)
def test_clocks(ahead: int, state: State, said: str) -> None:
    found = compare_clocks("x", NOW - timedelta(seconds=ahead), NOW)
    assert (found.state, found.said) == (state, said)
    assert bool(found.mend) == (state is not OK)


# -- this machine -----------------------------------------------------------------------------------------------------


def test_versions_of_what_is_installed() -> None:
    (found,) = find_versions()
    assert found.state is OK
    assert "Python 3." in found.said
    assert "pydantic " in found.said


def test_a_library_that_is_missing() -> None:
    (found,) = find_versions(["pydantic>=2", "no-such-library[x]>=1", "elsewhere ; sys_platform == 'win32'"])
    assert (found.state, found.said) == (FAIL, "not installed: no-such-library")
    assert found.mend


def loose(folder: Path) -> None:
    folder.mkdir(mode=0o755)


def damaged(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / FILE).write_bytes(b"this is no database" * 1000)


def holed(folder: Path) -> None:
    Pipeline(folder).close()
    size = (folder / FILE).stat().st_size
    with (folder / FILE).open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))


def newer(folder: Path) -> None:
    Pipeline(folder).close()
    with closing(sqlite3.connect(folder / FILE)) as db:
        db.execute("PRAGMA user_version=99")


def sound(folder: Path) -> None:
    Pipeline(folder).close()


@pytest.mark.parametrize(
    ("made", "state", "said"),
    [
        pytest.param(lambda _: None, WARN, "there is no data yet", id="not there yet"),
        pytest.param(lambda folder: folder.write_text("x"), FAIL, "data is no directory", id="a file"),
        pytest.param(lambda folder: folder.mkdir(mode=0o700), WARN, "data holds no data yet", id="empty"),
        pytest.param(loose, WARN, "others may look into data", id="others may look in"),
        pytest.param(damaged, FAIL, "data/streamproc.db is damaged: file is not a database", id="no database"),
        pytest.param(holed, FAIL, "data/streamproc.db is damaged: ", id="overwritten in the middle"),
        pytest.param(newer, FAIL, "data/streamproc.db was written by a newer streamproc (schema 99", id="newer"),
        pytest.param(sound, OK, "data/streamproc.db is sound, schema ", id="sound"),
    ],
)
def test_a_data_directory(made: Callable[[Path], object], state: State, said: str) -> None:
    folder = Path("data")
    made(folder)
    found = list(find_directory(folder))
    assert found[0].state is state
    assert found[0].said.startswith(said)
    assert all(finding.mend for finding in found if finding.state is not OK)


def test_a_file_that_is_too_large_to_be_checked_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sound(Path("data"))
    monkeypatch.setattr(machine, "LOOKED_FOR", -1.0)
    monkeypatch.setattr(machine, "STEPS", 1)
    found = next(find_directory(Path("data")))
    assert (found.state, "is too large to be checked" in found.said) == (OK, True)


def test_whether_a_process_works_there() -> None:
    pipeline = Pipeline(Path("data"))
    assert [found.said for found in find_directory(Path("data"))][-1] == "data: a process works here"
    pipeline.close()
    assert [found.said for found in find_directory(Path("data"))][-1] == "data: no process works here now"


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [
        pytest.param(50_000, 100_000, OK, id="half of it"),
        pytest.param(1_500, 2_000, OK, id="enough of a small one"),
        pytest.param(900, 2_000, WARN, id="less than a gigabyte"),
        pytest.param(4_000, 100_000, WARN, id="less than a twentieth"),
        pytest.param(199, 100_000, FAIL, id="almost nothing"),
    ],
)
def test_a_disk(free: int, total: int, state: State) -> None:
    asked: list[Path] = []

    def usage(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=free * MB, total=total * MB)

    found = find_disk(Path("not") / "there" / "yet", usage)
    assert found.state is state
    assert asked == [Path.cwd()], "the nearest that there is"


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "url"),
    [
        pytest.param("127.0.0.1", "http://127.0.0.1:8080", id="loopback"),
        pytest.param("0.0.0.0", "http://127.0.0.1:8080", id="every address"),  # noqa: S104  nothing listens
        pytest.param("::", "http://[::1]:8080", id="every address of version 6"),
        pytest.param("fd00::1", "http://[fd00::1]:8080", id="an address of version 6"),
        pytest.param("gate.example.com", "http://gate.example.com:8080", id="a name"),
    ],
)
def test_where_a_gateway_answers(host: str, url: str) -> None:
    assert address_of(GatewayConfig(host=host)) == url


def answering(status: int, body: object, late: float = 0.0) -> httpx.MockTransport:
    headers = {"Date": format_datetime(NOW - timedelta(seconds=late), usegmt=True)}
    return httpx.MockTransport(lambda _: httpx.Response(status, json=body, headers=headers))


def failing(cause: Exception | None = None) -> httpx.MockTransport:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("it does not work", request=request) from cause

    return httpx.MockTransport(fail)


@pytest.mark.parametrize(
    ("transport", "needed", "found"),
    [
        pytest.param(answering(200, {"ready": True, "why_not": ""}), True, [OK, OK], id="ready"),
        pytest.param(answering(503, {"ready": False, "why_not": "it folds"}), True, [FAIL, OK], id="not ready"),
        pytest.param(answering(200, {"ready": True, "why_not": ""}, 900), True, [OK, FAIL], id="another clock"),
        pytest.param(answering(200, {"hello": "world"}), True, [FAIL, OK], id="something else"),
        pytest.param(answering(200, ["ready"]), True, [FAIL, OK], id="something else again"),
        pytest.param(failing(), True, [FAIL], id="no answer, though a process works"),
        pytest.param(failing(), False, [WARN], id="no answer, and none was expected"),
    ],
)
async def test_a_gateway(transport: httpx.MockTransport, needed: bool, found: list[State]) -> None:  # noqa: FBT001  a case
    told = await find_gateway("http://gate:8080/", needed=needed, now=now, transport=transport)
    assert [finding.state for finding in told] == found
    assert all(finding.mend for finding in told if finding.state is not OK)


@pytest.mark.parametrize(
    ("transport", "found", "mend"),
    [
        pytest.param(answering(404, {}), [OK, OK], "", id="in reach"),
        pytest.param(answering(404, {}, -900), [OK, FAIL], "", id="another clock"),
        pytest.param(answering(503, {}), [WARN, OK], "status.pagerduty.com", id="it cannot now"),
        pytest.param(failing(), [FAIL], "port 443", id="no connection"),
        pytest.param(failing(socket.gaierror(-2, "unknown")), [FAIL], "DNS", id="no such name"),
        pytest.param(failing(ssl.SSLError("self-signed")), [FAIL], "SSL_CERT_FILE", id="another certificate"),
    ],
)
async def test_the_events_host(transport: httpx.MockTransport, found: list[State], mend: str) -> None:
    told = await find_events(ApiConfig(), now=now, transport=transport)
    assert [finding.state for finding in told] == found
    assert mend in told[0].mend


async def test_no_event_is_sent() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(404)

    found = await find_events(ApiConfig(), now=now, transport=httpx.MockTransport(answer))
    assert [(one.method, str(one.url), one.content) for one in asked] == [("GET", "https://events.pagerduty.com", b"")]
    assert states(found) == [("pagerduty", OK)], "an answer without a date says nothing of the clock"


@pytest.mark.parametrize(
    ("status", "body", "state", "mend"),
    [
        pytest.param(200, {"priorities": []}, OK, "", id="taken"),
        pytest.param(402, {"error": {"message": "no such ability"}}, OK, "", id="an account without priorities"),
        pytest.param(401, {"error": {"message": "unauthorized"}}, FAIL, "API Access Keys", id="a wrong key"),
        pytest.param(503, {}, FAIL, "let this machine reach 127.0.0.1", id="it cannot now"),
    ],
)
def test_the_key_of_the_rest_api(status: int, body: object, state: State, mend: str) -> None:
    path = "/priorities?limit=100&offset=0&total=false"
    prepared = {path: (status, body), "/priorities?limit=100&offset=0": (status, body)}
    with Answers(prepared) as answers:
        config = RestConfig(base_url=answers.url, api_key=SecretStr("u+key"))
        (found,) = asyncio.run(find_rest(config))
        assert answers.asked
    assert (found.state, mend in found.mend) == (state, True), found


async def test_without_a_key_the_rest_api_is_not_asked() -> None:
    (found,) = await find_rest(RestConfig())
    assert found.state is WARN
    assert "PAGERDUTY_API_KEY" in found.mend


# -- Redis ------------------------------------------------------------------------------------------------------------


async def test_without_redis_there_is_nothing_to_say() -> None:
    assert await find_redis(RedisConfig(), now=now) == []


async def test_a_redis_that_is_away_is_no_fault() -> None:
    (found,) = await find_redis(RedisConfig(url=SecretStr("redis://:secret@127.0.0.1:1")), now=now)
    assert found.state is WARN
    assert "secret" not in f"{found.said}{found.mend}"


async def test_a_redis_that_answers() -> None:
    """A server that says as much of Redis' protocol as is asked."""
    stamp = f"{NOW.timestamp() - 60:.0f}".encode()
    answers = {
        b"PING": b"+PONG\r\n",
        b"INFO": b"$20\r\nredis_version:8.2.1\n\r\n",
        b"TIME": b"*2\r\n$%d\r\n%b\r\n$1\r\n0\r\n" % (len(stamp), stamp),
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (line := await reader.readline()).startswith(b"*"):
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            writer.write(answers.get(words[0].upper(), b"+OK\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        config = RedisConfig(url=SecretStr(f"redis://127.0.0.1:{port}?protocol=2"), timeout=5)
        found = await find_redis(config, now=now)
    assert [(one.check, one.state, one.said) for one in found] == [
        ("redis", OK, "Redis 8.2.1 answers"),
        ("clock", WARN, "this machine's is 60 s ahead of Redis's"),
    ]


# -- Kafka, what needs no broker ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        pytest.param({1: (4, 17), 65: (0, 0)}, "Kafka 4.0 or newer", id="4.0"),
        pytest.param({1: (0, 13), 65: (0, 0)}, "Kafka 3.x", id="3.1"),
        pytest.param({1: (0, 11)}, "older than Kafka 3.0", id="2.8"),
        pytest.param({}, "older than Kafka 3.0", id="nothing known"),
    ],
)
def test_the_release_of_a_broker(versions: dict[int, tuple[int, int]], said: str) -> None:
    assert release(versions) == said


def group(state: str, partitions: int = 2, error: str = "") -> GroupStanding:
    nodes = tuple(NodeStatus(node="decide", partition=at, lag=5, rows=0, now=None) for at in range(2))
    workers = (WorkerStatus(name="w", host="h", partitions=partitions),) if partitions else ()
    return GroupStanding(state=state, workers=workers, nodes=nodes, error=error)


@pytest.mark.parametrize(
    ("stands", "state", "said"),
    [
        pytest.param(group("Stable"), OK, "g: 1 at work on 2 of 2 partitions, 10 records wait", id="at work"),
        pytest.param(group("Stable", 1), FAIL, "g: 1 at work on 1 of 2 partitions, 10 records wait", id="not all"),
        pytest.param(group("Stable", 0), FAIL, "no worker of g runs, 10 records wait", id="nobody in it"),
        pytest.param(group("Empty", 0), FAIL, "no worker of g runs, 10 records wait", id="empty"),
        pytest.param(group("PreparingRebalance"), WARN, "g moves partitions now", id="moving"),
        pytest.param(group("Stable", error="denied"), FAIL, "g: denied", id="refused"),
    ],
)
def test_a_group(stands: GroupStanding, state: State, said: str) -> None:
    found = standing("g", stands)
    assert (found.state, found.said) == (state, said)


# -- the command ------------------------------------------------------------------------------------------------------


def settings_for(url: str, gateway: str = "http://127.0.0.1:1") -> Path:
    file = Path("streamproc.yaml")
    key = f"{{default: {{routing_key: {KEY}}}}}"
    port = gateway.rpartition(":")[2]
    text = f"gateway: {{port: {port}}}\npagerduty:\n  api: {{base_url: '{url}'}}\n  destinations: {key}\n"
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    return file


def test_a_pipeline_that_is_well(pipeline: Pipeline) -> None:
    with Answers({"/ready": (200, {"ready": True, "why_not": ""})}) as answers:
        settings_for(answers.url, answers.url)
        answer = call("doctor", "--data-dir", str(pipeline.folder))
    assert answer.exit_code == 0, answer.output
    assert answer.output.splitlines()[-1] == "No fault, 4 worth a look."
    assert "a process works here" in answer.output
    assert f"is ready at {answers.url}" in answer.output
    assert {path for path, _ in answers.asked} == {"/", "/ready"}


def test_what_is_wrong_is_told_with_its_mend_to_people_and_programs() -> None:
    settings_for("http://127.0.0.1:1")
    answer = call("doctor", "--data-dir", "data")
    assert answer.exit_code == 1
    lines = answer.output.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("FAIL   pagerduty"))
    assert lines[at + 1].strip() == "-> let this machine reach 127.0.0.1 at port 1: firewall, or HTTPS_PROXY"
    assert lines[-1].startswith("1 fault, ")
    told = json.loads(call("doctor", "--data-dir", "data", "--json").output)
    assert told["ok"] is False
    assert [one["check"] for one in told["findings"] if one["state"] == "fail"] == ["pagerduty"]
    assert KEY not in answer.output


def test_settings_that_cannot_be_read_do_not_hide_the_rest(pipeline: Pipeline) -> None:
    Path("streamproc.yaml").write_text("nonsense: 1\n", encoding="utf-8")
    answer = call("doctor", "--data-dir", str(pipeline.folder))
    assert answer.exit_code == 1
    assert "there is no such setting" in answer.output
    assert "streamproc.db is sound" in answer.output


def test_a_broker_that_is_away_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    settings_for("http://127.0.0.1:1")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    said = call("doctor", "--kafka").output
    assert said.count("no Kafka broker answers at 127.0.0.1:1") == 1
    assert "is kafka.bootstrap right" in said
    assert "\nok     data " not in said, "there is no data directory on Kafka"
