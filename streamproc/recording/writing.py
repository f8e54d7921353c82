"""Compressed files of lines, written so that a kill at any moment leaves files that can be read.

Lines go into gzip members (RFC 1952, section 2.2: a file may hold several) of some hundred lines, each written by one
call and synced. So a file ends with a whole member; only what waited for the next one is lost.
"""

from __future__ import annotations

import gzip
import os
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from streamproc.core.errors import Unusable

LEVEL = 6
SUFFIX = ".jsonl.gz"


class Files:
    """A folder of compressed files, one after the other. To be used as a context.

    Args:
        folder: made if absent, readable by its owner alone.
        most_bytes: a file of so many compressed bytes is closed, and another one begun.
        longest: the same, for a file that was begun so long ago.

    Raises:
        Unusable: the folder cannot be made; or, later, a file cannot be written.
    """

    def __init__(self, folder: Path, most_bytes: int, longest: timedelta) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._longest = longest
        self._file: int | None = None
        self._size = 0
        self._begun: datetime | None = None
        self.written: list[Path] = []
        """The files, the one that is written last."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unusable(f"{folder} cannot be made: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def write(self, lines: list[bytes], now: datetime) -> None:
        """Append lines as one member, durable when this returns.

        Args:
            lines: without their ends.
            now: the moment (UTC); it names a new file.
        """
        if not lines:
            return
        member = gzip.compress(b"".join(line + b"\n" for line in lines), compresslevel=LEVEL, mtime=0)
        try:
            if self._file is None or self._size >= self._most_bytes or self._old(now):
                self._begin(now)
            assert self._file is not None  # noqa: S101  it was begun
            while member:
                member = member[self._count(os.write(self._file, member)) :]
            os.fsync(self._file)
        except OSError as error:
            raise Unusable(
                f"{self.written[-1] if self.written else self._folder} cannot be written: {error}"
            ) from error

    def _count(self, size: int) -> int:
        self._size += size
        return size

    def _old(self, now: datetime) -> bool:
        return self._begun is not None and now - self._begun >= self._longest

    def _begin(self, now: datetime) -> None:
        self._close()
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        number = 0
        while (file := self._folder / f"raw-{stamp}{f'-{number}' if number else ''}{SUFFIX}").exists():
            number += 1
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._size, self._begun = 0, now
        self.written.append(file)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
