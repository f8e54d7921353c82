"""The fold: the only caller of stages, pure, shared by every runtime.

A runtime takes a micro-batch of one inbox partition, folds it, and commits emits, changed rows and the new position
together or not at all. The same records over the same rows give the same result, whatever runs them.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Any, NamedTuple, cast

from pydantic import TypeAdapter

from streamproc.core.errors import Defect, Rejected, Unusable
from streamproc.core.event import Activated, DeadLetter, Event, Explained, Scalar, Wake, Why, iso
from streamproc.core.record import Outgoing, Position, Record
from streamproc.core.step import ACTIVE, NO_PINS, NOTHING, ActiveRow, Node, Pins, Stage, StageConfig, Step
from streamproc.core.table import ArtifactKind, R, Row, RowKey, RowStore, T, Table, encode_rows
from streamproc.core.topic import Topic
from streamproc.core.trace import TRACEPARENT, Decision, Followed, follow

CONFIG = "config"
"""Kind of the artifact that holds the settings of every stage, as one JSON object by stage name."""


class FoldReason(StrEnum):
    """What the fold itself decides about a record, before any stage sees it."""

    STALE_WAKE = "stale_wake"
    ACTIVATED = "activated"
    OLD_VERSION = "old_version"
    NOT_UNDERSTOOD = "not_understood"
    """A version that only a newer program reads: it is kept in mind, and counts once that program folds here."""
    UNDECODABLE = "undecodable"
    UNKNOWN_TYPE = "unknown_type"
    REJECTED = "rejected"
    FAILED = "failed"


LARGEST = 4_000_000
"""Bytes of the largest event or row that a fold may come to; every topic takes 4 MiB and its framing. A record that
would come to more is a dead letter: if it were left to the log to refuse it, its partition would stand still for ever.
"""
LARGEST_LETTER = 8_000_000
"""Bytes of the largest dead letter, which holds a whole record in base64; the topic takes 8 MiB."""
MOST_DETAIL = 4_000
TOO_LARGE = "too_large"
NO_KEYS: set[str] = set()
FOLD = "fold"
"""Name under which the fold's own reasons are counted."""
LATER = "/later"
"""Ends the key of the row of a version that is not understood yet."""
UNINTENDED = frozenset(
    {FoldReason.NOT_UNDERSTOOD, FoldReason.UNDECODABLE, FoldReason.UNKNOWN_TYPE, FoldReason.REJECTED, FoldReason.FAILED}
)


class Observation(NamedTuple):
    """How often something was decided in a batch: the counter behind the metrics."""

    stage: str
    reason: str
    intentional: bool


