from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.core.errors import Rejected
from streamproc.core.event import DeadLetter, Why
from streamproc.core.fold import Overlay
from streamproc.core.step import Step
from streamproc.events.alert import Severity
from streamproc.events.escalation import Escalation, Outcome, Page, PageAction, PageText, Receipt, Verdict
from streamproc.stages.deliver import STAGE, Reason, intent_key, step
from streamproc.state import INTENT, IntentRow
from tests.support.rows import commit, rows_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)
KEY, DEDUP = "R" * 28 + "1234", "in:v1:prod:eu:1"
ROW = intent_key(KEY, DEDUP)
TRIGGER, ACKNOWLEDGE, RESOLVE, CHANGE = PageAction
DELIVERED, REFUSED, SKIPPED = Verdict.DELIVERED, Verdict.REFUSED, Verdict.SKIPPED


def wants(action: PageAction, seq: int, **changes: Any) -> Escalation:
    text = (
        PageText(summary=f"page {seq}", source="db", severity=Severity.ERROR) if action in (TRIGGER, CHANGE) else None
    )
    given_ = {
        "incident_id": DEDUP,
        "scope": "prod:eu",
        "destination": "default",
        "routing_key": KEY,
        "dedup_key": DEDUP,
        "action": action,
        "seq": seq,
        "text": text,
        "at": T0 + timedelta(seconds=seq),
        "receipt": Receipt(inbox="abc"),
        "trail": (Why(stage="escalate", reason="severity", now=T0, origin="episodes/0/1"),),
    }
    return Escalation.model_validate({**given_, **changes})


def came(action: PageAction, seq: int, verdict: Any = DELIVERED, **changes: Any) -> Outcome:
    given_ = {
        "routing_key": KEY,
        "dedup_key": DEDUP,
        "incident_id": DEDUP,
        "destination": "default",
        "action": action,
        "seq": seq,
        "verdict": verdict,
        "status": 202,
        "sent_at": T0 + timedelta(seconds=seq + 1),
        "decided_at": T0 + timedelta(seconds=seq),
        "severity": Severity.ERROR if action in (TRIGGER, CHANGE) else None,
        "summary": f"page {seq}" if action in (TRIGGER, CHANGE) else "",
    }
    return Outcome.model_validate({**given_, **changes})


def play(rows: Overlay, event: Escalation | Outcome) -> Step:
    taken = step(event, rows, T0, None)
    commit(rows, taken)
    return taken


def shown(taken: Step) -> Page:
    (page,) = taken.emit
    assert isinstance(page, Page)
    return page


Life = list[tuple[Escalation | Outcome, Reason, list[int] | None]]
"""What comes in, the reason, and the numbers that wait then; None where no row is left."""

