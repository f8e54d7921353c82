"""A toy topology: small, and with everything in it that a fold and a runtime must get right.

switches > relay > every partition of lines and words
lines    > split > words                                re-keyed from sender to word; refuses parts and wholes
words    > tally (count > gather > announce) > totals   a chain with wakes, indexes and emits into its own inbox
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from pydantic import AwareDatetime

from streamproc.core.errors import Rejected
from streamproc.core.event import Activated, DeadLetter, Event, Explained, Wake
from streamproc.core.step import Everywhere, Node, Stage, StageConfig, Step, Topology
from streamproc.core.table import ArtifactKind, Row, Rows, Table
from streamproc.core.topic import Topic


class Line(Event):
    TYPE: ClassVar[str] = "line.v1"
    sender: str
    text: str


class Word(Explained):
    """`!` in a line refuses all of it, `?` the part, `#` divides by zero."""

    TYPE: ClassVar[str] = "word.v1"
    word: str
    sender: str = ""


class Nudge(Explained):
    """What tally sends into its own inbox."""

    TYPE: ClassVar[str] = "nudge.v1"
    word: str
    count: int


class Counted(Explained):
    """Passes from stage to stage; no topic declares it."""

    TYPE: ClassVar[str] = "counted.v1"
    word: str
    count: int
    over: bool = False


class Total(Explained):
    TYPE: ClassVar[str] = "total.v1"
    word: str
    letter: str
    count: int
    """How often the word stood."""
    words: int
    """How many words of its letter are counted."""
    heading: str = ""
    over: bool = False


class CountRow(Row):
    word: str
    count: int
    since: AwareDatetime


class LetterRow(Row):
    letter: str
    total: int


class SaidRow(Row):
    times: int


def _by_letter(row: CountRow) -> tuple[str, ...]:
    many = ("many",) if row.count > 1 else ()
    return (row.word[:1], *many)


COUNT = Table("count", CountRow, bound="words heard within `idle`", index=_by_letter)
LETTER = Table("letter", LetterRow, bound="letters")
SAID = Table("said", SaidRow, bound="words")


def _heading(body: str) -> str:
    if not body.isprintable():
        raise ValueError("a heading is one line")
    return body.upper()


HEADING = ArtifactKind("heading", decode=_heading)


class SplitConfig(StageConfig):
    skip: frozenset[str] = frozenset()


class CountConfig(StageConfig):
    idle: timedelta = timedelta(minutes=10)
    nudge_at: int = 3


class SplitReason(StrEnum):
    SPLIT = "split"
    PARTLY = "partly"


class CountReason(StrEnum):
    COUNTED = "counted"
    NUDGED = "nudged"
    IDLE = "idle"


class GatherReason(StrEnum):
    GATHERED = "gathered"


class AnnounceReason(StrEnum):
    ANNOUNCED = "announced"
    OVER = "over"


class RelayReason(StrEnum):
    PASSED_ON = "passed_on"


def relay(event: Activated, rows: Rows, now: datetime, config: object) -> Step:
    return Step({}, RelayReason.PASSED_ON, (event,))


def split(event: Line, rows: Rows, now: datetime, config: SplitConfig) -> Step:
    words = [word for word in event.text.split() if word not in config.skip]
    if "!" in words:
        raise Rejected("shouted", f"{event.sender} shouts")
    emit: list[Event] = []
    for word in words:
        if word == "?":
            emit.append(DeadLetter(reason="asked", detail=event.text, value=word.encode()))
        else:
            emit.append(Word(word=word, sender=event.sender))
    return Step(
        {}, SplitReason.PARTLY if "?" in words else SplitReason.SPLIT, tuple(emit), figures={"words": len(emit)}
    )


def count(event: Word | Nudge | Wake, rows: Rows, now: datetime, config: CountConfig) -> Step:
    if isinstance(event, Wake):
        row = rows.get(COUNT, event.key)
        last = 0 if row is None else row.count
        return Step({COUNT.at(event.key): None}, CountReason.IDLE, (Counted(word=event.key, count=last, over=True),))
    row = rows.get(COUNT, event.word)
    more = event.count if isinstance(event, Nudge) else 1
    total = (0 if row is None else row.count) + more
    due = now + config.idle
    changed = CountRow(word=event.word, count=total, since=row.since if row else now, wake_at=due)
    emit: tuple[Event, ...] = (Counted(word=event.word, count=total),)
    nudged = isinstance(event, Word) and total % config.nudge_at == 0
    if nudged:
        emit = (*emit, Nudge(word=event.word, count=10))
    return Step(
        {COUNT.at(event.word): changed},
        CountReason.NUDGED if nudged else CountReason.COUNTED,
        emit,
        (Wake(table=COUNT.name, key=event.word, due=due),),
        {"count": total, "was": None if row is None else row.count},
    )


def gather(event: Counted, rows: Rows, now: datetime, config: object) -> Step:
    """Reads what the stage before it has just written."""
    letter = event.word[:1]
    total = sum(held.count for key in rows.keys(COUNT, letter) if (held := rows.get(COUNT, key)) is not None)
    row = LetterRow(letter=letter, total=total)
    said = Total(
        word=event.word,
        letter=letter,
        count=event.count,
        words=rows.count(COUNT, letter),
        heading=rows.artifact(HEADING) or "",
        over=event.over,
    )
    return Step({LETTER.at(letter): row if total else None}, GatherReason.GATHERED, (said,), figures={"total": total})


def announce(event: Total, rows: Rows, now: datetime, config: object) -> Step:
    if event.word.startswith("#"):
        1 // 0  # noqa: B018  the defect that this stage is there for
    said = rows.get(SAID, event.word)
    if event.over:
        return Step({SAID.at(event.word): None}, AnnounceReason.OVER, (event,))
    return Step({SAID.at(event.word): SaidRow(times=said.times + 1 if said else 1)}, AnnounceReason.ANNOUNCED, (event,))


RELAY = Stage("relay", relay, takes=(Activated,), reasons=RelayReason)
SPLIT = Stage(
    "split",
    split,
    takes=(Line,),
    reasons=SplitReason,
    config=SplitConfig,
    unintended=frozenset({SplitReason.PARTLY}),
)
COUNTING = Stage("count", count, takes=(Word, Nudge), reasons=CountReason, config=CountConfig, owns=(COUNT,))
GATHER = Stage("gather", gather, takes=(Counted,), reasons=GatherReason, owns=(LETTER,), reads=(HEADING,))
ANNOUNCE = Stage("announce", announce, takes=(Total,), reasons=AnnounceReason, owns=(SAID,))


def topic(name: str, *events: str, key: str = "", partitions: int = 2) -> Topic:
    return Topic(
        name=name, version=1, title=name, key=key, events=events, partitions=partitions, producer="toy", consumers=()
    )


TOPICS = {
    each.name: each
    for each in (
        topic("switches", "activated.v1", partitions=1),
        topic("lines", "line.v1", "activated.v1", key="sender"),
        topic("words", "word.v1", "nudge.v1", "activated.v1", key="word"),
        topic("totals", "total.v1", key="word"),
        topic("versions", "artifact.v1", partitions=1),
        topic("dead-letters", "dead-letter.v1", key="letter_id", partitions=1),
    )
}
LETTERS = TOPICS["dead-letters"]
TOY: Topology = (
    Node("relay", TOPICS["switches"], (RELAY,), (Everywhere(TOPICS["lines"]), Everywhere(TOPICS["words"]))),
    Node("split", TOPICS["lines"], (SPLIT,), (TOPICS["words"],)),
    Node("tally", TOPICS["words"], (COUNTING, GATHER, ANNOUNCE), (TOPICS["totals"], TOPICS["words"])),
)
