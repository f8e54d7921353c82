"""The check of PagerDuty's view can fail: what was asked of it is bent, one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from streamproc.core.event import Event
from streamproc.core.record import Record
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.emulator import Emulator
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, Outcome, Page, PageAction, PageText, Verdict
from tests.kafka.exact import Left
from tests.kafka.load import Story
from tests.kafka.paged import check_paged

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, ROUTING = "in:v1:prod:c1:0011223344556677", "R" * 32
TRIGGER, RESOLVE = PageAction.TRIGGER, PageAction.RESOLVE
Ask = Callable[[Emulator, Left], None]


def said(action: PageAction, seq: int) -> Escalation:
    text = PageText(summary="story 1", source="c1", severity=Severity.CRITICAL) if action is TRIGGER else None
    at = T0 + timedelta(seconds=seq)
    pinned = {"incident_id": KEY, "scope": "prod:c1", "destination": "default", "routing_key": ROUTING}
    return Escalation.model_validate({**pinned, "dedup_key": KEY, "action": action, "seq": seq, "text": text, "at": at})


def reported(each: Escalation) -> Outcome:
    return Outcome(
        routing_key=ROUTING,
        dedup_key=KEY,
        incident_id=KEY,
        destination="default",
        action=each.action,
        seq=each.seq,
        verdict=Verdict.DELIVERED,
        sent_at=each.at,
    )


def page(each: Escalation) -> Page:
    return Page(
        incident_id=KEY,
        destination="default",
        routing_key_hint="RRRR",
        dedup_key=KEY,
        action=each.action,
        seq=each.seq,
        verdict=Verdict.DELIVERED,
        decided_at=each.at,
        sent_at=each.at,
    )


def log(topic: str, *events: Event) -> list[Record]:
    kinds = [{"type": event.TYPE.encode(), **event.extra_headers()} for event in events]
    return [
        Record(topic, 0, at, event.encode(), T0, b"", headers)
        for at, (event, headers) in enumerate(zip(events, kinds, strict=True))
    ]


def ask(emulator: Emulator, each: Escalation, key: str = KEY) -> None:
    body = {"routing_key": ROUTING, "event_action": each.action.value, "dedup_key": key}
    if each.action is TRIGGER:
        body["payload"] = {"summary": "story 1", "severity": "critical", "timestamp": each.at.isoformat()}  # type: ignore[assignment]
    emulator.take("alert", "/v2/enqueue", body, 202, None)


def nothing(emulator: Emulator, left: Left) -> None:
    """All is well."""


def again(emulator: Emulator, left: Left) -> None:
    ask(emulator, said(RESOLVE, 2))


def time_stood_still(emulator: Emulator, left: Left) -> None:
    third = said(TRIGGER, 3).model_copy(update={"at": said(TRIGGER, 1).at})
    fourth = said(RESOLVE, 4)
    left.logs["escalations", 0] += log("escalations", third, reported(third), fourth, reported(fourth))
    ask(emulator, third)
    ask(emulator, fourth)


def older_after_newer(emulator: Emulator, left: Left) -> None:
    ask(emulator, said(TRIGGER, 1))


def never_wanted(emulator: Emulator, left: Left) -> None:
    ask(emulator, said(TRIGGER, 7), key="in:v1:prod:c1:other")


def not_as_decided(emulator: Emulator, left: Left) -> None:
    ask(emulator, said(TRIGGER, 9))


def open_at_last(emulator: Emulator, left: Left) -> None:
    left.logs["escalations", 0] += log("escalations", said(TRIGGER, 3), reported(said(TRIGGER, 3)))


def unreported(emulator: Emulator, left: Left) -> None:
    left.logs["escalations", 0] += log("escalations", said(RESOLVE, 3))


def published_twice(emulator: Emulator, left: Left) -> None:
    left.logs["pages", 0] += log("pages", page(said(TRIGGER, 1)))


def checked(bend: Ask, *, resolves: bool = True) -> dict[str, int]:
    emulator, trigger, resolve = (
        Emulator(EmulatorConfig(), lambda: T0 + timedelta(minutes=1)),
        said(TRIGGER, 1),
        said(RESOLVE, 2),
    )
    left = Left({})
    left.logs["escalations", 0] = log("escalations", trigger, reported(trigger), resolve, reported(resolve))
    left.logs["pages", 0] = log("pages", page(trigger), page(resolve))
    ask(emulator, trigger)
    ask(emulator, resolve)
    bend(emulator, left)
    story = Story(1, "c1", "checkout", "critical", 1, resolves=resolves, begun=T0)
    return check_paged(left, emulator, [story])


@pytest.mark.parametrize(
    ("bend", "opened"),
    [
        pytest.param(nothing, 1, id="all is well"),
        pytest.param(again, 1, id="the last request again"),
        pytest.param(time_stood_still, 2, id="it fired again within the log's moment"),
    ],
)
async def test_what_was_wanted_passes(bend: Ask, opened: int) -> None:
    assert checked(bend)["opened"] == opened


@pytest.mark.parametrize(
    ("bend", "found"),
    [
        pytest.param(older_after_newer, "was told number 1 after 2", id="an older request after a newer"),
        pytest.param(never_wanted, "1 that nobody wanted", id="an incident that nobody wanted"),
        pytest.param(not_as_decided, "was told number -1 after 2", id="a request that was never decided"),
        pytest.param(open_at_last, "PagerDuty has 0 open alerts", id="the last word was not heard"),
        pytest.param(unreported, "nobody reported what came of number 3", id="the last word has no outcome"),
        pytest.param(published_twice, "1 pages are published twice", id="a public record twice"),
    ],
)
async def test_what_was_not_is_found(bend: Ask, found: str) -> None:
    with pytest.raises(AssertionError, match=found):
        checked(bend)


async def test_a_critical_that_fires_must_be_open() -> None:
    with pytest.raises(AssertionError, match="PagerDuty has nothing open there"):
        checked(nothing, resolves=False)
