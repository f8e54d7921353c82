from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest

from streamproc.core.errors import Defect, Rejected
from streamproc.core.event import Activated, DeadLetter, Event, Wake
from streamproc.core.fold import (
    CONFIG,
    LARGEST,
    LARGEST_LETTER,
    LATER,
    MOST_DECODED,
    Folded,
    FoldReason,
    Lookups,
    Observation,
    Overlay,
    fold,
)
from streamproc.core.record import EMPTY, Outgoing, Position, Record
from streamproc.core.step import ACTIVE, ActiveRow, Everywhere, Node, Stage, Step
from streamproc.core.table import Row, RowKey, Rows, RowStore, Table, encode_rows
from streamproc.core.trace import parse
from tests.support.toy import (
    COUNT,
    HEADING,
    LETTER,
    LETTERS,
    SAID,
    TOPICS,
    TOY,
    CountConfig,
    Counted,
    CountRow,
    LetterRow,
    Line,
    Nudge,
    SaidRow,
    Total,
    Word,
    topic,
)

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
IDLE = timedelta(minutes=10)
RELAY, SPLIT, TALLY = TOY
WAKE = Wake(table=COUNT.name, key="ape", due=T0 + IDLE)


def stamped(
    event: Event | bytes,
    offset: int,
    now: datetime = T0,
    *,
    inbox: str = "words",
    headers: Mapping[str, bytes] = EMPTY,
) -> Record:
    value, kind = (event, {}) if isinstance(event, bytes) else (event.encode(), {"type": event.TYPE.encode()})
    told = {**kind, "now": now.isoformat().encode(), **headers}
    return Record(inbox, 0, offset, value, T0, b"", told)


def line_of(events: Sequence[Event | tuple[Event, datetime]], inbox: str = "words") -> list[Record]:
    """Return records of one partition, one second apart unless a moment is given."""
    found = []
    for offset, each in enumerate(events):
        event, now = each if isinstance(each, tuple) else (each, T0 + offset * SECOND)
        found.append(stamped(event, offset, now, inbox=inbox))
    return found


def run(
    node: Node,
    records: Sequence[Record],
    *,
    rows: RowStore | None = None,
    position: Position | None = None,
    bodies: Mapping[str, str] = {},
) -> Folded:
    store = RowStore(node.tables) if rows is None else rows
    return fold(node, records, store, position or Position(0, T0, "id"), Lookups(bodies.get), LETTERS)


def checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def activated(kind: str, version: int, body: str) -> Activated:
    return Activated(kind=kind, version=version, checksum=checksum(body))


def words(*texts: str) -> list[Word]:
    return [Word(word=text) for text in texts]


def counts(folded: Folded) -> dict[str, int]:
    return {address.key: row.count for address, row in folded.changes.items() if isinstance(row, CountRow)}


def totals(folded: Folded) -> list[Total]:
    return [Total.model_validate_json(emit.value) for emit in folded.emits if emit.topic == "totals"]


def reasons(folded: Folded) -> dict[str, int]:
    return {f"{seen.stage}/{seen.reason}": times for seen, times in folded.observations.items()}


# -- what a record is ------------------------------------------------------------------------------------------------


def test_without_a_type_header_a_record_is_the_first_type_of_the_first_stage() -> None:
    folded = run(TALLY, [stamped(b'{"word": "ape"}', 0)])
    assert counts(folded) == {"ape": 1}
    assert not folded.dead_letters


@pytest.mark.parametrize(
    ("value", "headers", "reason", "said"),
    [
        pytest.param(b"{}", {"type": b"line.v1"}, FoldReason.UNKNOWN_TYPE, "takes line.v1", id="type of another node"),
        pytest.param(b"{}", {"type": b"\xff\xfe"}, FoldReason.UNKNOWN_TYPE, "no stage", id="type that is no text"),
        pytest.param(b"{}", {"type": b"x" * 500}, FoldReason.UNKNOWN_TYPE, "x" * 80, id="type without end"),
        pytest.param(b"no", {"type": b"word.v1"}, FoldReason.UNDECODABLE, "JSON", id="value that is no JSON"),
        pytest.param(b"\xff", {"type": b"word.v1"}, FoldReason.UNDECODABLE, "JSON", id="value that is no text"),
        pytest.param(b"{}", {"type": b"word.v1"}, FoldReason.UNDECODABLE, "word", id="value of another schema"),
        pytest.param(b"{}", {"type": b"wake.v1"}, FoldReason.UNDECODABLE, "due", id="wake without a due time"),
        pytest.param(b"{}", {"type": b"activated.v1"}, FoldReason.UNDECODABLE, "checksum", id="empty activation"),
    ],
)
def test_what_cannot_be_read_becomes_a_dead_letter(
    value: bytes, headers: dict[str, bytes], reason: FoldReason, said: str
) -> None:
    folded = run(TALLY, [stamped(value, 0, headers=headers)])
    (letter,) = folded.dead_letters
    assert (letter.reason, letter.value, letter.node, letter.stage) == (reason, value, "tally", "")
    assert (letter.topic, letter.partition, letter.offset, letter.part) == ("words", 0, 0, 0)
    assert said in letter.detail
    assert len(letter.detail) < 1000
    assert folded.observations == {Observation("fold", reason, intentional=False): 1}
    assert not folded.changes
    assert folded.position.next_offset == 1


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(b"yesterday", id="no moment"),
        pytest.param(b"2026-03-01T12:00:00", id="no offset from UTC"),
        pytest.param(b"\xff\xff", id="no text"),
        pytest.param(b"0001-01-01T00:00:00+05:00", id="before the calendar"),
    ],
)
def test_a_record_with_a_bad_now_is_a_dead_letter_and_moves_nothing(now: bytes) -> None:
    folded = run(TALLY, [stamped(Word(word="ape"), 0, headers={"now": now})])
    assert [letter.reason for letter in folded.dead_letters] == [FoldReason.UNDECODABLE]
    assert folded.position == Position(1, T0, "id")
    assert not folded.changes


