"""What the topic `shadow` tells of the newest candidate, for those who look."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from streamproc.backtest.recorded import Inboxes
from streamproc.events.shadow import Difference, Progress
from streamproc.shadow.candidate import Candidate, Standing, everything, switches


@dataclass(frozen=True, slots=True)
class Told:
    """The newest candidate."""

    began: Standing
    ended: Standing | None
    """None while it runs."""
    candidate: Candidate | None
    """None where the log no longer holds it."""
    progress: Progress | None
    """The last that was told; None where no follower has come so far."""
    differences: tuple[Difference, ...]
    """Those that stand, in order of their first page."""


def told(inboxes: Inboxes) -> Told | None:
    """Return what is known of the newest candidate, None where there never was one."""
    records = list(everything(inboxes))
    turns = sorted(switches(records), key=lambda one: one.switch.version)
    began = next((one for one in reversed(turns) if one.runs), None)
    if began is None:
        return None
    after = turns[turns.index(began) + 1 :]
    progress: Progress | None = None
    found: dict[str, Difference] = {}
    for record in records:
        kind = record.headers.get("type")
        try:
            if kind == Progress.TYPE.encode():
                said = Progress.model_validate_json(record.value)
                mine = (said.about, said.version) == (began.switch.checksum, began.switch.version)
                progress = said if mine else progress
            elif kind == Difference.TYPE.encode():
                difference = Difference.model_validate_json(record.value)
                if difference.candidate == began.switch.checksum and record.stamp >= began.at:
                    found[difference.about] = difference
        except ValidationError:
            continue  # the topic is public
    body = inboxes.version(began.switch.checksum)
    candidate = None if body is None else Candidate.model_validate_json(body)
    stands = [one for one in found.values() if not one.withdrawn]
    stands.sort(key=lambda one: min(page.at for page in (*one.a, *one.b)))
    return Told(began, after[-1] if after else None, candidate, progress, tuple(stands))
