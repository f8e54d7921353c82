"""Lines of a recording, kept as they are played, so that a second replay gets the very same ones in the same order."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import orjson

from streamproc.backtest.reading import Line

PACKED = 1
"""Level of gzip: the fastest."""


class Tape:
    """A file of lines that were played.

    Args:
        file: is written.
    """

    def __init__(self, file: Path) -> None:
        self.count = 0
        """Lines that are kept."""
        self._file = file

    def record(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Yield the lines, and keep each one that was taken."""
        with gzip.open(self._file, "wb", compresslevel=PACKED) as kept:
            for line in lines:
                head = (line.at, line.number, line.source, line.read, len(line.body))
                kept.write(orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE))
                kept.write(line.body)
                self.count += 1
                yield line

    def play(self) -> Iterator[Line]:
        """Yield the lines again."""
        with gzip.open(self._file, "rb") as kept:
            while head := kept.readline():
                at, number, source, read, size = orjson.loads(head)
                yield Line(datetime.fromisoformat(at), number, source, kept.read(size), read)