def test_without_a_now_header_the_stamp_of_the_log_counts() -> None:
    record = Record("words", 0, 0, Word(word="ape").encode(), T0 + MINUTE, b"", {"type": b"word.v1"})
    assert run(TALLY, [record]).position.now == T0 + MINUTE


def test_a_dead_letter_carries_where_it_came_from_and_when() -> None:
    record = stamped(b"no", 7, T0 + MINUTE, headers={"type": b"word.v1", "raw": b"\xff"})
    folded = run(TALLY, [record])
    (emit,) = folded.emits
    assert (emit.topic, emit.key) == ("dead-letters", b"words:0:7:0")
    assert emit.headers["now"] == b"2026-03-01T12:01:00.000000+00:00"
    letter = DeadLetter.decode(emit.value, emit.headers)
    assert letter == folded.dead_letters[0]
    assert letter.now == T0 + MINUTE
    assert letter.headers["raw"] == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(Line(sender="ann", text="!"), id="rejected"),
        pytest.param(Word(word="ape"), id="of another type"),
    ],
)
def test_a_refused_record_has_its_own_time_and_moves_the_clamp(refused: Event) -> None:
    folded = run(SPLIT, [stamped(refused, 0, T0 + MINUTE, inbox="lines")])
    assert folded.dead_letters[0].now == T0 + MINUTE
    assert folded.position.now == T0 + MINUTE


# -- time ------------------------------------------------------------------------------------------------------------


def test_the_clamp_never_goes_back() -> None:
    given = [(Word(word="ape"), T0 + MINUTE), (Word(word="bee"), T0), (Word(word="cat"), T0 + 2 * MINUTE)]
    folded = run(TALLY, line_of(given))
    since = {address.key: row.since for address, row in folded.changes.items() if isinstance(row, CountRow)}
    assert since == {"ape": T0 + MINUTE, "bee": T0 + MINUTE, "cat": T0 + 2 * MINUTE}
    assert folded.position == Position(3, T0 + 2 * MINUTE, "id")


def test_a_batch_starts_at_the_clamp_of_the_position() -> None:
    folded = run(TALLY, [stamped(Word(word="ape"), 4, T0)], position=Position(4, T0 + MINUTE))
    assert folded.position.now == T0 + MINUTE
    assert folded.emits[0].headers["now"] == b"2026-03-01T12:01:00.000000+00:00"


def test_now_is_utc_however_it_was_written() -> None:
    east = T0.astimezone(timezone(timedelta(hours=2))) + MINUTE
    folded = run(TALLY, [stamped(Word(word="ape"), 0, east)])
    assert folded.emits[0].headers["now"] == b"2026-03-01T12:01:00.000000+00:00"
    assert folded.position.now.utcoffset() == timedelta(0)


# -- wakes -----------------------------------------------------------------------------------------------------------


def test_a_wake_that_still_stands_comes_to_the_owner_of_the_table() -> None:
    folded = run(TALLY, line_of([Word(word="ape"), (WAKE, T0 + IDLE)]))
    assert folded.changes[COUNT.at("ape")] is None
    assert totals(folded)[-1].over
    assert folded.position.now == T0 + IDLE


@pytest.mark.parametrize(
    "wake",
    [
        pytest.param(WAKE.model_copy(update={"due": T0 + IDLE - SECOND}), id="put off since"),
        pytest.param(WAKE.model_copy(update={"key": "yak"}), id="no such row"),
        pytest.param(WAKE.model_copy(update={"table": "incident"}), id="table of another node"),
        pytest.param(WAKE.model_copy(update={"table": ACTIVE.name, "key": CONFIG}), id="table that no stage owns"),
        pytest.param(Wake(table=LETTER.name, key="a", due=T0), id="row that waits for nothing"),
    ],
)
def test_a_stale_wake_is_dropped_before_it_moves_the_clamp(wake: Wake) -> None:
    folded = run(TALLY, line_of([(Word(word="ape"), T0), (wake, T0 + 2 * IDLE)]))
    assert folded.position == Position(2, T0, "id")
    assert reasons(folded)["fold/stale_wake"] == 1
    assert not folded.dead_letters
    assert counts(folded) == {"ape": 1}


def test_a_doubled_wake_is_stale_in_the_same_batch_and_in_the_next() -> None:
    store = RowStore(TALLY.tables)
    first = run(TALLY, line_of([Word(word="ape"), (WAKE, T0 + IDLE), (WAKE, T0 + IDLE)]), rows=store)
    store.apply(first.changes)
    again = run(TALLY, [stamped(WAKE, 3, T0 + 2 * IDLE)], rows=store, position=first.position)
    assert reasons(first)["fold/stale_wake"] == reasons(again)["fold/stale_wake"] == 1
    assert not again.changes
    assert not again.emits
    assert again.position.now == first.position.now


