"""A candidate: what it consists of, how it is put into the log, and which one stands there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from streamproc.backtest.recorded import Inboxes
from streamproc.beginning import settings_of
from streamproc.core.errors import Unusable
from streamproc.core.event import Activated
from streamproc.core.record import Record
from streamproc.core.step import ActiveRow
from streamproc.ports import Entry
from streamproc.services import DEFAULT_DESTINATION
from streamproc.settings import Settings
from streamproc.versions import activation, checksum_of

KIND = "candidate"
"""Kind of its artifact. The switch to it is told in the topic `shadow`, so that no node of production sees it."""
TOPIC = "shadow"
NONE = ""
"""Body of the candidate that is none."""


class Candidate(BaseModel):
    """Settings that may be promoted."""

    model_config = ConfigDict(frozen=True)

    name: str
    """What people call it: the path of its settings file."""
    bodies: dict[str, str]
    """Settings of the stages, catalogue and policies, by kind; without a catalogue production's counts."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A switch to a candidate, or to none, as the topic tells it."""

    switch: Activated
    at: datetime

    @property
    def runs(self) -> bool:
        """False where it is the end of one."""
        return self.switch.checksum != checksum_of(NONE)

    def follows(self, known: Standing | None) -> bool:
        """Return whether it counts where it is read after `known`, which counted so far."""
        return known is None or (self != known and self.switch.version >= known.switch.version)

    @property
    def row(self) -> ActiveRow:
        """The same, for whoever switches to the next one."""
        return ActiveRow(**self.switch.model_dump(include={"kind", "version", "checksum"}))


def candidate_of(name: str, settings: Settings, catalogue: str | None) -> Candidate:
    """Return the candidate of a settings file.

    Raises:
        Unusable: its pages would go nowhere.
    """
    if DEFAULT_DESTINATION not in settings.pagerduty.destinations:
        raise Unusable(f"{name}: pagerduty.destinations has no `{DEFAULT_DESTINATION}`: pages would go nowhere")
    return Candidate(name=name, bodies=settings_of(settings, catalogue))


def begun(candidate: Candidate, known: Standing | None, author: str, reason: str) -> list[Entry]:
    """Return the records that make a candidate run; none where it runs already."""
    return _told(candidate.model_dump_json(), known, author, reason)


def ended(known: Standing | None, author: str, reason: str) -> list[Entry]:
    """Return the records that end the candidate; none where none runs."""
    return [] if known is None or not known.runs else _told(NONE, known, author, reason)


def _told(body: str, known: Standing | None, author: str, reason: str) -> list[Entry]:
    return activation(KIND, body, None if known is None else known.row, author, reason, TOPIC)


def switches(records: Iterable[Record]) -> list[Standing]:
    """Return the switches among records of the topic `shadow`, in order."""
    found: list[Standing] = []
    for record in records:
        if record.headers.get("type") == Activated.TYPE.encode():
            try:
                switch = Activated.model_validate_json(record.value)
            except ValidationError:
                continue  # the topic is public: others may have written it
            if switch.kind == KIND:
                found.append(Standing(switch, record.stamp))
    return found


def newest(records: Iterable[Record]) -> Standing | None:
    """Return the newest switch among records of the topic `shadow`, None for none.

    Of several with one number the last counts: commands that wait for a start do not see each other.
    """
    return max(reversed(switches(records)), key=lambda one: one.switch.version, default=None)


def everything(inboxes: Inboxes) -> Iterator[Record]:
    """Yield all that the topic `shadow` holds."""
    for partition in inboxes.partitions(TOPIC):
        yield from inboxes.records(TOPIC, partition, inboxes.start(TOPIC, partition))


def body_of_candidate(inboxes: Inboxes, checksum: str) -> Candidate:
    """Return a candidate.

    Raises:
        Unusable: the log does not hold it.
    """
    body = inboxes.version(checksum)
    if body is None:
        raise Unusable(f"the log no longer holds the candidate {checksum[:12]}; start it again")
    return Candidate.model_validate_json(body)
