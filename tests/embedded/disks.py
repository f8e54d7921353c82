"""Small disks that can be full or read-only: root cannot be kept out of a directory in any other way."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """The directory that a small disk is mounted on."""

    path: Path

    def make_read_only(self) -> None:
        _mount("-o", "remount,ro", str(self.path))


@contextmanager
def small_disk(tmp_path: Path, size: str) -> Iterator[Disk]:
    """Mount a disk of `size` in memory; skip where that is not allowed, but never in CI."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            pytest.fail(f"a small disk cannot be mounted here: {error}")
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S603, S607  no input from outside


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)  # noqa: S603, S607  no input from outside
