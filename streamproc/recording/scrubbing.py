"""Existing recordings, redacted: line by line, into another file that stands there whole or not at all."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from streamproc.backtest.reading import NAMED, opened
from streamproc.core.errors import Unusable
from streamproc.recording.redaction import REPLACED, Redactor


@dataclass(slots=True)
class Scrubbed:
    """What became of the lines of a file."""

    lines: int = 0
    """Redacted ones."""
    bad: int = 0
    """Those that could not be read: a line that says nothing stands in their place."""
    named: list[int] = field(default_factory=list)
    """Numbers of the first bad ones."""

    def refuse(self, number: int) -> None:
        """Count a bad line."""
        self.bad += 1
        if len(self.named) < NAMED:
            self.named.append(number)


def scrub(file: Path, into: Path, redactor: Redactor) -> Scrubbed:
    """Redact the lines of a file, gzip or not, into another one, packed where its name ends with `.gz`.

    Args:
        file: recorded requests, or feedback, a JSON object a line.
        into: where; it may be the same file.
        redactor: what redacts.

    Raises:
        Unusable: a file cannot be read, or not be written; then nothing has changed there.
    """
    done = Scrubbed()
    with opened(file) as lines, _whole(into) as out:
        for number, text in enumerate(lines, 1):
            if text.strip():
                out.write(_line(text, number, redactor, done) + b"\n")
            else:
                out.write(b"\n")  # so that line numbers stay
    return done


def _line(text: bytes, number: int, redactor: Redactor, done: Scrubbed) -> bytes:
    try:
        redacted = redactor.line(text)
    except ValueError:
        done.refuse(number)
        return REPLACED
    done.lines += 1
    return redacted


@contextmanager
def _whole(place: Path) -> Iterator[IO[bytes]]:
    """Open a file that is moved to its place when the context ends well."""
    made: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)
        made = Path(name)
        with os.fdopen(handle, "wb") as raw:
            if place.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
                    yield packed  # type: ignore[misc]  # it writes bytes as any file does
            else:
                yield raw
        made.replace(place)
        made = None
    except OSError as error:
        raise Unusable(f"{place} cannot be written: {error.strerror or error}") from error
    finally:
        if made is not None:
            with suppress(OSError):
                made.unlink()
