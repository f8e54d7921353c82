"""What was expected against what came. Pure; a failure says what came instead, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from streamproc.core.event import Why
from streamproc.events.incident import Action
from streamproc.policytest.format import SENT, Expectation, Muted, Sent, Stands, Strict, Together, Waits, written
from streamproc.policytest.reading import shown
from streamproc.policytest.traffic import fits, has
from streamproc.policytest.watching import Said, Standing, Story, Watch

EXACTLY = timedelta(seconds=1)
"""`at: 5m` is that second."""
MILLISECOND = timedelta(milliseconds=1)
STORIES = 4
"""Incidents of which a failure tells the reasons."""
CAME = 12
"""Things that a failure lists."""


@dataclass(frozen=True, slots=True)
class Told:
    """One incident as a failure explains it."""

    what: str
    chain: tuple[Why, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that does not hold."""

    line: int
    expected: str
    came: tuple[str, ...]
    """What there was of the kind; those that were meant begin with `*`."""
    why: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """Something of the kind that is expected."""

    at: datetime
    text: str
    meant: bool
    incident_id: str


@dataclass(slots=True)
class Judge:
    """Judges the expectations of one case.

    Args:
        watch: what came.
        begins: offset 0.
        until: what came later does not count.
    """

    watch: Watch
    begins: datetime
    until: datetime
    _finders: dict[str, Callable[[Expectation], Iterator[_Found]]] = field(init=False)

    def __post_init__(self) -> None:
        self._finders = {
            **dict.fromkeys(SENT, self._sent),
            "incident": self._incidents,
            "decision": self._standings,
            "held": self._standings,
            "muted": self._muted,
        }

    def judge(self, expected: Expectation, line: int) -> Failure | None:
        """Return how an expectation fails, None where it holds."""
        found = list(self._finders[expected.subject](expected))
        meant = [each for each in found if each.meant and self._timely(expected, each.at)]
        least, most = expected.bounds
        if least <= len(meant) and (most is None or len(meant) <= most):
            return None
        listed = tuple(
            f"{'* ' if each in meant else '  '}{self._offset(each.at)}  {each.text}" for each in found[:CAME]
        )
        more = (f"  and {len(found) - CAME} more",) if len(found) > CAME else ()
        return Failure(line, _expected(expected), (*listed, *more), tuple(self._why(expected, meant)))

    # -- what there was -------------------------------------------------------------------------------------------

    def _sent(self, expected: Expectation) -> Iterator[_Found]:
        wanted = expected.wanted
        assert isinstance(wanted, Sent)  # noqa: S101  by its subject
        for said in self.watch.said:
            if said.subject != expected.subject or said.at > self.until:
                continue
            story = self.watch.stories.get(said.incident_id)
            standing = None if story is None else story.by(said.at)
            yield _Found(said.at, _said(said, standing), _is_meant(wanted, said, standing), said.incident_id)

    def _incidents(self, expected: Expectation) -> Iterator[_Found]:
        wanted = expected.wanted
        assert isinstance(wanted, Together)  # noqa: S101  by its subject
        for story, standing in self._stories():
            severity = max((each.told.severity for each in story.standings), key=lambda one: one.rank)
            names = ", ".join(_labels(member.labels) for member in standing.members.values())
            over = standing.told.status == "resolved"
            meant = (
                _together(wanted, standing)
                and (wanted.root is None or has(wanted.root, standing.told.root.labels))
                and (wanted.service is None or fits(wanted.service, standing.told.service))
                and (wanted.severity is None or wanted.severity is severity)
                and (wanted.title is None or fits(wanted.title, standing.told.title))
                and (wanted.resolved is None or wanted.resolved is over)
            )
            text = f"{standing.told.title!r}, {'resolved' if over else 'open'}: {names}"
            yield _Found(story.opened_at, text, meant, story.incident_id)

    def _standings(self, expected: Expectation) -> Iterator[_Found]:
        """Yield each incident that stood so in the time that is asked for, and the others as they stood."""
        wanted = expected.wanted
        assert isinstance(wanted, Stands | Waits)  # noqa: S101  by its subject
        action = Action.HOLD if isinstance(wanted, Waits) else wanted.action
        for story, _ in self._stories():
            looked = list(self._looked(expected, story))
            meant = [each for each in looked if _stands(wanted, action, each)]
            for standing in (meant or looked)[:1]:
                at = standing.at if expected.at is None else self.begins + expected.at
                yield _Found(at, _stood(standing), bool(meant), story.incident_id)

    def _muted(self, expected: Expectation) -> Iterator[_Found]:
        wanted = expected.wanted
        assert isinstance(wanted, Muted)  # noqa: S101  by its subject
        for story, last in self._stories():
            looked = list(self._looked(expected, story))
            for name, member in last.members.items():
                muted = [each for each in looked if name in each.members and each.members[name].muted_by]
                meant = [each for each in muted if wanted.by in (None, each.members[name].muted_by)]
                by = (meant or muted)[0].members[name].muted_by if muted else ""
                text = f"{_labels(member.labels)}: {f'muted by {by}' if by else 'not muted'}"
                is_meant = bool(meant) and has(wanted.alert, member.labels)
                since = (meant or muted or looked)[:1]
                for standing in since:
                    at = standing.at if expected.at is None else self.begins + expected.at
                    yield _Found(at, text, is_meant, story.incident_id)

    def _stories(self) -> Iterator[tuple[Story, Standing]]:
        """Yield the incidents that had opened by the end, as they stood then."""
        for story in self.watch.stories.values():
            standing = story.by(self.until)
            if standing is not None:
                yield story, standing

    def _looked(self, expected: Expectation, story: Story) -> Iterator[Standing]:
        """Yield how an incident stood in the time that is asked for."""
        if expected.at is not None:
            first = last = self.begins + expected.at
        elif expected.between is not None:
            first, last = (self.begins + offset for offset in expected.between)
        else:
            first, last = self.begins, self.until
        before = story.by(first)
        if before is not None:
            yield before
        yield from (each for each in story.standings if first < each.at <= last)

    # -- telling --------------------------------------------------------------------------------------------------

    def _timely(self, expected: Expectation, at: datetime) -> bool:
        if expected.subject not in SENT and expected.subject != "incident":
            return True  # its time is asked for where it is found
        offset = at - self.begins
        if expected.at is not None:
            return abs(offset - expected.at) < EXACTLY
        return expected.between is None or expected.between[0] <= offset <= expected.between[1]

    def _why(self, expected: Expectation, meant: list[_Found]) -> Iterator[Told]:
        """Yield the decisions about the incidents that are asked for, the ones that were found at first."""
        wishes: Mapping[str, str] = getattr(expected.wanted, "alert", {})
        service = getattr(expected.wanted, "service", None)
        names = {each.incident_id for each in meant}
        asked = [
            (story, standing)
            for story, standing in self._stories()
            if story.incident_id in names
            or (standing.holds(wishes) and (service is None or fits(service, standing.told.service)))
        ]
        asked = asked or list(self._stories())
        asked.sort(key=lambda each: each[0].incident_id not in names)
        for story, _ in asked[:STORIES]:
            yield from (Told(self._decided(each), each.told.trail) for each in _turns(story, self.until))

    def _decided(self, standing: Standing) -> str:
        return f"{self._offset(standing.at)}  {standing.told.title!r}: {_stood(standing)}"

    def _offset(self, at: datetime) -> str:
        return written(round((at - self.begins) / MILLISECOND) * MILLISECOND)