def test_wakes_of_a_batch_are_those_that_stand_at_its_end() -> None:
    folded = run(TALLY, line_of([*words("ape", "ape", "bee"), (WAKE, T0)]))
    due = {address.key: row.wake_at for address, row in folded.changes.items() if row is not None and row.wake_at}
    assert due == {"ape": T0 + SECOND + IDLE, "bee": T0 + 2 * SECOND + IDLE}


# -- refusals --------------------------------------------------------------------------------------------------------


def test_a_rejected_record_leaves_its_neighbours_alone() -> None:
    lines = [Line(sender="ann", text=text) for text in ("ape", "bee !", "cat")]
    folded = run(SPLIT, line_of(lines, "lines"))
    assert [Word.model_validate_json(emit.value).word for emit in folded.emits if emit.topic == "words"] == [
        "ape",
        "cat",
    ]
    (letter,) = folded.dead_letters
    assert (letter.reason, letter.detail, letter.offset) == ("shouted", "ann shouts", 1)
    assert letter.value == lines[1].encode()
    assert reasons(folded) == {"split/split": 2, "fold/rejected": 1}


def test_a_defective_stage_rolls_back_the_whole_record() -> None:
    folded = run(TALLY, line_of(words("ape", "#oh", "bee")))
    (letter,) = folded.dead_letters
    assert letter.reason == FoldReason.FAILED
    assert letter.detail.startswith("ZeroDivisionError: ")
    assert "toy.announce:" in letter.detail
    assert "fold._run:" in letter.detail
    assert "/" not in letter.detail
    assert set(folded.changes) == {
        COUNT.at("ape"),
        LETTER.at("a"),
        SAID.at("ape"),
        COUNT.at("bee"),
        LETTER.at("b"),
        SAID.at("bee"),
    }
    assert [total.word for total in totals(folded)] == ["ape", "bee"]
    assert reasons(folded) == {
        "count/counted": 2,
        "gather/gathered": 2,
        "announce/announced": 2,
        "fold/failed": 1,
    }
    assert folded.position.next_offset == 3


def test_a_failed_record_does_not_undo_what_the_batch_changed_before() -> None:
    store = RowStore(TALLY.tables)
    folded = run(TALLY, line_of([*words("#a"), (WAKE.model_copy(update={"key": "#a"}), T0), *words("ape", "ape")]))
    assert COUNT.at("#a") not in folded.changes
    assert counts(folded) == {"ape": 2}
    assert not store.raw()


def test_what_a_rejected_record_had_emitted_is_taken_back() -> None:
    def split_off(event: Line, rows: Rows, now: datetime, config: object) -> Step:
        return Step({}, Plain.DONE, (Total(word="w", letter="w", count=1, words=1), Word(word=event.text)))

    def reject(event: Word, rows: Rows, now: datetime, config: object) -> Step:
        if event.word == "bad":
            raise Rejected("bad", "it says so")
        return Step({}, Plain.DONE)

    node = one(Stage("split_off", split_off, (Line,), Plain), Stage("reject", reject, (Word,), Plain))
    folded = run(node, line_of([Line(sender="a", text=text) for text in ("good", "bad", "good")], "lines"))
    assert [emit.topic for emit in folded.emits] == ["totals", "totals", "dead-letters"]


def test_a_stage_can_refuse_parts_and_pass_the_rest_on() -> None:
    folded = run(SPLIT, [stamped(Line(sender="ann", text="ape ? bee ?"), 3, inbox="lines")])
    assert [emit.topic for emit in folded.emits] == ["words", "words", "dead-letters", "dead-letters"]
    assert [(letter.letter_id, letter.stage, letter.value) for letter in folded.dead_letters] == [
        ("lines:0:3:0", "split", b"?"),
        ("lines:0:3:1", "split", b"?"),
    ]
    assert folded.observations == {Observation("split", "partly", intentional=False): 1}


def test_a_refused_part_without_bytes_of_its_own_keeps_those_of_the_record() -> None:
    def refuse(event: Line, rows: Rows, now: datetime, config: object) -> Step:
        return Step({}, Plain.DONE, (DeadLetter(reason="part", detail=""),))

    folded = run(one(Stage("refuse", refuse, (Line,), Plain)), [stamped(Line(sender="a", text="b"), 0)])
    assert folded.dead_letters[0].value == Line(sender="a", text="b").encode()


def test_parts_refused_before_the_whole_was_rejected_are_not_told() -> None:
    def refuse(event: Line, rows: Rows, now: datetime, config: object) -> Step:
        return Step({}, Plain.DONE, (DeadLetter(reason="part", detail=""), Word(word="ape")))

    def reject(event: Word, rows: Rows, now: datetime, config: object) -> Step:
        raise Rejected("whole", "all of it")

    node = one(Stage("refuse", refuse, (Line,), Plain), Stage("reject", reject, (Word,), Plain))
    folded = run(node, [stamped(Line(sender="a", text="b"), 0)])
    assert [(letter.reason, letter.part) for letter in folded.dead_letters] == [("whole", 0)]
    assert reasons(folded) == {"fold/rejected": 1}


