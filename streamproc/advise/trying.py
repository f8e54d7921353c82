"""Backtests: one replay with the present settings for the evidence, then one for each candidate over the same lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from streamproc import settings as configuration
from streamproc.advise.change import Change, services_text, settings_text
from streamproc.advise.evidence import Evidence, Standing, standing
from streamproc.advise.proposal import Candidate
from streamproc.advise.watching import Answered, Notes, answered_live
from streamproc.advise.weighing import Verdict, Weighed, weigh
from streamproc.backtest.calls import CallLog
from streamproc.backtest.difference import Call, compare
from streamproc.backtest.inputs import Playable, Source
from streamproc.backtest.reading import Beside, Judgement, Line, Tally, with_topology
from streamproc.backtest.replay import Replay
from streamproc.backtest.tape import Tape
from streamproc.beginning import read_catalogue
from streamproc.core.errors import Unusable
from streamproc.events.feedback import ARM, Policy
from streamproc.policies import PREFIX
from streamproc.services import Catalogue
from streamproc.settings import Settings

Stop = Callable[[], bool]
Lines = Callable[[Iterable[Line]], Iterator[Line]]
Shown = Callable[[float, str], AbstractContextManager[Lines]]


class Nowhere:
    """Takes lines of outputs that nobody reads."""

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Leave a line out."""


@dataclass(frozen=True, slots=True)
class Present:
    """The settings as they stand."""

    file: Path | None
    """Where they stand; None for the defaults."""
    settings: Settings
    catalogue: str | None
    topology: Path | None

    @classmethod
    def of(cls, config: Path | None, topology: Path | None) -> Present:
        """Return the present settings, with everything that they name.

        Raises:
            Unusable: they cannot be read or used.
        """
        file = config or (configuration.DEFAULT_FILE if configuration.DEFAULT_FILE.is_file() else None)
        settings = configuration.load(file)
        return cls(file, settings, _catalogue(settings, topology), topology)

    @property
    def services(self) -> Catalogue:
        """The service catalogue, an empty one where none is set."""
        return Catalogue() if self.catalogue is None else Catalogue.of(self.catalogue)

    def written(self, folder: Path, name: str, change: Change, head: str) -> Path:
        """Write the settings with a change, and the service catalogue where it changes; return the settings' file.

        Both are readable by their owner alone: settings may hold keys.
        """
        services = ""
        present = self.settings.services
        if change.services:
            services = f"{name}.services.yaml"
            before = "" if present is None else present.read_text(encoding="utf-8")
            _write(folder / services, services_text(before, change, head))
        elif present is not None:
            services = str(present.resolve())
        text = "" if self.file is None else self.file.read_text(encoding="utf-8")
        file = folder / f"{name}.yaml"
        _write(file, settings_text(text, change, services, head))
        return file


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")


def _catalogue(settings: Settings, topology: Path | None) -> str | None:
    catalogue = read_catalogue(settings)
    return catalogue if topology is None else with_topology(catalogue, topology)[0]


class Trials:
    """All replays of one recording.

    Args:
        present: the settings that stand.
        folder: for notes and settings files, until the end.
    """

    def __init__(self, present: Present, folder: Path) -> None:
        self.count = 0
        """Requests of the recording."""
        self.tally = Tally()
        self.notes: list[str] = []
        self._present = present
        self._folder = folder
        self._tape = Tape(folder / "lines")
        self._calls: Sequence[Call] = ()
        self._beside: list[Judgement | Beside] = []
        self._evidence: Evidence | None = None

    def observe(self, source: Source, said: Sequence[Judgement], shown: Shown, stop: Stop) -> Evidence | None:
        """Replay with the present settings; return the evidence, None where `stop` said so before the end.

        Args:
            source: the recording.
            said: what people said of alerts.
            shown: for how far `read` comes and its unit, what passes lines on and shows how far they are.
            stop: asked before each line.
        """
        judged = {each.alert for each in said if each.field == "page" and each.value is True}
        with source.open(self.tally) as playable, closing(CallLog(self._folder / "a", "a")) as log:
            self._beside = sorted([*said, *playable.beside], key=lambda came: came.at)
            notes = Notes(log, judged)
            replay = Replay(self._present.settings, self._present.catalogue, Nowhere(), notes.take)
            replay.ledger.tell(notes)
            with shown(playable.total, source.unit) as lines:
                complete = replay.run(self._tape.record(lines(playable.lines)), self._beside, stop)
        if not complete:
            return None
        self.count, self._calls, self.notes = self._tape.count, log.calls, playable.notes
        span = _span(self.tally)
        answered = Answered()
        if source.inboxes is not None and notes.acted:
            with source.inboxes() as inboxes:
                answered = answered_live(inboxes, notes.acted)
        silences = self._standing(playable, span[0], notes.muted)
        self._evidence = notes.evidence(answered, silences, span)
        return self._evidence

    def _standing(
        self, playable: Playable, first_at: datetime, muted: Mapping[str, Mapping[str, int]]
    ) -> tuple[Standing, ...]:
        told = [*_told(playable.beside)]
        for name, policy in self._present.settings.policies.items():
            begins = policy.starts_at or first_at
            told.append((begins, policy.policy(name, begins, 1)))
        return standing(told, muted)

    def attempt(self, candidate: Candidate, shown: Lines, stop: Stop) -> Weighed | None:
        """Replay with a candidate's change; return what it comes to, None where `stop` said so before the end.

        Raises:
            ValueError: nothing was observed yet.
        """
        if self._evidence is None:
            raise ValueError("there is nothing to compare with before `observe`")
        try:
            file = self._present.written(self._folder, "candidate", candidate.change, "")
            settings = configuration.load(file)
            catalogue = _catalogue(settings, self._present.topology)
        except Unusable as error:
            return Weighed(candidate, Verdict.UNUSABLE, fault=str(error))
        with closing(CallLog(self._folder / "b", "b")) as log:
            replay = Replay(settings, catalogue, Nowhere())
            replay.ledger.tell(log)
            beside = list(_without(self._beside, candidate.change.lifted))
            if not replay.run(shown(self._tape.play()), beside, stop):
                return None
        return weigh(candidate, compare(self._calls, log.calls), self._evidence)


def _span(tally: Tally) -> tuple[datetime, datetime]:
    if tally.first_at is None or tally.last_at is None:
        raise Unusable("the recording holds no requests")
    return tally.first_at, tally.last_at


def _told(beside: Iterable[Beside]) -> Iterator[tuple[datetime, Policy]]:
    """Yield the silences and maintenance windows that came in beside the requests."""
    for came in beside:
        for entry in came.entries:
            if entry.headers.get("type", b"") == Policy.TYPE.encode():
                policy = Policy.model_validate_json(entry.value)
                if policy.policy_id != ARM and not policy.policy_id.startswith(PREFIX):
                    yield came.at, policy


def _without(beside: Iterable[Judgement | Beside], lifted: frozenset[str]) -> Iterator[Judgement | Beside]:
    for came in beside:
        if isinstance(came, Beside) and any(policy.policy_id in lifted for _, policy in _told([came])):
            continue
        yield came
