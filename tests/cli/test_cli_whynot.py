"""`streamproc explain --why-not`: what a person and a program read of it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from streamproc.backtest.answering import ask
from streamproc.backtest.recorded import EmbeddedInboxes
from streamproc.commands.whynot import told
from streamproc.events.escalation import Verdict
from streamproc.events.feedback import FeedbackKind, Matcher, Policy, PolicyKind
from tests.backtest.nights import CATALOGUE, SETTINGS, Night, edited, incident, number
from tests.cli.playing import call


@pytest.fixture
def night(folder: Path) -> Iterator[Night]:
    made = Night(folder)
    made.activate("config", SETTINGS)
    made.activate("catalogue", CATALOGUE)
    made.arm()
    made.advance(minutes=1)
    yield made
    made.close()


def silence(night: Night, policy_id: str) -> Policy:
    now = night.clock.now()
    return Policy(
        policy_id=policy_id,
        kind=PolicyKind.SILENCE,
        version=1,
        matchers=(Matcher(name="service", op="=", value="db"),),
        starts_at=now,
        ends_at=now + timedelta(hours=2),
        author="Ann",
    )


def mute(night: Night) -> None:
    night.put("policies", silence(night, "abc"))
    night.advance(minutes=1)


def alert_id(night: Night) -> str:
    with EmbeddedInboxes(night.folder) as inboxes:
        values = [one.value for one in inboxes.records("alerts", 0, 0) if one.headers["type"] == b"alert.v1"]
    return str(json.loads(values[-1])["alert_id"])


def shown(night: Night, *more: str, alert: str = "") -> str:
    result = call("explain", "--why-not", alert or alert_id(night), "--data-dir", str(night.folder), *more)
    assert result.exit_code == 0
    return result.output


def as_json(night: Night, alert: str = "") -> dict[str, Any]:
    return dict(json.loads(shown(night, "--json", alert=alert)))


@pytest.fixture
def muted(night: Night) -> Night:
    mute(night)
    night.alert("DiskFull", service="db", instance="db-1")
    night.tell()
    night.advance(minutes=9)
    return night


def test_the_silence_is_named_with_its_author_and_end(muted: Night) -> None:
    text = shown(muted)
    assert "NOT PAGED  critical DiskFull db db-1" in text
    assert "Nothing was said. All that fires is muted." in text
    assert "As it stood, it was going to page at 2026-03-01 14:01:00." in text
    assert "if silence `abc` (by Ann, until 14:01) had not stood" in text
    assert "It would have paged: `default`. The reason chains part at suppress: " in text
    assert "1 request of prod:-, 2026-03-01 11:42:00 to 2026-03-01 12:02:00 UTC." in text
    assert "escalate:muted" not in text


def test_both_reason_chains_are_shown_on_demand(muted: Night) -> None:
    text = shown(muted, "--all")
    assert "as it was: normalise:normalised > " in text
    assert "suppress:muted" in text
    assert "changed: normalise:normalised > " in text
    assert "suppress:clear > enrich:known > classify:no_model > escalate:severity" in text


def test_a_program_reads_the_same(muted: Night) -> None:
    said = as_json(muted)
    assert (said["finding"], said["reason"]) == ("not paged", {"stage": "escalate", "reason": "muted"})
    again = said["folded_again"]
    assert (again["reproduced"], again["requests"], again["tried"]) == (True, 1, 1)
    (found,) = again["would_have_paged"]
    assert found["changes"] == [{"name": "silence:abc", "says": "if silence `abc` (by Ann, until 14:01) had not stood"}]
    assert (found["parts_at"], found["covered"], found["at"]) == ("suppress", False, "2026-03-01T12:02:00+00:00")
    assert [why["reason"] for why in found["chain"]][-1] == "severity"
    assert [why["reason"] for why in again["chain"]][-1] == "muted"


@pytest.mark.parametrize("width", [pytest.param(80, id="80 columns"), pytest.param(120, id="120 columns")])
def test_it_fits_a_terminal(muted: Night, width: int) -> None:
    with EmbeddedInboxes(muted.folder) as inboxes:
        answer = ask(inboxes, alert_id(muted))
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(told(answer, "x", chains=True))
    assert max(map(len, out.getvalue().splitlines())) <= width


def test_an_incident_stands_for_its_root_alert(night: Night) -> None:
    night.alert("DiskFull", service="db")
    night.tell()
    name = incident(night.folder)
    for text in (name, name[:-4], name[-16:], name[-16:-8]):
        said = as_json(night, text)
        assert (said["finding"], said["incident_id"], said["page"]["seq"]) == ("paged", name, 1)
    assert "It paged at 2026-03-01 12:01:00 (default, #1: DiskFull of db)." in shown(night, alert=name)


def test_the_page_that_covers_it_is_told(night: Night) -> None:
    night.alert("DatabaseDown", service="db")
    night.tell()
    night.advance(minutes=1)
    night.alert("HighErrorRate", service="checkout", severity="warning")
    assert "COVERED BY A PAGE  warning HighErrorRate checkout" in (text := shown(night))
    assert "It joined an incident whose page was out since 2026-03-01 12:01:00 (default, #1: " in text


def test_what_pagerduty_refused_is_told(night: Night) -> None:
    night.alert("DatabaseDown", service="db")
    night.tell(verdict=Verdict.REFUSED)
    assert "NOT DELIVERED" in (text := shown(night))
    assert "A page was decided at 2026-03-01 12:01:00, and PagerDuty did not take it: 202." in text


def test_a_dead_letter_is_told(night: Night) -> None:
    night.raw(b'{"alerts": [{"labels": {"alertname": "X"}, "status": "odd", "fingerprint": "feed1234"}]}')
    text = shown(night, alert="feed1234")
    assert "REFUSED  feed1234" in text
    assert "It was refused by normalise at 2026-03-01 12:01:00, and is a dead letter: bad_status: " in text
    assert "`streamproc dead-letters show alerts.raw:0:2:0` has all of it." in text
    assert as_json(night, "feed1234")["dead_letter"] == "alerts.raw:0:2:0"


def test_where_it_was_looked_for_is_told(night: Night) -> None:
    text = shown(night, alert="feed1234")
    assert "NEVER HEARD  feed1234" in text
    assert "2 records of alerts.raw since 2026-03-01 12:00:00" in text
    assert "0 records of dead-letters" in text
    looked = [place["topic"] for place in as_json(night, "feed1234")["looked"]]
    assert looked == ["alerts.raw", "alerts", "dead-letters"]


def test_what_opened_nothing_is_told(night: Night) -> None:
    night.alert("DiskFull", service="db", severity="error")
    night.tell()
    night.advance(minutes=3)
    night.alert("DiskFull", "resolved", service="db", severity="error")
    night.tell()
    night.advance(seconds=30)
    night.alert("DiskFull", service="db", severity="error")
    night.advance(minutes=5)
    text = shown(night)
    assert "It opened nothing. It is older than what is known, and changes nothing." in text
    assert "if `deduplicate.reorder_within` had been 0" in text
    assert "The reason chains part at normalise: only then: " in text
    assert "as it was: it opened nothing" in shown(night, "--all")


def test_a_dry_run_is_told(folder: Path) -> None:
    night = Night(folder)
    night.activate("config", SETTINGS)
    night.advance(minutes=1)
    night.alert("DiskFull", service="db")
    text = shown(night)
    assert "A page was decided. Its severity asks for it. The pipeline was not armed, so nothing was sent." in text
    assert "The reason chains part at escalate: dry_run True, then False." in text
    night.close()


def test_a_ticket_is_told(night: Night) -> None:
    night.alert("DiskFull", service="mail", severity="warning")
    night.advance(minutes=5)
    text = shown(night)
    assert "It made a ticket. Its severity asks for it." in text
    assert "The reason chains part at deduplicate: severity warning, then error." in text


def test_two_changes_are_told_together(night: Night) -> None:
    mute(night)
    night.alert("DiskFull", service="db", severity="warning")
    night.advance(minutes=5)
    assert "if silence `abc` (by Ann, until 14:01) had not stood and if it had said severity=error" in shown(night)


def test_an_incident_that_was_paged_would_have_covered_it(night: Night) -> None:
    night.alert("DatabaseDown", service="db", severity="error")
    night.tell()
    night.feedback(incident(night.folder), FeedbackKind.RESOLVED)
    night.advance(minutes=1)
    night.alert("HighErrorRate", service="checkout", severity="error")
    night.tell()
    night.advance(minutes=5)
    text = shown(night)
    assert "if ann had not resolved it at PagerDuty at 12:01" in text
    assert "It would have joined an incident that was paged then: `default`." in text


def test_that_nothing_pages_is_told(night: Night) -> None:
    night.activate("config", {**SETTINGS, "escalate": {**SETTINGS["escalate"], "page": [], "ticket": []}})
    for policy_id in ("abc", "def", "ghi"):
        night.put("policies", silence(night, policy_id))
    night.advance(minutes=1)
    night.alert("DiskFull", service="db", severity="info")
    night.advance(minutes=5)
    text = shown(night)
    assert "None of the changes that were tried (10) pages." in text
    assert "10 changes, the smallest first. Nothing was sent or written." in text


def test_that_it_cannot_be_folded_again_is_told(night: Night) -> None:
    mute(night)
    night.alert("DiskFull", service="db")
    night.advance(minutes=5)
    with edited(night.folder) as db:  # what mutes it is known to its own partition only
        db.execute("DELETE FROM log WHERE topic=? AND CAST(value AS TEXT) LIKE '%silence%'", (number(db, "policies"),))
    text = shown(night)
    assert "CANNOT BE FOLDED AGAIN" in text
    assert "pages even without a change, at 2026-03-01 12:02:00: what kept it back is not in them." in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["in:v1:x", "--why-not", "feed1234"], "not both", id="an incident, too"),
        pytest.param([], "which incident?", id="neither"),
        pytest.param(["--why-not", " "], "needs a fingerprint, an alert id or an incident id", id="nothing"),
        pytest.param(["--why-not", "in:v1:prod:-:00"], "no incident is called", id="no such incident"),
    ],
)
def test_wrong_usage_is_one_line(night: Night, arguments: list[str], said: str) -> None:
    result = call("explain", *arguments, "--data-dir", str(night.folder))
    assert (result.exit_code, said in result.output) == (2, True)