# -- defects of a stage stop everything ------------------------------------------------------------------------------


class Plain(StrEnum):
    DONE = "done"


class Note(Row):
    text: str = ""


NOTE = Table("note", Note, bound="")


def one(*stages: Stage) -> Node:
    return Node("one", TOPICS["lines"], stages, (TOPICS["totals"],))


def stepping(step: Step) -> Stage:
    return Stage("stepping", lambda *_: step, (Line,), Plain, owns=(NOTE,))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        pytest.param(Step({}, Plain.DONE, (Line(sender="", text=""),)), "no topic for line.v1", id="undeclared type"),
        pytest.param(Step({COUNT.at("a"): None}, Plain.DONE), "does not own", id="foreign table"),
        pytest.param(Step({ACTIVE.at(CONFIG): None}, Plain.DONE), "does not own", id="the fold's own table"),
        pytest.param(Step({NOTE.at("a"): Note(wake_at=T0)}, Plain.DONE), "says otherwise", id="row waits, step not"),
        pytest.param(
            Step({NOTE.at("a"): Note()}, Plain.DONE, wake=(Wake(table="note", key="a", due=T0),)),
            "says otherwise",
            id="step waits, row not",
        ),
        pytest.param(
            Step({NOTE.at("a"): Note(wake_at=T0)}, Plain.DONE, wake=(Wake(table="note", key="a", due=T0 + SECOND),)),
            "says otherwise",
            id="they wait for different moments",
        ),
        pytest.param(
            Step({NOTE.at("a"): None}, Plain.DONE, wake=(Wake(table="note", key="a", due=T0),)),
            "says otherwise",
            id="wake for a forgotten row",
        ),
        pytest.param(
            Step({}, Plain.DONE, wake=(Wake(table="note", key="a", due=T0),)),
            "does not change",
            id="wake for a row left alone",
        ),
    ],
)
def test_a_stage_that_breaks_its_contract_stops_the_node(step: Step, said: str) -> None:
    with pytest.raises(Defect, match=said):
        run(one(stepping(step)), [stamped(Line(sender="", text=""), 0)])


@pytest.mark.parametrize(
    ("look", "said"),
    [
        pytest.param(lambda rows: rows.get(COUNT, "a"), "not of this node", id="row of a foreign table"),
        pytest.param(lambda rows: rows.keys(NOTE, "a"), "no index", id="keys where there is no index"),
        pytest.param(lambda rows: rows.count(NOTE, "a"), "no index", id="count where there is no index"),
    ],
)
def test_a_stage_that_looks_where_it_must_not_stops_the_node(look: object, said: str) -> None:
    def step(event: Line, rows: Rows, now: datetime, config: object) -> Step:
        assert callable(look)
        look(rows)
        return Step({}, Plain.DONE)

    with pytest.raises(Defect, match=said):
        run(one(Stage("looking", step, (Line,), Plain, owns=(NOTE,))), [stamped(Line(sender="", text=""), 0)])


def test_two_owners_of_one_table_are_refused() -> None:
    with pytest.raises(Defect, match="table note has two owners: first and second"):
        one(
            *(
                Stage(name, lambda *_: Step({}, Plain.DONE), (Line,), Plain, owns=(NOTE,))
                for name in ("first", "second")
            )
        )


def test_records_below_the_position_are_refused() -> None:
    with pytest.raises(Defect, match=r"words/0/3 was handed over again: the position is at 4"):
        run(TALLY, [stamped(Word(word="ape"), 3)], position=Position(4, T0))


def test_offsets_may_have_gaps_but_not_go_back() -> None:
    with pytest.raises(Defect, match="handed over again"):
        run(TALLY, [stamped(Word(word="ape"), 9), stamped(Word(word="ape"), 9)])


# -- the chain -------------------------------------------------------------------------------------------------------


def test_a_later_stage_sees_what_an_earlier_one_changed() -> None:
    store = RowStore(TALLY.tables)
    due = T0 + IDLE
    store.apply(
        {
            COUNT.at("ant"): CountRow(word="ant", count=5, since=T0, wake_at=due),
            LETTER.at("a"): LetterRow(letter="a", total=5),
        }
    )
    folded = run(TALLY, line_of(words("ape", "ape")), rows=store)
    assert [(total.count, total.words) for total in totals(folded)] == [(1, 2), (2, 2)]
    letter = folded.changes[LETTER.at("a")]
    assert isinstance(letter, LetterRow)
    assert letter.total == 7


def test_emits_go_to_the_next_stage_that_takes_them_else_to_the_topics_that_declare_them() -> None:
    folded = run(TALLY, line_of(words("ape", "ape", "ape")))
    assert [emit.topic for emit in folded.emits] == ["totals", "totals", "totals", "words"]
    nudge = Nudge.model_validate_json(folded.emits[3].value)
    assert (nudge.word, nudge.count, folded.emits[3].key) == ("ape", 10, b"ape")
    assert folded.emits[3].headers["type"] == b"nudge.v1"


def test_an_event_never_goes_back_to_the_stage_that_emitted_it() -> None:
    def again(event: Line, rows: Rows, now: datetime, config: object) -> Step:
        return Step({}, Plain.DONE, (event,))

    node = Node("echo", TOPICS["lines"], (Stage("again", again, (Line,), Plain),), (TOPICS["lines"],))
    folded = run(node, [stamped(Line(sender="ann", text="x"), 0)])
    assert [(emit.topic, emit.key) for emit in folded.emits] == [("lines", b"ann")]


