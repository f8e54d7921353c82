from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from streamproc.core.step import Step
from streamproc.events.alert import Severity
from streamproc.events.incident import Classification, Context, Incident, IncidentChange, Member
from streamproc.events.training import Sample
from streamproc.learning.features import features
from streamproc.learning.linear import LinearModel, sigmoid
from streamproc.stages.classify import Config, Reason, decide, step
from streamproc.state import CLASS, ClassRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ID = "in:v1:-:1"
TRUST = ((0.5, 0.6), (0.8, 0.9), (0.95, 0.99))
MODEL = LinearModel(
    weights={"name:outage": 4.0, "name:noise": -4.0, "name:maybe": 0.8}, bias=0.0, labels=60, pages=20, trust=TRUST
)
OUTAGE, NOISE, MAYBE = sigmoid(4), sigmoid(-4), sigmoid(0.8)


def member(name: str, **changes: Any) -> Member:
    given = {
        "fingerprint": f"fp:v1:{name}",
        "alert_id": name,
        "name": name,
        "severity": Severity.ERROR,
        "summary": "",
        "starts_at": T0,
    }
    return Member.model_validate({**given, **changes})


def incident(root: Member, *joined: Member, change: IncidentChange = IncidentChange.OPENED, **more: Any) -> Incident:
    given = {
        "incident_id": ID,
        "scope": "-",
        "change": change,
        "status": "resolved" if change is IncidentChange.RESOLVED else "open",
        "title": root.name,
        "severity": root.severity,
        "service": root.service,
        "root": root,
        "opened_at": T0,
        "changed_at": T0,
        "open_count": 1,
        "total_count": 1,
        "joined": (root,) if change is IncidentChange.OPENED else joined,
    }
    return Incident.model_validate({**given, **more})


def taken(
    event: Incident,
    row: ClassRow | None = None,
    model: LinearModel | None = MODEL,
    config: Config | None = None,
    catalogue: Mapping[str, Any] | None = None,
) -> Step:
    artifacts = {"model": (4, model.model_dump_json())} if model else {}
    if catalogue:
        artifacts["catalogue"] = (1, json.dumps({"services": catalogue}))
    return step(event, rows_of({CLASS.at(ID): row} if row else {}, artifacts), T0, config or Config())


def told(step_: Step) -> Classification:
    emitted = step_.emit[-1]
    assert isinstance(emitted, Incident)
    assert emitted.classification is not None
    return emitted.classification


def said(p: float | None, sure: float | None, *, abstain: bool, version: int = 4) -> tuple[Any, ...]:
    return p, sure, abstain, version


def small(**changes: Any) -> LinearModel:
    return MODEL.model_copy(update=changes)


