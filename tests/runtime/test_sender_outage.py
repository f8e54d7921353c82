"""PagerDuty away for an hour, with hundreds of incidents that come, grow and go meanwhile."""

from __future__ import annotations

import random
from collections import Counter

from streamproc.events.alert import Severity
from streamproc.events.escalation import PageAction, Verdict
from streamproc.runtime.pace import LOOK_BACK
from tests.support.sending import DOWN, TAKEN, World

INCIDENTS = 600
LIMIT = 120
LEVELS = (Severity.CRITICAL, Severity.ERROR, Severity.WARNING)


async def test_an_hour_without_pagerduty() -> None:
    chance = random.Random(7)  # noqa: S311  a schedule, no secret
    world = World()
    world.pagerduty.answer = lambda _: DOWN
    await world.begin()
    firing: dict[str, Severity] = {}
    gone: set[str] = set()
    for at in range(INCIDENTS):
        key, severity = f"i{at:03}", chance.choice(LEVELS)
        firing[key] = severity
        await world.trigger(key, severity)
        if chance.random() < 0.5:
            await world.want(world.say(key, severity=severity, summary=f"{key} has grown"))
        if chance.random() < 0.4:
            over = chance.choice(sorted(firing))
            del firing[over]
            gone.add(over)
            await world.resolve(over)
        await world.timing.advance(3600 / INCIDENTS)
    asked = len(world.pagerduty.requests)
    assert asked < 150, "one request at a time asks whether it is back, ever more seldom"
    assert max(len(row.pending) for row in world.log.standing().values() if row) == 1, "only the newest state waits"
    assert world.notifier.titles == [world.notifier.titles[0]]
    assert "not delivered" in world.notifier.titles[0]

    back = world.timing.monotonic()
    world.pagerduty.answer = lambda _: TAKEN
    await world.timing.advance(900.0)
    sent = world.pagerduty.requests[asked:]
    triggers = Counter(request.body["dedup_key"] for request in sent if request.body.get("event_action") == "trigger")
    assert triggers == Counter(firing.keys()), "each that still fires once, in its newest state, none that is over"
    # A 503 may have been taken: what was tried is resolved for safety, all else without a request.
    tried = {request.body["dedup_key"] for request in world.pagerduty.requests[:asked]}
    ended = {request.body["dedup_key"] for request in sent if request.body.get("event_action") == "resolve"}
    assert ended == gone & tried
    assert len(world.log.digests) == 1, "one summary of what came and went"
    skipped = [one.dedup_key for one in world.log.outcomes if one.verdict is Verdict.SKIPPED]
    assert sorted(skipped) == sorted(gone - tried), "stale pages are not sent, and counted"
    moments = [request.seconds for request in sent]
    assert all(later - first > LOOK_BACK - 1 for first, later in zip(moments, moments[LIMIT:], strict=False)), "paced"
    keys = [str(request.body.get("dedup_key")) for request in sent]
    order = [firing[key] for key in keys if key in firing]
    half = order[: len(order) // 3]
    assert half.count(Severity.CRITICAL) > half.count(Severity.WARNING), "criticals go first"
    assert world.notifier.titles[1:] == ["PagerDuty takes pages again"]
    assert min(moments) >= back
    assert not any(row.pending for row in world.log.standing().values() if row)
    for key in sorted(firing):
        await world.resolve(key)
    await world.timing.advance(900.0)
    assert world.log.standing() == {}, "nothing of it is kept"
    resolved = [
        one for one in world.log.outcomes if one.action is PageAction.RESOLVE and one.verdict is Verdict.DELIVERED
    ]
    assert len(resolved) == len(firing) + len(ended)
    await world.end()
