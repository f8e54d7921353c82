"""What always holds of a backtest: the same input gives the same bytes, and live pipelines decide the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.backtest.dossier import ACTIONS
from streamproc.backtest.driving import delivered
from streamproc.backtest.reading import Line, Tally, traffic
from streamproc.backtest.replay import Replay, with_default_destination
from streamproc.beginning import arming
from streamproc.events.escalation import Escalation
from streamproc.events.incident import Incident
from streamproc.ports import Entry
from streamproc.runtime.clock import ManualClock
from streamproc.settings import load
from streamproc.sinks.pagerduty.encode import encode
from streamproc.versions import activation
from tests.backtest.recording import T0, alert, at, line, recording
from tests.embedded.pipelines import kept, started

NAMES = ("Down", "Slow", "Full")


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    monkeypatch.delenv("PAGERDUTY_ROUTING_KEY", raising=False)


class Lines:
    """Takes the lines of the outputs."""

    def __init__(self) -> None:
        self.written: dict[str, list[dict[str, Any]]] = {"incidents": [], "decisions": [], "pages": []}

    def write(self, name: str, told: dict[str, Any]) -> None:
        """Take one."""
        self.written[name].append(told)


def played(recorded: list[dict[str, Any]]) -> tuple[Lines, Replay]:
    """Return what a replay wrote, and the replay."""
    lines = Lines()
    replay = Replay(load(None), None, lines)
    assert replay.run(in_order(recorded), (), lambda: False)
    return lines, replay


def in_order(recorded: list[dict[str, Any]]) -> Iterator[Line]:
    return traffic(recording(recorded), Tally())


@st.composite
def recordings(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw webhooks of a few alerts that come, repeat, go and come back."""
    found, seconds, starts = [], 0, dict.fromkeys(NAMES, at(0))
    for name, wait, status, anew in draw(
        st.lists(
            st.tuples(
                st.sampled_from(NAMES),
                st.sampled_from([0, 1, 30, 150, 700, 9000]),
                st.sampled_from(["firing", "firing", "resolved"]),
                st.booleans(),
            ),
            min_size=1,
            max_size=15,
        )
    ):
        seconds += wait
        if anew and status == "firing":
            starts[name] = at(seconds)
        service = "web" if name == "Full" else "db"
        found.append(line(seconds, alert(name, service, status=status, starts=starts[name], severity="error")))
    return found


@given(recordings())
@settings(max_examples=25)
def test_every_firing_id_is_decided_once_soon_and_is_in_one_incident_at_most(recorded: list[dict[str, Any]]) -> None:
    lines, _ = played(recorded)
    decisions = {told["alert"]: told for told in lines.written["decisions"]}
    assert len(decisions) == len(lines.written["decisions"])
    first: dict[str, str] = {}
    for said in recorded:
        for one in said["body"]["alerts"]:
            if one["status"] == "firing":
                first.setdefault(f"{one['fingerprint']}@{one['startsAt']}", said["at"])
    assert decisions.keys() == first.keys()
    for name, moment in first.items():
        late = datetime.fromisoformat(decisions[name]["at"]) - datetime.fromisoformat(moment)
        assert timedelta() <= late <= timedelta(seconds=1)
    members = [one for told in lines.written["incidents"] for one in told["alerts"]]
    assert len(members) == len(set(members))
    incidents = {told["incident_id"] for told in lines.written["incidents"]}
    assert len(incidents) == len(lines.written["incidents"])
    assert {told["incident_id"] for told in lines.written["pages"]} <= incidents


@given(recordings())
@settings(max_examples=25)
def test_the_same_input_gives_the_same_bytes(recorded: list[dict[str, Any]]) -> None:
    assert orjson.dumps(played(recorded)[0].written) == orjson.dumps(played(recorded)[0].written)


@given(recordings())
@settings(max_examples=25)
def test_nothing_is_kept_of_what_was_folded(recorded: list[dict[str, Any]]) -> None:
    _, replay = played(recorded)
    assert replay._driven is not None
    assert not any(replay._driven.journal.logs.values())
    assert replay._driven.journal.rows == {}


async def test_a_live_pipeline_on_one_machine_decides_and_pages_the_same(tmp_path: Path) -> None:
    """Reason chains and receipts too: the same inbox, the same moments, the same answers."""
    recorded = [
        line(0, alert("Down", severity="error"), alert("Slow", "web", severity="info")),
        line(2, alert("Full", severity="error")),
        line(2.5, alert("Late", severity="critical")),
        line(60, *(alert(name, severity="error", status="resolved") for name in ("Down", "Full", "Late"))),
        line(120, alert("Down", severity="error", starts=at(120))),
    ]
    written = played(recorded)[0].written
    await _live(tmp_path, recorded, T0 + timedelta(minutes=10))
    bodies = [
        encode(Escalation.model_validate_json(value), delayed_by=None).body
        for value in kept(tmp_path, "escalations", Escalation)
    ]
    assert [told["body"] for told in written["pages"]] == [orjson.loads(body) for body in bodies]
    assert len(bodies) > 3
    published = [Incident.model_validate_json(value) for value in kept(tmp_path, "incidents.enriched")]
    live = [
        (member.alert_id, told.incident_id, ACTIONS[told.decision.action], told.decision.reason, told.severity)
        for told in published
        for member in told.joined
        if told.decision is not None
    ]
    names = ("alert", "incident_id", "action", "reason", "severity")
    assert [tuple(told[name] for name in names) for told in written["decisions"]] == live


async def _live(folder: Path, recorded: list[dict[str, Any]], until: datetime) -> None:
    """Let an embedded pipeline take the same lines at the same moments, timers between them."""
    clock = ManualClock(T0)
    body = with_default_destination(load(None)).stages()
    first = [
        *activation("config", body, None, author="backtest", reason="backtest"),
        Entry.of("policies", arming(1, T0, author="backtest", adopt=False)),
    ]
    answered = 0
    async with started(folder, clock=clock, first=first) as pipeline:
        engine = pipeline.runtime._engine
        assert engine is not None

        async def rest() -> None:
            nonlocal answered
            while True:
                await pipeline.until(lambda: pipeline.at_rest)
                wanted = kept(folder, "escalations", Escalation)[answered:]
                if not wanted:
                    return
                answered += len(wanted)
                said = [delivered(Escalation.model_validate_json(value)) for value in wanted]
                await pipeline.runtime.append([Entry.of("escalations", one, one.routing_key) for one in said])

        async def advance(moment: datetime) -> None:
            while (due := engine.next_due()) is not None and due <= moment:
                clock.set(max(due, clock.now()))
                await rest()
            clock.set(moment)

        for one in in_order(recorded):
            await advance(one.at)
            await pipeline.runtime.append(
                [Entry("alerts.raw", b"", one.body, {"type": b"raw-alert.v1", "source": b"alertmanager"})]
            )
            await rest()
        await advance(until)
