"""A gateway that dies once, after an alert is in the log and before its sender is answered."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from streamproc import cli
from streamproc.ports import Entry
from streamproc.runtime.faust.inlet import KafkaInlet

AT = 15
"""Requests that it answers before."""
_append = KafkaInlet.append
_taken = 0


async def append_and_die(self: KafkaInlet, entries: Sequence[Entry]) -> None:
    """Append as ever; the process dies of the so-manieth."""
    global _taken  # noqa: PLW0603  the process dies of it
    await _append(self, entries)
    _taken += 1
    if _taken > AT:
        die_once()


def die_once() -> None:
    """Die, where no predecessor did."""
    mark = Path(os.environ["CRASHED"])
    if not mark.exists():
        mark.touch()
        os._exit(137)


setattr(KafkaInlet, "append", append_and_die)  # noqa: B010  a variant, as its name says

cli.main()