def test_an_event_goes_to_every_topic_that_declares_it() -> None:
    copies = topic("copies", "total.v1")
    node = Node("tally", TOPICS["words"], TALLY.stages, (*TALLY.writes, copies))
    folded = run(node, line_of(words("ape")))
    assert [(emit.topic, emit.key, emit.everywhere) for emit in folded.emits] == [
        ("totals", b"ape", False),
        ("copies", b"", False),
    ]


def test_emits_and_changes_of_a_chain_may_skip_stages() -> None:
    def jump(event: Line, rows: Rows, now: datetime, config: object) -> Step:
        return Step({}, Plain.DONE, (Total(word="w", letter="w", count=1, words=1),))

    middle = Stage("middle", lambda *_: pytest.fail("is passed over"), (Counted,), Plain)
    last = Stage("last", lambda event, *_: Step({}, Plain.DONE, (event,)), (Total,), Plain)
    node = Node("n", TOPICS["lines"], (Stage("jump", jump, (Line,), Plain), middle, last), (TOPICS["totals"],))
    folded = run(node, [stamped(Line(sender="", text=""), 0)])
    assert [(link.stage) for link in totals(folded)[0].trail] == ["jump", "last"]


def test_the_fold_extends_the_reason_chain() -> None:
    (split,) = (emit for emit in run(SPLIT, [stamped(Line(sender="ann", text="ape"), 5, inbox="lines")]).emits)
    folded = run(TALLY, [Record("words", 0, 9, split.value, T0, split.key, split.headers)])
    (total,) = totals(folded)
    assert [(link.stage, link.reason, link.origin, link.now) for link in total.trail] == [
        ("split", "split", "lines/0/5", T0),
        ("count", "counted", "words/0/9", T0),
        ("gather", "gathered", "words/0/9", T0),
        ("announce", "announced", "words/0/9", T0),
    ]
    assert total.trail[1].figures == {"count": 1, "was": None}


def test_a_trail_that_a_stage_hands_on_is_not_replaced() -> None:
    kept = totals(run(TALLY, line_of(words("ape"))))[0].trail

    def recall(event: Word, rows: Rows, now: datetime, config: object) -> Step:
        return Step({}, Plain.DONE, (Total(word="w", letter="w", count=1, words=1, trail=kept),))

    node = Node("n", TOPICS["words"], (Stage("recall", recall, (Word,), Plain),), (TOPICS["totals"],))
    (told,) = totals(run(node, line_of(words("ape"))))
    assert told.trail[:-1] == kept
    assert told.trail[-1].stage == "recall"


TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNWANTED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def carried(*headers: bytes | None) -> Folded:
    records = [
        stamped(Word(word="ape"), at, headers={} if header is None else {"traceparent": header})
        for at, header in enumerate(headers)
    ]
    return run(TALLY, records)


def test_what_a_record_causes_continues_its_trace_from_the_span_of_the_node() -> None:
    parent = parse(TRACE)
    assert parent is not None
    emits = carried(TRACE, None).emits
    span = parent.derive("words/0/0", TALLY.name)
    assert [emit.headers.get("traceparent") for emit in emits] == [span.header(), None]
    assert span.trace_id == parent.trace_id
    assert span.span_id != parent.span_id


def test_the_span_of_another_record_and_of_another_node_is_another_one() -> None:
    first, second = (emit.headers["traceparent"] for emit in carried(TRACE, TRACE).emits)
    other = replace(TALLY, name="other")
    (third,) = (
        emit.headers["traceparent"]
        for emit in run(other, [stamped(Word(word="ape"), 0, headers={"traceparent": TRACE})]).emits
    )
    assert len({first, second, third}) == 3


def test_a_trace_of_which_nobody_wants_spans_is_handed_on_as_it_is() -> None:
    folded = carried(UNWANTED)
    assert [emit.headers["traceparent"] for emit in folded.emits] == [UNWANTED]
    assert folded.followed == []


def test_a_header_that_is_no_traceparent_is_not_handed_on() -> None:
    folded = carried(b"00-garbage", b"\xff" * 55)
    assert [emit.headers.get("traceparent") for emit in folded.emits] == [None, None]
    assert folded.followed == []


def test_what_was_decided_on_a_record_of_a_trace_is_kept_for_its_span() -> None:
    folded = carried(TRACE, None)
    (followed,) = folded.followed
    assert followed.record.origin == "words/0/0"
    assert [(made.stage, made.reason) for made in followed.decisions] == [
        ("count", "counted"),
        ("gather", "gathered"),
        ("announce", "announced"),
    ]
    assert followed.decisions[0].figures == {"count": 1, "was": None}


def test_of_a_refused_record_only_the_refusal_is_kept_for_its_span() -> None:
    record = stamped(Line(sender="a", text="! no"), 0, inbox="lines", headers={"traceparent": TRACE})
    (followed,) = run(SPLIT, [record]).followed
    assert [(made.stage, made.reason, made.intentional) for made in followed.decisions] == [("fold", "rejected", False)]


