"""Which of our incidents an incident of PagerDuty is about, how sure that is, and by what it was seen. Pure.

By the alert's own identity where PagerDuty was told it (Alertmanager's `firing`), else by labels or tags, else by text
and time. Of the surest kind of evidence only what fits best counts: a guess never stands beside a certainty.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from streamproc.beside.ours import OurAlert, OurIncident
from streamproc.beside.theirs import TheirAlert, TheirPage

SLACK = timedelta(minutes=10)
"""So much earlier or later than their page our alert may be: routes wait and group by themselves (Alertmanager's
`group_wait` and `group_interval` are 30 s and 5 min by default)."""
LIKELY = 0.75
"""Score of 1 from which a match by labels or text is likely; below it is possible."""
NAME, SERVICE, VALUES, NEAR = 0.5, 0.2, 0.2, 0.1
"""What a match by text is made of: the alert's name, its service, its other labels, and a beginning at that time."""
SHORTEST = 12
"""Characters of a summary that say enough to be a name."""
COMMON = frozenset({"alertname", "severity", "priority", "level", "monitor", "prometheus", "receiver"})
"""Labels that tell nothing of which alert it is, beside its name."""
_WORD = re.compile(r"[^\W_][\w./:@-]*")


class Confidence(StrEnum):
    """How sure it is that two are about the same."""

    CERTAIN = "certain"
    """By identity: the same occurrence, or the same labels."""
    LIKELY = "likely"
    POSSIBLE = "possible"


_RANK = {Confidence.CERTAIN: 2, Confidence.LIKELY: 1, Confidence.POSSIBLE: 0}