CASES = [
    pytest.param(
        [
            (wants(TRIGGER, 1), Reason.WANTED, [1]),
            (came(TRIGGER, 1), Reason.DELIVERED, []),
            (wants(ACKNOWLEDGE, 2), Reason.WANTED, [2]),
            (came(ACKNOWLEDGE, 2), Reason.DELIVERED, []),
            (wants(RESOLVE, 3), Reason.WANTED, [3]),
            (came(RESOLVE, 3), Reason.DELIVERED, None),
        ],
        id="a life",
    ),
    pytest.param(
        [
            (wants(TRIGGER, 1), Reason.WANTED, [1]),
            (wants(TRIGGER, 2), Reason.RENEWED, [2]),
            (came(TRIGGER, 2), Reason.DELIVERED, []),
        ],
        id="a newer trigger takes the place of one that waits",
    ),
    pytest.param(
        [
            (wants(TRIGGER, 1), Reason.WANTED, [1]),
            (wants(TRIGGER, 2), Reason.RENEWED, [2]),
            (came(TRIGGER, 1), Reason.DELIVERED, [2]),
        ],
        id="the older one was on its way already",
    ),
    pytest.param(
        [
            (wants(TRIGGER, 1), Reason.WANTED, [1]),
            (wants(ACKNOWLEDGE, 2), Reason.WANTED, [1, 2]),
            (wants(RESOLVE, 3), Reason.OVERTAKEN, [3]),
            (came(RESOLVE, 3, SKIPPED, status=None), Reason.SKIPPED, None),
        ],
        id="resolved before anything was sent",
    ),
    pytest.param(
        [
            (wants(TRIGGER, 1), Reason.WANTED, [1]),
            (wants(RESOLVE, 2), Reason.OVERTAKEN, [2]),
            (came(TRIGGER, 1), Reason.DELIVERED, [2]),
            (came(RESOLVE, 2), Reason.DELIVERED, None),
        ],
        id="overtaken on its way: the resolve still goes",
    ),
    pytest.param(
        [
            (wants(TRIGGER, 1), Reason.WANTED, [1]),
            (came(TRIGGER, 1), Reason.DELIVERED, []),
            (wants(RESOLVE, 2), Reason.WANTED, [2]),
            (wants(TRIGGER, 3), Reason.WANTED, [2, 3]),
            (came(RESOLVE, 2), Reason.DELIVERED, [3]),
            (came(TRIGGER, 3), Reason.DELIVERED, []),
        ],
        id="reopened before its resolve was sent: both, in order",
    ),
    pytest.param(
        [
            (wants(RESOLVE, 2), Reason.WANTED, [2]),
            (wants(TRIGGER, 3), Reason.WANTED, [2, 3]),
            (wants(RESOLVE, 4), Reason.OVERTAKEN, [4]),
            (came(RESOLVE, 2), Reason.DELIVERED, [4]),
            (came(RESOLVE, 4), Reason.DELIVERED, None),
        ],
        id="an older resolve's answer does not close what a newer one waits for",
    ),
    pytest.param(
        [
            (wants(TRIGGER, 5), Reason.WANTED, [5]),
            (wants(TRIGGER, 5), Reason.OUTDATED, [5]),
            (wants(TRIGGER, 4), Reason.OUTDATED, [5]),
        ],
        id="said again, and an older one",
    ),
    pytest.param(
        [(wants(TRIGGER, 1), Reason.WANTED, [1]), (came(TRIGGER, 1, REFUSED, status=400), Reason.REFUSED, [])],
        id="refused",
    ),
    pytest.param(
        [
            (wants(RESOLVE, 1), Reason.WANTED, [1]),
            (came(RESOLVE, 1, REFUSED, status=400), Reason.REFUSED, None),
        ],
        id="a refused resolve is over too",
    ),
    pytest.param(
        [(wants(CHANGE, 1), Reason.WANTED, [1]), (came(CHANGE, 1), Reason.DELIVERED, None)],
        id="a change event leaves nothing behind",
    ),
    pytest.param([(wants(TRIGGER, 1, routing_key=""), Reason.NO_ROUTING_KEY, None)], id="no routing key"),
    pytest.param([(came(TRIGGER, 1), Reason.UNKNOWN_INTENT, None)], id="an answer to nothing"),
    pytest.param(
        [
            (wants(RESOLVE, 1), Reason.WANTED, [1]),
            (came(RESOLVE, 1), Reason.DELIVERED, None),
            (came(RESOLVE, 1), Reason.UNKNOWN_INTENT, None),
        ],
        id="an answer told twice, since the process died between",
    ),
]


@pytest.mark.parametrize("life", CASES)
def test_lives(life: Life) -> None:
    rows = rows_of()
    for event, reason, waits in life:
        taken = play(rows, event)
        row = rows.get(INTENT, ROW)
        assert (taken.reason, None if row is None else [said.seq for said in row.pending]) == (reason, waits)
        told = reason in (Reason.DELIVERED, Reason.REFUSED, Reason.SKIPPED, Reason.NO_ROUTING_KEY)
        assert bool(taken.emit) is told