def test_a_trace_changes_nothing_of_what_is_decided() -> None:
    with_, without = carried(TRACE, UNWANTED, b"?"), carried(None, None, None)
    assert with_.changes == without.changes
    assert [(emit.topic, emit.key, emit.value) for emit in with_.emits] == [
        (emit.topic, emit.key, emit.value) for emit in without.emits
    ]
    assert with_.observations == without.observations


def test_the_first_record_of_each_type_is_named_without_wakes_and_switches() -> None:
    given = [activated(CONFIG, 1, EAGER), *words("ape", "bee"), Nudge(word="ape", count=1)]
    folded = run(TALLY, line_of(given), bodies=BODIES)
    assert {name: record.offset for name, record in folded.oldest.items()} == {"word.v1": 1, "nudge.v1": 3}


def test_unintended_reasons_are_told_apart() -> None:
    folded = run(SPLIT, line_of([Line(sender="a", text="ape"), Line(sender="a", text="?")], "lines"))
    assert folded.observations == {
        Observation("split", "split", intentional=True): 1,
        Observation("split", "partly", intentional=False): 1,
    }


def test_an_empty_batch_changes_nothing() -> None:
    position = Position(4, T0, "id")
    assert run(TALLY, [], position=position) == Folded(position)


# -- activations -----------------------------------------------------------------------------------------------------

EAGER = '{"count": {"nudge_at": 1}}'
LAZY = '{"count": {"nudge_at": 100}, "split": {"skip": ["ape"]}}'
BODIES = {
    checksum(body): body
    for body in (EAGER, LAZY, "animals", "ANIMALS II", "two\nlines", "{", '{"count": {"no_such": 1}}')
}


def test_a_configuration_counts_for_the_records_after_it_in_the_same_batch() -> None:
    given = [*words("ape"), activated(CONFIG, 1, EAGER), *words("bee"), activated(CONFIG, 2, LAZY), *words("cat")]
    folded = run(TALLY, line_of(given), bodies=BODIES)
    assert reasons(folded)["count/nudged"] == 1
    assert [emit.key for emit in folded.emits if emit.topic == "words"] == [b"bee"]
    assert folded.changes[ACTIVE.at(CONFIG)] == ActiveRow(kind=CONFIG, version=2, checksum=checksum(LAZY))
    assert reasons(folded)["fold/activated"] == 2


def test_a_configuration_counts_in_the_next_batch() -> None:
    store = RowStore(TALLY.tables)
    first = run(TALLY, line_of([activated(CONFIG, 1, EAGER)]), rows=store, bodies=BODIES)
    store.apply(first.changes)
    again = run(TALLY, [stamped(Word(word="ape"), 1)], rows=store, position=first.position, bodies=BODIES)
    assert reasons(again) == {"count/nudged": 1, "gather/gathered": 1, "announce/announced": 1}


@pytest.mark.parametrize(
    "later",
    [pytest.param(activated(CONFIG, 1, LAZY), id="lower"), pytest.param(activated(CONFIG, 2, LAZY), id="equal")],
)
def test_lower_and_equal_versions_are_ignored(later: Activated) -> None:
    folded = run(TALLY, line_of([activated(CONFIG, 2, EAGER), later, *words("ape")]), bodies=BODIES)
    assert reasons(folded)["fold/old_version"] == 1
    assert reasons(folded)["count/nudged"] == 1
    assert folded.changes[ACTIVE.at(CONFIG)] == ActiveRow(kind=CONFIG, version=2, checksum=checksum(EAGER))


def test_a_large_thing_is_read_by_its_kind() -> None:
    given = [
        *words("ape"),
        activated("heading", 1, "animals"),
        *words("bee"),
        activated("heading", 2, "ANIMALS II"),
        *words("cat"),
    ]
    folded = run(TALLY, line_of(given), bodies=BODIES)
    assert [total.heading for total in totals(folded)] == ["", "ANIMALS", "ANIMALS II"]


def test_a_configuration_without_its_body_stops_the_node() -> None:
    with pytest.raises(
        Defect, match=r"version [0-9a-f]{12} of config/count is activated, but the log does not hold it"
    ):
        run(TALLY, line_of([activated(CONFIG, 1, EAGER)]))


def test_a_large_thing_that_cannot_be_read_leaves_the_old_one_standing() -> None:
    given = [activated("heading", 1, "animals"), activated("heading", 2, "two\nlines"), *words("ape")]
    folded = run(TALLY, line_of(given), bodies=BODIES)
    assert [letter.reason for letter in folded.dead_letters] == [FoldReason.NOT_UNDERSTOOD]
    assert "a heading is one line" in folded.dead_letters[0].detail
    assert totals(folded)[0].heading == "ANIMALS"


def test_a_large_thing_without_its_body_stops_the_node() -> None:
    with pytest.raises(Defect, match="of heading is activated, but"):
        run(TALLY, line_of([activated("heading", 1, "animals")]))


def test_a_large_thing_that_no_stage_of_the_node_reads_is_noted_unread() -> None:
    folded = run(TALLY, line_of([activated("catalogue", 1, "nowhere to be found")]))
    assert reasons(folded) == {"fold/activated": 1}


