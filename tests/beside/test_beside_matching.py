"""Which of our incidents a page of theirs is about, and how sure that is."""

from __future__ import annotations

from typing import Any

import pytest

from streamproc.beside.clues import Clues
from streamproc.beside.matching import Confidence, Index
from streamproc.beside.ours import OurIncident, ours_of
from streamproc.beside.theirs import TheirAlert, TheirPage
from streamproc.events.incident import Action
from tests.beside.nights import T0, at, member, ours, page, told

LABELS = member().labels
PAGED = (0, Action.PAGE, "severity")
OTHER = "in:v1:prod:2"


def clued(**clues: Any) -> TheirPage:
    return page(title="something", clues=Clues(**clues))


@pytest.mark.parametrize(
    ("theirs", "mine", "confidence", "by"),
    [
        pytest.param(
            clued(labels=(LABELS,), occurrences=(member().alert_id,)),
            ours(PAGED),
            "certain",
            "fingerprint",
            id="occurrence",
        ),
        pytest.param(
            clued(occurrences=("DATABASEDOWN@1970",)),
            ours(PAGED),
            "certain",
            "fingerprint",
            id="fingerprint, other start",
        ),
        pytest.param(clued(labels=(LABELS,)), ours(PAGED), "certain", "the same labels", id="labels"),
        pytest.param(
            clued(labels=(LABELS,), occurrences=("other@1",)),
            ours(PAGED),
            "certain",
            "the same labels",
            id="labels after all",
        ),
        pytest.param(
            clued(labels=({**LABELS, "replica": "b"},)),
            ours(PAGED),
            "likely",
            "its name and 2 labels",
            id="one label more",
        ),
        pytest.param(
            clued(labels=({"alertname": "DatabaseDown", "service": "db"},)),
            ours(PAGED),
            "likely",
            "1 labels",
            id="fewer",
        ),
        pytest.param(
            page(clues=Clues(tags={"cluster": "eu-1"})), ours(PAGED), "likely", "(cluster)", id="tags and a title"
        ),
        pytest.param(page(), ours(PAGED), "likely", "its service", id="title with service and time"),
        pytest.param(page(title="DatabaseDown!"), ours(PAGED), "possible", "the text: its name", id="the name alone"),
        pytest.param(
            page(title="databasedown", service="DB"), ours(PAGED), "likely", "its service", id="PagerDuty's service"
        ),
        pytest.param(page(50, title="DatabaseDown"), ours(PAGED), "possible", "its name", id="it had fired for long"),
        pytest.param(
            page(title="Oh: DatabaseDown of db, now"),
            ours(PAGED, alert=member(name="x", summary="DatabaseDown of db", labels={}, service="")),
            "possible",
            "its name, the time",
            id="by the summary",
        ),
    ],
)
def test_what_is_the_same(theirs: TheirPage, mine: OurIncident, confidence: str, by: str) -> None:
    (match,) = Index([mine]).match(theirs)
    assert (match.incident_id, match.confidence) == ("in:v1:prod:1", confidence)
    assert by in match.by


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        pytest.param(page(title="Something else"), ours(PAGED), id="nothing in common"),
        pytest.param(page(title="MyDatabaseDowngrade"), ours(PAGED), id="the name within a word"),
        pytest.param(page(200), ours(PAGED, gone=100), id="long after"),
        pytest.param(page(-30), ours(PAGED), id="a guess long before"),
        pytest.param(page(-60, ended=-50, clues=Clues(labels=(LABELS,))), ours(PAGED), id="over before ours came"),
        pytest.param(clued(labels=({**LABELS, "service": "web"},)), ours(PAGED), id="labels that contradict"),
        pytest.param(clued(labels=({"alertname": "DatabaseDown"},)), ours(PAGED), id="a name without any label"),
        pytest.param(page(title="oh, short"), ours(PAGED, alert=member(name="x", summary="short")), id="short"),
        pytest.param(page(alerts=()), ours(PAGED, alert=member(name="Other", summary="")), id="no alerts"),
    ],
)  # fmt: skip
def test_what_is_not(theirs: TheirPage, mine: OurIncident) -> None:
    assert Index([mine]).match(theirs) == ()


def test_a_guess_never_stands_beside_a_certainty() -> None:
    twin = member(fingerprint="fp:v1:twin", alert_id="twin", labels={**LABELS, "cluster": "eu-2"})
    index = Index([ours(PAGED, alert=twin, incident_id=OTHER), ours(PAGED)])
    assert [one.incident_id for one in index.match(clued(labels=(LABELS,)))] == ["in:v1:prod:1"]


def test_of_guesses_the_best_alone() -> None:
    far = member(service="web", labels={"alertname": "DatabaseDown", "service": "web", "cluster": "us-1"})
    found = Index([ours(PAGED, alert=far, incident_id=OTHER), ours(PAGED)]).match(page())
    assert [(one.incident_id, one.confidence) for one in found] == [("in:v1:prod:1", Confidence.LIKELY)]


def test_a_group_of_theirs_may_be_several_of_ours() -> None:
    web = member(name="WebDown", service="web")
    index = Index([ours(PAGED), ours((5, Action.PAGE, "severity"), alert=web, incident_id=OTHER)])
    theirs = page(title="a group", clues=Clues(labels=(LABELS, web.labels), occurrences=()))
    assert [one.incident_id for one in index.match(theirs)] == ["in:v1:prod:1", OTHER]


def test_the_surest_evidence_of_an_incident_counts() -> None:
    one, two = member(), member(name="WebDown", service="web")
    both = ours_of([told(0, Action.PAGE, "severity", joined=(one, two))])
    partly = {key: value for key, value in one.labels.items() if key != "cluster"}
    given = [Clues(labels=(partly,)), Clues(labels=(two.labels, one.labels))]
    theirs = page(alerts=tuple(TheirAlert(clues=clues) for clues in given))
    (match,) = Index(both.values()).match(theirs)
    assert match.confidence is Confidence.CERTAIN


def test_what_was_decided_and_when_a_page_stood() -> None:
    again = [
        told(0, Action.TICKET, "severity", joined=(member(),)),
        told(1, Action.TICKET, "severity"),
        told(2, Action.PAGE, "worse", joined=(member(summary="worse"),)),
        told(3, Action.HOLD, "handled"),
        told(4, Action.NONE, "resolved", left=(member().fingerprint, "unknown")),
        told(5, Action.HOLD, "reopened", joined=(member(),)),
        told(7, Action.PAGE, "hold_over"),
        told(8, Action.NONE, "severity", canary=True, incident_id="in:v1:prod:c"),
        told(9, Action.NONE, "severity", decision=None, incident_id="in:v1:prod:d"),
    ]
    (incident,) = ours_of(again).values()
    assert [one.reason for one in incident.decisions] == [
        "severity", "worse", "handled", "resolved", "reopened", "hold_over",
    ]  # fmt: skip
    assert [(one.at, until) for one, until in incident.pages()] == [(at(2), at(4)), (at(7), None)]
    assert [(one.seen_at, one.gone_at) for one in incident.alerts[member().fingerprint]] == [(T0, at(4)), (at(5), None)]
    assert [incident.decided_by(at(minute)).reason for minute in (-1, 1, 6)] == ["severity", "severity", "reopened"]