@dataclass(slots=True)
class Folded:
    """What a micro-batch came to; committed all or nothing."""

    position: Position
    emits: list[Outgoing] = field(default_factory=list)
    changes: dict[RowKey, Row | None] = field(default_factory=dict)
    written: dict[RowKey, bytes | None] = field(default_factory=dict)
    """The changes as durable storage keeps them."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    observations: Counter[Observation] = field(default_factory=Counter)
    oldest: dict[str, Record] = field(default_factory=dict)
    """The first record of each event type, which has waited the longest; wakes and switches of versions left out."""
    followed: list[Followed] = field(default_factory=list)
    """Records of traces of which spans are wanted."""


MOST_DECODED = 256
"""Versions that are kept decoded: of open incidents, each stage may need the settings that they were opened with."""


UNREADABLE = (ValueError, Unusable)
"""What decoding a version raises where it cannot be used."""


class Lookups:
    """Immutable versions by checksum, decoded once. `find` returns a body, or None while the log has not shown it."""

    def __init__(self, find: Callable[[str], str | None]) -> None:
        self._find = find
        self._decoded: dict[tuple[str, str], Any] = {}

    def load(self, name: str, checksum: str, decode: Callable[[str], T]) -> T:
        """Return the decoded version.

        Raises:
            Defect: the log activated a version whose body it does not hold.
        """
        return self.once(name, checksum, lambda: decode(self._body(name, checksum)))

    def once(self, name: str, checksum: str, make: Callable[[], T]) -> T:
        """Return what is made of a version, made once; a version says the same for ever."""
        known = self._decoded.get((name, checksum))
        if known is None:
            known = self._decoded[name, checksum] = make()
            while len(self._decoded) > MOST_DECODED:
                del self._decoded[next(iter(self._decoded))]
        return cast("T", known)

    def _body(self, name: str, checksum: str) -> str:
        body = self._find(checksum)
        if body is None:
            message = f"version {checksum[:12]} of {name} is activated, but the log does not hold it"
            raise Defect(message)
        return body


class Overlay:
    """Rows as a stage sees them: the committed ones, under the batch's changes, under the changes of this record."""

    def __init__(self, base: RowStore, tables: Mapping[str, Table[Any]], lookups: Lookups) -> None:
        self._base = base
        self._tables = tables
        self._lookups = lookups
        self.batch: dict[RowKey, Row | None] = {}
        self.record: dict[RowKey, Row | None] = {}
        self.pins: Pins = NO_PINS
        """Versions that count for the event at hand instead of the activated ones."""
        self._names: dict[RowKey, tuple[str, ...]] = {}
        self._found: dict[RowKey, tuple[Row | None, tuple[str, ...]]] = {}
        self._plus: dict[tuple[str, str], set[str]] = {}
        self._minus: dict[tuple[str, str], set[str]] = {}

    def find(self, address: RowKey) -> Row | None:
        """Return the row at an address, newest first."""
        if address in self.record:
            return self.record[address]
        if address in self.batch:
            return self.batch[address]
        return self._base.touch(address)

    def get(self, table: Table[R], key: str) -> R | None:
        """Return the row, or None."""
        if table.name not in self._tables:
            message = f"table {table.name} is not of this node"
            raise Defect(message)
        return cast("R | None", self.find(table.at(key)))

    def keys(self, table: Table[Any], index: str) -> list[str]:
        """Return the keys of the rows that stand under `index`, sorted."""
        plus, minus = self._moved(table, index)
        stands = self._base.under(table.name, index)
        return sorted((stands - minus) | plus) if stands or plus else []

    def count(self, table: Table[Any], index: str) -> int:
        """Return how many rows stand under `index`."""
        plus, minus = self._moved(table, index)
        return len(self._base.under(table.name, index)) - len(minus) + len(plus)

    def _moved(self, table: Table[Any], index: str) -> tuple[set[str], set[str]]:
        """Return the keys that came under `index` since the commit and those that left it."""
        if table.index is None:
            message = f"table {table.name} has no index"
            raise Defect(message)
        plus, minus = self._plus.get((table.name, index), NO_KEYS), self._minus.get((table.name, index), NO_KEYS)
        for address, row in self.record.items():
            if address.table != table.name:
                continue
            was, stands = index in self._names_of(address), index in self._names_now(table, address, row)
            if was != stands:
                plus, minus = _move(set(plus), set(minus), address.key, stands=stands)
        return plus, minus

    def _names_of(self, address: RowKey) -> tuple[str, ...]:
        """Return the index names of a row before this record."""
        names = self._names.get(address)
        return self._base.names(address) if names is None else names

    def _names_now(self, table: Table[Any], address: RowKey, row: Row | None) -> tuple[str, ...]:
        """Return the index names of a row that this record changed, found once: an incident stands under dozens."""
        known = self._found.get(address)
        if known is None or known[0] is not row:
            known = self._found[address] = (row, table.names(row))
        return known[1]

    def _counting(self, kind: str) -> ActiveRow | None:
        return self.pins.get(kind) or self.get(ACTIVE, kind)

    def artifact(self, kind: ArtifactKind[T]) -> T | None:
        """Return the version of a large thing that counts, or None while none has been activated."""
        active = self._counting(kind.name)
        return None if active is None else self.decoded(kind, active.checksum)

    def decoded(self, kind: ArtifactKind[T], checksum: str) -> T:
        """Return one version of a large thing."""
        return self._lookups.load(kind.name, checksum, kind.decode)

    def version(self, kind: str) -> int:
        """Return the number of the version that counts, 0 while there is none."""
        active = self._counting(kind)
        return 0 if active is None else active.version

    def config(self, stage: Stage, checksum: str | None) -> StageConfig:
        """Return the settings of a stage in the activated configuration, its defaults while there is none."""
        if checksum is None:
            return stage.config()

        def decode(body: str) -> StageConfig:
            return stage.config.model_validate(_sections(body).get(stage.name, {}))

        return self._lookups.load(f"{CONFIG}/{stage.name}", checksum, decode)

    def configs(self, node: Node, checksum: str | None) -> Mapping[str, StageConfig]:
        """Return the settings of every stage of a node, by the stage's name."""

        def every() -> dict[str, StageConfig]:
            return {stage.name: self.config(stage, checksum) for stage in node.stages}

        return every() if checksum is None else self._lookups.once(f"{CONFIG} of {node.name}", checksum, every)

    def keep(self) -> None:
        """Take the changes of the record into the batch."""
        for address, row in self.record.items():
            table = self._tables[address.table]
            if table.index is not None:
                before, after = self._names_of(address), self._names_now(table, address, row)
                if before != after:
                    for name in set(before).difference(after):
                        self._shift(address, name, stands=False)
                    for name in set(after).difference(before):
                        self._shift(address, name, stands=True)
                    self._names[address] = after
        self.batch.update(self.record)
        self.record = {}
        self._found = {}

    def _shift(self, address: RowKey, name: str, *, stands: bool) -> None:
        at = (address.table, name)
        _move(self._plus.setdefault(at, set()), self._minus.setdefault(at, set()), address.key, stands=stands)