@pytest.mark.parametrize(
    "body", [pytest.param("{", id="no JSON"), pytest.param('{"count": {"no_such": 1}}', id="unknown setting")]
)
def test_a_configuration_that_cannot_be_read_leaves_the_old_one_standing(body: str) -> None:
    folded = run(
        TALLY, line_of([activated(CONFIG, 1, EAGER), activated(CONFIG, 2, body), *words("ape")]), bodies=BODIES
    )
    assert [letter.reason for letter in folded.dead_letters] == [FoldReason.NOT_UNDERSTOOD]
    assert folded.changes[ACTIVE.at(CONFIG)] == ActiveRow(kind=CONFIG, version=1, checksum=checksum(EAGER))
    assert (reasons(folded)["count/nudged"], reasons(folded)["fold/not_understood"]) == (1, 1)


class NewerConfig(CountConfig):
    no_such: int = 0


NEW = '{"count": {"no_such": 1}}'
NEWER = replace(TALLY, stages=(replace(TALLY.stages[0], config=NewerConfig), *TALLY.stages[1:]))
"""The node in a newer version of the program, which knows the setting."""


def store_after(folded: Folded) -> RowStore:
    store = RowStore(TALLY.tables)
    store.apply(folded.changes)
    return store


def test_what_only_a_newer_program_reads_counts_once_that_one_folds() -> None:
    store = store_after(run(TALLY, line_of([activated(CONFIG, 1, EAGER), activated(CONFIG, 2, NEW)]), bodies=BODIES))
    old = run(TALLY, [stamped(Word(word="ape"), 2)], rows=store, position=Position(2, T0, "id"), bodies=BODIES)
    assert reasons(old) == {"count/nudged": 1, "gather/gathered": 1, "announce/announced": 1}
    given = [stamped(b"no", 2), stamped(Word(word="ape"), 3), stamped(Word(word="bee"), 4)]
    new = run(NEWER, given, rows=store, position=Position(2, T0, "id"), bodies=BODIES)
    assert reasons(new)["fold/activated"] == 1  # by the first record that is not refused
    assert reasons(new)["count/counted"] == 2
    assert new.changes[ACTIVE.at(CONFIG)] == ActiveRow(kind=CONFIG, version=2, checksum=checksum(NEW))
    assert new.changes[ACTIVE.at(f"{CONFIG}{LATER}")] is None


def test_what_is_not_understood_is_forgotten_once_something_later_counts() -> None:
    given = [activated("heading", 1, "two\nlines"), activated("heading", 2, "animals"), *words("ape")]
    folded = run(TALLY, line_of(given), bodies=BODIES)
    assert folded.changes[ACTIVE.at(f"heading{LATER}")] is None
    assert [total.heading for total in totals(folded)] == ["ANIMALS"]


def test_a_version_that_came_after_what_is_not_understood_stands() -> None:
    rows = {
        ACTIVE.at(CONFIG): ActiveRow(kind=CONFIG, version=3, checksum=checksum(EAGER)),
        ACTIVE.at(f"{CONFIG}{LATER}"): ActiveRow(kind=CONFIG, version=2, checksum=checksum(LAZY)),
    }
    store = RowStore(TALLY.tables)
    store.apply(rows)
    assert reasons(run(TALLY, line_of(words("ape")), rows=store, bodies=BODIES))["count/nudged"] == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [pytest.param(CONFIG, NEW, id="settings"), pytest.param("heading", "two\nlines", id="a large thing")],
)
def test_what_a_newer_program_pinned_is_decided_by_what_counts_here(kind: str, body: str) -> None:
    pinning = tuple(replace(stage, pins=lambda _event, _rows: pinned(kind, body)) for stage in TALLY.stages)
    given = [activated(CONFIG, 2, EAGER), activated("heading", 2, "ANIMALS II"), *words("ape")]
    folded = run(replace(TALLY, stages=pinning), line_of(given), bodies=BODIES)
    assert reasons(folded)["count/nudged"] == 1
    assert [total.heading for total in totals(folded)] == ["ANIMALS II"]


def test_a_node_that_relays_activations_does_not_take_them_itself() -> None:
    event = activated(CONFIG, 1, EAGER)
    folded = run(RELAY, [stamped(event, 0, inbox="switches")])
    assert [(emit.topic, emit.everywhere, emit.key) for emit in folded.emits] == [
        ("lines", True, b""),
        ("words", True, b""),
    ]
    assert not folded.changes


def test_what_stages_see_of_versions() -> None:
    store = RowStore(TALLY.tables)
    tables = {table.name: table for table in TALLY.tables}
    rows = Overlay(store, tables, Lookups(BODIES.get))
    assert (rows.version("heading"), rows.artifact(HEADING)) == (0, None)
    store.apply({ACTIVE.at("heading"): ActiveRow(kind="heading", version=3, checksum=checksum("animals"))})
    assert (rows.version("heading"), rows.artifact(HEADING)) == (3, "ANIMALS")


def test_versions_are_decoded_once_and_old_ones_are_let_go() -> None:
    decoded: list[str] = []

    def decode(body: str) -> str:
        decoded.append(body)
        return body

    lookups = Lookups(lambda sum_: sum_)
    for number in (*range(MOST_DECODED + 1), MOST_DECODED, 1):
        lookups.load("kind", str(number), decode)
    assert decoded == [str(number) for number in range(MOST_DECODED + 1)]
    lookups.load("kind", "0", decode)
    assert decoded[-1] == "0"
    assert len(decoded) == MOST_DECODED + 2


