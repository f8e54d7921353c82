"""Their pages against ours: what each would have been with us, what would have been missed, and why. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from streamproc.beside.matching import SLACK, Confidence, Index, Match
from streamproc.beside.ours import Decided, OurIncident
from streamproc.beside.report import Counts, Extra, Fate, Judged, Lead, Link, Report
from streamproc.beside.theirs import TheirPage
from streamproc.events.incident import Action
from streamproc.stages.escalate import Reason

SETTLE = timedelta(minutes=5)
"""A page so young that nothing of ours fits is not judged yet: our alert may still be on its way."""
NAMED = 3
"""Pages that the headline names."""
Sentence = Callable[[str, str], str]
"""What a reason of a stage means, for people."""


@dataclass(frozen=True, slots=True)
class Period:
    """What is reported of, and how much of it is known."""

    since: datetime
    until: datetime
    read: bool
    """Whether PagerDuty was ever read, or heard."""
    gaps: tuple[str, ...] = ()
    """What is not known of it."""
    notes: tuple[str, ...] = ()
    """What else should be known; no doubt follows from it."""
    away: tuple[tuple[datetime, datetime], ...] = ()
    """When streamproc did not run."""


@dataclass(frozen=True, slots=True)
class _Paged:
    """When one of our incidents would have paged."""

    incident: OurIncident
    decided: Decided
    until: datetime | None


def judge(
    theirs: Iterable[TheirPage], ours: Mapping[str, OurIncident], period: Period, now: datetime, sentence: Sentence
) -> Report:
    """Return the report.

    Args:
        theirs: pages of theirs, those too that are out of the period.
        ours: our incidents, those too that began before the period.
        period: what is reported of.
        now: the moment of the report.
        sentence: what a reason means.
    """
    everything = list(theirs)
    given = [page for page in everything if period.since <= page.created_at <= period.until]
    machine = sorted(
        (page for page in given if not (page.by_hand or page.ours)),
        key=lambda page: (page.created_at, page.incident_id),
    )
    judging = _Judging(ours, period, now, sentence)
    judged = [(page, found) for page in machine if (found := judging.judge(page)) is not None]
    pages = tuple(found for page, found in judged if page.urgency == "high")
    judging.meet(page for page in everything if page.created_at < period.since)
    ours_paged = [one for one in judging.paged if period.since <= one.decided.at <= period.until]
    extra = tuple(judging.beyond(one) for one in ours_paged if one.incident.incident_id not in judging.met)
    missed = tuple(one for one in pages if one.acted and one.fate in _NO_PAGE)
    doubtful = tuple(one for one in pages if _in_doubt(one))
    counts = _counted(pages, len(ours_paged)).model_copy(
        update={
            "low_urgency": sum(page.urgency == "low" for page, _ in judged),
            "by_hand": sum(page.by_hand for page in given),
            "ours_at_pagerduty": sum(page.ours for page in given),
        }
    )
    young = len(machine) - len(judged)
    gaps = (
        *period.gaps,
        *period.notes,
        *([f"{young} of the last {_minutes(SETTLE)} not judged yet."] if young else []),
    )
    return Report(
        made_at=now,
        since=period.since,
        until=period.until,
        known=period.read,
        gaps=gaps,
        headline=headline(counts, missed, doubtful, period),
        counts=counts,
        lead=_lead(pages),
        missed=missed,
        doubtful=doubtful,
        judged=pages,
        extra=extra if period.read else (),
    )


MENDS = {
    Reason.SEVERITY.value: "Give the rule a severity that pages, or this severity a page (`escalate.page`).",
    Reason.BELOW.value: "Give the rule a severity that pages, or this severity a page (`escalate.page`).",
    Reason.MUTED.value: "Let the silence or maintenance window end (`streamproc silence list`).",
    Reason.REOPENED.value: "It pages once it stays for `escalate.reopen_hold`.",
    Reason.LEARNED_QUIET.value: "Say that it was worth a page (POST /v1/feedback), or leave it to the rules "
    "(`pagerduty.incidents.ai_classification`).",
}
"""What to do so that such an alert pages, by the reason of escalate."""
_BY_SEVERITY = frozenset({Reason.SEVERITY, Reason.BELOW})
_NO_PAGE = frozenset({Fate.QUIET, Fate.UNKNOWN})


class _Judging:
    """One judging: which of our pages stand for which of theirs."""

    def __init__(self, ours: Mapping[str, OurIncident], period: Period, now: datetime, sentence: Sentence) -> None:
        self._ours = ours
        self._period = period
        self._now = now
        self._sentence = sentence
        self._index = Index(ours.values())
        self.paged = [_Paged(one, decided, until) for one in ours.values() for decided, until in one.pages()]
        self._of: dict[str, list[_Paged]] = {}
        for paged in self.paged:
            self._of.setdefault(paged.incident.incident_id, []).append(paged)
        self._taken: set[tuple[str, datetime]] = set()
        self.met: set[str] = set()
        """Our incidents that any of theirs is about."""

    def meet(self, pages: Iterable[TheirPage]) -> None:
        """Note which of our incidents pages of before the period are about: those are nothing that they had none of."""
        for page in pages:
            self.met.update(match.incident_id for match in self._index.match(page))

    def judge(self, page: TheirPage) -> Judged | None:
        """Return what one of theirs would have been with us; None where that cannot be said yet."""
        matches = self._index.match(page)
        self.met.update(match.incident_id for match in matches)
        if not matches:
            young = page.created_at > self._now - SETTLE
            return None if young else self._told(page, Fate.UNKNOWN).model_copy(update=self._unknown(page))
        standing = [
            (paged, match)
            for match in matches
            for paged in self._of.get(match.incident_id, ())
            if _stands_for(paged, page)
        ]
        if not standing:
            return self._quiet(page, matches)
        paged, match = min(standing, key=lambda pair: (pair[0].decided.at, pair[1].incident_id))
        mark = (paged.incident.incident_id, paged.decided.at)
        before = mark in self._taken or paged.decided.at < self._period.since
        fate = Fate.MERGED if before else Fate.OURS_TOO
        self._taken.add(mark)
        lead = (paged.decided.at - page.created_at).total_seconds() if fate is Fate.OURS_TOO else None
        told = self._told(page, fate, paged.incident, match, paged.decided)
        return told.model_copy(update={"seconds": lead})

    def _quiet(self, page: TheirPage, matches: Sequence[Match]) -> Judged:
        """Return it as one that we would not have paged, by the incident that came nearest to a page."""
        until = page.ended_at or self._now
        nearest = min(matches, key=lambda match: _NEAREST[self._ours[match.incident_id].decided_by(until).action])
        incident = self._ours[nearest.incident_id]
        decided = incident.decided_by(page.created_at + SLACK)
        told = self._told(page, Fate.QUIET, incident, nearest, decided)
        late = next((one for one in self._of.get(incident.incident_id, ()) if one.decided.at >= until), None)
        if late is not None:
            return told.model_copy(update={"why": f"{told.why} We would have paged, but only after yours was over."})
        return told

    def _told(
        self,
        page: TheirPage,
        fate: Fate,
        incident: OurIncident | None = None,
        match: Match | None = None,
        decided: Decided | None = None,
    ) -> Judged:
        acts = dict.fromkeys(f"{deed.what.replace('_', ' ')} by {deed.by}" for deed in page.deeds)
        return Judged(
            incident_id=page.incident_id,
            number=page.number,
            title=page.title,
            service=page.service,
            url=page.url,
            created_at=page.created_at,
            fate=fate,
            acted=page.acted,
            acts=", ".join(acts),
            our_incident="" if incident is None else incident.incident_id,
            our_title="" if incident is None else incident.title,
            confidence="" if match is None else match.confidence,
            by="" if match is None else match.by,
            action="" if decided is None else decided.action,
            reason="" if decided is None else decided.reason,
            why="" if decided is None or incident is None else self._because(decided, incident),
            mend="" if decided is None or fate is not Fate.QUIET else MENDS.get(decided.reason, ""),
            chain=() if decided is None else self._chain(decided),
        )

    def _because(self, decided: Decided, incident: OurIncident) -> str:
        said = self._sentence("escalate", decided.reason)
        if decided.reason in _BY_SEVERITY:
            return f"{_DEED[decided.action]} {said} It is {incident.severity}."
        mutes = f" By {decided.muted_by}." if decided.muted_by and decided.action is not Action.PAGE else ""
        return f"{_DEED[decided.action]} {said}{mutes}"

    def _chain(self, decided: Decided) -> tuple[Link, ...]:
        return tuple(
            Link(stage=why.stage, reason=why.reason, said=self._sentence(why.stage, why.reason))
            for why in decided.chain
        )

    def _unknown(self, page: TheirPage) -> dict[str, str]:
        """Return why one of theirs is not known here, and how to mend it."""
        if any(began - SLACK <= page.created_at <= ended for began, ended in self._period.away):
            return {"why": "streamproc did not run then.", "mend": "Keep it running: see docs/operations.md."}
        if any(alert.clues.labels for alert in page.alerts):
            return {
                "why": "It never reached streamproc, although Alertmanager sent it to PagerDuty.",
                "mend": "Put streamproc's route before the route that took it, with `continue: true`.",
            }
        why = "It never reached streamproc."
        if not page.alerts and not page.details_known:
            why = "No alert of ours fits its title and time; its details could not be read."
        return {
            "why": why,
            "mend": "Let the tool that sent it post to streamproc, too: see docs/sources.md.",
        }

    def beyond(self, paged: _Paged) -> Extra:
        """Return a page of ours that they had none of."""
        one = paged.incident
        return Extra(
            our_incident=one.incident_id,
            title=one.title,
            severity=one.severity,
            services=one.services,
            at=paged.decided.at,
            why=self._sentence("escalate", paged.decided.reason),
        )


_NEAREST = {Action.PAGE: 0, Action.HOLD: 1, Action.TICKET: 2, Action.NONE: 3}
_DEED = {
    Action.PAGE: "A page.",
    Action.TICKET: "A ticket with us.",
    Action.HOLD: "Held with us.",
    Action.NONE: "Nothing with us.",
}


def _stands_for(paged: _Paged, page: TheirPage) -> bool:
    """Return whether our page was there while theirs was."""
    in_time = page.ended_at is None or paged.decided.at <= page.ended_at
    return in_time and (paged.until is None or page.created_at <= paged.until + SLACK)


def _in_doubt(one: Judged) -> bool:
    """Return whether a page may have been missed: nobody knows whether it mattered, or ours is only a guess."""
    if one.fate in _NO_PAGE:
        return one.acted is None
    return one.acted is True and one.confidence == Confidence.POSSIBLE


def _counted(pages: Sequence[Judged], ours: int) -> Counts:
    fates = {fate.value: sum(one.fate is fate for one in pages) for fate in Fate}
    needless = [one for one in pages if one.acted is False]
    return Counts(
        theirs=len(pages),
        ours=ours,
        **fates,
        acted=sum(one.acted is True for one in pages),
        needless=len(needless),
        needless_ours_too=sum(one.fate is Fate.OURS_TOO for one in needless),
        unread=sum(one.acted is None for one in pages),
    )


def _lead(pages: Sequence[Judged]) -> Lead | None:
    timed = sorted((one.seconds, one.incident_id) for one in pages if one.seconds is not None)
    if not timed:
        return None
    return Lead(
        count=len(timed),
        median=round(median(seconds for seconds, _ in timed), 3),
        soonest=round(timed[0][0], 3),
        latest=round(timed[-1][0], 3),
        latest_incident=timed[-1][1],
    )


def headline(counts: Counts, missed: Sequence[Judged], doubtful: Sequence[Judged], period: Period) -> str:
    """Return the report in one sentence; where something is not known it says so instead."""
    ours = f"we would have paged {counts.ours}"
    if not period.read:
        return f"PagerDuty's incidents are not known, so nothing is compared; {ours} {_times(counts.ours)}."
    so_far = "As far as is known: you" if period.gaps else "You"
    said = f"{so_far} were paged {counts.theirs} {_times(counts.theirs)}; {ours}; {_missing(missed)}"
    if not doubtful:
        return f"{said}."
    return f"{said}; {len(doubtful)} more {'is' if len(doubtful) == 1 else 'are'} in doubt."


def _missing(missed: Sequence[Judged]) -> str:
    if not missed:
        return "we would have missed none"
    told = ", ".join(f"#{one.number} {one.title}" for one in missed[:NAMED])
    more = f" and {len(missed) - NAMED} more" if len(missed) > NAMED else ""
    unknown = sum(one.fate is Fate.UNKNOWN for one in missed)
    never = "" if not unknown else " (never reached us)" if unknown == len(missed) else f" ({unknown} never reached us)"
    return f"we would have missed {len(missed)}{never}: {told}{more}"


def _times(count: int) -> str:
    return "time" if count == 1 else "times"


def _minutes(span: timedelta) -> str:
    return f"{int(span.total_seconds() // 60)} minutes are"
