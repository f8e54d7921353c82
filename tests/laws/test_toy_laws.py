from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.laws.crash import Act, CrashAt, Pass, Point, Rig, Script, check_crashes, left_by
from tests.laws.properties import (
    DoublingTimers,
    check_accounts,
    check_batches,
    check_doubled_wakes,
    check_same_outside,
)
from tests.laws.toy_world import ACTS, EVERYTHING, LATER, SCRIPTS, TOY_WORLD
from tests.support.replay import replay_all
from tests.support.toy import LETTERS, TOY

FEWER = settings(max_examples=settings().max_examples // 2)
"""For laws that play a script a hundred times an example."""


@FEWER
@given(SCRIPTS, st.booleans(), st.sampled_from([1, 2]))
def test_a_crash_anywhere_changes_nothing(script: Script, hasty: bool, partitions: int) -> None:  # noqa: FBT001  drawn
    check_crashes(replace(TOY_WORLD, hasty=hasty, partitions=partitions), script)


def test_a_crash_anywhere_in_the_script_with_everything_changes_nothing() -> None:
    check_crashes(replace(TOY_WORLD, hasty=True), EVERYTHING)


@FEWER
@given(SCRIPTS, st.sampled_from([1, 2, 3]))
def test_a_crash_with_small_batches_leaves_what_the_fold_makes_of_the_inboxes(script: Script, batch: int) -> None:
    world = replace(TOY_WORLD, batch=batch)
    clean = Rig(world).play(script)
    for number in clean.journal.folds:
        for point in Point:
            Rig(world, CrashAt(number, point)).play(script).check()


@given(SCRIPTS)
def test_batches_may_be_cut_anywhere(script: Script) -> None:
    check_batches(Rig(TOY_WORLD).play(script))


@given(SCRIPTS, st.sampled_from([1, 2, 3]))
def test_the_size_of_batches_does_not_matter_up_to_where_producers_meet(script: Script, batch: int) -> None:
    """Split has one source of lines; its words meet tally's nudges, and who is first there is open."""
    one, other = (Rig(replace(TOY_WORLD, batch=size, partitions=1)).play(script) for size in (500, batch))
    check_same_outside(one, other, ["lines"])
    first, second = (replay_all(TOY, LETTERS, rig.journal)["split", 0] for rig in (one, other))
    assert first.emits == second.emits
    other.check()


@given(SCRIPTS, st.data())
def test_doubled_and_late_wakes_change_nothing(script: Script, data: st.DataObject) -> None:
    rig = Rig(TOY_WORLD).play(script)
    check_doubled_wakes(rig, lambda most: data.draw(st.integers(0, most - 1)))


def test_the_script_with_everything_has_wakes_to_double() -> None:
    rig = Rig(TOY_WORLD).play(EVERYTHING)
    assert check_doubled_wakes(rig, lambda most: most - 1) > 10


@given(SCRIPTS)
def test_timers_that_say_everything_twice_change_nothing(script: Script) -> None:
    once, twice = Rig(TOY_WORLD).play(script), Rig(replace(TOY_WORLD, runtime=DoublingTimers)).play(script)
    twice.check()
    assert left_by(twice) == left_by(once)


def test_timers_that_say_everything_twice_do_so() -> None:
    once, twice = Rig(TOY_WORLD).play(EVERYTHING), Rig(replace(TOY_WORLD, runtime=DoublingTimers)).play(EVERYTHING)
    lengths = [sum(map(len, rig.journal.logs.values())) for rig in (once, twice)]
    assert lengths[1] > lengths[0]


@given(SCRIPTS)
def test_every_record_is_accounted_for(script: Script) -> None:
    check_accounts(Rig(TOY_WORLD).play(script))


class Living(RuleBasedStateMachine):
    """A pipeline that lives through anything, in any order, crashing as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(TOY_WORLD)

    @rule(act=ACTS)
    def happens(self, act: Act) -> None:
        self.rig.do(act)

    @rule(after=st.integers(0, 4), point=st.sampled_from(Point))
    def will_crash(self, after: int, point: Point) -> None:
        self.rig.journal.crash = CrashAt(self.rig.journal.commits + after, point)

    @rule()
    def restarts(self) -> None:
        self.rig.restart()

    @rule(batch=st.sampled_from([1, 2, 7, 500]), hasty=st.booleans())
    def is_set_up_otherwise(self, batch: int, *, hasty: bool) -> None:
        self.rig.world = replace(self.rig.world, batch=batch, hasty=hasty)
        self.rig.restart()

    @invariant()
    def holds(self) -> None:
        """At rest or not, the journal is what the fold makes of it."""
        self.rig.check_held()

    def teardown(self) -> None:
        self.rig.journal.crash = None
        self.rig.do(Pass(timedelta()))
        self.rig.do(LATER)
        self.rig.check()


TestLiving: Any = Living.TestCase
