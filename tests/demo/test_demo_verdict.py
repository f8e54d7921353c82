from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, RenderableType

from streamproc.core.event import Why
from streamproc.demo.figures import Figures, Shown
from streamproc.demo.scenario import Post, Scenario, Story
from streamproc.demo.stage import Outlived
from streamproc.demo.summary import explaining, posting, reasons, summary
from streamproc.demo.verdict import Verdict, judge
from streamproc.emulator.account import Effect
from streamproc.emulator.emulator import Taken
from streamproc.events.alert import Severity
from streamproc.events.incident import Action, Member
from streamproc.views import IncidentSummary, IncidentView

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "in:v1:prod:eu:0123456789abcdef"
PLAYED = Scenario(
    posts=(Post(0.0, "a", "alertmanager", "agent", b"", alerts=9, spoiled=1),),
    deeds=(),
    scenes=(),
    stories=(
        Story("Deploy", "prod:eu", frozenset({"payments"}), pages=1),
        Story("Warning", "prod:eu", frozenset({"mail"}), pages=0),
    ),
)
GOOD: dict[str, Any] = {"alerts": 9, "letters": 1, "repeats": 4, "incidents": 1, "pages": 1, "delays": (0.01, 0.02)}


def incident(service: str = "payments", scope: str = "prod:eu") -> IncidentSummary:
    return IncidentSummary(
        incident_id=ID,
        status="resolved",
        title="It hurts",
        severity=Severity.CRITICAL,
        scope=scope,
        service=service,
        services=(service,),
        opened_at=NOW,
        resolved_at=NOW,
        changed_at=NOW,
        open_count=0,
        total_count=5,
        muted=False,
        action=Action.NONE,
        reason="resolved",
        destination="default",
        dry_run=False,
        adopted=False,
        acknowledged_by="",
    )


def taken(effect: Effect | None = Effect.OPENED, **told: Any) -> Taken:
    fields: dict[str, Any] = {
        "n": 1,
        "at": NOW,
        "path": "/v2/enqueue",
        "action": "trigger",
        "routing_key": "",
        "dedup_key": ID,
        "status": 202,
        "effect": effect,
    }
    return Taken(**{**fields, **told})


RESOLVE = taken(Effect.RESOLVED, action="resolve")
DROPPED = taken(Effect.DROPPED, action="resolve")
UPDATE = taken(Effect.DEDUPLICATED, event={"n": 2})


def verdict(
    *asked: Taken,
    accepted: int = 10,
    failures: tuple[str, ...] = (),
    listed: tuple[IncidentSummary, ...] = (incident(),),
    **figures: Any,
) -> Verdict:
    return judge(PLAYED, accepted, failures, Figures(**{**GOOD, **figures}), listed, asked)


def test_kept_promises() -> None:
    found = verdict(taken(), taken(Effect.DEDUPLICATED, event={"n": 2}), taken(Effect.RESOLVED, action="resolve"))
    assert found.kept
    assert [(told.story.name, told.alerts, told.incidents, told.pages) for told in found.stories] == [
        ("Deploy", 5, (ID,), 1),
        ("Warning", 0, (), 0),
    ]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(verdict(taken(), accepted=8), "2 alerts were sent and not taken", id="not taken"),
        pytest.param(verdict(taken(), alerts=7), "2 alerts were taken, and neither decided nor kept", id="not decided"),
        pytest.param(verdict(taken(), letters=0), "1 alerts were taken, and neither decided nor kept", id="no letter"),
        pytest.param(verdict(taken(), failures=("no page came",)), "no page came", id="not played"),
        pytest.param(verdict(), "Deploy: 0 pages where 1 were due", id="no page"),
        pytest.param(
            verdict(taken(), listed=(incident(scope="prod:us"),)), "Deploy: 0 pages where 1 were due", id="elsewhere"
        ),
        pytest.param(
            verdict(taken(), taken(None, status=400, errors=("bad key",))),
            "PagerDuty refused a trigger: 400 bad key",
            id="refused",
        ),
    ],
)
def test_what_is_lost_is_named(found: Verdict, words: str) -> None:
    assert not found.kept
    assert len(found.lost) == 1
    assert found.lost[0].startswith(words)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(
            verdict(taken(event={"n": 1}), taken(event={"n": 2})), "Deploy: 2 pages where 1 were due", id="two pages"
        ),
        pytest.param(
            verdict(taken(), taken(Effect.DEDUPLICATED)), f"{ID}: the same trigger was sent 2 times", id="sent twice"
        ),
        pytest.param(
            verdict(taken(), taken(Effect.DROPPED, action="resolve", event={"n": 2})),
            f"{ID}: a resolve for what was not open",
            id="resolved twice",
        ),
        pytest.param(
            verdict(taken(), listed=(incident("mail"), incident())),
            "Warning: 1 pages where 0 were due",
            id="uncalled for",
        ),
    ],
)
def test_what_is_doubled_is_named(found: Verdict, words: str) -> None:
    assert not found.kept
    assert words in found.doubled


