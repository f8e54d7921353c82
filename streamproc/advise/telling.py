"""Proposals in words, and as JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from streamproc import __version__
from streamproc.advise.change import together
from streamproc.advise.evidence import Evidence, count_of
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.weighing import Part, Verdict, Weighed

ANSWERS_LACK = (
    "Nobody's answers are in the recording, so that no answer says nothing: needless rules are not looked for. A data "
    "directory and Kafka hold what PagerDuty's webhooks brought; for a file give --feedback."
)
SHORT_DAYS = 7
SEEN = {
    Verdict.CONFIRMED: "confirmed",
    Verdict.NOT_SEEN_AGAIN: "not seen again, so not confirmed",
    Verdict.NOT_CONFIRMED: "NOT CONFIRMED there",
}
REFUSED = {
    Verdict.MISSES: "it would miss {} that people acted upon",
    Verdict.DELAYS: "{} that people acted upon would not be said at their time",
    Verdict.SAVES_NOTHING: "the backtest saves no page",
    Verdict.COSTS: "it makes more pages in the last third",
    Verdict.UNUSABLE: "its settings cannot be used",
}
MOST_SLUG = 40
UNCUT = 10_000
"""Columns: the terminal wraps, no value is broken before."""


def refused(weighed: Weighed) -> str:
    """Return why a candidate is not proposed."""
    told = REFUSED[weighed.verdict]
    if weighed.verdict is Verdict.MISSES:
        told = told.format(count_of(weighed.acted_missed, "alert"))
    if weighed.verdict is Verdict.DELAYS:
        told = told.format(count_of(weighed.acted_late, "page"))
    return f"{told}: {weighed.fault}" if weighed.fault else told


def headline(weighed: Weighed) -> str:
    """Return what it comes to in a few words: pages and nights."""
    if not weighed.saved:
        return "same pages"
    pages = f"{-weighed.saved:+,} {'page' if abs(weighed.saved) == 1 else 'pages'}"
    nights = f", {-weighed.nights:+,} {'night' if abs(weighed.nights) == 1 else 'nights'}"
    return pages + (nights if weighed.nights else "")


def saves(weighed: Weighed) -> str:
    """Return both figures of the split, in words."""
    a, b = weighed.learned, weighed.confirmed
    if weighed.verdict is Verdict.TIDY:
        pages = a.pages + b.pages
        more = f"it makes {count_of(-weighed.saved, 'page')} more" if weighed.saved < 0 else "it is for order"
        return f"{count_of(max(0, weighed.saved), 'page')} of {pages:,}: {more}"
    first = f"{a.saved:,} of {count_of(a.pages, 'page')} in the first two thirds, which proposed it"
    return f"{first}; {b.saved:,} of {b.pages:,} in the last third: {SEEN[weighed.verdict]}"


def misses(weighed: Weighed) -> str:
    """Return what would be missed, merged or late, in words."""
    told = [f"{count_of(weighed.missed, 'page')}, none of them acted upon" if weighed.missed else "nothing"]
    if weighed.merged:
        told.append(f"{count_of(weighed.merged, 'time')} several pages become one")
    if weighed.later:
        told.append(f"{count_of(weighed.later, 'page')} later")
    return "; ".join(told)


def sure(candidate: Candidate) -> str:
    """Return how much there is to go by, in words."""
    found = f"seen {count_of(candidate.occurrences, 'time')}"
    if candidate.days:
        found += f" on {count_of(candidate.days, 'day')}"
    if candidate.worth_at_most is not None:
        found += f"; at 95 % confidence at most {candidate.worth_at_most:.0%} of such pages are worth acting on"
    return found


def change(weighed: Weighed) -> str:
    """Return the change as YAML."""
    return yaml.safe_dump(
        weighed.candidate.change.fragment(), sort_keys=False, allow_unicode=True, width=UNCUT
    ).rstrip()


def head(weighed: Weighed) -> str:
    """Return what stands on top of a settings file that is to be tried."""
    candidate = weighed.candidate
    told = [f"streamproc advise: {candidate.title}", *candidate.why, f"Saves {saves(weighed)}."]
    told += [f"Misses {misses(weighed)}."]
    return "\n".join(told)


def slug(number: int, candidate: Candidate) -> str:
    """Return the name of a file: the number, the kind, and what it is about, as far as a path takes it."""
    about = re.sub(r"[^A-Za-z0-9]+", "-", next(iter(sorted(candidate.rules)), "")).strip("-")[:MOST_SLUG]
    name = f"{number:02}-{candidate.kind.replace('_', '-')}"
    only = candidate.kind is Kind.NEEDLESS and about
    return f"{name}-{about}" if only else name


def everything(kept: Sequence[Weighed]) -> Candidate:
    """Return all that is proposed as one candidate."""
    candidates = [each.candidate for each in kept]
    return Candidate(
        Kind.ALL,
        f"All {len(kept)} of them at once",
        (),
        together(each.change for each in candidates),
        sum(each.expected for each in candidates),
        sum(each.occurrences for each in candidates),
        0,
        frozenset(rule for each in candidates for rule in each.rules),
    )


def remarks(evidence: Evidence, tried: int, found: int) -> Iterator[str]:
    """Yield what a person should know of the evidence, a sentence each."""
    days = (evidence.last_at - evidence.first_at).total_seconds() / 86_400
    if not evidence.acted and not any(page.needless for page in evidence.pages):
        yield ANSWERS_LACK
    if days < SHORT_DAYS:
        yield "The recording is shorter than a week: take this as hints."
    if found > tried:
        yield f"{found - tried:,} more candidates were not tried; --most takes more."


def as_json(
    evidence: Evidence, weighed: Iterable[Weighed], kept: Sequence[Weighed], whole: Weighed | None, notes: Sequence[str]
) -> dict[str, Any]:
    """Return everything for a program.

    Args:
        evidence: of the recording.
        weighed: every candidate that was tried.
        kept: those that are proposed, in order.
        whole: all of them at once; None where that was not tried.
        notes: sentences about the evidence.
    """
    return {
        "streamproc": __version__,
        "recording": {
            "first_at": evidence.first_at.isoformat(),
            "split_at": evidence.split.isoformat(),
            "last_at": evidence.last_at.isoformat(),
            "pages": len(evidence.pages),
            "acted_upon": evidence.acted,
            "said_to_be_needless": sum(page.needless for page in evidence.pages),
        },
        "proposals": [{"number": number, **_told(each)} for number, each in enumerate(kept, 1)],
        "all_at_once": None if whole is None else _told(whole),
        "refused": [
            {"kind": str(each.candidate.kind), "title": each.candidate.title, "why": refused(each)}
            for each in weighed
            if not each.kept
        ],
        "notes": list(notes),
    }


def _told(weighed: Weighed) -> dict[str, Any]:
    candidate = weighed.candidate
    return {
        "kind": str(candidate.kind),
        "title": candidate.title,
        "why": list(candidate.why),
        "verdict": str(weighed.verdict),
        "refused": None if weighed.kept else refused(weighed),
        "saves": {
            "pages": weighed.saved,
            "nights": weighed.nights,
            "first_two_thirds": _part(weighed.learned),
            "last_third": _part(weighed.confirmed),
        },
        "misses": {
            "pages": weighed.missed,
            "acted_upon": weighed.acted_missed,
            "acted_upon_not_at_their_time": weighed.acted_late,
            "merged": weighed.merged,
            "later": weighed.later,
        },
        "occurrences": candidate.occurrences,
        "days": candidate.days,
        "worth_at_most": candidate.worth_at_most,
        "change": candidate.change.fragment(),
        "at_source": candidate.at_source or None,
    }


def _part(part: Part) -> dict[str, int]:
    return {"pages": part.pages, "less": part.less, "more": part.more, "missed": part.missed}
