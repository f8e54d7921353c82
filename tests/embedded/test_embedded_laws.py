"""The same inbox gives the same rows and emits: what the embedded runtime did is what the pure fold says it must do."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.events.feedback import Feedback, FeedbackKind, Matcher, Policy, PolicyKind
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.runtime.embedded.journal import SqliteJournal
from streamproc.runtime.embedded.spool import submit
from streamproc.state import IntentRow
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.embedded.pipelines import T0, Pipeline, alert, configured, outcome_of, policy, raw, started
from tests.support.replay import check_held, check_rest

MOMENTS = st.integers(-10, 60).map(lambda minutes: T0 + timedelta(minutes=minutes))
ALERTS = st.builds(
    alert,
    st.sampled_from(["down", "slow", "full"]),
    st.sampled_from(["db", "web", "cart"]),
    status=st.sampled_from(["firing", "firing", "resolved"]),
    since=MOMENTS,
    severity=st.sampled_from(["critical", "page", "warning", "info", "nonsense"]),
)
BODIES = st.lists(ALERTS, min_size=1, max_size=4).map(lambda alerts: raw(*alerts))
GARBAGE = st.binary(max_size=20).map(lambda value: raw(value=value))
SILENCES = st.builds(
    lambda version, service, minutes, withdrawn: Entry.of(
        "policies",
        Policy(
            policy_id=f"silence-{service}",
            kind=PolicyKind.SILENCE,
            version=version,
            matchers=(Matcher(name="service", op="=", value=service),),
            starts_at=T0,
            ends_at=T0 + timedelta(minutes=minutes),
            withdrawn=withdrawn,
        ),
    ),
    st.integers(1, 3),
    st.sampled_from(["db", "web"]),
    st.integers(-5, 90),
    st.booleans(),
)
POSTS = st.lists(st.one_of(BODIES, BODIES, BODIES, GARBAGE, SILENCES), min_size=1, max_size=6)
ACTS = st.one_of(
    st.tuples(st.just("post"), POSTS),
    st.tuples(st.just("post"), POSTS),
    st.tuples(st.just("spool"), POSTS),
    st.tuples(st.just("respond"), st.sampled_from(list(FeedbackKind))),
    st.tuples(st.just("pass"), st.integers(1, 400)),
    st.tuples(st.just("restart"), st.none()),
)


class World:
    """A pipeline that lives through some acts, with a sender that PagerDuty always answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(T0)
        self.appended: list[Entry] = []
        self.known: dict[str, IntentRow] = {}

    async def live(self, acts: Iterator[tuple[str, Any]]) -> None:
        """Live through some acts until the pipeline is started anew."""
        first = [*configured(), policy(adopt=True)] if not self.appended else []
        self.appended += first
        async with started(self.folder, clock=self.clock, first=first) as pipeline:
            self.take(pipeline.intents)
            pipeline.runtime.offer_to(self.take, lambda _: None)
            for act, what in acts:
                await self.send(pipeline)
                if act == "restart":
                    return
                await self.do(pipeline, act, what)
            await self.send(pipeline)
            await pipeline.until(lambda: pipeline.at_rest)
            await self.send(pipeline)

    def take(self, changes: Mapping[str, IntentRow | None]) -> None:
        for key, row in changes.items():
            self.known.pop(key, None)
            if row is not None and row.pending:
                self.known[key] = row

    async def do(self, pipeline: Pipeline, act: str, what: Any) -> None:
        if act == "post":
            self.appended += what
            await asyncio.gather(*[pipeline.runtime.append([entry]) for entry in what])
        elif act == "spool":
            self.appended += what
            await asyncio.to_thread(submit, self.folder, what, 0.0)
        elif act == "respond":
            rows = sorted(self.known.values(), key=lambda row: row.last.incident_id if row.last else "")
            incident = rows[0].pending[0].incident_id if rows else "in:v1:prod::00"
            feedback = Feedback(
                feedback_id=f"{what}-{len(self.appended)}",
                incident_id=incident,
                kind=what,
                page=what is FeedbackKind.LABEL or None,
                at=T0,
            )
            self.appended.append(Entry.of("feedback", feedback, incident))
            await pipeline.runtime.append(self.appended[-1:])
        else:
            self.clock.advance(timedelta(minutes=what))

    async def send(self, pipeline: Pipeline) -> None:
        while self.known:
            row = next(iter(self.known.values()))
            said = outcome_of(row.pending[0], self.clock.now())
            self.appended.append(said)
            await pipeline.runtime.append([said])


async def _live(folder: Path, acts: list[tuple[str, Any]]) -> World:
    world = World(folder)
    left = iter(acts)
    for _ in range(1 + sum(act == "restart" for act, _ in acts)):
        await world.live(left)
    return world


@given(acts=st.lists(ACTS, min_size=1, max_size=8), batch=st.sampled_from([1, 2, 7, 500]))
@settings(max_examples=settings().max_examples // 3)
def test_what_it_did_is_what_the_fold_says(acts: list[tuple[str, Any]], batch: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        world = asyncio.run(_live(Path(place), acts))
        with closing(SqliteJournal(Path(place), TOPICS)) as journal:
            check_held(TOPOLOGY, LETTERS, journal, world.appended, batch=batch)
            check_rest(TOPOLOGY, journal, world.clock.now())


def test_the_check_sees_a_row_that_is_not_of_its_inbox(tmp_path: Path) -> None:
    world = asyncio.run(_live(tmp_path, [("post", [raw(alert("down", "db"))])]))
    with closing(SqliteJournal(tmp_path, TOPICS)) as journal:
        check_held(TOPOLOGY, LETTERS, journal, world.appended)
        with journal.transaction():
            (key, value) = journal._db.execute("SELECT key, value FROM rows WHERE tbl='episode'").fetchone()
            changed = json.dumps({**json.loads(value), "repeats": 9}).encode()
            journal._db.execute("UPDATE rows SET value=? WHERE tbl='episode' AND key=?", (changed, key))
        with pytest.raises(AssertionError, match="rows of deduplicate/0 are not those of its inbox"):
            check_held(TOPOLOGY, LETTERS, journal, world.appended)