def test_alerts_that_were_decided_twice_are_doubled() -> None:
    assert verdict(taken(), again=2).doubled == ("2 alerts were decided more than once",)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        pytest.param(verdict(taken(), open_incidents=1), "1 incidents are open", id="incident"),
        pytest.param(
            verdict(taken(), shown=(Shown("triggered", "error", "It hurts", ""),)),
            "1 alerts are open at PagerDuty",
            id="alert",
        ),
        pytest.param(verdict(taken(), waiting=1), "1 alerts wait for something to be said", id="waiting"),
    ],
)
def test_what_is_not_closed_is_named(found: Verdict, words: str) -> None:
    assert not found.kept
    assert found.unclosed == (words,)


def shown(what: RenderableType) -> str:
    held = io.StringIO()
    Console(file=held, width=80).print(what)
    return held.getvalue()


def test_the_summary_says_that_promises_held() -> None:
    told = shown(summary(Figures(**GOOD), verdict(taken()), webhooks=3))
    for words in (
        "9  alerts received, firing and resolved, in 3 webhooks",
        "1  pages: 9 alerts a page",
        "15 ms  from the receipt of an alert to its page (p50; p95 20 ms)",
        "lost = 0",
        "doubled = 0",
        "open = 0",
        "PagerDuty has 0 open alerts",
    ):
        assert words in told
    assert max(len(line) for line in told.splitlines()) <= 80


@pytest.mark.parametrize(
    ("asked", "repeated", "doubled"),
    [
        pytest.param((taken(), taken(Effect.DEDUPLICATED)), 1, 0, id="the last trigger"),
        pytest.param((taken(), RESOLVE, DROPPED), 1, 0, id="the last resolve"),
        pytest.param((taken(), RESOLVE, DROPPED, DROPPED), 1, 1, id="twice again"),
        pytest.param((taken(), UPDATE, taken(Effect.DEDUPLICATED)), 0, 1, id="an older one"),
        pytest.param((taken(), taken()), 0, 2, id="people were paged again"),
    ],
)
def test_a_death_may_repeat_the_last_request_of_an_alert_once(
    asked: tuple[Taken, ...], repeated: int, doubled: int
) -> None:
    found = judge(PLAYED, 10, (), Figures(**GOOD), (incident(),), asked, died=True)
    assert (found.repeated, len(found.doubled)) == (repeated, doubled)
    without = judge(PLAYED, 10, (), Figures(**GOOD), (incident(),), asked)
    assert without.repeated == 0
    assert without.doubled


def test_the_summary_says_what_was_repeated() -> None:
    found = judge(PLAYED, 10, (), Figures(**GOOD), (incident(),), (taken(), RESOLVE, DROPPED), died=True)
    assert "the kill repeated 1 requests" in shown(summary(Figures(**GOOD), found, 3))


def test_the_summary_says_what_was_outlived() -> None:
    outlived = Outlived("worker-1", "worker-2", waited=1312, seconds=6.4)
    found = verdict(taken(), taken(event={"n": 2}))
    words = "6 s from kill -9 of worker-1 until worker-2 had taken over everything"
    told = " ".join(shown(summary(Figures(**GOOD), found, 3, outlived)).split())
    assert f"{words}: 1,312 records waited, 1 pages doubled" in told


def test_the_summary_says_which_promises_are_broken() -> None:
    told = shown(summary(Figures(), verdict(open_incidents=2), webhooks=0))
    assert "lost = 1     Deploy: 0 pages where 1 were due" in told
    assert "open = 1     2 incidents are open" in told


def test_the_reasons_of_an_incident_are_a_chain() -> None:
    root = Member(
        fingerprint="f", alert_id="f", name="Broken", severity=Severity.CRITICAL, summary="It hurts", starts_at=NOW
    )
    chain = (
        Why(stage="deduplicate", reason="opened", now=NOW, origin="alerts/0/0", figures={"repeats": 0}),
        Why(stage="escalate", reason="severity", now=NOW, origin="episodes/0/0", figures={"state": "paged"}),
    )
    view = IncidentView(
        summary=incident(),
        root=root,
        context=None,
        classification=None,
        members=(),
        timeline=(),
        chain=chain,
        pages=(),
    )
    told = shown(reasons(view)).splitlines()
    assert told[1:] == [
        "Why it paged: payments: It hurts",
        "   deduplicate  opened               ".rstrip().ljust(len(told[2])),
        "   escalate     severity  state paged".ljust(len(told[3])),
    ]


def test_what_can_be_copied_is_complete() -> None:
    told = verdict(taken()).stories
    assert explaining(told, ".venv/bin/streamproc", "--data-dir /data") == [
        ".venv/bin/streamproc explain 0123456789abcdef --data-dir /data"
    ]
    first, second = posting("http://127.0.0.1:1")
    assert first.startswith("curl http://127.0.0.1:1/v1/ingest/generic ")
    assert first.endswith("\\")
    assert '"name"' in second