def test_every_reason_is_reached() -> None:
    lives = [cast("Life", case.values[0]) for case in CASES]
    assert {reason for life in lives for _, reason, _ in life} == set(Reason)
    assert STAGE.unintended == {Reason.NO_ROUTING_KEY, Reason.REFUSED, Reason.UNKNOWN_INTENT}


def test_a_row_remembers_what_reached_pagerduty() -> None:
    rows = rows_of()
    for event in (wants(TRIGGER, 1), wants(RESOLVE, 2), wants(TRIGGER, 3), wants(RESOLVE, 4)):
        taken = play(rows, event)
    assert taken.figures == {"action": "resolve", "waiting": 1, "overtaken": 1}
    row = rows.get(INTENT, ROW)
    assert row == IntentRow(pending=(wants(RESOLVE, 4),), stale=2, last=wants(RESOLVE, 4), title="page 3")
    play(rows, came(TRIGGER, 3))
    row = rows.get(INTENT, ROW)
    assert row is not None
    assert (row.triggered, row.refused) == (True, False)
    play(rows, came(ACKNOWLEDGE, 3, REFUSED))
    row = rows.get(INTENT, ROW)
    assert row is not None
    assert (row.triggered, row.refused) == (True, True)


def test_a_refused_trigger_was_not_taken() -> None:
    rows = rows_of()
    play(rows, wants(TRIGGER, 1))
    play(rows, came(TRIGGER, 1, REFUSED))
    row = rows.get(INTENT, ROW)
    assert row is not None
    assert (row.triggered, row.refused) == (False, True)


def test_the_page_tells_what_was_sent_and_why() -> None:
    rows, said = rows_of(), wants(TRIGGER, 1)
    play(rows, said)
    taken = play(rows, came(TRIGGER, 1, message="Event processed", attempts=3, body="{}"))
    assert taken.figures == {"action": "trigger", "status": 202, "attempts": 3}
    assert shown(taken) == Page(
        incident_id=DEDUP,
        destination="default",
        routing_key_hint="1234",
        dedup_key=DEDUP,
        action=TRIGGER,
        seq=1,
        verdict=DELIVERED,
        status=202,
        message="Event processed",
        attempts=3,
        decided_at=said.at,
        sent_at=T0 + timedelta(seconds=2),
        severity=Severity.ERROR,
        summary="page 1",
        body="{}",
        receipt=said.receipt,
        trail=said.trail,
    )


def test_the_page_of_what_was_overtaken_on_its_way_keeps_its_own_action() -> None:
    rows = rows_of()
    play(rows, wants(TRIGGER, 1))
    play(rows, wants(RESOLVE, 2))
    page = shown(play(rows, came(TRIGGER, 1)))
    assert (page.action, page.seq, page.severity, page.summary) == (TRIGGER, 1, Severity.ERROR, "page 1")


def test_the_page_of_a_destination_without_a_key() -> None:
    taken = step(wants(TRIGGER, 1, routing_key=""), rows_of(), T0, None)
    page = shown(taken)
    assert (page.verdict, page.message) == (REFUSED, "destination default has no routing key")
    assert (page.routing_key_hint, page.sent_at, taken.figures) == ("", T0, {"destination": "default"})


@pytest.mark.parametrize(
    "other", [{"routing_key": "another"}, {"dedup_key": f"{DEDUP}/2"}], ids=["another routing key", "another dedup key"]
)
def test_alerts_at_pagerduty_are_apart(other: dict[str, str]) -> None:
    rows = rows_of()
    play(rows, wants(TRIGGER, 5))
    assert play(rows, wants(TRIGGER, 1, **other)).reason is Reason.WANTED
    row = rows.get(INTENT, ROW)
    assert row is not None
    assert [said.seq for said in row.pending] == [5]


