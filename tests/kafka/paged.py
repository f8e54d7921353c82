"""PagerDuty's view: whether what the emulator was asked is what the log wanted to be said, in order, and no more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streamproc.emulator.account import Effect
from streamproc.emulator.emulator import Emulator, Taken
from streamproc.events.escalation import Escalation, Outcome, Page, PageAction, Verdict
from streamproc.ports import Entry
from tests.kafka.exact import Left
from tests.kafka.load import Story

NEVER = -1
Key = tuple[str, str]
"""Routing key and dedup key."""


@dataclass
class Wanted:
    """What the log wants to be said about one alert at PagerDuty, by number."""

    said: dict[int, Escalation] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def triggered_at(self, moment: str, reached: int) -> int:
        """Return the number of the trigger that was decided at that moment, the first from `reached` on.

        Several may have been: the log's time stands still while what was stamped earlier comes in late. `NEVER` where
        none was.
        """
        at = datetime.fromisoformat(moment)
        same = [n for n, each in self.said.items() if each.action is PageAction.TRIGGER and each.at == at]
        return min((n for n in same if n >= reached), default=max(same, default=NEVER))


def outcomes(left: Left) -> list[Entry]:
    """Return what senders wrote into deliver's inbox: outcomes and digests."""
    return [
        Entry(record.topic, record.key, record.value)
        for (topic, _), log in left.logs.items()
        if topic == "escalations"
        for record in log
        if record.headers.get("type") == Outcome.TYPE.encode()
        or (record.headers.get("type") == Escalation.TYPE.encode() and _digest(record.value, record.headers))
    ]


def _digest(value: bytes, headers: Mapping[str, bytes]) -> bool:
    return Escalation.decode(value, headers).action is PageAction.CHANGE


def check_paged(left: Left, emulator: Emulator, stories: Iterable[Story]) -> dict[str, int]:
    """Assert that PagerDuty was told what the log wanted, once or again, never an older thing; return figures."""
    wanted = _wanted(left)
    asked: dict[Key, list[Taken]] = defaultdict(list)
    for taken in emulator.requests:
        assert not taken.errors, f"PagerDuty was sent what it refuses: {taken.errors}"
        if taken.effect is not None and taken.action != "change":
            asked[taken.routing_key, taken.dedup_key].append(taken)
    invented = asked.keys() - wanted.keys()
    assert not invented, f"PagerDuty was told of {len(invented)} that nobody wanted"
    for key, each in wanted.items():
        _check_sequence(key, each, asked.get(key, []))
        _check_end(key, each, emulator)
    _check_pages(left, asked)
    _check_open(stories, emulator)
    effects = [taken.effect for each in asked.values() for taken in each]
    return {
        "wanted": len(wanted),
        "opened": effects.count(Effect.OPENED),
        "resolved": effects.count(Effect.RESOLVED),
        "repeated": effects.count(Effect.DROPPED),
        "requests": len(effects),
    }


def _wanted(left: Left) -> dict[Key, Wanted]:
    found: dict[Key, Wanted] = defaultdict(Wanted)
    for (topic, _), log in left.logs.items():
        for record in log if topic == "escalations" else ():
            kind = record.headers.get("type")
            if kind == Escalation.TYPE.encode():
                said = Escalation.decode(record.value, record.headers)
                if said.action is not PageAction.CHANGE:
                    found[said.routing_key, said.dedup_key].said[said.seq] = said
            elif kind == Outcome.TYPE.encode():
                outcome = Outcome.decode(record.value, record.headers)
                if outcome.action is not PageAction.CHANGE:
                    found[outcome.routing_key, outcome.dedup_key].outcomes.append(outcome)
    return found


def _check_sequence(key: Key, wanted: Wanted, asked: Sequence[Taken]) -> None:
    """Each request says what was wanted, and never something older than one before it."""
    reached = 0
    told = [(taken.action, str(taken.effect), taken.at.isoformat()) for taken in asked]
    said = [(n, str(each.action), each.at.isoformat()) for n, each in wanted.said.items()]
    for taken in asked:
        if taken.action == "trigger":
            number = wanted.triggered_at(taken.event["payload"]["timestamp"], reached)
        else:
            number = min(
                (
                    n
                    for n, each in wanted.said.items()
                    if each.action == taken.action and n >= reached and each.at <= taken.at
                ),
                default=NEVER,
            )
        assert number >= reached, f"{key} was told number {number} after {reached}: {told}; wanted {said}"
        reached = number
    opened = sum(taken.effect is Effect.OPENED for taken in asked)
    resolves = sum(each.action is PageAction.RESOLVE for each in wanted.said.values())
    assert opened <= resolves + 1, f"{key} was opened {opened} times for {resolves} resolves: {told}"


def _check_end(key: Key, wanted: Wanted, emulator: Emulator) -> None:
    """The alert stands as the log wanted at last, and everything that was wanted has its outcome."""
    last = wanted.said[max(wanted.said)]
    alerts = [each for each in emulator.account.alerts.values() if (each.routing_key, each.dedup_key) == key]
    open_ = [each for each in alerts if each.status != "resolved"]
    if last.action is PageAction.RESOLVE:
        assert not open_, f"{key} resolved, and is open at PagerDuty"
    else:
        assert len(open_) == 1, f"{key} fires, and PagerDuty has {len(open_)} open alerts of it"
        assert last.text is not None
        assert open_[0].severity == last.text.severity, f"{key} is not what was said last"
    told = {each.seq for each in wanted.outcomes}
    assert last.seq in told, f"nobody reported what came of number {last.seq} of {key}"


def _check_pages(left: Left, asked: dict[Key, list[Taken]]) -> None:
    """What the public topic says was delivered, PagerDuty has; and each request is told of once."""
    told: Counter[tuple[str, str, int, str]] = Counter()
    have = {(key[1], taken.action) for key, each in asked.items() for taken in each}
    for (topic, _), log in left.logs.items():
        for record in log if topic == "pages" else ():
            page = Page.decode(record.value, record.headers)
            told[page.dedup_key, page.action.value, page.seq, page.sent_at.isoformat()] += 1
            if page.verdict is Verdict.DELIVERED and page.action is not PageAction.CHANGE:
                assert (page.dedup_key, page.action.value) in have, f"PagerDuty never heard of {page.dedup_key}"
    doubled = [each for each, times in told.items() if times > 1]
    assert not doubled, f"{len(doubled)} pages are published twice: {doubled[:3]}"


def _check_open(stories: Iterable[Story], emulator: Emulator) -> None:
    """From the outside alone: where a critical alert still fires an incident is open, and nowhere else."""
    told = list(stories)
    firing = {each.cluster for each in told if not each.resolves and each.severity == "critical"}
    quiet = {each.cluster for each in told} - {each.cluster for each in told if not each.resolves}
    open_ = {
        cluster
        for alert in emulator.account.alerts.values()
        if alert.status != "resolved"
        for cluster in {each.cluster for each in told}
        if f":{cluster}:" in alert.dedup_key
    }
    assert firing <= open_, f"critical alerts fire in {firing - open_}, and PagerDuty has nothing open there"
    assert not open_ & quiet, f"everything has resolved in {open_ & quiet}, and PagerDuty has something open there"
