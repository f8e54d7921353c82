"""Plays the cases of a file, each alone, and judges what came."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from streamproc import settings as configuration
from streamproc.backtest.reading import Beside, Line
from streamproc.backtest.replay import AFTER, Replay, with_default_destination
from streamproc.beginning import catalogue_of, read_catalogue
from streamproc.core.errors import Unusable
from streamproc.policytest.format import Case, Expectation
from streamproc.policytest.judging import Failure, Judge
from streamproc.policytest.reading import Read
from streamproc.policytest.traffic import Misplaced, Traffic, feedback, traffic
from streamproc.policytest.watching import Watch
from streamproc.services import Catalogue
from streamproc.settings import Settings


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case."""

    file: Path
    case: Case
    line: int
    failures: tuple[Failure, ...]
    letters: tuple[str, ...]
    """What the pipeline could not read: with it in a case, nothing else of it counts."""
    seconds: float

    @property
    def passed(self) -> bool:
        """True where all came as expected, and all of it could be read: else no page would mean nothing."""
        return not self.failures and not self.letters

    @property
    def summary(self) -> str:
        """What is wrong, in one line; empty where nothing is."""
        unread = [f"the pipeline could not read {len(self.letters)} of its events"] if self.letters else []
        return "; ".join([*unread, *(f"expected {failure.expected}" for failure in self.failures)])


@dataclass(frozen=True, slots=True)
class Ground:
    """What the cases of a file are decided by."""

    settings: Settings
    catalogue: str | None
    ticket_keys: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, settings: Settings, catalogue: str | None) -> Ground:
        """Return the ground of settings."""
        whole = with_default_destination(settings)
        destinations = whole.pagerduty.destinations.values()
        keys = {each.routing_key.get_secret_value() for each in destinations}
        tickets = {each.ticket_routing_key.get_secret_value() for each in destinations if each.ticket_routing_key}
        return cls(whole, catalogue, frozenset(tickets - keys))


def ground_of(tests: Read, config: Path | None) -> Ground:
    """Return what the cases of a file are decided by.

    Args:
        tests: the file.
        config: settings file that a person named; it stands over the one that the tests name.

    Raises:
        Unusable: the settings or the catalogue cannot be used.
    """
    suite, folder = tests.suite, tests.file.parent
    chosen = folder / suite.config if config is None and suite.config is not None else config
    try:
        settings = _settings(chosen, orjson.dumps(suite.settings)) if suite.settings else _settings(chosen, b"{}")
        if suite.services is None:
            return Ground.of(settings, read_catalogue(settings))
        if isinstance(suite.services, str):
            return Ground.of(settings, catalogue_of(folder / suite.services))
        body = orjson.dumps({"services": suite.services}).decode()
        return Ground.of(settings, Catalogue.of(body).model_dump_json())
    except TypeError:
        raise Unusable(f"{tests.file}:{tests.line('settings')}: settings: it holds something that is no JSON") from None
    except Unusable as error:
        raise Unusable(f"{tests.file}: {error}") from None


@lru_cache(maxsize=64)
def _settings(config: Path | None, over: bytes) -> Settings:
    """Return settings; many files of tests name the same ones."""
    return configuration.load(config, orjson.loads(over))


def play(tests: Read, ground: Ground, only: str = "") -> Iterable[Result]:
    """Play the cases of a file, one after the other.

    Args:
        tests: the file.
        ground: what decides.
        only: part of the names of the cases that are played; empty for all.

    Raises:
        Unusable: an event makes no sense where it stands; with its line.
    """
    for number, case in enumerate(tests.suite.cases):
        if only.lower() in case.name.lower():
            yield _play(tests, number, case, ground)


def _play(tests: Read, number: int, case: Case, ground: Ground) -> Result:
    begun = time.perf_counter()
    try:
        made = traffic(case, tests.suite.begins, tests.suite.defaults)
        watch = watched(made, ground)
    except Misplaced as error:
        line = tests.line("cases", number, "events", error.index)
        raise Unusable(f"{tests.file}:{line}: {case.name}: {error}") from None
    begins = case.begins or tests.suite.begins
    last = max(event.until or event.at for event in case.events)
    judge = Judge(watch, begins, begins + (last + AFTER if case.until is None else case.until))
    lines = [tests.line("cases", number, "expect", index) for index in range(len(case.expect))]
    return Result(
        file=tests.file,
        case=case,
        line=tests.line("cases", number),
        failures=judged(judge, case.expect, lines),
        letters=tuple(f"{letter.node}: {letter.reason}: {letter.detail}" for _, letter in watch.letters),
        seconds=time.perf_counter() - begun,
    )


def judged(judge: Judge, expected: Sequence[Expectation], lines: Sequence[int]) -> tuple[Failure, ...]:
    """Return what does not hold."""
    found = (judge.judge(one, line) for one, line in zip(expected, lines, strict=True))
    return tuple(failure for failure in found if failure is not None)


def watched(made: Traffic, ground: Ground) -> Watch:
    """Play what a case holds, and return what came.

    Answers name an incident by an alert; which incident that is shows a run without the answers, for no answer has a
    say in where alerts belong.

    Raises:
        Misplaced: somebody answers where no incident holds such an alert.
    """
    if not made.answers:
        return _run(made.lines, made.policies, ground)
    alone = _run(made.lines, made.policies, ground)
    beside = list(made.policies)
    for answer in made.answers:
        event = answer.event
        name, wishes = ("acknowledge", event.acknowledge) if event.close is None else ("close", event.close)
        incident = alone.incident_of(wishes or {}, answer.at)
        if incident is None:
            raise Misplaced(answer.index, f"`{name}`: no incident holds an alert with these labels by then")
        beside.append(feedback(answer, incident))
    return _run(made.lines, sorted(beside, key=lambda each: each.at), ground)


def _run(lines: Sequence[Line], beside: Sequence[Beside], ground: Ground) -> Watch:
    watch = Watch(ground.ticket_keys)
    Replay(ground.settings, ground.catalogue, _Nowhere(), watch.take).run(lines, beside, lambda: False)
    return watch


class _Nowhere:
    """Where the lines of a backtest go that writes none."""

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Take a line."""
