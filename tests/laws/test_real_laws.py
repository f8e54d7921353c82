from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.core.event import DeadLetter
from streamproc.core.record import Record
from streamproc.events.alert import Alert
from streamproc.events.escalation import Escalation, Page, PageAction
from streamproc.events.incident import Incident, IncidentChange
from tests.laws import broken
from tests.laws.crash import CrashAt, Point, Rig, Script, check_crashes, left_by
from tests.laws.properties import DoublingTimers, check_accounts, check_batches, check_doubled_wakes
from tests.laws.real_world import A_BAD_DAY, REAL_WORLD, scripts
from tests.support.replay import log_of

FEW = settings(max_examples=max(2, settings().max_examples // 10))
"""For laws that play a script a hundred times an example."""


@pytest.mark.parametrize("hasty", [pytest.param(False, id="plain"), pytest.param(True, id="timers first")])
def test_a_crash_anywhere_on_a_bad_day_changes_nothing(*, hasty: bool) -> None:
    assert check_crashes(replace(REAL_WORLD, hasty=hasty), A_BAD_DAY) > 100


@FEW
@given(scripts(6), st.booleans())
def test_a_crash_anywhere_changes_nothing(script: Script, hasty: bool) -> None:  # noqa: FBT001  drawn
    check_crashes(replace(REAL_WORLD, hasty=hasty), script)


@given(scripts(12), st.integers(0, 60), st.sampled_from(Point), st.sampled_from([1, 2, 7]), st.sampled_from([1, 3]))
def test_a_crash_with_small_batches_and_many_partitions(
    script: Script, commit: int, point: Point, batch: int, partitions: int
) -> None:
    """Producers that meet in a topic may do so in another order; what each makes of its inbox must stand."""
    Rig(replace(REAL_WORLD, batch=batch, partitions=partitions), CrashAt(commit, point)).play(script).check()


@given(scripts(12))
def test_batches_may_be_cut_anywhere(script: Script) -> None:
    check_batches(Rig(REAL_WORLD).play(script))


@given(scripts(12), st.data())
def test_doubled_and_late_wakes_change_nothing(script: Script, data: st.DataObject) -> None:
    check_doubled_wakes(Rig(REAL_WORLD).play(script), lambda most: data.draw(st.integers(0, most - 1)))


@given(scripts(12))
def test_timers_that_say_everything_twice_change_nothing(script: Script) -> None:
    once, twice = Rig(REAL_WORLD).play(script), Rig(replace(REAL_WORLD, runtime=DoublingTimers)).play(script)
    twice.check()
    assert left_by(twice) == left_by(once)


@given(scripts(12))
def test_every_record_is_accounted_for(script: Script) -> None:
    check_accounts(Rig(REAL_WORLD).play(script))


@given(scripts(12))
def test_nothing_is_invented(script: Script) -> None:
    check_invents_nothing(Rig(REAL_WORLD).play(script))


@given(scripts(12))
def test_in_the_end_everything_is_forgotten(script: Script) -> None:
    """Ten days after the last word only this is kept: what has no end, waits for a sender, was learned, or still fires.

    What fires stays open while its source is silent: then silence says nothing about one alert.
    """
    rig = Rig(REAL_WORLD).play(script)
    rows = [(address.table, raw) for kept in rig.journal.rows.values() for address, raw in kept.items()]
    lasting = {"active", "policy", "intent", "learner", "sample", "source"}
    fires = {"episode": b'"status":"firing"', "incident": b'"status":"open"', "member": b"", "class": b"", "page": b""}
    assert {table for table, _ in rows} <= lasting | fires.keys()
    assert all(fires[table] in raw and b'"state":"closed"' not in raw for table, raw in rows if table in fires)


def test_a_bad_day_has_everything_in_it() -> None:
    rig = Rig(REAL_WORLD).play(A_BAD_DAY)
    assert check_doubled_wakes(rig, lambda most: most - 1) > 10
    check_invents_nothing(rig)
    check_accounts(rig)
    check_batches(rig)
    seen = {record.topic for log in rig.journal.logs.values() for record in log}
    assert seen == set(REAL_WORLD.topics) - {"shadow"}  # which no node reads or writes


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(replace(REAL_WORLD, journal=broken.PositionBeforeRows), id="position before rows"),
        pytest.param(replace(REAL_WORLD, journal=broken.EmitsBeforeCommit), id="emits before the commit"),
        pytest.param(replace(REAL_WORLD, journal=broken.EmitsAfterCommit), id="emits after the commit"),
        pytest.param(replace(REAL_WORLD, runtime=broken.LostWakes), id="lost wakes"),
    ],
)
def test_a_broken_runtime_is_caught_on_a_bad_day(world: object) -> None:
    with pytest.raises(AssertionError):
        check_crashes(world, A_BAD_DAY, folds_only=True)  # type: ignore[arg-type]  # a World


def check_invents_nothing(rig: Rig) -> None:
    """Assert that all that is told comes from what was posted, and every escalation from an incident that opened."""
    journal = rig.journal
    bodies = {entry.value for entry in rig.appended}
    alerts = [Alert.model_validate_json(each.value) for each in _typed(rig, "alerts", Alert.TYPE)]
    raw = b"\n".join(bodies)
    assert all(alert.alert_id.split("@")[0].encode() in raw for alert in alerts)
    said = {(alert.fingerprint, alert.summary, alert.severity, tuple(alert.labels.items())) for alert in alerts}
    opened: set[str] = set()
    for record in log_of(journal, "incidents.enriched", 0):
        incident = Incident.model_validate_json(record.value)
        if incident.change is IncidentChange.OPENED:
            opened.add(incident.incident_id)
        assert incident.incident_id in opened
        for member in (incident.root, *incident.joined):
            told = (member.fingerprint, member.summary, member.severity, tuple(member.labels.items()))
            assert told in said
        assert set(incident.left) <= {alert.fingerprint for alert in alerts}
        assert 0 <= incident.open_count <= incident.total_count
    escalations = [Escalation.model_validate_json(each.value) for each in _typed(rig, "escalations", Escalation.TYPE)]
    assert all(each.incident_id in opened for each in escalations if each.action is not PageAction.CHANGE)
    asked = {(each.incident_id, each.destination, each.action, each.seq) for each in escalations}
    for record in log_of(journal, "pages", 0):
        page = Page.model_validate_json(record.value)
        assert (page.incident_id, page.destination, page.action, page.seq) in asked
    for record in log_of(journal, "dead-letters", 0):
        letter = DeadLetter.decode(record.value, record.headers)
        inbox = log_of(journal, letter.topic, letter.partition)
        assert letter.stage or letter.value == inbox[letter.offset].value


def _typed(rig: Rig, topic: str, kind: str) -> list[Record]:
    """Return the records of a type, without those that the script itself made up, which are refused."""
    made_up = {entry.value for entry in rig.appended if entry.topic == topic}
    held = log_of(rig.journal, topic, 0)
    return [each for each in held if each.value not in made_up and each.headers.get("type") == kind.encode()]
