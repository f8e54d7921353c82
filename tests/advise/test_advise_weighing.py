from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamproc.advise.change import Change
from streamproc.advise.evidence import Page
from streamproc.advise.proposal import Candidate, Kind
from streamproc.advise.telling import headline, misses, refused, saves
from streamproc.advise.weighing import Verdict, Weighed, ranked, weigh
from streamproc.backtest.difference import Call, compare
from tests.advise.pages import DAY, answered, call, daily, evidence, page

NOISY = daily(first=200)
"""At 03:20, for nine days: six propose, three confirm."""


def candidate(kind: Kind = Kind.NEEDLESS, rule: str = "HighLoad") -> Candidate:
    return Candidate(kind, f"Quiet {rule}", (), Change(), 6, 6, 6, frozenset({rule}))


def weighed(pages: Sequence[Page], after: Sequence[Call], kind: Kind = Kind.NEEDLESS) -> Weighed:
    difference = compare([each.call for each in pages], after)
    return weigh(candidate(kind), difference, evidence(pages))


def calls(pages: Sequence[Page]) -> list[Call]:
    return [each.call for each in pages]


def test_what_is_saved_and_missed_in_both_parts() -> None:
    told = weighed(NOISY, [])
    assert told.verdict is Verdict.CONFIRMED
    assert (told.learned.pages, told.learned.saved, told.learned.missed) == (6, 6, 6)
    assert (told.confirmed.pages, told.confirmed.saved, told.confirmed.missed) == (3, 3, 3)
    assert (told.saved, told.missed, told.nights) == (9, 9, 9)
    assert headline(told) == "-9 pages, -9 nights"
    assert saves(told) == (
        "6 of 6 pages in the first two thirds, which proposed it; 3 of 3 in the last third: confirmed"
    )
    assert misses(told) == "9 pages, none of them acted upon"


ACTED = page(8 * DAY + 900, "DatabaseDown", "db", acted=True)
MERGED = call(300, "DatabaseDown@300", "DatabaseDown@310", rule="DatabaseDown")
TWICE = [page(300, "DatabaseDown", acted=True), page(310, "DatabaseDown", acted=True)]


@pytest.mark.parametrize(
    ("pages", "after", "kind", "verdict"),
    [
        pytest.param(NOISY[:6], [], Kind.NEEDLESS, Verdict.NOT_SEEN_AGAIN, id="its rule does not page again"),
        pytest.param(NOISY, calls(NOISY[6:]), Kind.NEEDLESS, Verdict.NOT_CONFIRMED, id="nothing is saved there"),
        pytest.param(NOISY, calls(NOISY), Kind.NEEDLESS, Verdict.SAVES_NOTHING, id="all is the same"),
        pytest.param(
            NOISY, [*calls(NOISY[6:]), call(8.9 * DAY)], Kind.NEEDLESS, Verdict.COSTS, id="a page more in the last part"
        ),
        pytest.param([*NOISY, ACTED], [], Kind.NEEDLESS, Verdict.MISSES, id="a page that was acted upon is missed"),
        pytest.param(
            [*NOISY, ACTED], [call(8 * DAY + 902, *ACTED.call.alerts)], Kind.NEEDLESS, Verdict.DELAYS,
            id="one that was acted upon comes two minutes later",
        ),
        pytest.param(
            [*NOISY, ACTED], [call(8 * DAY + 900.5, *ACTED.call.alerts)], Kind.NEEDLESS, Verdict.CONFIRMED,
            id="half a minute later",
        ),
        pytest.param(
            [*NOISY, ACTED], [call(8 * DAY + 839, *ACTED.call.alerts)], Kind.NEEDLESS, Verdict.DELAYS,
            id="it was said an hour ago already, and nobody is called",
        ),
        pytest.param([*NOISY, *TWICE], [MERGED], Kind.NEEDLESS, Verdict.CONFIRMED, id="two are merged"),
        pytest.param(NOISY, calls(NOISY), Kind.UNOWNED, Verdict.TIDY, id="it is for order"),
        pytest.param(NOISY, [*calls(NOISY), call(60)], Kind.SILENCE, Verdict.TIDY, id="a silence is lifted"),
        pytest.param([ACTED], [], Kind.UNOWNED, Verdict.MISSES, id="order may miss nothing"),
    ],
)  # fmt: skip
def test_verdicts(pages: list[Page], after: list[Call], kind: Kind, verdict: Verdict) -> None:
    assert weighed(pages, after, kind).verdict is verdict


def test_an_alert_that_was_acted_upon_live_is_never_missed() -> None:
    difference = compare(calls(NOISY), [])
    told = weigh(candidate(), difference, evidence(NOISY, alerts=[NOISY[3].call.lead]))
    assert (told.verdict, told.acted_missed) == (Verdict.MISSES, 1)
    assert not told.kept
    assert refused(told) == "it would miss 1 alert that people acted upon"


def test_why_a_late_one_is_refused() -> None:
    told = weighed([*NOISY, ACTED], [call(8 * DAY + 905, *ACTED.call.alerts)])
    assert refused(told) == "1 page that people acted upon would not be said at their time"
    assert told.later == 1


def test_a_fault_is_told() -> None:
    told = Weighed(candidate(), Verdict.UNUSABLE, fault="correlate.window: too long")
    assert refused(told) == "its settings cannot be used: correlate.window: too long"


def test_merged_and_later_pages_are_told() -> None:
    pages = [*TWICE, *NOISY, page(5 * DAY + 700, "Other")]
    told = weighed(pages, [MERGED, call(5 * DAY + 705, "Other@7900.0")])
    assert misses(told) == "9 pages, none of them acted upon; 1 time several pages become one; 1 page later"


def test_a_page_more_is_told_of_what_is_for_order() -> None:
    told = weighed(NOISY, [*calls(NOISY), call(60)], Kind.SILENCE)
    assert headline(told) == "+1 page"
    assert saves(told) == "0 pages of 9: it makes 1 page more"
    assert saves(weighed(NOISY, calls(NOISY), Kind.UNOWNED)) == "0 pages of 9: it is for order"


def test_the_strongest_comes_first() -> None:
    strong, weak = weighed(NOISY, []), weighed(NOISY, calls(NOISY[:1]))
    again, order = weighed(NOISY[:6], []), weighed(NOISY, calls(NOISY), Kind.UNOWNED)
    lost = weighed([*NOISY, ACTED], [])
    assert ranked([order, again, weak, lost, strong]) == [strong, weak, again, order]


def test_an_answer_elsewhere_does_no_harm() -> None:
    assert weighed([*NOISY, *answered()], calls(answered())).verdict is Verdict.CONFIRMED