APP: ClassRow = ClassRow(category="application")
CASES = [
    pytest.param(
        incident(member("Outage")),
        None,
        MODEL,
        Config(),
        Reason.WORTH_A_PAGE,
        said(OUTAGE, 0.99, abstain=False),
        id="sure that it is worth a page",
    ),
    pytest.param(
        incident(member("Noise")),
        None,
        MODEL,
        Config(),
        Reason.NOT_WORTH_A_PAGE,
        said(NOISE, 0.99, abstain=False),
        id="sure that it is not",
    ),
    pytest.param(
        incident(member("Maybe")),
        None,
        MODEL,
        Config(),
        Reason.ABSTAINED,
        said(MAYBE, 0.6, abstain=True),
        id="not sure enough",
    ),
    pytest.param(
        incident(member("Maybe")),
        None,
        MODEL,
        Config(confidence_threshold=0.6),
        Reason.WORTH_A_PAGE,
        said(MAYBE, 0.6, abstain=False),
        id="sure enough for a lower threshold",
    ),
    pytest.param(
        incident(member("Outage")),
        None,
        None,
        Config(),
        Reason.NO_MODEL,
        said(None, None, abstain=True, version=0),
        id="no model",
    ),
    pytest.param(
        incident(member("Outage")),
        None,
        small(labels=49),
        Config(),
        Reason.TOO_FEW_LABELS,
        said(OUTAGE, 0.99, abstain=True),
        id="one label short",
    ),
    pytest.param(
        incident(member("Outage")),
        None,
        small(labels=49),
        Config(min_labels=49),
        Reason.WORTH_A_PAGE,
        said(OUTAGE, 0.99, abstain=False),
        id="as many labels as wanted",
    ),
    pytest.param(
        incident(member("Outage")),
        None,
        small(pages=60),
        Config(),
        Reason.TOO_FEW_LABELS,
        said(OUTAGE, 0.99, abstain=True),
        id="labels of one kind only",
    ),
    pytest.param(
        incident(member("Outage")),
        None,
        MODEL,
        Config(ai_classification=False),
        Reason.OFF,
        said(None, None, abstain=True, version=0),
        id="switched off",
    ),
    pytest.param(
        incident(member("Noise"), member("Outage"), change=IncidentChange.GREW),
        ClassRow(p_page=NOISE, model_version=4, category="application"),
        MODEL,
        Config(),
        Reason.WORTH_A_PAGE,
        said(OUTAGE, 0.99, abstain=False),
        id="grew by something worse",
    ),
    pytest.param(
        incident(member("Unheard"), member("Noise"), change=IncidentChange.GREW),
        ClassRow(p_page=OUTAGE, model_version=3, category="application"),
        MODEL,
        Config(),
        Reason.WORTH_A_PAGE,
        said(OUTAGE, 0.99, abstain=False),
        id="grew by less: only what joined is scored",
    ),
    pytest.param(
        incident(member("Outage"), change=IncidentChange.RECONSIDERED),
        ClassRow(p_page=NOISE, model_version=4, category="application"),
        MODEL,
        Config(),
        Reason.NOT_WORTH_A_PAGE,
        said(NOISE, 0.99, abstain=False),
        id="reconsidered: nothing is scored anew",
    ),
    pytest.param(
        incident(member("Outage"), change=IncidentChange.SHRANK),
        APP,
        MODEL,
        Config(),
        Reason.WORTH_A_PAGE,
        said(OUTAGE, 0.99, abstain=False),
        id="the model came after the incident: the root is scored",
    ),
    pytest.param(
        incident(member("Outage"), member("Noise"), change=IncidentChange.REOPENED),
        None,
        MODEL,
        Config(),
        Reason.WORTH_A_PAGE,
        said(OUTAGE, 0.99, abstain=False),
        id="reopened: scored anew",
    ),
    pytest.param(
        incident(member("Noise"), change=IncidentChange.RESOLVED),
        ClassRow(p_page=OUTAGE, model_version=3, category="application"),
        MODEL,
        Config(),
        Reason.CLOSED,
        said(OUTAGE, None, abstain=True, version=3),
        id="resolved: what was said stands",
    ),
    pytest.param(
        incident(member("Outage"), change=IncidentChange.RESOLVED),
        None,
        MODEL,
        Config(),
        Reason.CLOSED,
        said(None, None, abstain=True, version=0),
        id="resolved and never seen",
    ),
]


@pytest.mark.parametrize(("event", "row", "model", "config", "reason", "expected"), CASES)
def test_worth_of_a_page(
    event: Incident,
    row: ClassRow | None,
    model: LinearModel | None,
    config: Config,
    reason: Reason,
    expected: tuple[Any, ...],
) -> None:
    step_ = taken(event, row, model, config)
    classification = told(step_)
    assert step_.reason is reason
    assert classification.p_page == (None if expected[0] is None else pytest.approx(expected[0]))
    assert (classification.confidence, classification.abstain, classification.model_version) == expected[1:]
    kept = step_.changes[CLASS.at(ID)]
    if reason is Reason.CLOSED:
        assert kept is None
    else:
        assert isinstance(kept, ClassRow)
        assert (kept.p_page, kept.model_version) == (classification.p_page, classification.model_version)


def test_every_reason_is_reached() -> None:
    assert {case.values[4] for case in CASES} == set(Reason)


def test_only_the_classification_is_filled() -> None:
    event = incident(member("Outage"))
    emitted = taken(event).emit[-1]
    assert isinstance(emitted, Incident)
    assert emitted.model_copy(update={"classification": None}) == event


