"""The toy topology as a world of laws: a script with everything in it, and scripts made up by hypothesis."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import strategies as st

from streamproc.core.event import Activated, Artifact, Event, iso
from streamproc.core.fold import CONFIG
from streamproc.ports import Entry
from streamproc.runtime.memory import Memory
from tests.laws.crash import Act, Pass, Push, Script, World, push
from tests.support.toy import LETTERS, TOPICS, TOY, Line, Word

TOY_WORLD = World(TOY, TOPICS, LETTERS, partitions=2)
LATER = Pass(timedelta(hours=2))
"""After this no toy row waits any more."""
BODIES = ('{"count": {"nudge_at": 2}}', '{"count": {"idle": 60}, "split": {"skip": ["ape"]}}', "no JSON")


def line(text: str, sender: str = "ann") -> Push:
    return push("lines", Line(sender=sender, text=text), sender)


def dated(event: Event, topic: str, key: str, ahead: timedelta) -> Push:
    """Return a push whose `now` is not the clock's: another machine stamped it."""

    def entries(memory: Memory) -> Sequence[Entry]:
        headers = {"type": event.TYPE.encode(), "now": iso(memory.clock.now() + ahead)}
        return [Entry(topic, key.encode(), event.encode(), headers)]

    return Push(entries)


def activate(kind: str, version: int, body: str) -> Push:
    checksum = hashlib.sha256(body.encode()).hexdigest()
    artifact = Artifact(kind=kind, version=version, checksum=checksum, body=body)
    active = Activated(kind=kind, version=version, checksum=checksum)
    entries = [Entry.of("versions", artifact, artifact.artifact_id), Entry.of("switches", active)]
    return Push(lambda _: entries)


EVERYTHING: Script = (
    line("ape bee cat"),
    line("ape ant bee"),
    Pass(),
    line("ape", "bob"),
    Pass(timedelta(minutes=1)),
    line("ape ! bee"),
    line("ape ? bee #oh"),
    activate(CONFIG, 1, BODIES[0]),
    Pass(),
    line("dog dog dog"),
    activate("heading", 1, "animals"),
    Pass(timedelta(minutes=11)),
    dated(Word(word="ant"), "words", "ant", timedelta(minutes=3)),
    dated(Word(word="eel"), "words", "eel", timedelta(minutes=-3)),
    Pass(),
    dated(Word(word="ant"), "words", "ant", timedelta(minutes=-3)),
    Pass(timedelta(minutes=8)),
    line("ant ape"),
    LATER,
)

WORDS = st.sampled_from(["ape", "ant", "bee", "bat", "cat", "!", "?", "#oh"])
TEXTS = st.lists(WORDS, max_size=5).map(" ".join)
MINUTES = st.sampled_from([-4, -1, 0, 0, 1, 4])
ACTS: st.SearchStrategy[Act] = st.one_of(
    st.builds(line, TEXTS, st.sampled_from(["ann", "bob", "cid"])),
    st.builds(
        lambda word, minutes: dated(Word(word=word), "words", word, timedelta(minutes=minutes)),
        st.sampled_from(["ape", "ant", "bee"]),
        MINUTES,
    ),
    st.builds(activate, st.just(CONFIG), st.integers(1, 4), st.sampled_from(BODIES)),
    st.builds(activate, st.just("heading"), st.integers(1, 4), st.sampled_from(["animals", "plants", "two\nlines"])),
    st.builds(Pass, st.sampled_from([0, 0, 30, 300, 601, 1200]).map(lambda seconds: timedelta(seconds=seconds))),
)
SCRIPTS = st.lists(ACTS, min_size=1, max_size=8).map(lambda acts: (*acts, LATER))
