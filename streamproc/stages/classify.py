"""Incident -> Incident: category and urgency by rules, worth of a page by the learned model.

Fourth stage of node decide. Owns CLASS (one row for each open incident), reads the activated model and catalogue. For a
new incident it also emits the features of its root as a Sample, which waits at node learn for its label. The model
abstains where it is not sure enough; then the rules of escalate decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from streamproc.core.event import Scalar
from streamproc.core.step import Stage, StageConfig, Step
from streamproc.core.table import Rows
from streamproc.events.alert import Severity
from streamproc.events.incident import Classification, Incident, IncidentChange, Member
from streamproc.events.training import Sample
from streamproc.learning.features import features, words
from streamproc.learning.linear import MODEL, UNSURE, LinearModel, Prediction, confidence, predict
from streamproc.learning.vocabulary import categorise
from streamproc.services import CATALOGUE, Category
from streamproc.state import CLASS, ClassRow, pins_of

OTHERWISE: Category = "application"
HIGH = frozenset({Severity.CRITICAL, Severity.ERROR})


class Config(StageConfig):
    """When the model is believed, and what tells a category."""

    ai_classification: bool = True
    """False to go by rules alone; samples are still learned from, so that the model is there when it is wanted."""
    confidence_threshold: float = Field(default=0.85, ge=0.5, le=1)
    """The model abstains unless so large a share of its latest predictions that were as sure was right."""
    min_labels: int = Field(default=50, ge=2)
    """The model abstains until it has learned from so many labels, of both kinds."""
    more_words: dict[Category, frozenset[str]] = {}
    """Further words, in lower case, that tell a category."""


class Reason(StrEnum):
    """What the model says, or why it says nothing."""

    OFF = "off"
    NO_MODEL = "no_model"
    TOO_FEW_LABELS = "too_few_labels"
    ABSTAINED = "abstained"
    WORTH_A_PAGE = "worth_a_page"
    NOT_WORTH_A_PAGE = "not_worth_a_page"
    CLOSED = "closed"


SURE = frozenset({Reason.WORTH_A_PAGE, Reason.NOT_WORTH_A_PAGE})
"""Reasons with which the model takes a side."""


def step(event: Incident, rows: Rows, now: datetime, config: Config) -> Step:
    """Fill the incident's classification; keep what was said while it is open."""
    opened = event.change is IncidentChange.OPENED
    row = None if opened else rows.get(CLASS, event.incident_id)
    category = row.category if row else _category(event, rows, config)
    if event.status == "resolved":
        return _close(event, row or ClassRow(category=category))
    model = rows.artifact(MODEL) if config.ai_classification else None
    read = _read(event, row, model)
    said = _predict(read, row, model)
    reason = decide(said, model, config)
    kept = ClassRow.trusted(
        p_page=said.p if said else None, model_version=rows.version(MODEL.name) if said else 0, category=category
    )
    told = Classification.trusted(
        category=category,
        urgency=_urgency(event),
        p_page=kept.p_page,
        confidence=said.confidence if said else None,
        abstain=reason not in SURE,
        model_version=kept.model_version,
    )
    labels = model.labels if model else 0
    figures: dict[str, Scalar] = {
        "category": told.category,
        "urgency": told.urgency,
        "p_page": told.p_page,
        "confidence": told.confidence,
        "model_version": told.model_version,
        "labels": labels,
        "wanted": config.confidence_threshold,
    }
    learns = opened and not event.canary
    sampled = (_sample(event, read[event.root.fingerprint], kept, now),) if learns else ()
    emit = (*sampled, event.model_copy(update={"classification": told}))
    return Step({CLASS.at(event.incident_id): kept}, reason, emit, figures=figures)


def decide(said: Prediction | None, model: LinearModel | None, config: Config) -> Reason:
    """Return what the model says, or why it says nothing. Total, no side effects."""
    if not config.ai_classification:
        return Reason.OFF
    if said is None or model is None:
        return Reason.NO_MODEL
    if model.labels < config.min_labels or not model.both:
        return Reason.TOO_FEW_LABELS
    if said.confidence < config.confidence_threshold:
        return Reason.ABSTAINED
    return Reason.WORTH_A_PAGE if said.p >= UNSURE else Reason.NOT_WORTH_A_PAGE


def _close(incident: Incident, row: ClassRow) -> Step:
    """Say of a resolved incident what was said while it was open, and forget it."""
    told = Classification(
        category=row.category, urgency=_urgency(incident), p_page=row.p_page, model_version=row.model_version
    )
    emit = (incident.model_copy(update={"classification": told}),)
    return Step({CLASS.at(incident.incident_id): None}, Reason.CLOSED, emit, figures={"p_page": row.p_page})


def _read(incident: Incident, row: ClassRow | None, model: LinearModel | None) -> dict[str, dict[str, float]]:
    """Return the features of the members to score: those that joined, and the root while nothing has been scored."""
    members: dict[str, Member] = {member.fingerprint: member for member in incident.joined} if model else {}
    unscored = row is None or row.p_page is None
    if incident.change is IncidentChange.OPENED or (model and unscored):
        members[incident.root.fingerprint] = incident.root
    return {fingerprint: features(member, incident) for fingerprint, member in members.items()}


def _predict(
    read: Mapping[str, Mapping[str, float]], row: ClassRow | None, model: LinearModel | None
) -> Prediction | None:
    """Return the largest probability over the members seen, the ones scored earlier included."""
    if model is None:
        return None
    scored = [predict(model, each).p for each in read.values()]
    p = max(scored if row is None or row.p_page is None else [row.p_page, *scored])
    return Prediction(p, confidence(model.trust, p))


def _category(incident: Incident, rows: Rows, config: Config) -> Category:
    """Return the catalogue's category of the service, else what the root's name tells, else what its summary tells."""
    catalogue = rows.artifact(CATALOGUE)
    service = catalogue.find(incident.service) if catalogue else None
    if service is not None and service.category is not None:
        return service.category
    told = (categorise(words(text), config.more_words) for text in (incident.root.name, incident.root.summary))
    return next((category for category in told if category), OTHERWISE)


def _urgency(incident: Incident) -> Literal["high", "low"]:
    vital = incident.context is not None and incident.context.tier == 1
    return "high" if vital or incident.severity in HIGH else "low"


def _sample(incident: Incident, read: dict[str, float], row: ClassRow, now: datetime) -> Sample:
    return Sample(
        sample_id=incident.incident_id,
        features=read,
        p_page=row.p_page,
        model_version=row.model_version,
        at=now,
    )


STAGE = Stage(
    "classify",
    step,
    takes=(Incident,),
    reasons=Reason,
    config=Config,
    owns=(CLASS,),
    reads=(MODEL, CATALOGUE),
    pins=pins_of,
)
