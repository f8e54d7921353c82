"""What a person at a terminal is asked: the program under a pseudo terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from streamproc import cli
from streamproc.runtime.embedded.desk import SqliteDesk
from tests.cli.playing import KEY, Pipeline

HIDDEN = "Routing key"


def until_echo_is_off(terminal: int) -> None:
    """Wait until the program hides what is typed: what was typed before that it throws away."""
    end = time.monotonic() + 60
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        assert time.monotonic() < end, "a key would be shown"
        time.sleep(0.01)


def talk(folder: Path, arguments: list[str], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run the program at a terminal; each answer is given once its question has been asked."""
    ours, theirs = pty.openpty()
    root = str(Path(cli.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAGERDUTY")}
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "streamproc", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": root, "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said, at = "", 0
    left = list(answers)
    while True:
        assert select.select([ours], [], [], 60)[0], f"no word for a minute after: {said}"
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so where the other side has closed
            break
        if not piece:
            break
        said += piece.decode()
        if left and left[0][0] in said[at:]:
            question, answer = left.pop(0)
            at = len(said)
            if question == HIDDEN:
                until_echo_is_off(ours)
            os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    assert not left, said
    return process.wait(20), said


@pytest.fixture
def quiet(pipeline: Pipeline) -> Path:
    pipeline.alert("DatabaseDown", service="db")
    pipeline.close()
    return pipeline.folder


def test_arming_asks(quiet: Path, tmp_path: Path) -> None:
    code, said = talk(tmp_path, ["arm", "--data-dir", str(quiet)], [("Arm? [y/N]", "y")])
    assert (code, SqliteDesk(quiet).status().armed) == (0, False)
    assert "Armed (by" in said
    assert [policy.withdrawn for policy in SqliteDesk(quiet).policies()] == [False]


def test_arming_takes_a_no(quiet: Path, tmp_path: Path) -> None:
    code, _ = talk(tmp_path, ["arm", "--data-dir", str(quiet)], [("Arm? [y/N]", "n")])
    assert (code, SqliteDesk(quiet).policies()) == (130, [])


def test_init_asks_for_a_key_and_does_not_show_it(tmp_path: Path) -> None:
    code, said = talk(tmp_path, ["init"], [(HIDDEN, KEY), ("Send a test page now", "n")])
    assert code == 0
    assert KEY not in said
    assert KEY in (tmp_path / "streamproc.yaml").read_text()


def test_init_takes_no_key_for_an_answer(tmp_path: Path) -> None:
    code, said = talk(tmp_path, ["init"], [(HIDDEN, "")])
    assert code == 0
    assert "nothing can page yet" in said


def test_a_terminal_gets_colour_within_its_width(quiet: Path, tmp_path: Path) -> None:
    code, said = talk(tmp_path, ["explain", "in:v1", "--data-dir", str(quiet)], [])
    assert code == 0
    assert "\x1b[1;31mCRITICAL" in said