def _move(plus: set[str], minus: set[str], key: str, *, stands: bool) -> tuple[set[str], set[str]]:
    """Note that `key` came under an index or left it; `minus` stays within the committed keys, `plus` outside."""
    undone, done = (minus, plus) if stands else (plus, minus)
    if key in undone:
        undone.discard(key)
    else:
        done.add(key)
    return plus, minus


_JSON = TypeAdapter(dict[str, Any])


def _sections(body: str) -> dict[str, Any]:
    return _JSON.validate_json(body)


def fold(
    node: Node, records: Sequence[Record], rows: RowStore, position: Position, lookups: Lookups, letters: Topic
) -> Folded:
    """Fold a micro-batch of one inbox partition, in order.

    Args:
        node: the stages to run and their tables.
        records: of one partition, offsets rising and none below the position.
        rows: the committed rows of the partition; not changed.
        position: what was folded before.
        lookups: bodies of activated versions.
        letters: the topic of dead letters.

    Raises:
        Defect: the runtime broke the contract, or a stage broke its own (an undeclared type, a foreign table).
    """
    folded = _Run(node, rows, position, lookups, letters).all(records)
    if any(raw is not None and len(raw) > LARGEST for raw in folded.written.values()):
        # Which record made it grow is not known from here. Weighing the rows after each of them costs too much always.
        return _Run(node, rows, position, lookups, letters, weighed=True).all(records)
    return folded