@dataclass(frozen=True, slots=True)
class Match:
    """One of our incidents that their page is about."""

    incident_id: str
    confidence: Confidence
    score: float
    by: str
    """By what it was seen, for people."""
    seen_at: datetime
    """When our alert came."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    incident_id: str
    alert: OurAlert
    words: frozenset[str]
    """Words of its labels that tell it from others of its name."""


class Index:
    """Our alerts, found by what may be known of them.

    Args:
        ours: our incidents.
    """

    def __init__(self, ours: Iterable[OurIncident]) -> None:
        self._by_identity: defaultdict[str, list[_Candidate]] = defaultdict(list)
        self._by_labels: defaultdict[frozenset[tuple[str, str]], list[_Candidate]] = defaultdict(list)
        self._by_name: defaultdict[str, list[_Candidate]] = defaultdict(list)
        self._by_summary: defaultdict[str, list[_Candidate]] = defaultdict(list)
        for incident in ours:
            for lives in incident.alerts.values():
                for life in lives:
                    self._add(_Candidate(incident.incident_id, life, _telling(life)))

    def _add(self, one: _Candidate) -> None:
        member = one.alert.member
        self._by_identity[member.alert_id].append(one)
        self._by_identity[member.fingerprint].append(one)
        if member.labels:
            self._by_labels[frozenset(member.labels.items())].append(one)
        self._by_name[_plain(member.name)].append(one)
        summary = _plain(member.summary)
        if len(summary) >= SHORTEST:
            self._by_summary[summary].append(one)

    def match(self, page: TheirPage) -> tuple[Match, ...]:
        """Return what a page of theirs is about: the surest first, none where nothing of ours fits."""
        found = [one for alert in page.alerts for one in self._by_clues(alert, page)] or self._by_text(page)
        best: dict[str, Match] = {}
        for one in found:
            known = best.get(one.incident_id)
            if known is None or _sureness(one) > _sureness(known):
                best[one.incident_id] = one
        surest = max((_RANK[one.confidence] for one in best.values()), default=0)
        kept = [one for one in best.values() if _RANK[one.confidence] == surest]
        if surest < _RANK[Confidence.CERTAIN]:  # of guesses the best alone
            most = max((one.score for one in kept), default=0.0)
            kept = [one for one in kept if one.score == most]
        return tuple(sorted(kept, key=lambda one: (one.seen_at, one.incident_id)))

    def _by_clues(self, alert: TheirAlert, page: TheirPage) -> list[Match]:
        clues = alert.clues
        found: list[Match] = []
        for occurrence in clues.occurrences:
            fingerprint = f"fp:v1:{occurrence.partition('@')[0].lower()}"
            named = self._by_identity.get(occurrence) or self._by_identity.get(fingerprint, [])
            by = "Alertmanager's fingerprint in PagerDuty's details"
            found += [_certain(one, by) for one in named if _there(one, page)]
        for labels in clues.labels if not found else ():
            same = self._by_labels.get(frozenset(labels.items()), [])
            found += [_certain(one, "the same labels in PagerDuty's details") for one in same if _there(one, page)]
        if found:
            return found
        for labels in (*clues.labels, clues.tags):
            found += self._by_some_labels(labels, page)
        return found

    def _by_some_labels(self, labels: Mapping[str, str], page: TheirPage) -> list[Match]:
        """Return alerts that share most labels, and contradict none: routes and relabelling add and drop some."""
        name = _plain(labels.get("alertname", ""))
        candidates = self._by_name.get(name, []) if name else self._named(_plain(page.title))
        found = []
        for one in candidates:
            ours = one.alert.member.labels
            shared = {key for key in labels if key in ours and key not in COMMON}
            if not shared or any(labels[key] != ours[key] for key in shared) or not _fires(one, page):
                continue
            telling = len([key for key in ours if key not in COMMON])
            score = NAME + (1 - NAME) * len(shared) / telling
            found.append(
                _guess(one, min(score, 1.0), f"its name and {len(shared)} labels ({', '.join(sorted(shared))})")
            )
        return found

    def _by_text(self, page: TheirPage) -> list[Match]:
        told = " ".join((page.title, *(f"{one.summary} {one.clues.text}" for one in page.alerts)))
        text = _plain(told)
        words = frozenset(_words(told))
        found = []
        for one in self._named(text):
            if not _fires(one, page):
                continue
            service = one.alert.member.service.lower()
            parts = ["its name"]
            score = NAME
            if service and (service in words or service == page.service.lower()):
                parts.append("its service")
                score += SERVICE
            if one.words:
                shared = one.words & words
                score += VALUES * len(shared) / len(one.words)
                parts += [f"{len(shared)} of its {len(one.words)} labels"] if shared else []
            if abs(one.alert.seen_at - page.created_at) <= SLACK:
                parts.append("the time")
                score += NEAR
            found.append(_guess(one, score, f"the text: {', '.join(parts)}"))
        return found

    def _named(self, text: str) -> list[_Candidate]:
        """Return the alerts whose name, or whole summary, stands in a text."""
        padded = f" {text} "
        for known in (self._by_name, self._by_summary):
            found = [one for said, all_ in known.items() if f" {said} " in padded for one in all_]
            if found:
                return found
        return []


def _there(one: _Candidate, page: TheirPage) -> bool:
    """Return whether our alert was there while their page was open; for what is known by identity."""
    came, gone = one.alert.seen_at, one.alert.gone_at
    in_time = page.ended_at is None or came <= page.ended_at + SLACK
    return in_time and (gone is None or page.created_at <= gone + SLACK)


def _fires(one: _Candidate, page: TheirPage) -> bool:
    """Return whether our alert was there when they paged; for guesses, which must not reach for another night."""
    return one.alert.seen_at <= page.created_at + SLACK and _there(one, page)


def _certain(one: _Candidate, by: str) -> Match:
    return Match(one.incident_id, Confidence.CERTAIN, 1.0, by, one.alert.seen_at)


def _guess(one: _Candidate, score: float, by: str) -> Match:
    confidence = Confidence.LIKELY if score >= LIKELY else Confidence.POSSIBLE
    return Match(one.incident_id, confidence, round(score, 3), by, one.alert.seen_at)


def _sureness(one: Match) -> tuple[int, float]:
    return _RANK[one.confidence], one.score


def _telling(life: OurAlert) -> frozenset[str]:
    """Return the words that tell an alert from others of its name."""
    values = (value for key, value in life.member.labels.items() if key not in COMMON)
    return frozenset(word for value in values for word in _words(value))


def _words(text: str) -> list[str]:
    return [word.rstrip(".:/-@") for word in _WORD.findall(text.lower())]


def _plain(text: str) -> str:
    """Return the words of a text with one space between, so that a name is found whatever stands around it."""
    return " ".join(_words(text))
