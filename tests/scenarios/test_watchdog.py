"""A watchdog through the whole pipeline: its silence pages, and an absence of ours is not taken for it."""

from __future__ import annotations

from datetime import timedelta

from streamproc.events.escalation import Escalation
from streamproc.runtime.memory import Memory
from streamproc.topology import LETTERS, TOPOLOGY
from tests.conformance.play import Play

WATCHDOGS = {"prometheus": {"matchers": ['service="watchdog"'], "within": "PT5M"}}


def watched() -> Play:
    play = Play()
    play.configure(deduplicate={"watchdogs": WATCHDOGS})
    play.arm(adopt=False)
    return play


def beat(play: Play) -> None:
    play.fire("w", name="Watchdog", service="watchdog", minutes_ago=0)


def said(play: Play) -> list[tuple[str, str]]:
    records = play.memory.records("escalations")
    told = [Escalation.model_validate_json(one.value) for one in records if one.headers["type"] == b"escalation.v1"]
    return [(str(one.action), one.text.summary if one.text else "") for one in told]


def test_its_silence_pages_and_its_return_resolves() -> None:
    play = watched()
    for _ in range(5):
        beat(play)
        play.wait(4)
    assert said(play) == []
    play.wait(1)
    ((action, summary),) = said(play)
    assert action == "trigger"
    assert "Watchdog has not been heard for 5 min" in summary
    play.send()
    play.wait(60)
    assert len(said(play)) == 1
    beat(play)
    assert [action for action, _ in said(play)] == ["trigger", "resolve"]
    play.send()
    play.wait(4)
    assert len(said(play)) == 2


def restarted(play: Play, away: timedelta) -> None:
    """Start anew over the same log, `away` later, as after an outage of ours: timers fire at once."""
    play.clock.advance(away)
    play.memory = Memory(TOPOLOGY, LETTERS, play.memory.journal, play.clock)
    play.wait(0)


def test_an_outage_of_ours_is_not_its_silence() -> None:
    play = watched()
    beat(play)
    restarted(play, timedelta(hours=2))
    play.wait(4)
    assert said(play) == []
    beat(play)
    play.wait(4)
    assert said(play) == []


def test_what_stays_silent_after_an_outage_of_ours_pages() -> None:
    play = watched()
    beat(play)
    restarted(play, timedelta(hours=2))
    play.wait(5)
    ((action, summary),) = said(play)
    assert action == "trigger"
    assert "Watchdog has not been heard for 125 min" in summary
