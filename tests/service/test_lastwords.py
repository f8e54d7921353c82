"""A worker that a guard ends tells people, does nothing else from then on, and ends within a bound."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from streamproc.lastwords import QUIET_FOR, Words, say

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise's own
ROOT = Path(__file__).parents[2]
AMPLE = 120.0
PROGRAM = """
import socket, sys, threading, time
from functools import partial
from streamproc.lastwords import Words, say_last
from streamproc.runtime.faust.guards import FailStop, Stop, fail_stop

channel, broker = sys.argv[1], socket.create_connection(("127.0.0.1", int(sys.argv[2])))
words = Words((channel,), "test-74", 74, "ended", "stood still", within=float(sys.argv[3]))
error = FailStop(Stop.STALLED, "stood still")
guard = threading.Thread(target=fail_stop, args=(error, lambda error: say_last(words)), daemon=True)
guard.start()
while True:  # what a loop that is alive again would do: it commits
    broker.sendall(b"commit")
"""

WORKER = """
import sys
from streamproc.distributed import leaving
from streamproc.runtime.faust.guards import FailStop, Stop
from streamproc.settings import Settings

channels = {"channels": sys.argv[1:]}
settings = Settings.model_validate({"pagerduty": {"notifications": channels}, "kafka": {"instance": "w-1"}})
leaving(settings, 120.0)(FailStop(Stop.STAMP, "alerts.raw/0@7 is stamped tomorrow"))
"""


class Chat(ThreadingHTTPServer):
    """Takes messages at a loopback address; `answers` holds the answer up until it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.asked, self.answers = threading.Event(), threading.Event()
        chat = self

        class Post(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                chat.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                chat.asked.set()
                chat.answers.wait()
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Post)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}"


@pytest.fixture
def chat() -> Iterator[Chat]:
    one = Chat()
    yield one
    one.answers.set()
    one.shutdown()
    one.server_close()


def words(chat: Chat, code: int = 74) -> Words:
    return Words(channels=(chat.url,), subject=f"group-{code}", code=code, title="ended", body="why", within=AMPLE)


def ended(chat: Chat, folder: Path, within: float) -> tuple[subprocess.Popen[bytes], Any]:
    """Start a process whose guard fires; return it, and the connection to its broker."""

    with create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-c", PROGRAM, chat.url, str(server.getsockname()[1]), str(within)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        connection, _ = server.accept()
    return process, connection


def test_nothing_is_committed_while_people_are_told(chat: Chat, tmp_path: Path) -> None:
    process, connection = ended(chat, tmp_path, AMPLE)
    with connection:
        connection.settimeout(AMPLE)
        while connection.recv(65536):
            pass  # up to the end of the connection, which comes although the chat has not answered yet
    assert chat.asked.wait(AMPLE)
    assert process.poll() is None, "it still waits for the answer"
    chat.answers.set()
    assert process.wait(AMPLE) == 74
    assert [message["title"] for message in chat.told] == ["ended"]


def test_a_chat_that_never_answers_holds_nothing_up(chat: Chat, tmp_path: Path) -> None:
    process, connection = ended(chat, tmp_path, 0.5)
    with connection:
        connection.settimeout(AMPLE)
        while connection.recv(65536):
            pass
    assert process.wait(AMPLE) in (74, -signal.SIGALRM), "while the chat holds its answer up for ever"


def test_the_same_is_told_once_in_a_while(chat: Chat, tmp_path: Path) -> None:
    chat.answers.set()
    codes: list[int] = []
    for code in (74, 74, 72):
        say(words(chat, code), tmp_path, codes.append)
    assert (codes, len(chat.told)) == ([74, 74, 72], 2)
    stamp = next(tmp_path.glob("*group-74"))
    before = time.time() - QUIET_FOR - 1
    os.utime(stamp, (before, before))
    say(words(chat), tmp_path, codes.append)
    assert len(chat.told) == 3


def test_what_nobody_took_is_told_again(tmp_path: Path) -> None:
    codes: list[int] = []
    nobody = Words(
        channels=("json://127.0.0.1:9",), subject="group-70", code=70, title="ended", body="why", within=AMPLE
    )
    say(nobody, tmp_path, codes.append)
    assert codes == [70]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("told", [pytest.param(1, id="a channel"), pytest.param(0, id="no channel")])
def test_a_worker_tells_what_ended_it_where_it_can(chat: Chat, tmp_path: Path, told: int) -> None:
    chat.answers.set()
    ran = subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-c", WORKER, *[chat.url] * told],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 72
    assert len(chat.told) == told
    for message in chat.told:
        assert message["title"] == "streamproc: a worker has ended itself (stamp)"
        assert message["message"].startswith("alerts.raw/0@7 is stamped tomorrow\nGuard stamp (code 72), worker w-1")
