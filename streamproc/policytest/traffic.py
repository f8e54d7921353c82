"""A case -> what a replay is given: requests as producers post them, and what people do beside them. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from streamproc.backtest.reading import Beside, Line
from streamproc.core.errors import Unusable
from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.matching import matches
from streamproc.policytest.format import Case, Defaults, Event, Silence
from streamproc.ports import Entry

JUST_BEFORE = timedelta(microseconds=1)
"""A silence counts for the alerts of its own moment."""
REPEATS = 100_000
"""Requests of a case at most."""
AUTHOR = "policy test"


class Misplaced(Unusable):
    """An event makes no sense where it stands: nothing fires that it resolves, nothing is open that it answers."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index
        """Which event of the case, from 0."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Somebody acknowledges or closes an incident."""

    at: datetime
    index: int
    event: Event


@dataclass(slots=True)
class Traffic:
    """What a case plays."""

    lines: list[Line] = field(default_factory=list)
    policies: list[Beside] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)


def fits(wanted: str, text: str) -> bool:
    """Return whether a text is what was written: exactly, or by the regular expression after `~`."""
    if not wanted.startswith("~"):
        return wanted == text
    return matches(Matcher(name="", op="=~", value=wanted[1:]), text)


def has(wishes: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether all wished labels are there; a missing label is the empty text."""
    return all(fits(wanted, labels.get(name, "")) for name, wanted in wishes.items())


def traffic(case: Case, begins: datetime, defaults: Defaults) -> Traffic:
    """Return what a case plays.

    Raises:
        Misplaced: an event makes no sense where it stands.
    """
    return _Writer(case.begins or begins, defaults).write(case)


def feedback(answer: Answer, incident_id: str) -> Beside:
    """Return what an answer to an incident puts into the log."""
    closes = answer.event.close is not None
    said = Feedback(
        feedback_id=f"{AUTHOR}:{answer.index}",
        incident_id=incident_id,
        kind=FeedbackKind.RESOLVED if closes else FeedbackKind.ACKNOWLEDGED,
        by=answer.event.by,
        at=answer.at,
    )
    return Beside(answer.at, (Entry.of("feedback", said, incident_id),))


class _Writer:
    """Writes the requests of a case, and knows what fires."""

    def __init__(self, begins: datetime, defaults: Defaults) -> None:
        self._begins = begins.astimezone(UTC)
        self._defaults = defaults
        self._firing: dict[str, dict[str, Any]] = {}
        self._silences: dict[str, Policy] = {}
        self._made = Traffic()

    def write(self, case: Case) -> Traffic:
        for offset, index, event in heapq.merge(
            *(_times(index, event) for index, event in enumerate(case.events)), key=_order
        ):
            now = self._begins + offset
            if event.alert is not None:
                self._fire(event, now)
            elif event.resolve is not None:
                self._resolve(event.resolve, now, index)
            elif event.body is not None:
                self._post(now, event.source or "", event.body)
            elif event.silence is not None:
                self._silence(event.silence, now - JUST_BEFORE)
            elif event.expire is not None:
                self._expire(event.expire, now - JUST_BEFORE, index)
            else:
                self._made.answers.append(Answer(now, index, event))
            if len(self._made.lines) > REPEATS:
                raise Misplaced(index, f"the case has more than {REPEATS:,} requests")
        return self._made

    def _post(self, now: datetime, source: str, body: Any) -> None:
        lines = self._made.lines
        lines.append(Line(now, len(lines), source, orjson.dumps(body)))

    def _fire(self, event: Event, now: datetime) -> None:
        labels = {**self._defaults.labels, **(event.alert or {})}
        identity = orjson.dumps(labels, option=orjson.OPT_SORT_KEYS).decode()
        known = self._firing.get(identity)
        starts = now if event.starts is None else self._begins + event.starts
        alert = {
            "status": "firing",
            "labels": labels,
            "annotations": {**self._defaults.annotations, **event.annotations},
            "startsAt": starts.isoformat() if known is None else known["alert"]["startsAt"],
            "endsAt": "0001-01-01T00:00:00Z",
        }
        self._firing[identity] = {"alert": alert, "group": event.group}
        self._post(now, "alertmanager", _webhook(alert, event.group))

    def _resolve(self, wishes: Mapping[str, str], now: datetime, index: int) -> None:
        found = [name for name, held in self._firing.items() if has(wishes, held["alert"]["labels"])]
        if not found:
            raise Misplaced(index, "`resolve`: no alert with these labels fires by then")
        for name in found:
            held = self._firing.pop(name)
            alert = {**held["alert"], "status": "resolved", "endsAt": now.isoformat()}
            self._post(now, "alertmanager", _webhook(alert, held["group"]))

    def _silence(self, silence: Silence, now: datetime) -> None:
        known = self._silences.get(silence.id)
        self._policy(
            now,
            Policy(
                policy_id=silence.id,
                kind=PolicyKind.MAINTENANCE if silence.maintenance else PolicyKind.SILENCE,
                version=1 if known is None else known.version + 1,
                matchers=silence.matchers,
                starts_at=now,
                ends_at=now + silence.lasts,
                author=AUTHOR,
            ),
        )

    def _expire(self, name: str, now: datetime, index: int) -> None:
        known = self._silences.get(name)
        if known is None or known.withdrawn:
            raise Misplaced(index, f"`expire`: no silence has the id {name!r} by then")
        self._policy(now, known.model_copy(update={"version": known.version + 1, "withdrawn": True}))

    def _policy(self, now: datetime, policy: Policy) -> None:
        self._silences[policy.policy_id] = policy
        self._made.policies.append(Beside(now, (Entry.of("policies", policy),)))


def _webhook(alert: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return the body of Alertmanager's webhook, version 4, with one alert."""
    return {
        "version": "4",
        "groupKey": f"{{}}:{group}" if group else "{}:{}",
        "groupLabels": {"policy_test": group} if group else {},
        "status": alert["status"],
        "receiver": "streamproc",
        "alerts": [alert],
    }


def _times(index: int, event: Event) -> Iterator[tuple[timedelta, int, Event]]:
    offset = event.at
    yield offset, index, event
    while event.every is not None and event.until is not None and (offset := offset + event.every) <= event.until:
        yield offset, index, event


def _order(each: tuple[timedelta, int, Event]) -> tuple[timedelta, int, int]:
    offset, index, event = each
    rank = 0 if event.silence is not None or event.expire is not None else 2 if _answers(event) else 1
    return offset, rank, index


def _answers(event: Event) -> bool:
    return event.acknowledge is not None or event.close is not None
