"""Why an alert did not page: what the log says of it, and what folding its requests again says with one thing changed.

Folded again are the requests from `correlate.window` before its incident on; where that does not reproduce what
happened, those from `correlate.max_age` before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from streamproc.backtest.facts import facts_of
from streamproc.backtest.heard import Target, find, records_of
from streamproc.backtest.parting import Parting, part
from streamproc.backtest.recorded import Inboxes
from streamproc.backtest.refold import Refold
from streamproc.backtest.slices import Bound, Call, Seen, Slice, cut, fold_again
from streamproc.backtest.verifying import Lenient
from streamproc.backtest.whynot import Change, candidates, pairs
from streamproc.core.event import DeadLetter
from streamproc.core.record import Record
from streamproc.events.alert import Alert
from streamproc.events.escalation import Page, PageAction, Verdict
from streamproc.events.incident import Action, Decision, Incident, Member
from streamproc.stages.correlate import Config as Correlate
from streamproc.topology import TOPOLOGY

MOST_TRIED = 40
"""Changes, single ones and pairs, that are tried at most."""
SOON = timedelta(minutes=10)
"""A page that comes so soon after the last record of the log counts; what comes later is not known to be so."""
LAST = 50
"""Records at the end of a log that are read for its last moment: on Kafka markers of transactions are among them."""
DEDUPLICATE = next(node for node in TOPOLOGY if node.name == "deduplicate")


class Finding(StrEnum):
    """What became of an alert."""

    PAGED = "paged"
    COVERED = "covered"
    """It joined an incident whose page was out already."""
    UNDELIVERED = "undelivered"
    """A page was decided, and PagerDuty did not take it."""
    NOT_PAGED = "not paged"
    REFUSED = "refused"
    """It is a dead letter."""
    NEVER_HEARD = "never heard"


@dataclass(frozen=True, slots=True)
class Found:
    """Changes that would have paged, and how."""

    changes: tuple[Change, ...]
    seen: Seen
    page: Call
    at: datetime
    """When people would have heard of it."""
    parting: Parting | None
    """Where its reason chain parts from the one without the change; None where they say the same."""


@dataclass(slots=True)
class Answer:
    """What became of an alert, and what would have."""

    finding: Finding
    alert: Alert | None = None
    heard: datetime | None = None
    incident: Incident | None = None
    """As it stood last."""
    member: Member | None = None
    decision: Decision | None = None
    """The last one about its incident while that was open."""
    page: Page | None = None
    reason: tuple[str, str] = ("", "")
    """Stage and reason of why nobody was called."""
    letter: DeadLetter | None = None
    looked: tuple[tuple[str, int, datetime | None], ...] = ()
    """Where it was looked for: topic, number of records, the moment of the first."""
    bound: Bound | None = None
    base: Seen | None = None
    """What folding again without any change came to."""
    found: tuple[Found, ...] = ()
    tried: int = 0
    untried: int = 0

    reaches: datetime | None = None
    """How far the log reaches."""

    @property
    def reproduced(self) -> bool:
        """Whether folding again without a change does not page either, as it was, as far as the log reaches."""
        at = None if self.base is None else self.base.heard_at
        return self.base is not None and (at is None or self.reaches is None or at > self.reaches)


def ask(inboxes: Inboxes, text: str, most: int = MOST_TRIED) -> Answer:
    """Say what became of an alert, and which small change would have paged.

    Args:
        inboxes: the log.
        text: a fingerprint, or an alert id as incidents name it.
        most: changes, single ones and pairs, that are tried at most.

    Raises:
        Unusable: the log cannot be read or folded.
    """
    target = find(inboxes, text)
    if target is None:
        return _unheard(inboxes, text)
    answer = became(inboxes, target)
    if answer.finding is Finding.NOT_PAGED:
        _try(inboxes, target, answer, most)
    return answer


def _unheard(inboxes: Inboxes, text: str) -> Answer:
    bare = (text.removeprefix("fp:v1:").partition("@")[0] or text).encode()
    for record in records_of(inboxes, "dead-letters", None):
        letter = DeadLetter.decode(record.value, record.headers)
        if bare in letter.value or bare in letter.detail.encode():
            return Answer(Finding.REFUSED, letter=letter, heard=letter.now)
    looked = []
    for topic in ("alerts.raw", "alerts", "dead-letters"):
        places = [(p, inboxes.start(topic, p)) for p in inboxes.partitions(topic)]
        firsts = (next(inboxes.records(topic, p, start), None) for p, start in places)
        since = min((first.stamp for first in firsts if first is not None), default=None)
        looked.append((topic, sum(inboxes.end(topic, p) - start for p, start in places), since))
    return Answer(Finding.NEVER_HEARD, looked=tuple(looked))


def became(inboxes: Inboxes, target: Target) -> Answer:
    """Return what the log says became of an alert."""
    answer = Answer(Finding.NOT_PAGED, target.alert, target.heard)
    needle = target.alert.fingerprint.encode()
    told: list[tuple[Record, Incident]] = []
    for record in records_of(inboxes, "incidents.enriched", target.heard):
        incident_id = answer.incident.incident_id if answer.incident else ""
        if needle in record.value or (incident_id and incident_id.encode() in record.value):
            incident = Incident.decode(record.value, record.headers)
            member = next((one for one in incident.joined if one.fingerprint == target.alert.fingerprint), None)
            if incident_id in ("", incident.incident_id) and (incident_id or member is not None):
                answer.incident, answer.member = incident, member or answer.member
                told.append((record, incident))
    if answer.incident is None or not told:
        answer.reason = ("deduplicate", _not_an_episode(inboxes, target))
        return answer
    joined_at = told[0][1].changed_at
    decision = next((one.decision for _, one in reversed(told) if one.decision and one.status == "open"), None)
    answer.decision, answer.reason = decision, ("escalate", decision.reason if decision else "")
    pages = [
        page
        for record in records_of(inboxes, "pages", answer.incident.opened_at)
        if (page := Page.decode(record.value, record.headers)).incident_id == answer.incident.incident_id
    ]
    paged = [one.changed_at for _, one in told if one.decision is not None and one.decision.action is Action.PAGE]
    if paged:
        _page_of(answer, pages, joined_at, paged[0])
    return answer


def _page_of(answer: Answer, pages: Sequence[Page], joined_at: datetime, paged_at: datetime) -> None:
    """Note the page by which people heard of an alert; where it joined what was no page, an older one is over."""
    triggers = [page for page in pages if page.action is PageAction.TRIGGER]
    resolves = [page.decided_at for page in pages if page.action is PageAction.RESOLVE]
    taken = [page for page in triggers if page.verdict is Verdict.DELIVERED]
    out = [
        page
        for page in taken
        if page.decided_at < joined_at and not any(page.decided_at < end <= joined_at for end in resolves)
    ]
    after = [page for page in taken if page.decided_at >= paged_at]
    if out and paged_at == joined_at:
        answer.finding, answer.page = Finding.COVERED, out[0]
    elif after:
        answer.finding, answer.page = Finding.PAGED, after[0]
    elif triggers and triggers[-1].routing_key_hint:
        answer.finding, answer.page = Finding.UNDELIVERED, triggers[-1]
    elif triggers:
        answer.reason = ("deliver", "no_routing_key")


def _not_an_episode(inboxes: Inboxes, target: Target) -> str:
    """Return why deduplicate passed an alert on to nobody, by folding its inbox again; empty where that is gone."""
    record = target.record
    if record is None:
        return ""
    for one, folded in Refold(DEDUPLICATE, record.partition, Lenient(inboxes)).run(record.offset + 1):
        if one.offset == record.offset:
            return next((seen.reason for seen in folded.observations if seen.stage == "deduplicate"), "")
    return ""


def _try(inboxes: Inboxes, target: Target, answer: Answer, most: int) -> None:
    """Fold again: without a change, then with each of the candidates, and with pairs where no single one pages."""
    opened = min(target.heard, answer.incident.opened_at) if answer.incident else target.heard
    correlate = Correlate()
    told = cut(inboxes, target, opened - correlate.window)
    correlate = Correlate.model_validate(told.config.get("correlate", {}))
    answer.reaches = reaches(inboxes)
    answer.base, answer.bound = fold_again(told, target), told.bound
    if not answer.reproduced or (answer.incident is not None and not answer.base.incident_id):
        told = cut(inboxes, target, opened - correlate.max_age)
        answer.base, answer.bound = fold_again(told, target), told.bound
    base = answer.base
    if not answer.reproduced:
        return
    said = {answer.reason} | ({("correlate", answer.member.why)} if answer.member is not None else set())
    singles = candidates(facts_of(told, target, answer.decision, said, base))
    found: list[Found] = []
    for changes in [(change,) for change in singles] + pairs(singles):
        if found and len(changes) > len(found[-1].changes):
            break
        if answer.tried == most:
            answer.untried += 1
        elif (one := _tried(told, target, base, changes, answer)) is not None:
            found.append(one)
            if len(changes) > 1:
                break
    answer.found = tuple(found)


def _tried(told: Slice, target: Target, base: Seen, changes: tuple[Change, ...], answer: Answer) -> Found | None:
    answer.tried += 1
    seen = fold_again(told, target, changes)
    page, at = seen.page, seen.heard_at
    if page is None or at is None or not _sooner(at, base, answer.reaches):
        return None
    return Found(changes, seen, page, at, part(base.chain, seen.whole))


def _sooner(at: datetime, base: Seen, reached: datetime | None) -> bool:
    """Return whether a page comes sooner than without a change, and not far beyond the log."""
    return (base.heard_at is None or at < base.heard_at) and (reached is None or at <= reached + SOON)


def reaches(inboxes: Inboxes) -> datetime | None:
    """Return the moment of the last record of the inboxes, None where they hold none."""
    found: list[datetime] = []
    for topic in ("alerts.raw", "episodes", "escalations"):
        for partition in inboxes.partitions(topic):
            begin = max(inboxes.start(topic, partition), inboxes.end(topic, partition) - LAST)
            found += [record.stamp for record in inboxes.records(topic, partition, begin)]
    return max(found, default=None)
