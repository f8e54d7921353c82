"""Runtimes that are broken on purpose, each in the one way that its name says. The laws must catch every one of them.

Only a crash shows what is wrong with them: a run that nothing interrupts comes out right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from streamproc.core.record import Position
from streamproc.core.table import RowKey
from streamproc.runtime.engine import BEGINNING
from streamproc.runtime.journal import Append
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.runtime.timers import Timers
from tests.laws.crash import CrashingJournal, Point


class PositionBeforeRows(CrashingJournal):
    """The position is saved as soon as a batch is folded; a crash before the commit skips the batch."""

    def save(self, node: str, partition: int, rows: Mapping[RowKey, bytes | None], position: Position) -> None:
        self.positions[node, partition] = position
        super().save(node, partition, rows, position)


class PositionAfterRows(CrashingJournal):
    """Rows and emits are committed, the position in a commit of its own; a crash in between folds the batch twice."""

    def _publish(self) -> None:
        before = dict(self.positions)
        MemoryJournal._publish(self)
        after, self.positions = self.positions, before
        self.reach(Point.WITHIN)
        self.positions = after


class EmitsBeforeCommit(CrashingJournal):
    """Emits go out at once; a crash before the commit sends them again."""

    def append(self, appends: Sequence[Append], stamp: datetime) -> None:
        super().append(appends, stamp)
        for record in self._staged:
            self.logs[record.topic, record.partition].append(record)
        self._staged = []


class EmitsAfterCommit(CrashingJournal):
    """Rows and position are committed, emits sent afterwards; a crash in between loses them."""

    def _publish(self) -> None:
        staged, self._staged = self._staged, []
        MemoryJournal._publish(self)
        self.reach(Point.WITHIN)
        self._staged, self._saved = staged, []
        MemoryJournal._publish(self)


class RowsAfterEmits(CrashingJournal):
    """Emits and position are committed, rows written behind; a crash in between forgets what was counted."""

    def _publish(self) -> None:
        saved = self._saved
        before = {place: dict(rows) for place, rows in self.rows.items()}
        MemoryJournal._publish(self)
        after, self.rows = self.rows, before
        self._saved = saved
        self.reach(Point.WITHIN)
        self.rows = after


class LostWakes(Memory):
    """Timers are not rebuilt from the rows at a restart."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for part in self.engine.parts:
            part.timers = Timers()


class ForgottenClamp(Memory):
    """The position is restored without its clamp: after a restart time goes back."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for part in self.engine.parts:
            part.position = part.position._replace(now=BEGINNING)
