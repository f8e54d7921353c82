"""How `streamproc backtest` plays what it was given: recorded inboxes as they were, or requests under settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamproc.backtest.contrast import Contrast
from streamproc.backtest.figures import Inputs, Played, report
from streamproc.backtest.inputs import RAW, Source, Window
from streamproc.backtest.interleaving import compare, told
from streamproc.backtest.output import Output
from streamproc.backtest.reading import Beside, Judgement
from streamproc.backtest.replay import Replay
from streamproc.backtest.retold import Retold
from streamproc.commands.against import Against
from streamproc.commands.progress import counted, shown
from streamproc.core.errors import Defect
from streamproc.settings import Settings

Stop = Callable[[], bool]


@dataclass(slots=True)
class Outcome:
    """What was played, and what is to be told of it."""

    by: Played
    complete: bool
    replayed: str
    """`requests` or `inboxes`."""
    found: Contrast | None = None
    """The difference to a second configuration."""
    interleaving: dict[str, Any] | None = None
    """What a replay from requests makes otherwise than was decided live; None where that cannot be, or is not known."""
    notes: list[str] = field(default_factory=list)

    def figures(self, inputs: Inputs) -> dict[str, Any]:
        """Return what `report.json` holds."""
        more = {"replayed": self.replayed, "interleaving": self.interleaving, "notes": self.notes}
        return {**report(self.by, inputs, complete=self.complete), **more}


def retell(source: Source, within: Window, files: Output, inputs: Inputs, stop: Stop) -> Outcome:
    """Fold recorded inboxes again, exactly as they were folded live; note in the inputs what they hold."""
    if source.inboxes is None:
        raise Defect("what holds requests only cannot be folded again")
    with source.inboxes() as inboxes:
        retold = Retold(inboxes, files)
        with shown(retold.total, source.unit) as moved:
            complete = retold.run(within.since, within.until, inputs.traffic, moved, stop)
    inputs.feedback.lines, inputs.has_catalogue = retold.feedback["applied"], retold.has_catalogue
    notes = ["Told exactly as it was decided live, under the settings that were active then."]
    if not retold.whole:
        notes.append("Retention has taken the beginning of the log: what belongs to older alerts may differ.")
    return Outcome(retold, complete, "inboxes", notes=notes)


def replay(
    source: Source, by: Replay, said: Sequence[Judgement], inputs: Inputs, both: Against | None, stop: Stop
) -> Outcome:
    """Replay requests in event time, with a second configuration too where there is one."""
    with source.open(inputs.traffic) as playable, shown(playable.total, source.unit) as moved:
        beside: list[Judgement | Beside] = sorted([*said, *playable.beside], key=lambda came: came.at)
        lines = counted(playable.lines, moved)
        complete = by.run(lines if both is None else both.follow(by, lines), beside, stop)
    done = Outcome(by, complete, "requests", notes=playable.notes)
    if both is not None and complete:
        done.found = both.play(beside, stop)
    return done


def interleave(done: Outcome, source: Source, within: Window, settings: Settings, stop: Stop) -> None:
    """Note what a replay from requests makes otherwise than was decided live, where several partitions are recorded."""
    if source.inboxes is None or not done.complete:
        return
    with source.inboxes() as inboxes:
        done.interleaving = compare(inboxes, RAW, settings, within.since, within.until, stop)
    if done.interleaving is not None:
        done.notes.append(told(done.interleaving))