def _where(error: Exception) -> str:
    """Return an error with the functions that it came through, without paths of this machine."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    through = " > ".join(f"{PurePath(frame.filename).stem}.{frame.name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}: {error} ({through})"


def _fitting(letter: DeadLetter) -> DeadLetter:
    """Return a dead letter that its topic takes: where it is too large, what was refused stands in its inbox only."""
    letter = letter.model_copy(update={"detail": letter.detail[:MOST_DETAIL]})
    # No character takes more than six bytes of JSON, nor a byte more than one and a third of base64.
    told = len(letter.value) + sum(len(name) + len(text) for name, text in letter.headers.items())
    if told <= LARGEST_LETTER // 8 or len(letter.encode()) <= LARGEST_LETTER:
        return letter
    return letter.model_copy(update={"value": b"", "headers": {}, "left_out": len(letter.value)})


class _Run:
    """The working state of one fold; lives no longer than the call."""

    def __init__(
        self,
        node: Node,
        rows: RowStore,
        position: Position,
        lookups: Lookups,
        letters: Topic,
        *,
        weighed: bool = False,
    ) -> None:
        self.weighed = weighed
        self.node = node
        self.overlay = Overlay(rows, node.by_name, lookups)
        self.folded = Folded(position)
        self.letters = letters
        self.emits: list[Outgoing] = []
        self.refused: list[DeadLetter] = []
        self.seen: list[Observation] = []
        self.decided: list[Observation] = []
        self.followed: Followed | None = None
        self.stamp = b""
        self.configs: Mapping[str, StageConfig] = {}
        self._configure()
        self.understood = [row for kind in (CONFIG, *node.artifacts) if (row := self._understood(kind)) is not None]
        """Versions that a program before this one could not read."""

    def _understood(self, kind: str) -> ActiveRow | None:
        row, active = self.overlay.get(ACTIVE, kind + LATER), self.overlay.get(ACTIVE, kind)
        if row is None or (active is not None and active.version >= row.version):
            return None
        return row if self._counts(row) else None

    def _read(self, row: ActiveRow) -> None:
        """Decode a version for every stage that works with it.

        Raises:
            ValueError: it cannot be read, as for Unusable.
            Unusable: it says what cannot be used.
        """
        for stage in self.node.stages:
            if row.kind == CONFIG:
                self.overlay.config(stage, row.checksum)
            for kind in stage.reads:
                if kind.name == row.kind:
                    self.overlay.decoded(kind, row.checksum)

    def _switch(self, row: ActiveRow) -> None:
        self.overlay.record[ACTIVE.at(row.kind)] = row
        if self.overlay.get(ACTIVE, row.kind + LATER) is not None:
            self.overlay.record[ACTIVE.at(row.kind + LATER)] = None
        self._observe(FOLD, FoldReason.ACTIVATED, intentional=True)
        if row.kind == CONFIG:
            self._configure()

    def _configure(self) -> None:
        active = self.overlay.get(ACTIVE, CONFIG)
        self.configs = self.overlay.configs(self.node, None if active is None else active.checksum)

    def all(self, records: Sequence[Record]) -> Folded:
        for record in records:
            self.take(record)
        return self.done()

    def take(self, record: Record) -> None:
        position = self.folded.position
        if record.offset < position.next_offset:
            message = f"{record.origin} was handed over again: the position is at {position.next_offset}"
            raise Defect(message)
        self.emits, self.refused, self.seen, self.overlay.record = [], [], [], {}
        self.followed = follow(record, self.node.name)
        try:
            now = max(position.now, record.now)
        except ValueError as error:
            letter = DeadLetter(reason=FoldReason.UNDECODABLE, detail=str(error))
            self._refuse(record, position.now, FoldReason.UNDECODABLE, letter)
            self._close(record, position.now)
            return
        stale, self.stamp = False, b""
        for row in self.understood:
            self._switch(row)
        try:
            stale = self._decide(record, now)
            if self.weighed:
                self._weigh()
        except Rejected as refusal:
            self._refuse(record, now, FoldReason.REJECTED, DeadLetter(reason=refusal.reason, detail=str(refusal)))
        except Defect:
            raise
        except Exception as error:  # noqa: BLE001  a defective stage poisons its record alone; the dead letter says where
            self._refuse(record, now, FoldReason.FAILED, DeadLetter(reason=FoldReason.FAILED, detail=_where(error)))
        self._close(record, position.now if stale else now)

    def _weigh(self) -> None:
        for address, raw in encode_rows(self.overlay.record).items():
            if raw is not None and len(raw) > LARGEST:
                raise Rejected(TOO_LARGE, f"row {address} would have {len(raw)} bytes; {LARGEST} at most fit")

    def _decide(self, record: Record, now: datetime) -> bool:
        """Decide on one record; return whether it is a stale wake, which does not move the clamp."""
        name = record.headers.get("type", b"").decode("ascii", "replace") or self.node.default_type.TYPE
        kind = self.node.types.get(name)
        if kind is None:
            detail = f"no stage of {self.node.name} takes {name[:80]}"
            letter = DeadLetter(reason=FoldReason.UNKNOWN_TYPE, detail=detail)
            self._refuse(record, now, FoldReason.UNKNOWN_TYPE, letter)
            return False
        try:
            event = record.event
            if event is None or self.followed is not None:  # an event may keep the span of this node
                event = kind.decode(record.value, self.followed.headers() if self.followed else record.headers)
        except ValueError as error:  # pydantic's ValidationError is one
            letter = DeadLetter(reason=FoldReason.UNDECODABLE, detail=str(error))
            self._refuse(record, now, FoldReason.UNDECODABLE, letter)
            return False
        if isinstance(event, Wake):
            row = self.overlay.find(RowKey(event.table, event.key))
            if event.table not in self.node.owner or row is None or row.wake_at != event.due:
                self._observe(FOLD, FoldReason.STALE_WAKE, intentional=True)
                return True
            self._run(event, record, now, self.node.owner[event.table])
        elif isinstance(event, Activated) and not self.node.relays_activations:
            self._activate(event, record, now)
        else:
            self._run(event, record, now, 0)
            self.folded.oldest.setdefault(name, record)
        return False

    def _activate(self, event: Activated, record: Record, now: datetime) -> None:
        active = self.overlay.get(ACTIVE, event.kind)
        if active is not None and active.version >= event.version:
            self._observe(FOLD, FoldReason.OLD_VERSION, intentional=True)
            return
        row = ActiveRow(kind=event.kind, version=event.version, checksum=event.checksum)
        try:
            self._read(row)  # what cannot be read must not take the place of what can
        except UNREADABLE as error:
            self.overlay.record[ACTIVE.at(event.kind + LATER)] = row
            self._observe(FOLD, FoldReason.NOT_UNDERSTOOD, intentional=False)
            self._refuse(record, now, None, DeadLetter(reason=FoldReason.NOT_UNDERSTOOD, detail=str(error)))
        else:
            self._switch(row)

    def _run(self, event: Event, record: Record, now: datetime, first: int) -> None:
        """Give an event to the first stage from `first` on that takes its type, else to the topics that declare it."""
        if isinstance(event, Wake):
            at = first
        else:
            for at in self.node.takers.get(type(event), ()):
                if at >= first:
                    break
            else:
                self._publish(event, now)
                return
        stage = self.node.stages[at]
        if self.followed is not None and not self.followed.incident_id:
            self.followed.incident_id = getattr(event, "incident_id", "")
        step = self._step(stage, event, now)
        self._accept(stage, step)
        if not step.emit:
            return
        why = Why.trusted(
            stage=stage.name, reason=str(step.reason), now=now, origin=record.origin, figures=dict(step.figures)
        )
        before = event.trail if isinstance(event, Explained) else ()
        for emitted in step.emit:
            if isinstance(emitted, DeadLetter):
                self._refuse(record, now, None, emitted.model_copy(update={"stage": stage.name}))
                continue
            if isinstance(emitted, Explained):
                emitted = emitted.model_copy(update={"trail": (*(emitted.trail or before), why)})  # noqa: PLW2901
            self._run(emitted, record, now, at + 1)

    def _step(self, stage: Stage, event: Event, now: datetime) -> Step:
        overlay, config = self.overlay, self.configs[stage.name]
        if stage.pins is not None and (pins := stage.pins(event, overlay)):
            overlay.pins = {kind: row for kind, row in pins.items() if self._counts(row)}
            if (pinned := overlay.pins.get(CONFIG)) is not None:
                config = overlay.config(stage, pinned.checksum)
        try:
            step: Step = stage.step(event, overlay, now, config)
        finally:
            overlay.pins = NO_PINS
        return step

    def _counts(self, row: ActiveRow) -> bool:
        """Return whether a version is another than the activated one, and can be read here.

        A newer program may have pinned it, and what this one reads is better than nothing.
        """
        if self.overlay.get(ACTIVE, row.kind) == row:
            return False
        try:
            self._read(row)
        except UNREADABLE:
            return False
        return True

    def _accept(self, stage: Stage, step: Step) -> None:
        owned = stage.owned
        due = {RowKey(wake.table, wake.key): wake.due for wake in step.wake}
        for address, row in step.changes.items():
            if address.table not in owned:
                message = f"stage {stage.name} changes table {address.table}, which it does not own"
                raise Defect(message)
            wake_at = None if row is None else row.wake_at
            if due.pop(address, None) != wake_at:
                message = f"stage {stage.name} leaves row {address} with wake_at {wake_at}, and its step says otherwise"
                raise Defect(message)
        if due:
            message = f"stage {stage.name} wants wakes for rows that it does not change: {sorted(due)}"
            raise Defect(message)
        self.overlay.record.update(step.changes)
        self._observe(stage.name, step.reason, step.figures, intentional=str(step.reason) not in stage.unintended)

    def _publish(self, event: Event, now: datetime) -> None:
        routes = self.node.routes.get(event.TYPE, ())
        if not routes:
            message = f"node {self.node.name} has no topic for {event.TYPE}"
            raise Defect(message)
        value = event.encode()
        if len(value) > LARGEST:
            raise Rejected(TOO_LARGE, f"its {event.TYPE} would have {len(value)} bytes; {LARGEST} at most fit")
        self.stamp = self.stamp or iso(now)
        headers = {"type": event.TYPE.encode(), "now": self.stamp, **event.extra_headers()}
        if self.followed is not None:
            headers[TRACEPARENT] = self.followed.span.header()
        for topic, everywhere in routes:
            key = str(getattr(event, topic.key)).encode() if topic.key and not everywhere else b""
            self.emits.append(Outgoing(topic.name, key, value, headers, everywhere, event))

    def _refuse(self, record: Record, now: datetime, reason: FoldReason | None, letter: DeadLetter) -> None:
        """Turn the record, or the part of it that a stage named, into a dead letter."""
        if reason is not None:
            self.emits, self.refused, self.overlay.record = [], [], {}
            self.seen = []
            if self.followed is not None:
                self.followed.decisions.clear()
            self._configure()
            self._observe(FOLD, reason, intentional=False)
        filled = letter.model_copy(
            update={
                "node": self.node.name,
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "now": now,
                "value": letter.value or record.value,
                "headers": letter.headers
                or {name: value.decode("utf-8", "replace") for name, value in record.headers.items()},
                "part": len(self.refused),
            }
        )
        self.refused.append(_fitting(filled))

    def _observe(
        self, stage: str, reason: StrEnum, figures: Mapping[str, Scalar] = NOTHING, *, intentional: bool
    ) -> None:
        self.seen.append(Observation(stage, str(reason), intentional))
        if self.followed is not None:
            self.followed.decisions.append(Decision(stage, str(reason), intentional, dict(figures)))

    def _close(self, record: Record, now: datetime) -> None:
        folded = self.folded
        folded.emits.extend(self.emits)
        folded.dead_letters.extend(self.refused)
        self.decided.extend(self.seen)
        if self.followed is not None and self.followed.parent.sampled:
            folded.followed.append(self.followed)
        self.overlay.keep()
        self.understood = [row for row in self.understood if self.overlay.batch.get(ACTIVE.at(row.kind)) != row]
        folded.position = Position(record.offset + 1, now, folded.position.topic_id)

    def done(self) -> Folded:
        folded = self.folded
        folded.changes = self.overlay.batch
        folded.written = encode_rows(folded.changes)
        folded.observations = Counter(self.decided)
        for letter in folded.dead_letters:
            headers = {"type": letter.TYPE.encode(), "now": iso(letter.now or folded.position.now)}
            folded.emits.append(Outgoing(self.letters.name, letter.letter_id.encode(), letter.encode(), headers))
        return folded
