from __future__ import annotations

from pathlib import Path

import pytest

from streamproc.commands.demo import _called, _empty
from streamproc.core.errors import Unusable


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unusable, match="cannot be made: Not a directory"):
        _empty(tmp_path / "file" / "data")


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    assert _empty(tmp_path / "one" / "two").is_dir()


@pytest.mark.parametrize(
    ("called", "path", "expected"),
    [
        pytest.param("bin/streamproc", "other", "bin/streamproc", id="by its path"),
        pytest.param("bin/streamproc", "bin", "streamproc", id="by its name"),
        pytest.param("bin/pytest", "bin", "streamproc", id="from elsewhere"),
    ],
)
def test_commands_to_copy_are_called_as_this_one_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, path: str, expected: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "streamproc").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / path))
    monkeypatch.setattr("sys.argv", [called])
    assert _called() == expected