@pytest.mark.parametrize(
    "model", [pytest.param(MODEL, id="with a model"), pytest.param(None, id="without one, so that there will be")]
)
def test_an_opened_incident_gives_a_sample_of_its_root(model: LinearModel | None) -> None:
    event = incident(member("Outage"))
    sample = taken(event, model=model).emit[0]
    assert sample == Sample(
        sample_id=ID,
        features=features(event.root, event),
        p_page=OUTAGE if model else None,
        model_version=4 if model else 0,
        at=T0,
    )


@pytest.mark.parametrize("change", [change for change in IncidentChange if change is not IncidentChange.OPENED])
def test_no_other_change_gives_one(change: IncidentChange) -> None:
    (emitted,) = taken(incident(member("Outage"), change=change)).emit
    assert isinstance(emitted, Incident)


def test_a_life() -> None:
    rows = rows_of(artifacts={"model": (4, MODEL.model_dump_json())})
    root = member("Noise")
    found = []
    for event in (
        incident(root),
        incident(root, member("Outage"), change=IncidentChange.GREW),
        incident(root, change=IncidentChange.RESOLVED),
        incident(root, root, change=IncidentChange.REOPENED),
        incident(root, change=IncidentChange.RESOLVED),
    ):
        step_ = step(event, rows, T0, Config())
        commit(rows, step_)
        found.append((step_.reason, told(step_).p_page))
    assert found == [
        (Reason.NOT_WORTH_A_PAGE, NOISE),
        (Reason.WORTH_A_PAGE, OUTAGE),
        (Reason.CLOSED, OUTAGE),
        (Reason.NOT_WORTH_A_PAGE, NOISE),
        (Reason.CLOSED, NOISE),
    ]
    assert rows.get(CLASS, ID) is None


SHOP = {"web": {"category": "business"}, "api": {}}


@pytest.mark.parametrize(
    ("root", "row", "more", "category"),
    [
        pytest.param(member("DiskFull", service="web"), None, {}, "business", id="the catalogue says so"),
        pytest.param(member("DiskFull", service="api"), None, {}, "infrastructure", id="the catalogue says nothing"),
        pytest.param(member("DiskFull"), None, {}, "infrastructure", id="the name"),
        pytest.param(member("Oops", summary="bad certificate"), None, {}, "security", id="the summary"),
        pytest.param(
            member("DiskFull", summary="certificate, tls, ssl"), None, {}, "infrastructure", id="the name goes first"
        ),
        pytest.param(member("Oops"), None, {}, "application", id="nothing tells"),
        pytest.param(member("LlamaFull"), None, {"business": ["llama"]}, "business", id="a word of the settings"),
        pytest.param(
            member("DiskFull"), ClassRow(category="security"), {}, "security", id="what was said of it once stands"
        ),
    ],
)
def test_category(root: Member, row: ClassRow | None, more: dict[str, Any], category: str) -> None:
    config = Config.model_validate({"more_words": more})
    event = incident(root, change=IncidentChange.GREW if row else IncidentChange.OPENED)
    assert told(taken(event, row, config=config, catalogue=SHOP)).category == category


@pytest.mark.parametrize(
    ("severity", "tier", "urgency"),
    [
        pytest.param(Severity.CRITICAL, None, "high", id="critical"),
        pytest.param(Severity.ERROR, 3, "high", id="error"),
        pytest.param(Severity.WARNING, 2, "low", id="warning"),
        pytest.param(Severity.WARNING, 1, "high", id="warning of a vital service"),
        pytest.param(Severity.INFO, None, "low", id="info"),
    ],
)
@pytest.mark.parametrize("change", [IncidentChange.OPENED, IncidentChange.RESOLVED])
def test_urgency(severity: Severity, tier: int | None, urgency: str, change: IncidentChange) -> None:
    event = incident(member("Oops", severity=severity), change=change, context=Context(known=True, tier=tier))
    assert told(taken(event)).urgency == urgency


def test_urgency_without_a_context() -> None:
    assert told(taken(incident(member("Oops", severity=Severity.INFO)))).urgency == "low"


def test_no_prediction_is_no_model() -> None:
    assert decide(None, MODEL, Config()) is Reason.NO_MODEL


def test_nothing_is_learned_of_a_canary() -> None:
    emitted = taken(incident(member("outage"), canary=True)).emit
    assert [type(one) for one in emitted] == [Incident]
