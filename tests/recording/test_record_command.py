"""`streamproc record` and `streamproc scrub`: files that backtest reads, whole at every moment, and nothing private."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from streamproc.backtest.reading import Tally, opened, traffic
from streamproc.backtest.recorded import EmbeddedInboxes
from streamproc.cli import app
from streamproc.commands.record import asked_to_stop
from streamproc.core.errors import Unusable
from streamproc.gateway.config import GatewayConfig
from streamproc.ports import Entry
from streamproc.recording.capturing import MEMBER, Recorder, begin_at, capture, endpoint, follow
from streamproc.recording.lines import line_of
from streamproc.recording.redaction import Redactor
from streamproc.recording.rules import Rules
from streamproc.recording.writing import Files
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.journal import SqliteJournal
from streamproc.runtime.journal import Append
from streamproc.topology import TOPICS

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"a key of at least sixteen bytes"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAGERDUTY_ROUTING_KEY", "ENVIRONMENT", "STREAMPROC_REDACTION_KEY", "STREAMPROC_KAFKA"):
        monkeypatch.delenv(name, raising=False)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def alert(host: str = "10.1.2.3") -> dict[str, Any]:
    labels = {"alertname": "Down", "instance": f"{host}:9100"}
    return {"version": "4", "alerts": [{"status": "firing", "labels": labels, "startsAt": "2026-03-01T12:00:00Z"}]}


def log(folder: str = "d") -> SqliteJournal:
    return SqliteJournal(Path(folder), TOPICS, "normal")


def put(journal: SqliteJournal, bodies: Iterable[object], minutes: int = 0) -> None:
    """Append raw records to a data directory."""
    now = T0 + timedelta(minutes=minutes)
    with journal.transaction():
        entries = [Entry("alerts.raw", b"", json.dumps(body).encode(), {"source": b"alertmanager"}) for body in bodies]
        journal.append([Append(one.topic, 0, one.key, one.value, one.headers) for one in entries], now)


def lines(*files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]


def recorder(files: Files, redact: str = "") -> Recorder:
    return Recorder(files, Redactor(Rules.of([redact], []), KEY), ManualClock(T0))


# -- files --------------------------------------------------------------------------------------------------------


def test_every_write_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    with Files(tmp_path / "out", 10**6, DAY) as files:
        for number in range(3):
            files.write([b'{"n": %d}' % number, b"{}"], T0)
            (file,) = files.written
            assert len(gzip.decompress(file.read_bytes()).splitlines()) == 2 * (number + 1)
        files.write([], T0)
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700


def test_a_recording_that_was_cut_within_a_member_is_whole_up_to_the_one_before(tmp_path: Path) -> None:
    """As a machine that loses power may leave it."""
    with Files(tmp_path, 10**6, DAY) as files:
        files.write([b"first"], T0)
        (file,) = files.written
        whole = file.stat().st_size
        files.write([b"second" * 100], T0)
    assert gzip.decompress(file.read_bytes()[:whole]) == b"first\n"


def test_files_are_closed_by_size_and_by_age(tmp_path: Path) -> None:
    with Files(tmp_path, 60, timedelta(hours=1)) as files:
        for hours, count in ((0, 1), (0, 1), (0, 2), (0.5, 2), (1.5, 3)):
            files.write([b"some line that takes room"], T0 + timedelta(hours=hours))
            assert len(files.written) == count
    names = [file.name for file in files.written]
    assert names == [
        "raw-20260301T120000Z.jsonl.gz",
        "raw-20260301T120000Z-1.jsonl.gz",
        "raw-20260301T133000Z.jsonl.gz",
    ]


def test_a_folder_that_cannot_be_made_or_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match="cannot be made"):
        Files(tmp_path / "file" / "x", 1, DAY)
    files = Files(tmp_path / "out", 1, DAY)
    (tmp_path / "out").rmdir()
    with pytest.raises(Unusable, match="cannot be written"):
        files.write([b"x"], T0)


# -- what is captured ---------------------------------------------------------------------------------------------


def test_a_body_becomes_the_line_that_backtest_reads() -> None:
    body = {"labels": {"a": "ü"}}
    told = json.loads(line_of(T0, "generic", json.dumps(body, indent=1).encode()))
    assert told == {"at": "2026-03-01T12:00:00.000000Z", "source": "generic", "body": body}
    assert json.loads(line_of(T0, "", b"no JSON \xff")) == {"at": told["at"], "body": "no JSON \ufffd"}


def test_a_log_is_captured_from_a_moment_on_and_followed(tmp_path: Path) -> None:
    journal = log()
    put(journal, [alert()], minutes=0)
    put(journal, [alert(), alert("10.9.9.9")], minutes=5)
    with Files(tmp_path / "out", 10**6, DAY) as files, EmbeddedInboxes(Path("d")) as inboxes:
        taking = recorder(files)
        reached = begin_at(inboxes, T0 + timedelta(minutes=5))
        assert capture(inboxes, taking, reached) == 2
        assert capture(inboxes, taking, reached) == 0
        minutes = iter([9, 10])

        def wait() -> bool:
            minute = next(minutes)
            put(journal, [alert()], minutes=minute)
            return minute == 10

        follow(inboxes, taking, reached, wait)
        assert (taking.count, reached) == (4, {0: 5})
        assert begin_at(inboxes, None) == {0: 5}
    journal.close()
    told = lines(*files.written)
    assert [line["at"] for line in told] == [
        f"2026-03-01T12:{minute}:00.000000Z" for minute in ("05", "05", "09", "10")
    ]
    with opened(files.written[0]) as recording:
        assert len(list(traffic(recording, Tally()))) == 4


def test_many_lines_become_members_of_some_hundred(tmp_path: Path) -> None:
    with Files(tmp_path, 10**6, DAY) as files:
        taking = recorder(files)
        for _ in range(MEMBER + 1):
            taking.take(b"{}")
        assert taking.count == MEMBER
        taking.flush()
    assert len(lines(*files.written)) == MEMBER + 1


def test_what_cannot_be_redacted_says_nothing_and_is_counted(tmp_path: Path) -> None:
    with Files(tmp_path, 10**6, DAY) as files:
        taking = recorder(files)
        taking.take(b"of 10.1.2.3")
        taking.flush()
    assert (taking.refused, taking.count) == (1, 1)
    assert lines(*files.written) == [{"scrubbed": "this line could not be read"}]


async def test_the_endpoint_takes_what_the_gateway_takes_and_answers_when_it_is_written(tmp_path: Path) -> None:
    with Files(tmp_path / "out", 10**6, DAY) as files:
        asgi = endpoint(GatewayConfig(), recorder(files, "labels.instance"), CollectorRegistry())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://127.0.0.1") as client:
            packed = gzip.compress(json.dumps(alert()).encode())
            zipped = {"content-encoding": "gzip", "content-type": "application/json"}
            assert (await client.post("/v1/ingest/alertmanager", content=packed, headers=zipped)).status_code == 202
            (told,) = lines(*files.written)
            assert (await client.post("/v1/ingest/datadog", json={"title": "x"})).status_code == 202
            assert (await client.post("/v1/ingest/alertmanager", content=b"{")).status_code == 400
            assert (await client.post("/v1/ingest/other", json={})).status_code == 404
        assert (told["at"], told["source"]) == ("2026-03-01T12:00:00.000000Z", "alertmanager")
        assert "10.1.2.3" not in json.dumps(told)
        assert [one["source"] for one in lines(*files.written)] == ["alertmanager", "datadog"]


async def test_a_disk_that_takes_nothing_lets_the_sender_try_again(tmp_path: Path) -> None:
    files = Files(tmp_path / "out", 10**6, DAY)
    (tmp_path / "out").rmdir()
    asgi = endpoint(GatewayConfig(), recorder(files), CollectorRegistry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://127.0.0.1") as client:
        assert (await client.post("/v1/ingest/alertmanager", json=alert())).status_code == 503


# -- commands -----------------------------------------------------------------------------------------------------


def test_a_data_directory_is_recorded_and_played_again() -> None:
    journal = log()
    put(journal, [alert(), alert("10.1.2.4")])
    journal.close()
    words = ["--once", "--since", "start", "--redact", "labels.instance", "--key", KEY.decode()]
    done = run("record", "--output", "out", "--data-dir", "d", *words)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("2 requests in 1 file: out/raw-")
    (file,) = Path("out").iterdir()
    assert KEY not in gzip.decompress(file.read_bytes())
    assert b"10.1.2" not in gzip.decompress(file.read_bytes())
    later = run("record", "--output", "later", "--data-dir", "d", "--once", "--since", "2026-03-01T12:01")
    assert later.stdout == "0 requests in 0 files: no file\n"
    assert "No key is given" in later.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["--listen", "x"], "'x' is no address to listen on", id="no port"),
        pytest.param(["--listen", "0.0.0.0:1"], "gateway.ingest_tokens is empty", id="open to all"),
        pytest.param(["--listen", "127.0.0.1:1", "--once"], "leave --kafka, --since and --once out", id="two sources"),
        pytest.param(["--data-dir", "none"], "none holds no data", id="no data"),
        pytest.param(["--redact", "x"], "names nothing", id="nothing to redact"),
        pytest.param(["--max-age", "x"], "is no span of time", id="no age"),
    ],
)
def test_how_recording_cannot_be_asked_for(words: list[str], said: str) -> None:
    done = run("record", "--output", "out", *words)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


def test_once_needs_a_beginning() -> None:
    log().close()
    done = run("record", "--output", "out", "--data-dir", "d", "--once")
    assert (done.exit_code, "--since start takes all there is" in done.stderr) == (2, True)


def test_it_listens_until_it_is_told_to_stop(tmp_path: Path) -> None:
    words = ["record", "--listen", "127.0.0.1:0", "--output", "out", "--key", KEY.decode()]
    with subprocess.Popen(  # noqa: S603  our own command
        [sys.executable, "-m", "streamproc", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            url = said.split()[5]
            assert url.endswith("/v1/ingest/alertmanager"), said
            assert httpx.post(url, json=alert(), timeout=60).status_code == 202
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out.startswith("1 request in 1 file: out/raw-")) == (0, True)
    assert len(lines(*(tmp_path / "out").iterdir())) == 1


def test_a_log_is_followed_until_it_is_told_to_stop() -> None:
    before = signal.getsignal(signal.SIGINT)
    with asked_to_stop() as wait:
        signal.raise_signal(signal.SIGINT)
        assert wait()
    assert signal.getsignal(signal.SIGINT) is before


def test_files_are_scrubbed_packed_or_not_and_bad_lines_are_counted() -> None:
    line = json.dumps({"at": "2026-03-01T12:00:00Z", "source": "alertmanager", "body": alert()})
    Path("a.jsonl").write_text(f"{line}\n\nbroken 10.1.2.3\n{line}\n")
    Path("b.jsonl.gz").write_bytes(gzip.compress(f"{line}\n".encode()))
    Path("key").write_bytes(KEY)
    done = run("scrub", "a.jsonl", "b.jsonl.gz", "--output", "out", "--key-file", "key")
    assert done.exit_code == 1
    assert "a.jsonl: 1 line could not be read and say nothing now: 3" in done.stderr
    first, empty, bad, second = Path("out/a.jsonl").read_text().splitlines()
    assert (first == second, empty, "10.1.2.3" in first + bad) == (True, "", False)
    assert gzip.decompress(Path("out/b.jsonl.gz").read_bytes()).decode() == f"{first}\n"
    assert Path("a.jsonl").read_text().startswith(line)
    assert run("scrub", "b.jsonl.gz", "--in-place", "--key-file", "key").exit_code == 0
    assert gzip.decompress(Path("b.jsonl.gz").read_bytes()).decode() == f"{first}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["a.jsonl"], "--output FOLDER, or --in-place", id="nowhere"),
        pytest.param(["a.jsonl", "--output", "o", "--in-place"], "--output FOLDER, or --in-place", id="both"),
        pytest.param(["a.jsonl", "sub/a.jsonl", "--output", "o"], "two files are called a.jsonl", id="one name"),
        pytest.param(["a.jsonl", "--output", "."], "is the file itself", id="itself"),
        pytest.param(["a.jsonl", "--output", "a.jsonl/x"], "a.jsonl/x cannot be made", id="no folder"),
        pytest.param(["cut.gz", "--output", "o"], "cut.gz cannot be read", id="a file that is cut"),
    ],
)
def test_what_cannot_be_scrubbed_changes_nothing(words: list[str], said: str) -> None:
    Path("sub").mkdir()
    for name in ("a.jsonl", "sub/a.jsonl"):
        Path(name).write_text("{}\n")
    Path("cut.gz").write_bytes(gzip.compress(b"{}\n" * 1000)[:-9])
    before = Path("a.jsonl").read_bytes()
    done = run("scrub", *words)
    assert (done.exit_code, said in " ".join(done.stderr.split())) == (2, True), done.stderr
    assert Path("a.jsonl").read_bytes() == before
    assert not any(file.name.startswith(".") for file in Path().rglob("*"))


def test_switches_of_settings_in_the_log_are_no_requests() -> None:
    journal = log()
    put(journal, [alert()])
    with journal.transaction():
        switch = Append("alerts.raw", 0, b"", b'{"kind": "config", "author": "Ann"}', {"type": b"active.v1"})
        journal.append([switch], T0)
    journal.close()
    done = run("record", "--output", "out", "--data-dir", "d", "--once", "--since", "start", "--key", KEY.decode())
    assert "1 request in 1 file" in done.output
    (line,) = lines(*Path("out").iterdir())
    assert line["source"] == "alertmanager"


@pytest.mark.parametrize(
    ("since", "said"),
    [
        pytest.param("1s", "0 requests", id="a moment ago, by this machine"),
        pytest.param("5200w", "1 request in 1 file", id="long ago"),
    ],
)
def test_how_long_ago_is_a_beginning(since: str, said: str) -> None:
    journal = log()
    put(journal, [alert()])
    journal.close()
    done = run("record", "--output", "out", "--data-dir", "d", "--once", "--since", since, "--key", KEY.decode())
    assert (done.exit_code, said in done.output) == (0, True), done.output