@given(st.lists(st.tuples(st.sampled_from([TRIGGER, ACKNOWLEDGE, RESOLVE, None]), st.booleans()), max_size=30))
def test_what_was_wanted_last_is_what_pagerduty_has(said: list[tuple[PageAction | None, bool]]) -> None:
    """None stands for a turn of the sender; a flag for its answer coming late, after what is wanted next."""
    rows, seq, late = rows_of(), 0, list[Outcome]()
    pagerduty: str = ""
    wanted: str = ""

    def send() -> None:
        nonlocal pagerduty
        row = rows.get(INTENT, ROW)
        if row is None or not row.pending or late:
            return
        first = row.pending[0]
        assert len({waiting.action for waiting in row.pending}) == len(row.pending)
        pagerduty = {TRIGGER: "open", RESOLVE: ""}.get(first.action, pagerduty)
        late.append(came(first.action, first.seq))

    def answer() -> None:
        while late:
            play(rows, late.pop())

    for action, waits in said:
        if action is None:
            send()
            if not waits:
                answer()
        else:
            seq += 1
            wanted = {TRIGGER: "open", RESOLVE: ""}.get(action, wanted)
            play(rows, wants(action, seq))
    for _ in range(5):
        answer()
        send()
    assert pagerduty == wanted
    row = rows.get(INTENT, ROW)
    assert row is None or not row.pending
    assert row is None or wanted or row.last is None or row.last.action is ACKNOWLEDGE


def test_what_pagerduty_refuses_is_a_dead_letter_without_the_key_and_can_be_retried() -> None:
    rows = rows_of()
    play(rows, wants(TRIGGER, 1))
    page, letter = play(rows, came(TRIGGER, 1, REFUSED, status=400, message="invalid event: no such key")).emit
    assert isinstance(page, Page)
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.detail) == ("refused_by_pagerduty", "400: invalid event: no such key")
    assert letter.headers == {"type": "escalation.v1"}
    assert KEY.encode() not in letter.value
    retried = Escalation.decode(letter.value, {})
    other = wants(TRIGGER, 1, routing_key="Q" * 32)
    play(rows, other)
    assert play(rows, retried).reason is Reason.WANTED
    row = rows.get(INTENT, ROW)
    assert row is not None
    assert (row.pending, row.refused) == ((wants(TRIGGER, 1),), False)
    assert play(rows, retried).reason is Reason.OUTDATED


def test_a_retry_of_what_is_over_is_refused() -> None:
    masked = wants(TRIGGER, 1, routing_key=f"...{KEY[-4:]}")
    with pytest.raises(Rejected, match="its incident is over"):
        play(rows_of(), masked)


def test_the_page_tells_what_was_sent_though_something_newer_is_wanted() -> None:
    rows = rows_of()
    play(rows, wants(TRIGGER, 1))
    play(rows, wants(TRIGGER, 2))
    page = shown(play(rows, came(TRIGGER, 1)))
    assert (page.seq, page.summary, page.decided_at) == (1, "page 1", T0 + timedelta(seconds=1))


def test_a_repair_is_sent_though_nothing_is_known_of_its_trigger() -> None:
    rows = rows_of()
    assert play(rows, wants(RESOLVE, 3, repair=True)).reason is Reason.WANTED
    row = rows.get(INTENT, ROW)
    assert row is not None
    assert row.triggered
    assert play(rows, wants(RESOLVE, 3, repair=True)).reason is Reason.OUTDATED
    assert play(rows, came(RESOLVE, 3)).reason is Reason.DELIVERED
    assert rows.get(INTENT, ROW) is None


def test_a_repair_never_overtakes_what_was_said_since() -> None:
    rows = rows_of()
    play(rows, wants(TRIGGER, 4))
    assert play(rows, wants(RESOLVE, 3, repair=True)).reason is Reason.OUTDATED


def test_what_is_no_repair_says_nothing_of_it_on_the_wire() -> None:
    assert b"repair" not in wants(RESOLVE, 3).encode()
    assert Escalation.decode(wants(RESOLVE, 3, repair=True).encode(), {}).repair
