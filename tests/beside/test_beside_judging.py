"""What each page of theirs would have been with us, what would have been missed, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from streamproc.beside import telling
from streamproc.beside.clues import Clues
from streamproc.beside.judging import Period, judge
from streamproc.beside.ours import OurIncident
from streamproc.beside.page import page as html
from streamproc.beside.report import Fate, Report
from streamproc.beside.theirs import TheirPage
from streamproc.commands.beside import render
from streamproc.commands.console import plain
from streamproc.commands.reasons import sentence
from streamproc.events.alert import Severity
from streamproc.events.incident import Action
from tests.beside.nights import T0, at, member, ours, page

PAGED = (1.0, Action.PAGE, "severity")
WEB = member(name="WebDown", service="web")
LABELLED = Clues(labels=(member().labels,))


def reported(theirs: Sequence[TheirPage], mine: Sequence[OurIncident], *, now: float = 600, **period: Any) -> Report:
    span = Period(**{"since": T0, "until": at(600), "read": True, **period})
    return judge(theirs, {one.incident_id: one for one in mine}, span, at(now), sentence)


@pytest.mark.parametrize(
    ("theirs", "mine", "fate", "why"),
    [
        pytest.param(
            page(), [ours(PAGED)], Fate.OURS_TOO, "A page. Its severity asks for it. It is critical.", id="both paged"
        ),
        pytest.param(
            page(), [ours((1, Action.TICKET, "learned_quiet"))], Fate.QUIET,
            "A ticket with us. Its severity would page, but the model is sure that a ticket will do.", id="a ticket",
        ),
        pytest.param(
            page(), [ours((1, Action.NONE, "muted"), alert=member(muted_by="night"))], Fate.QUIET,
            "Nothing with us. All that fires is muted. By night.", id="muted, and by what",
        ),
        pytest.param(
            page(ended=3), [ours((1, Action.HOLD, "reopened"), (30, Action.PAGE, "hold_over"))], Fate.QUIET,
            "Held with us. It came back soon after it resolved: paged again only if it stays. We would have paged, "
            "but only after yours was over.", id="too late",
        ),
        pytest.param(
            page(40, clues=LABELLED), [ours(PAGED, (20, Action.NONE, "resolved"), (45, Action.HOLD, "reopened"))],
            Fate.QUIET, "Held with us. It came back soon after it resolved: paged again only if it stays.",
            id="ours was over by then",
        ),
        pytest.param(page(), [], Fate.UNKNOWN, "It never reached streamproc.", id="unknown"),
        pytest.param(
            page(clues=LABELLED), [], Fate.UNKNOWN,
            "It never reached streamproc, although Alertmanager sent it to PagerDuty.", id="unknown, of Alertmanager",
        ),
        pytest.param(
            page(alerts=(), details_known=False), [], Fate.UNKNOWN,
            "No alert of ours fits its title and time; its details could not be read.", id="unknown, details unread",
        ),
        pytest.param(
            page(alerts=()), [], Fate.UNKNOWN, "It never reached streamproc.", id="unknown, no alerts",
        ),
    ],
)  # fmt: skip
def test_what_one_page_would_have_been(theirs: TheirPage, mine: list[OurIncident], fate: Fate, why: str) -> None:
    (told,) = reported([theirs], mine).judged
    assert (told.fate, told.why) == (fate, why)
    assert bool(told.mend) is (fate in (Fate.QUIET, Fate.UNKNOWN))
    assert (told.seconds is not None) is (fate is Fate.OURS_TOO)


def test_the_first_of_theirs_is_ours_too_and_the_others_part_of_it() -> None:
    mine = ours(PAGED)
    report = reported([page(9, incident_id="Q2", by=""), page(), page(12, incident_id="Q3", by="")], [mine])
    assert [(one.incident_id, one.fate) for one in report.judged] == [
        ("Q1", Fate.OURS_TOO), ("Q2", Fate.MERGED), ("Q3", Fate.MERGED),
    ]  # fmt: skip
    assert report.lead is not None
    assert (report.lead.median, report.lead.latest_incident, report.lead.count) == (60.0, "Q1", 1)
    assert (report.counts.needless, report.counts.needless_ours_too, report.counts.acted) == (2, 0, 1)


def test_a_page_of_ours_from_before_the_period_is_none_of_it() -> None:
    mine = ours((-100, Action.PAGE, "severity"))
    report = reported([page(-99, incident_id="Q0"), page(5)], [mine])
    assert [(one.incident_id, one.fate) for one in report.judged] == [("Q1", Fate.MERGED)]
    assert (report.counts.ours, report.extra, report.lead) == (0, (), None)


def test_what_they_had_shortly_before_the_period_is_nothing_that_they_lacked() -> None:
    assert reported([page(-2)], [ours((0, Action.PAGE, "severity"))]).extra == ()
    assert [one.title for one in reported([], [ours(PAGED)]).extra] == ["DatabaseDown of db"]


def test_several_of_ours_for_one_of_theirs_the_earliest_page_counts() -> None:
    later = ours((7, Action.PAGE, "severity"), alert=WEB, incident_id="in:v1:prod:2")
    theirs = page(title="both", clues=Clues(labels=(WEB.labels, member().labels)))
    (told,) = reported([theirs], [later, ours(PAGED)]).judged
    assert told.our_incident == "in:v1:prod:1"


def test_of_several_that_would_be_quiet_the_nearest_to_a_page_tells_why() -> None:
    held = ours((1, Action.HOLD, "reopened"), alert=WEB, incident_id="in:v1:prod:2")
    theirs = page(title="both", clues=Clues(labels=(member().labels, WEB.labels)))
    (told,) = reported([theirs], [ours((1, Action.NONE, "below")), held]).judged
    assert (told.our_incident, told.action) == ("in:v1:prod:2", Action.HOLD)


@pytest.mark.parametrize(
    ("theirs", "mine", "missed", "doubtful"),
    [
        pytest.param(page(), [], 1, 0, id="acted upon, and unknown"),
        pytest.param(page(by=""), [], 0, 0, id="nobody acted"),
        pytest.param(page(by=None), [], 0, 1, id="not known whether anybody acted"),
        pytest.param(page(), [ours(PAGED)], 0, 0, id="likely the same"),
        pytest.param(page(title="DatabaseDown"), [ours(PAGED)], 0, 1, id="a guess"),
        pytest.param(page(urgency="low"), [], 0, 0, id="of low urgency"),
        pytest.param(page(by_hand=True), [], 0, 0, id="made by hand"),
        pytest.param(page(key="in:v1:prod:0123"), [], 0, 0, id="of streamproc itself"),
    ],
)
def test_what_would_have_been_missed(theirs: TheirPage, mine: list[OurIncident], missed: int, doubtful: int) -> None:
    report = reported([theirs], mine)
    assert (len(report.missed), len(report.doubtful)) == (missed, doubtful)


def test_what_is_not_counted_is_named() -> None:
    left_out = [
        page(incident_id="Q2", urgency="low"),
        page(incident_id="Q3", by_hand=True),
        page(incident_id="Q4", key="in:v1:prod:0123"),
    ]
    counts = reported(left_out, [ours(PAGED)]).counts
    assert (counts.theirs, counts.low_urgency, counts.by_hand, counts.ours_at_pagerduty) == (0, 1, 1, 1)


def test_what_is_too_young_is_not_judged() -> None:
    report = reported([page(598), page(2, incident_id="Q2")], [])
    assert [one.incident_id for one in report.judged] == ["Q2"]
    assert report.gaps == ("1 of the last 5 minutes are not judged yet.",)


def test_a_page_of_when_streamproc_did_not_run_says_so() -> None:
    (told,) = reported([page(100)], [], away=((at(50), at(150)),)).judged
    assert told.why == "streamproc did not run then."


def missing(count: int, **more: Any) -> list[TheirPage]:
    return [page(n, f"Page{n}", incident_id=f"Q{n}", number=n, **more) for n in range(count)]


@pytest.mark.parametrize(
    ("report", "said"),
    [
        pytest.param(
            reported([page()], [ours(PAGED)]),
            "You were paged 1 time; we would have paged 1; we would have missed none.", id="none missed",
        ),
        pytest.param(
            reported(missing(2), []),
            "You were paged 2 times; we would have paged 0; we would have missed 2 (never reached us): "
            "#0 Page0, #1 Page1.", id="all unknown",
        ),
        pytest.param(
            reported([*missing(4), page()], [ours((1, Action.TICKET, "severity"))]),
            "You were paged 5 times; we would have paged 0; we would have missed 5 (4 never reached us): "
            "#0 Page0, #7 [FIRING:1] DatabaseDown (critical db eu-1), #1 Page1 and 2 more.", id="more than it names",
        ),
        pytest.param(
            reported([page()], [ours((1, Action.TICKET, "severity"))]),
            "You were paged 1 time; we would have paged 0; we would have missed 1: "
            "#7 [FIRING:1] DatabaseDown (critical db eu-1).", id="known, and missed",
        ),
        pytest.param(
            reported(missing(2, by=None), [], gaps=("half.",)),
            "As far as is known: you were paged 2 times; we would have paged 0; we would have missed none; "
            "2 more are in doubt.", id="in doubt",
        ),
        pytest.param(
            reported([], [ours(PAGED)], read=False),
            "PagerDuty's incidents are not known, so nothing is compared; we would have paged 1 time.", id="never read",
        ),
    ],
)  # fmt: skip
def test_the_headline(report: Report, said: str) -> None:
    assert report.headline == said


HOSTILE = "<script>alert(1)</script>"


def everything() -> Report:
    warning = member(name="DiskFull", service="node", severity=Severity.WARNING)
    theirs = [
        page(),
        page(2, "DiskFull node eu-1", incident_id="Q2", url="https://acme.pagerduty.com/incidents/Q2"),
        page(3, HOSTILE, incident_id="Q3", url="javascript:alert(1)"),
        page(4, "Unread", incident_id="Q4", by=None),
        page(5, "Needless", incident_id="Q5", by=""),
    ]
    mine = [
        ours(PAGED),
        ours((1, Action.TICKET, "severity"), alert=warning, incident_id="in:v1:prod:2"),
        ours(PAGED, alert=WEB, incident_id="in:v1:prod:3"),
    ]
    return reported(theirs, mine, gaps=("Something is missing.",))


def test_the_page_says_all_and_runs_nothing() -> None:
    report = everything()
    written = html(report)
    assert HOSTILE not in written
    assert "javascript:" not in written
    assert "#7 &lt;script&gt;" in written
    for said in (
        "https://acme.pagerduty.com/incidents/Q2", "Something is missing.", "In doubt", "WebDown of web",
        "nobody acted", "never reached streamproc", "1 min later",
        "A ticket with us. Its severity asks for it. It is warning.",
    ):  # fmt: skip
        assert said in written
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in written


def test_a_page_of_nothing_known_compares_nothing() -> None:
    written = html(reported([], [], read=False, gaps=("PagerDuty was never read.",)))
    assert "Every page of yours" not in written
    assert "Mend what is named above" in written
    assert "the way from here to" in html(reported([page()], [ours(PAGED)]))


def test_a_page_of_very_many_lists_some() -> None:
    report = reported(missing(501, by=""), [])
    assert "1 more are in the JSON" in html(report)


def test_the_terminal_says_all() -> None:
    said = plain(render(everything()))
    for part in (
        "we would have missed 2",
        "Missing: Something is missing.",
        "In doubt",
        "WebDown of web",
        "nobody acted",
    ):
        assert part in said
    assert "Nothing would have been missed. Next" in plain(render(reported([page()], [ours(PAGED)])))
    assert "With us" not in plain(render(reported([], [], read=False)))
    assert "5 more in --output html" in plain(render(reported(missing(20), [])))


def test_the_message_says_the_most_of_it() -> None:
    said = telling.text(everything(), "/data/week.html")
    assert "    1  would have been held, muted or a ticket" in said
    assert "Missing: Something is missing." in said
    assert said.endswith("Nothing was delivered. All of it: /data/week.html")
    assert telling.text(reported([], [], read=False)).count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        pytest.param(0.4, "at the same time", id="none"),
        pytest.param(61, "1 min 1 s later", id="later"),
        pytest.param(-90_061, "1 d 1 h sooner", id="sooner"),
    ],
)
def test_how_much_later(seconds: float, said: str) -> None:
    assert telling.later(seconds) == said
    assert telling.lasting(0) == "0 s"


def test_how_much_later_of_all() -> None:
    both = [ours(PAGED), ours((8, Action.PAGE, "severity"), alert=WEB, incident_id="in:v1:prod:2")]
    theirs = [page(), page(title="WebDown web eu-1", incident_id="Q2", by="")]
    assert telling.lead_line(reported(theirs[:1], both)) == "The one that both paged would have come 1 min later."
    assert telling.lead_line(reported(theirs, both)) == (
        "Of 2 that both paged, ours would have come 4 min 30 s later in the median, at worst 8 min later."
    )
    assert telling.needless_line(reported([], both)) == "You were not paged at all."
    assert telling.needless_line(reported(theirs[:1], both)) == "People acted upon all of your 1."
    assert telling.needless_line(reported(theirs, both)) == (
        "Nobody acted upon 1 of your 2; we would have paged 1 of those, too."
    )
