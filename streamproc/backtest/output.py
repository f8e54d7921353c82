"""The folder that a backtest writes: made beside its place, and moved there when it is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from streamproc.core.errors import Unusable

LINES = ("incidents", "decisions", "pages")
FILES = frozenset({*(f"{name}.jsonl" for name in LINES), "report.json", "report.html", "difference.json"})


class Output:
    """Files that are being written."""

    def __init__(self, folder: Path, lines: Mapping[str, BinaryIO]) -> None:
        self._folder = folder
        self._lines = lines

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Append a line to `incidents`, `decisions` or `pages`."""
        self._lines[name].write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    @property
    def folder(self) -> Path:
        """Where they are written; what else stands here when the context ends is moved, too."""
        return self._folder

    def report(self, name: str, text: bytes) -> None:
        """Write a whole file."""
        (self._folder / name).write_bytes(text)


@contextmanager
def written(place: Path) -> Iterator[Output]:
    """Open the files of a backtest; they stand at `place` when the context ends well, else nothing has changed there.

    Raises:
        Unusable: `place` holds something that no backtest wrote, or cannot be written.
    """
    if place.exists() and (not place.is_dir() or {each.name for each in place.iterdir()} - FILES):
        raise Unusable(
            f"{place} holds something else: name a folder that does not exist, or one of an earlier backtest"
        )
    made: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        with ExitStack() as stack:
            opened = {name: stack.enter_context((made / f"{name}.jsonl").open("wb")) for name in LINES}
            yield Output(made, opened)
        made.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        made.rename(place)
    except OSError as error:
        raise Unusable(f"{place} cannot be written: {error}") from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
