"""A scenario with a candidate beside it, on the virtual clock."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from streamproc.core.event import Artifact
from streamproc.core.fold import CONFIG
from streamproc.core.record import Record
from streamproc.events.shadow import Difference, Progress
from streamproc.runtime.memory import Memory, MemoryJournal
from streamproc.services import CATALOGUE
from streamproc.shadow.candidate import TOPIC, Candidate, begun, everything, newest
from streamproc.shadow.follower import Follower
from streamproc.shadow.following import WARM
from tests.support.play import DESTINATIONS, Play, in_memory

REASON = "fewer nights"


class MemoryInboxes:
    """The log of a memory runtime, of which the beginning may be gone."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self.starts: dict[str, int] = {}

    def partitions(self, topic: str) -> Sequence[int]:
        return range(self._journal.partitions(topic))

    def start(self, topic: str, partition: int) -> int:
        return self.starts.get(topic, 0)

    def end(self, topic: str, partition: int) -> int:
        return self._journal.end(topic, partition)

    def at(self, topic: str, partition: int, moment: datetime) -> int:
        log = self._journal.logs[topic, partition]
        return next((record.offset for record in log if record.stamp >= moment), len(log))

    def records(self, topic: str, partition: int, offset: int) -> Iterator[Record]:
        return iter(self._journal.logs[topic, partition][offset:])

    def version(self, checksum: str) -> str | None:
        found = (Artifact.model_validate_json(record.value) for record in self.records("versions", 0, 0))
        return next((artifact.body for artifact in found if artifact.checksum == checksum), None)


def candidate(catalogue: Mapping[str, Any] | None = None, **sections: Any) -> Candidate:
    """Return a candidate: what a scenario is configured with, and sections over it."""
    escalate = {"destinations": DESTINATIONS, **sections.pop("escalate", {})}
    bodies = {CONFIG: json.dumps({"escalate": escalate, **sections})}
    if catalogue is not None:
        bodies[CATALOGUE.name] = json.dumps({"services": catalogue})
    return Candidate(name="b.yaml", bodies=bodies)


class Shadowed:
    """A scenario under way, and a follower that can be started again."""

    def __init__(self, partitions: int = 1, warm: timedelta = WARM) -> None:
        self.memory: Memory = in_memory(partitions=partitions)
        self.play = Play(self.memory)
        self.inboxes = MemoryInboxes(self.memory.journal)
        self.warm = warm
        self.follower = self.another()

    def another(self) -> Follower:
        """Return a follower that has seen nothing yet."""
        return Follower(self.inboxes, self.memory.append, self.memory.clock, timedelta(0), warm=self.warm)

    def begin(self, candidate: Candidate) -> None:
        """Start a candidate."""
        self.memory.append(begun(candidate, newest(everything(self.inboxes)), "ann", REASON))

    def at(self, moment: str) -> Play:
        """Let time pass, and the follower follow."""
        self.play.at(moment)
        self.follower.step()
        return self.play

    @property
    def differences(self) -> list[Difference]:
        """Every difference that was told, the newest of each."""
        told = self._told(Difference)
        return list({one.about: one for one in told}.values())

    @property
    def progress(self) -> Progress:
        """The last that was told."""
        last: Progress = self._told(Progress)[-1]
        return last

    def _told(self, kind: Any) -> list[Any]:
        wire = kind.TYPE.encode()
        found = [record for record in self.memory.records(TOPIC) if record.headers.get("type") == wire]
        return [kind.model_validate_json(record.value) for record in found]

    def log(self) -> dict[str, list[tuple[bytes, bytes, Mapping[str, bytes], datetime]]]:
        """Return everything but the topic `shadow` and artifacts of candidates."""
        names = {topic for topic, _ in self.memory.journal.logs} - {TOPIC, "versions"}
        return {
            name: [(each.key, each.value, each.headers, each.stamp) for each in self.memory.records(name)]
            for name in sorted(names)
        }
