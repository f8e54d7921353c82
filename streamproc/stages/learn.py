"""Sample, Label -> Artifact, Activated: the one learner. Samples wait for their label, labels teach, versions go out.

Only stage of node learn, whose inbox has one partition. Owns SAMPLE (decisions that wait for a label, and those that
are replayed) and LEARNER (one row). A prediction is scored before it is learned from, so that what a version says of
itself is what it was worth when it decided.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from streamproc.core.event import Activated, Event, Scalar, Wake
from streamproc.core.identity import digest
from streamproc.core.step import Stage, StageConfig, Step
from streamproc.core.table import Row, RowKey, Rows
from streamproc.events.training import Label, Sample
from streamproc.learning.linear import KIND
from streamproc.learning.model import Learner, Lesson, judge, learn
from streamproc.state import EVERY, LEARNER, SAMPLE, LearnerRow, SampleRow

THE_LEARNER = "learner"
EXPLICIT = "label"
"""Source of a label that a person gave on purpose; it is learned even where another one came before."""
MOST_REPLAYED = 200
"""Labelled samples that are remembered for replay; more did not help on public alert rules."""
REPLAYS = 4


class Config(StageConfig):
    """How long a decision waits for its label, and how often a version goes out."""

    label_within: timedelta = Field(default=timedelta(days=7), gt=timedelta(0))
    """A decision that nobody said anything about for so long is forgotten."""
    most_samples: int = Field(default=50_000, ge=1)
    """So many decisions may wait; further ones are not learned from."""
    publish_every: int = Field(default=20, ge=1)
    """After so many labels the next version goes out."""


class Reason(StrEnum):
    """What came of a sample, a label or a timer."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    FULL = "full"
    LABELLED = "labelled"
    RELABELLED = "relabelled"
    """A person said something after a weaker sign had been learned, or another thing than before."""
    REPEATED = "repeated"
    UNKNOWN_SAMPLE = "unknown_sample"
    UNLABELLED = "unlabelled"
    """Forgotten: nobody said anything in time."""
    REMEMBERED = "remembered"
    """Its time is over, but it is still replayed."""
    FORGOTTEN = "forgotten"


def step(event: Sample | Label | Wake, rows: Rows, _now: datetime, config: Config) -> Step:
    """Keep a sample, learn a label, or forget what has waited long enough."""
    if isinstance(event, Wake):
        return _expire(event.key, rows)
    if isinstance(event, Sample):
        return _keep(event, rows, config)
    row = rows.get(SAMPLE, event.sample_id)
    reason = decide(event, row)
    if row is None or reason is Reason.REPEATED:
        return Step({}, reason, figures={"sample": event.sample_id, "source": event.source})
    return _learn(event, row, reason, rows, config)


def decide(label: Label, row: SampleRow | None) -> Reason:
    """Return what a label means for a sample. Total, no side effects."""
    if row is None:
        return Reason.UNKNOWN_SAMPLE
    if row.page is None:
        return Reason.LABELLED
    news = row.said_by != EXPLICIT or row.page != label.page
    return Reason.RELABELLED if label.source == EXPLICIT and news else Reason.REPEATED


def _keep(sample: Sample, rows: Rows, config: Config) -> Step:
    waiting = rows.count(SAMPLE, EVERY)
    figures: dict[str, Scalar] = {"sample": sample.sample_id, "waiting": waiting}
    if rows.get(SAMPLE, sample.sample_id) is not None:
        return Step({}, Reason.DUPLICATE, figures=figures)
    if waiting >= config.most_samples:
        return Step({}, Reason.FULL, figures=figures)
    due = sample.at + config.label_within
    row = SampleRow(
        features=sample.features, p_page=sample.p_page, model_version=sample.model_version, at=sample.at, wake_at=due
    )
    wake = Wake(table=SAMPLE.name, key=sample.sample_id, due=due)
    return Step({SAMPLE.at(sample.sample_id): row}, Reason.KEPT, wake=(wake,), figures=figures)


