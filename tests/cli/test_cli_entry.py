from __future__ import annotations

import inspect
import itertools
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from streamproc import __version__, cli
from streamproc.commands.common import OutsideRefused
from streamproc.core.errors import Defect, Rejected, StreamprocError, Transient, Unusable
from streamproc.ports import Overloaded
from streamproc.runtime.embedded.journal import StorageFailure
from tests.cli.playing import call

HEAVY = ("river", "fastapi", "apprise", "httpx", "streamproc.runtime", "streamproc.settings", "streamproc.topology")


def run(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the real program, as a user does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PAGERDUTY", "_STREAMPROC"))}
    command = [sys.executable, "-m", "streamproc", *arguments]
    root = str(Path(cli.__file__).parents[1])
    return subprocess.run(  # noqa: S603  our own program
        command, cwd=folder, env={**clean, "PYTHONPATH": root, **env}, capture_output=True, text=True, check=False
    )


def test_version() -> None:
    assert call("--version").output == f"streamproc {__version__}\n"


def test_help_shows_every_command_in_its_group_and_the_exit_codes() -> None:
    shown = call("--help", TERMINAL_WIDTH="200").output
    for entry in cli.COMMANDS:
        assert (f" {entry.name} " in shown) is not entry.hidden
    assert {entry.panel for entry in cli.COMMANDS if entry.panel in shown} == {entry.panel for entry in cli.COMMANDS}
    assert "Exit codes: 0 all is well; 1 a check found problems;" in shown
    assert "or `backtest` found what --fail-on names" in " ".join(shown.split())


@pytest.mark.parametrize(
    "words", [pytest.param(("backtest",), id="a command"), pytest.param(("shadow", "start"), id="one of a group")]
)
def test_help_wraps_where_the_terminal_ends_and_not_where_the_source_does(words: tuple[str, ...]) -> None:
    shown = call(*words, "--help", TERMINAL_WIDTH="80").output
    lines = [line.strip() for line in shown.partition("╭")[0].splitlines()]
    for line, after in itertools.pairwise(lines):
        if line and after:
            assert len(line) + 1 + len(after.split()[0]) > 76, (line, after)


def test_without_a_command_the_help_is_shown() -> None:
    answer = call()
    assert answer.exit_code == 2
    assert "Usage: streamproc" in answer.output


@pytest.mark.parametrize("entry", cli.COMMANDS, ids=lambda entry: entry.name)
def test_the_listed_help_is_the_commands_own(entry: cli.Entry) -> None:
    module, _, attribute = entry.place.partition(":")
    found = getattr(import_module(f"streamproc.commands.{module}"), attribute)
    own = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert entry.help == str(own).partition("\n")[0]


@pytest.mark.parametrize("entry", cli.COMMANDS, ids=lambda entry: entry.name)
def test_every_command_answers_for_help(entry: cli.Entry) -> None:
    answer = call(entry.name, "--help")
    assert answer.exit_code == 0
    assert f"Usage: streamproc {entry.name}" in answer.output


def test_help_and_completion_load_no_command(tmp_path: Path) -> None:
    # Not how long it takes, which a busy machine decides, but what it depends on.
    probe = (
        "import json, sys\n"
        "from streamproc import cli\n"
        "try: cli.main()\n"
        f"finally: print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)\n"
    )
    root = str(Path(cli.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    for arguments, extra in (
        (["--help"], {}),
        ([], {"_STREAMPROC_COMPLETE": "complete_bash", "COMP_WORDS": "streamproc st", "COMP_CWORD": "1"}),
    ):
        done = subprocess.run(  # noqa: S603  our own program
            [sys.executable, "-c", probe, *arguments],
            env={**env, **extra},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert json.loads(done.stderr) == []
        assert "status" in done.stdout


def test_completion_of_a_commands_own_commands(tmp_path: Path) -> None:
    done = run(
        folder=tmp_path, _STREAMPROC_COMPLETE="complete_bash", COMP_WORDS="streamproc dead-letters ", COMP_CWORD="2"
    )
    assert done.stdout.split() == ["list", "show", "retry"]


def test_a_completion_script_can_be_shown(tmp_path: Path) -> None:
    done = run("--show-completion", "bash", folder=tmp_path, SHELL="/bin/bash")
    assert "_STREAMPROC_COMPLETE=complete_bash" in done.stdout


def test_a_mistyped_command_is_guessed() -> None:
    answer = call("stauts")
    assert answer.exit_code == 2
    assert "Did you mean 'status'" in answer.output


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(Unusable("x"), 2, id="settings"),
        pytest.param(Rejected("no_end", "x"), 2, id="input"),
        pytest.param(Defect("x"), 3, id="fail-stop"),
        pytest.param(StorageFailure("x"), 4, id="disk"),
        pytest.param(Transient("x"), 5, id="outside"),
        pytest.param(Overloaded("x"), 5, id="derived from one that is listed"),
        pytest.param(OutsideRefused("x"), 5, id="outside refused"),
        pytest.param(StreamprocError("x"), 3, id="any other"),
    ],
)
def test_exit_codes(error: StreamprocError, code: int) -> None:
    assert cli.exit_code(error) == code


def test_every_class_with_an_exit_code_exists() -> None:
    known = {kind.__name__ for kind in (Unusable, Rejected, Defect, StorageFailure, Transient, OutsideRefused)}
    assert set(cli.EXITS) == {*known, "StreamprocError"}


def test_an_error_is_one_line_on_stderr_and_no_traceback(tmp_path: Path) -> None:
    done = run("status", "--data-dir", "nowhere", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("streamproc: nowhere holds no data yet; start `streamproc run --data-dir nowhere` first\n")


def test_a_message_of_several_lines_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "streamproc.yaml").write_text("gateway: {\n")
    done = run("services", "check", "x.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_an_unexpected_option_is_a_usage_error(tmp_path: Path) -> None:
    assert run("status", "--nonsense", folder=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(typer.Abort(), 130, "", id="answered no, or interrupted at a question"),
        pytest.param(KeyboardInterrupt(), 130, "", id="interrupted"),
        pytest.param(Transient("PagerDuty\n  sleeps"), 5, "streamproc: PagerDuty sleeps\n", id="an error in one line"),
    ],
)
def test_how_a_command_ends(error: BaseException, code: int, said: str) -> None:
    app = typer.Typer(cls=cli.Commands)

    @app.command()
    def fail() -> None:
        raise error

    @app.command()
    def other() -> None: ...

    answer = CliRunner().invoke(app, ["fail"])
    assert (answer.exit_code, answer.stderr) == (code, said)
