"""The demo in this process, and as its own: to its end, interrupted, and with a broken promise."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from rich.console import Console, RenderableType

from streamproc.demo.chapters import WEST, disk
from streamproc.demo.payloads import PromAlert, label_fingerprint
from streamproc.demo.scenario import Chapter, Story, Writer
from streamproc.demo.show import Interrupted, Wanted, perform
from streamproc.runtime.embedded.journal import FILE


def never_over(writer: Writer) -> None:
    labels = {"alertname": "Broken", "service": "search", "severity": "critical", "team": "shop"}
    labels |= {"environment": "prod", "cluster": "eu-west-1"}
    alert = PromAlert(labels, "broken", "broken", "up == 0", writer.moment(0.0), label_fingerprint(labels))
    writer.tell(0.0, "broken", [alert], "alertname")
    writer.stories.append(Story("Never over", WEST, frozenset({"search"}), pages=1))


async def play(folder: Path, *chapters: Chapter, asked: bool = False) -> tuple[bool, str]:
    held = io.StringIO()
    console = Console(file=held, width=100, color_system=None)

    def say(shown: RenderableType) -> None:
        console.print(shown)

    wish = asyncio.Event()
    if asked:
        wish.set()
    wanted = Wanted(folder=folder, speed=20.0, storm=20, live=False, chapters=chapters, settles_within=0.5)
    return await perform(wanted, console, say, wish), held.getvalue()


async def test_promises_that_are_kept(tmp_path: Path) -> None:
    kept, told = await play(tmp_path, disk)
    assert kept
    assert "lost = 0" in told
    assert "back already: must stay 2 min" in told
    assert "Why it paged: reporting: /var/lib is 96 % full" in told


async def test_an_incident_that_stays_open_is_a_broken_promise(tmp_path: Path) -> None:
    kept, told = await play(tmp_path, never_over)
    assert not kept
    assert "1 incidents are open; 1 alerts are open at PagerDuty" in told


async def test_it_can_be_interrupted(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        await play(tmp_path, never_over, asked=True)


@contextmanager
def command(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "TMPDIR": str(folder), "HTTP_PROXY": "http://127.0.0.1:9"}
    called = [sys.executable, "-c", "from streamproc.cli import main; main()", "demo", "--plain", "--storm", "20"]
    arguments = (*called, *arguments)
    with subprocess.Popen(  # noqa: S603  this interpreter, with arguments of this file
        arguments, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if words in line:
            return "".join(read)
    raise AssertionError(f"{words!r} was never said in {''.join(read)}")


def test_the_command_plays_checks_and_leaves_nothing(tmp_path: Path) -> None:
    with command(tmp_path, "--speed", "20") as process:
        told, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert re.search(r"Bad deploy, four services +10 +1 +1\n", told)
    assert re.search(r"Flapping disk +4 +1 +1\n", told)
    assert re.search(r"Datadog, out of order +1 +1 +1\n", told)
    assert re.search(r"Storm of 20 alerts +20 +1 +1\n", told)
    assert "acknowledged" in told
    for words in ("lost = 0", "doubled = 0", "open = 0", "2  dead letters", "streamproc demo --keep"):
        assert words in told
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with command(tmp_path) as process:
        read_until(process, "PagerDuty pages payments")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "Stopped before its end: nothing was checked.\n"
    assert list(tmp_path.iterdir()) == []


def test_it_stays_where_that_is_wanted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with command(tmp_path, "--speed", "20", "--keep", "--data-dir", str(data)) as process:
        told = read_until(process, "MyOwnAlert")
        gateway = re.findall(r"curl (\S+)", told)[-1]
        body = re.findall(r"-d '(.*)'", told)[-1]
        assert httpx.post(gateway, content=body, headers={"Content-Type": "application/json"}).status_code == 202
        read_until(process, "PagerDuty pages default")
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert rest.endswith("Stopped: nothing of it runs any more.\n")
    assert f"--data-dir {data}" in told
    assert (data / FILE).is_file()


def test_a_folder_with_data_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"precious")
    with command(tmp_path, "--data-dir", str(tmp_path)) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert errors.startswith(f"streamproc: {tmp_path} holds data already")
    assert (tmp_path / FILE).read_bytes() == b"precious"
