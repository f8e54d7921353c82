"""Evidence -> candidates: what the pages of the first part of a recording ask to be tried. Pure.

Nothing here is a proposal yet: each candidate is backtested, and `weighing` says which ones are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from statistics import median

from streamproc.advise.change import Change, condition
from streamproc.advise.evidence import Evidence, Page, count_of, days_of, minutes_of
from streamproc.advise.orderly import spoken, unowned
from streamproc.advise.pairing import joined
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.recurring import comebacks, windows
from streamproc.advise.severity import outcome, quiet_severity
from streamproc.services import Catalogue
from streamproc.settings import Settings

AT_LEAST = 5
"""Pages of a rule, none acted upon, before it is called needless: so many leave at most 45 % worth acting on."""
ANSWERED = 3
"""Pages that people acted upon, in all: where nobody answers anything, no answer says nothing."""
NAMED_SERVICES = 10
"""A rule of more services than this is named without them."""
SURE = 0.95
SOON = timedelta(minutes=10)
"""A page that ends by itself so soon was over before anybody could have helped."""
Maker = Callable[[Evidence, Settings, Catalogue], Iterable[Candidate]]


def propose(evidence: Evidence, settings: Settings, catalogue: Catalogue, most: int) -> list[Candidate]:
    """Return what is worth a backtest, what should save most first.

    Args:
        evidence: of the recording; only pages before its split count, but what was acted upon later counts, too.
        settings: the present ones.
        catalogue: the present one.
        most: candidates at most.
    """
    makers: tuple[Maker, ...] = (needless, comebacks, windows, joined, spoken, unowned)
    found = [candidate for make in makers for candidate in make(evidence, settings, catalogue)]
    return sorted(found, key=lambda each: (-each.expected, each.kind, each.title))[:most]


def needless(evidence: Evidence, settings: Settings, _catalogue: Catalogue) -> Iterator[Candidate]:
    """Yield rules whose pages nobody ever acted upon, where people do act upon others or said that these are needless.

    A rule of which one page was acted upon, in any part of the recording and at any service, is none of them.
    """
    severity = quiet_severity(settings)
    by_rule: dict[str, list[Page]] = {}
    for page in evidence.learned:
        by_rule.setdefault(page.rule, []).append(page)
    renamed = any(rule.set.service is not None for rule in settings.normalise.rules)
    for rule, pages in sorted(by_rule.items()):
        told = sum(page.needless for page in pages)
        answers = told >= ANSWERED or evidence.acted >= ANSWERED
        if severity is None or rule in evidence.acted_rules or len(pages) < AT_LEAST or not answers:
            continue
        services = sorted({page.service for page in pages})
        named = services if len(services) <= NAMED_SERVICES and not renamed else []  # a rule sees what the labels say
        change = {"name": f"advise: {rule}", "when": condition(rule, named), "set": {"severity": str(severity)}}
        yield Candidate(
            Kind.NEEDLESS,
            f"{outcome(severity, settings)} of {rule}: it pages, and nobody acts on it",
            tuple(_needless_words(pages, told, evidence)),
            Change(rules=(change,)),
            len(pages),
            len(pages),
            days_of(pages),
            frozenset({rule}),
            worth_at_most=1 - (1 - SURE) ** (1 / len(pages)),
        )


def _needless_words(pages: list[Page], told: int, evidence: Evidence) -> Iterator[str]:
    nights = len({page.night for page in pages} - {""})
    services = sorted({page.service or "no service" for page in pages})
    of = services[0] if len(services) == 1 else f"{len(services)} services"
    disturbed = f", {count_of(nights, 'night')} disturbed" if nights else ""
    yield f"{len(pages):,} pages of {of} on {count_of(days_of(pages), 'day')}{disturbed}."
    if told:
        yield f"People said of {told:,} that they were not worth it; nobody acted on any."
    else:
        yield f"Nobody acted on any, while {evidence.acted:,} other pages of the recording were acted upon."
    lasted = [page.lasted for page in pages if page.lasted is not None]
    soon = sum(each <= SOON for each in lasted)
    if soon:
        minutes = median(each.total_seconds() for each in lasted) / 60
        yield f"{soon:,} ended by themselves within {minutes_of(SOON)} (of all, the median is {minutes:.0f} min)."
