"""The laws that hold for every topology, as functions over what a run has left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from streamproc.core.event import DeadLetter, Wake
from streamproc.core.fold import FOLD, UNINTENDED, FoldReason
from streamproc.core.record import Record
from streamproc.core.step import Node
from streamproc.runtime.memory import Memory
from tests.laws.crash import Rig
from tests.support.replay import (
    Replayed,
    bodies_of,
    check_held,
    inbox_of,
    is_wake,
    log_of,
    places,
    replay,
    replay_all,
    rows_of,
    written,
)

SPREAD = 1000
"""Offsets are spread so far, that records can be put in between without moving the others."""


def check_batches(rig: Rig, sizes: Sequence[int] = (1, 2, 7, 500)) -> None:
    """Assert that however a recorded inbox is cut into batches, the same rows and the same emits come of it.

    Across nodes no more is true: where a topic has several producers, their order depends on who is quicker.
    """
    world = rig.world
    for size in sizes:
        check_held(world.topology, world.letters, rig.journal, rig.appended, batch=size)
    whole = replay_all(world.topology, world.letters, rig.journal)
    for size in sizes:
        for place, made in replay_all(world.topology, world.letters, rig.journal, batch=size).items():
            assert made.observations == whole[place].observations, place
            assert made.letters == whole[place].letters, place
            assert [emit for emit in made.emits if emit.topic != world.letters.name] == [
                emit for emit in whole[place].emits if emit.topic != world.letters.name
            ], place


def check_doubled_wakes(rig: Rig, choose: Callable[[int], int]) -> int:
    """Assert that wakes which come twice, at once or later, change nothing; return how many were put in.

    Args:
        rig: a run.
        choose: picks a number of copies, given the number of records that are still to come.
    """
    world, bodies = rig.world, bodies_of(rig.journal)
    doubled = 0
    for node, p in places(world.topology, rig.journal):
        inbox = [_moved(record, record.offset * SPREAD) for record in inbox_of(rig.journal, node, p)]
        more = _with_copies(inbox, choose)
        doubled += len(more) - len(inbox)
        plain = replay(node, inbox, world.letters, bodies)
        again = replay(node, more, world.letters, bodies)
        assert rows_of(again) == rows_of(plain), node.name
        assert again.emits == plain.emits, node.name
        assert again.position.now == plain.position.now, node.name
        assert again.observations - plain.observations == Counter(_stale(len(more) - len(inbox), again)), node.name
    return doubled


def _with_copies(inbox: Sequence[Record], choose: Callable[[int], int]) -> list[Record]:
    """Return an inbox in which every wake may stand again behind any later record, with the time of that one."""
    more = list(inbox)
    for at, record in enumerate(inbox):
        if not is_wake(record) or not _readable(record):
            continue
        for copy in range(choose(3)):
            after = inbox[at + choose(len(inbox) - at)]
            headers = {**record.headers, "now": after.headers["now"]}
            more.append(record._replace(offset=after.offset + 1 + at * 3 + copy, headers=headers))
    return sorted(more, key=lambda record: record.offset)


def _readable(record: Record) -> bool:
    """Return whether it is a timer's own: what others write there may be refused, and then it is refused twice."""
    try:
        Wake.decode(record.value, record.headers)
    except ValidationError:
        return False
    return True


def _moved(record: Record, offset: int) -> Record:
    return record._replace(offset=offset)


def _stale(count: int, made: Replayed) -> dict[object, int]:
    found = [seen for seen in made.observations if (seen.stage, seen.reason) == (FOLD, FoldReason.STALE_WAKE)]
    return dict.fromkeys(found, count) if count else {}


def check_accounts(rig: Rig) -> None:
    """Assert that every record of every inbox has a reason of a closed enum, or a dead letter with its bytes."""
    world, bodies = rig.world, bodies_of(rig.journal)
    for node, p in places(world.topology, rig.journal):
        inbox = inbox_of(rig.journal, node, p)
        made = replay(node, inbox, world.letters, bodies, batch=1)
        assert not made.unaccounted, node.name
        for seen in made.observations:
            assert seen.reason in _words(node)[seen.stage], f"{node.name}: {seen}"
        refused = sum(times for seen, times in made.observations.items() if (seen.stage, seen.reason) in REFUSED)
        wholes = [letter for letter in made.letters if not letter.stage]
        assert refused == len(wholes), f"{node.name}: {refused} records were refused, {len(wholes)} have a letter"
        values = {record.offset: record.value for record in inbox}
        assert all(letter.value == values[letter.offset] for letter in wholes), node.name
        assert all((letter.topic, letter.partition) == (node.inbox.name, p) for letter in made.letters), node.name
        assert len({letter.letter_id for letter in made.letters}) == len(made.letters), node.name
    told = log_of(rig.journal, world.letters.name, 0)
    assert all(DeadLetter.decode(record.value, record.headers).letter_id.encode() == record.key for record in told)


REFUSED = {(FOLD, str(reason)) for reason in UNINTENDED}


def _words(node: Node) -> dict[str, set[str]]:
    return {FOLD: {str(reason) for reason in FoldReason}} | {
        stage.name: {str(reason) for reason in stage.reasons} for stage in node.stages
    }


def check_same_outside(one: Rig, other: Rig, topics: Sequence[str]) -> None:
    """Assert that two runs wrote the same to topics with one producer a partition."""
    for topic in topics:
        for p in range(one.journal.partitions(topic)):
            first, second = (
                [written(record) for record in log_of(rig.journal, topic, p) if not is_wake(record)]
                for rig in (one, other)
            )
            assert first == second, f"{topic}/{p}"


class DoublingTimers(Memory):
    """A runtime whose timers say everything twice."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]  # passed on as they come
        fire = self.engine.fire

        def twice(now: object, limit: int = 500) -> int:
            before = [(part, dict(part.timers._due)) for part in self.engine.parts]
            fired = fire(now, limit)  # type: ignore[arg-type]  # passed on as it comes
            for part, due in before:
                for address in due.keys() - part.timers._due.keys():
                    part.timers.add(address, due[address])
            return fired + fire(now, limit)  # type: ignore[arg-type]  # passed on as it comes

        self.engine.fire = twice  # type: ignore[method-assign]  # the engine is made inside of Memory