def _turns(story: Story, until: datetime) -> Iterator[Standing]:
    """Yield the publications at which a decision became another one."""
    before: tuple[str, str] | None = None
    for standing in story.standings:
        now = (standing.action.value, standing.reason)
        if now != before and standing.at <= until:
            yield standing
        before = now


def _is_meant(wanted: Sent, said: Said, standing: Standing | None) -> bool:
    texts = (
        (wanted.service, standing.told.service if standing else ""),
        (wanted.destination, said.destination),
        (wanted.title, said.title),
    )
    return (
        all(wish is None or fits(wish, text) for wish, text in texts)
        and (wanted.severity is None or wanted.severity is said.severity)
        and (wanted.reason is None or wanted.reason.value == said.reason)
        and (not wanted.alert or (standing is not None and standing.holds(wanted.alert)))
    )


def _stands(wanted: Stands | Waits, action: Action | None, standing: Standing) -> bool:
    return (
        (action is None or action is standing.action)
        and (wanted.reason is None or wanted.reason.value == standing.reason)
        and (wanted.service is None or fits(wanted.service, standing.told.service))
        and standing.holds(wanted.alert)
    )


def _together(wanted: Together, standing: Standing) -> bool:
    """Return whether every wish is an alert of the incident, and every alert of it is wished."""
    if wanted.alerts is None:
        return True
    held = [member.labels for member in standing.members.values()]
    return all(any(has(wish, labels) for labels in held) for wish in wanted.alerts) and all(
        any(has(wish, labels) for wish in wanted.alerts) for labels in held
    )


def _said(said: Said, standing: Standing | None) -> str:
    facts: dict[str, Any] = {
        "service": standing.told.service if standing else "",
        "severity": said.severity or "",
        "destination": said.destination,
        "reason": said.reason,
        "title": said.title,
    }
    return f"{said.subject}  " + ", ".join(f"{name} {value}" for name, value in facts.items() if value)


def _stood(standing: Standing) -> str:
    word = {Action.PAGE: "page", Action.TICKET: "ticket", Action.HOLD: "held", Action.NONE: "nothing"}
    return f"{word[standing.action]} ({standing.reason})"


def _labels(labels: Mapping[str, str]) -> str:
    name = labels.get("alertname", "")
    rest = ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != "alertname")
    return f"{name}{{{rest}}}"


def _expected(expected: Expectation) -> str:
    least, most = expected.bounds
    number = "no" if most == 0 else str(least) if least == most else f"at least {least}" if most is None else ""
    number = number or (f"{least} to {most}" if least else f"at most {most}")
    when = ""
    if expected.at is not None:
        when = f" at {written(expected.at)}"
    elif expected.between is not None:
        when = f" between {written(expected.between[0])} and {written(expected.between[1])}"
    return f"{number} {expected.subject}{when}{_wishes(expected.wanted)}"


def _wishes(wanted: Strict) -> str:
    given = shown(wanted)
    return ": " + ", ".join(f"{name} {_one(value)}" for name, value in given.items()) if given else ""


def _one(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={_one(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return " + ".join(map(_one, value))
    return str(value)