def _expire(sample_id: str, rows: Rows) -> Step:
    row, learner = rows.get(SAMPLE, sample_id), rows.get(LEARNER, THE_LEARNER)
    figures: dict[str, Scalar] = {"sample": sample_id}
    if row is not None and learner is not None and sample_id in learner.replay:
        changed = row.model_copy(update={"wake_at": None})
        return Step({SAMPLE.at(sample_id): changed}, Reason.REMEMBERED, figures=figures)
    reason = Reason.UNLABELLED if row is None or row.page is None else Reason.FORGOTTEN
    return Step({SAMPLE.at(sample_id): None}, reason, figures=figures)


def _learn(label: Label, row: SampleRow, reason: Reason, rows: Rows, config: Config) -> Step:
    before = rows.get(LEARNER, THE_LEARNER) or LearnerRow(model=Learner().model_dump_json())
    learner = Learner.model_validate_json(before.model)
    lesson = Lesson(row.features, label.page, label.weight)
    if reason is Reason.LABELLED:
        learner = judge(learner, lesson, row.p_page)
    learner = learn(learner, lesson, _replayed(label.sample_id, learner.labels, before, rows))
    ids = tuple(each for each in before.replay if each != label.sample_id)
    after, emit = _publish(before, learner, rows, config)
    changes: dict[RowKey, Row | None] = {
        SAMPLE.at(label.sample_id): row.model_copy(update={"page": label.page, "said_by": label.source}),
        LEARNER.at(THE_LEARNER): after.model_copy(update={"replay": (*ids, label.sample_id)[-MOST_REPLAYED:]}),
    }
    displaced = ids[0] if len(ids) == MOST_REPLAYED else None
    if displaced and (gone := rows.get(SAMPLE, displaced)) is not None and gone.wake_at is None:
        changes[SAMPLE.at(displaced)] = None
    wake = () if row.wake_at is None else (Wake(table=SAMPLE.name, key=label.sample_id, due=row.wake_at),)
    figures: dict[str, Scalar] = {
        "sample": label.sample_id,
        "page": label.page,
        "source": label.source,
        "said": row.p_page,
        "labels": learner.labels,
        "accuracy": learner.accuracy,
        "log_loss": learner.log_loss,
        "published": after.version if emit else None,
    }
    return Step(changes, reason, emit, wake, figures)


def _replayed(sample_id: str, labels: int, learner: LearnerRow, rows: Rows) -> Iterator[Lesson]:
    """Yield past lessons, chosen by a hash, so that the same log gives the same choice."""
    others = [each for each in learner.replay if each != sample_id]
    for turn in range(REPLAYS if others else 0):
        chosen = others[int(digest(sample_id, str(labels), str(turn))[:12], 16) % len(others)]
        row = rows.get(SAMPLE, chosen)
        if row is not None and row.page is not None:
            yield Lesson(row.features, row.page)


def _publish(before: LearnerRow, learner: Learner, rows: Rows, config: Config) -> tuple[LearnerRow, tuple[Event, ...]]:
    """Return the learner's row, and the next version where it is time for one."""
    due = learner.labels - before.published_labels >= config.publish_every
    version = max(before.version, rows.version(KIND)) + 1 if due else before.version
    after = before.model_copy(
        update={
            "model": learner.model_dump_json(),
            "labels": learner.labels,
            "published_labels": learner.labels if due else before.published_labels,
            "version": version,
        }
    )
    if not due:
        return after, ()
    artifact = learner.publish().artifact(version)
    said = f"after {learner.labels} labels"
    return after, (
        artifact,
        Activated(kind=KIND, version=version, checksum=artifact.checksum, author="learn", reason=said),
    )


STAGE = Stage(
    "learn",
    step,
    takes=(Sample, Label),
    reasons=Reason,
    config=Config,
    owns=(SAMPLE, LEARNER),
    unintended=frozenset({Reason.FULL}),
)