def pinned(kind: str, body: str) -> dict[str, ActiveRow]:
    return {kind: ActiveRow(kind=kind, version=1, checksum=checksum(body))}


@pytest.mark.parametrize(
    ("pins", "counted", "heading"),
    [
        pytest.param({}, "count/nudged", "ANIMALS II", id="nothing"),
        pytest.param(pinned(CONFIG, LAZY), "count/counted", "ANIMALS II", id="settings"),
        pytest.param(pinned("heading", "animals"), "count/nudged", "ANIMALS", id="a large thing"),
    ],
)
def test_an_event_is_decided_by_the_versions_that_are_pinned_for_it(
    pins: dict[str, ActiveRow], counted: str, heading: str
) -> None:
    pinning = tuple(replace(stage, pins=lambda _event, _rows: pins) for stage in TALLY.stages)
    given = [activated(CONFIG, 2, EAGER), activated("heading", 2, "ANIMALS II"), *words("ape")]
    folded = run(replace(TALLY, stages=pinning), line_of(given), bodies=BODIES)
    assert reasons(folded)[counted] == 1
    assert [total.heading for total in totals(folded)] == [heading]


def test_the_rows_of_the_store_are_not_changed() -> None:
    store = RowStore(TALLY.tables)
    store.apply({SAID.at("ape"): SaidRow(times=4)})
    before = dict(store.raw())
    run(TALLY, line_of(words("ape", "ape", "#x")), rows=store)
    assert store.raw() == before


def test_everywhere_is_a_property_of_the_route() -> None:
    assert RELAY.routes == {
        "line.v1": ((TOPICS["lines"], True),),
        "word.v1": ((TOPICS["words"], True),),
        "nudge.v1": ((TOPICS["words"], True),),
        "activated.v1": ((TOPICS["lines"], True), (TOPICS["words"], True)),
    }
    assert Everywhere(TOPICS["lines"]) in RELAY.writes


def test_an_outgoing_record_has_the_bytes_and_what_they_hold() -> None:
    (emit,) = run(SPLIT, [stamped(Line(sender="ann", text="ape"), 0, inbox="lines")]).emits
    assert emit == Outgoing(
        "words",
        b"ape",
        emit.value,
        {"type": b"word.v1", "now": b"2026-03-01T12:00:00.000000+00:00"},
        event=emit.event,
    )
    assert emit.event == Word.decode(emit.value, emit.headers)
    assert RowKey("count", "ape") == COUNT.at("ape")


# -- what no log takes -----------------------------------------------------------------------------------------------


def test_a_record_that_would_come_to_too_large_an_event_is_a_dead_letter() -> None:
    folded = run(TALLY, line_of([Word(word="x" * LARGEST), Word(word="ape")]))
    (letter,) = folded.dead_letters
    assert letter.reason == "too_large"
    assert letter.detail == f"its total.v1 would have {LARGEST + 416} bytes; {LARGEST} at most fit"
    assert [row.word for row in folded.changes.values() if isinstance(row, CountRow)] == ["ape"]


class HeapRow(Row):
    text: str = ""


HEAP = Table("heap", HeapRow, bound="nothing")


def heap(event: Line, rows: Rows, now: datetime, config: object) -> Step:
    row = rows.get(HEAP, event.sender) or HeapRow()
    return Step({HEAP.at(event.sender): HeapRow(text=row.text + event.text)}, Piled.PILED)


class Piled(StrEnum):
    PILED = "piled"


HEAPING = Node("heap", topic("lines"), (Stage("heap", heap, takes=(Line,), reasons=Piled, owns=(HEAP,)),), writes=())


def test_a_record_that_would_make_a_row_too_large_is_a_dead_letter() -> None:
    half = "x" * (LARGEST // 2)
    lines = [Line(sender="a", text=half), Line(sender="a", text=half), Line(sender="a", text="y")]
    folded = run(HEAPING, line_of(lines, "lines"))
    (letter,) = folded.dead_letters
    assert (letter.reason, letter.offset, letter.value) == ("too_large", 1, lines[1].encode())
    assert folded.changes == {HEAP.at("a"): HeapRow(text=half + "y")}
    assert folded.written == encode_rows(folded.changes)
    assert (folded.position.next_offset, sum(folded.observations.values())) == (3, 3)


@pytest.mark.parametrize(
    ("value", "headers", "left_out"),
    [
        pytest.param(b"\xff" * 1_000, {}, None, id="small"),
        pytest.param(b"\xff" * 5_000_000, {}, None, id="as large as a body may be"),
        pytest.param(b"\xff" * 6_500_000, {}, 6_500_000, id="too large in base64"),
        pytest.param(b"\xff", {"x": b"\1" * 2_000_000}, 1, id="headers that are too large in JSON"),
    ],
)
def test_a_dead_letter_fits_into_its_topic(value: bytes, headers: dict[str, bytes], left_out: int | None) -> None:
    folded = run(SPLIT, [stamped(value, 0, inbox="lines", headers=headers)])
    (letter,), (emit,) = folded.dead_letters, folded.emits
    assert (letter.left_out, letter.value) == (left_out, b"" if left_out else value)
    assert len(emit.value) <= LARGEST_LETTER
    assert DeadLetter.decode(emit.value, {}) == letter
