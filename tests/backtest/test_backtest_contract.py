"""The files of a backtest, by recordings made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streamproc.backtest.ledger import STORIES
from tests.backtest.recording import STARTS, T0, alert, alert_id, at, backtest, datadog, jsonl, line

LATER = "2026-03-01T12:20:00Z"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PAGERDUTY_ROUTING_KEY", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)


def test_one_alert_is_one_incident_one_decision_and_one_page(tmp_path: Path) -> None:
    recorded = [
        line(0, alert("Down")),
        line(300, alert("Down")),
        line(600, alert("Down", status="resolved")),
    ]
    done = backtest(tmp_path, recorded)
    assert done.result.exit_code == 0, done.result.output
    (incident,) = done.lines("incidents")
    assert incident == {
        "incident_id": incident["incident_id"],
        "opened_at": "2026-03-01T12:00:00Z",
        "resolved_at": "2026-03-01T12:10:00Z",
        "alerts": [alert_id("Down")],
        "root_alert": alert_id("Down"),
        "root_candidates": [alert_id("Down")],
    }
    assert done.lines("decisions") == [
        {
            "at": "2026-03-01T12:00:00.000000Z",
            "alert": f"446f776e00000000@{STARTS}",
            "incident_id": incident["incident_id"],
            "action": "page",
            "p_page": 0.5,
            "severity": "critical",
            "urgency": "high",
            "category": "application",
            "confidence": 0.0,
            "abstain": True,
            "reason": "severity",
        }
    ]
    page, resolve = done.lines("pages")
    assert (page["at"], page["incident_id"]) == ("2026-03-01T12:00:00.000000Z", incident["incident_id"])
    assert page["body"]["event_action"] == "trigger"
    assert page["body"]["dedup_key"] == incident["incident_id"]
    assert page["body"]["payload"]["summary"] == "Down of db"
    assert (resolve["at"], resolve["body"]["event_action"]) == ("2026-03-01T12:10:00.000000Z", "resolve")


def test_the_report_counts_what_became_of_what(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down"), alert("Slow", severity="info", service="web")), line(60, alert("Down"))]
    report = backtest(tmp_path, recorded).report
    assert report["complete"] is True
    assert report["funnel"] == {
        "notifications": 3,
        "alerts": 2,
        "episodes": 2,
        "incidents": 2,
        "pages": 1,
        "triggers": 1,
        "compression": 0.5,
    }
    assert report["pages"]["per_day"] == [{"day": "2026-03-01", "pages": 1, "updates": 0}]
    assert report["outcomes"] == [
        {"action": "page", "reason": "severity", "incidents": 1},
        {"action": "suppress", "reason": "below", "incidents": 1},
    ]
    assert report["noisiest_rules"][0] == {
        "rule": "Down",
        "notifications": 2,
        "alerts": 1,
        "incidents": 1,
        "calls": 1,
        "updates": 0,
    }
    assert report["reasons"]["deduplicate"]["repeat"] == 1


def test_alerts_of_one_service_are_one_incident_and_the_later_one_is_decided_too(tmp_path: Path) -> None:
    done = backtest(tmp_path, [line(0, alert("Down")), line(30, alert("Slow")), line(30.4, alert("Full"))])
    (incident,) = done.lines("incidents")
    assert incident["alerts"] == [alert_id("Down"), alert_id("Slow"), alert_id("Full")]
    assert incident["resolved_at"] is None
    decided = {each["alert"]: each["at"] for each in done.lines("decisions")}
    # A growing incident is published once a second: the timer fires between the lines, and after the last one.
    assert decided == {
        alert_id("Down"): "2026-03-01T12:00:00.000000Z",
        alert_id("Slow"): "2026-03-01T12:00:30.000000Z",
        alert_id("Full"): "2026-03-01T12:00:30.400000Z",
    }


def test_timers_fire_between_the_lines_and_after_the_last(tmp_path: Path) -> None:
    recorded = [
        line(0, alert("Down", severity="error")),
        line(60, alert("Down", severity="error", status="resolved")),
        line(180, alert("Down", severity="error", starts=at(180))),
    ]
    done = backtest(tmp_path, recorded)
    triggers = [each["at"] for each in done.lines("pages") if each["body"]["event_action"] == "trigger"]
    assert triggers == ["2026-03-01T12:00:00.000000Z", "2026-03-01T12:05:00.000000Z"]
    assert done.report["held"] == {"by_reason": {"reopened": 1}, "paged_later": 1}
    assert [each["action"] for each in done.lines("decisions")] == ["page", "suppress"]


def test_a_new_start_is_a_new_id_of_the_same_incident(tmp_path: Path) -> None:
    done = backtest(tmp_path, [line(0, alert("Down")), line(1300, alert("Down", starts=LATER))])
    (incident,) = done.lines("incidents")
    assert incident["alerts"] == [alert_id("Down"), alert_id("Down", LATER)]


def test_an_id_is_in_one_incident_although_it_fires_again_later(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down")), line(60, alert("Down", status="resolved")), line(9000, alert("Down"))]
    done = backtest(tmp_path, recorded)
    incidents = done.lines("incidents")
    assert [each["alerts"] for each in incidents] == [[alert_id("Down")], []]
    assert len(done.lines("decisions")) == 1


def test_every_event_of_datadog_is_decided_under_its_own_id(tmp_path: Path) -> None:
    recorded = [datadog(0, "e1"), datadog(600, "e2", "Renotify"), datadog(700, "e3", "Recovered")]
    done = backtest(tmp_path, recorded)
    (incident,) = done.lines("incidents")
    assert incident["alerts"] == ["e1", "e2"]
    assert [(each["alert"], each["incident_id"]) for each in done.lines("decisions")] == [
        ("e1", incident["incident_id"]),
        ("e2", incident["incident_id"]),
    ]


def test_an_alert_that_comes_too_late_is_decided_and_is_in_no_incident(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down", status="resolved")), line(1, alert("Down"))]
    done = backtest(tmp_path, recorded)
    assert done.lines("incidents") == []
    (decision,) = done.lines("decisions")
    assert (decision["action"], decision["reason"], decision["incident_id"]) == ("suppress", "not_an_episode", None)


def test_a_late_alert_that_is_taken_after_all_is_in_its_incident(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down", status="resolved")), line(1, alert("Down")), line(400, alert("Down"))]
    done = backtest(tmp_path, recorded)
    assert [each["alerts"] for each in done.lines("incidents")] == [[alert_id("Down")]]
    assert len(done.lines("decisions")) == 1


def test_a_topology_brings_neighbours_together_and_names_may_be_unknown(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down", "db")), line(5, alert("Slow", "web"))]
    edges = {"edges": [{"from": "web", "to": "db"}, {"from": "ghost", "to": "db"}, {"from": "db", "to": "db"}]}
    topology = tmp_path / "topology.json"
    topology.write_text(json.dumps(edges))
    done = backtest(tmp_path, recorded, topology=topology)
    assert [len(each["alerts"]) for each in done.lines("incidents")] == [2]
    assert done.report["topology"] == {"services": 3, "without_alerts": 1, "first_without_alerts": ["ghost"]}
    assert "No alert names 1 of the 3 services of the topology, for example ghost" in done.told


def test_a_catalogue_of_the_settings_keeps_what_it_says_beside_the_topology(tmp_path: Path) -> None:
    (tmp_path / "services.yaml").write_text("services: {web: {owner: shop, aliases: [www], depends_on: [cache]}}")
    config = tmp_path / "c.yaml"
    config.write_text("services: services.yaml")
    topology = tmp_path / "topology.json"
    topology.write_text(json.dumps({"edges": [{"from": "www", "to": "db"}]}))
    recorded = [line(0, alert("Down", "db")), line(5, alert("Slow", "www")), line(9, alert("Cold", "cache"))]
    done = backtest(tmp_path, recorded, topology=topology, config=config)
    assert [len(each["alerts"]) for each in done.lines("incidents")] == [3]


def test_the_settings_decide_and_routing_keys_are_masked(tmp_path: Path) -> None:
    key, tickets = "0123456789abcdef0123456789abcdef", "f" * 32
    config = tmp_path / "c.yaml"
    destination = f"{{routing_key: {key}, ticket_routing_key: {tickets}}}"
    config.write_text(f"pagerduty: {{destinations: {{default: {destination}}}}}\nescalate: {{ticket: [info]}}\n")
    done = backtest(tmp_path, [line(0, alert("Down"), alert("Slow", "web", severity="info"))], config=config)
    assert [each["body"]["routing_key"] for each in done.lines("pages")] == ["0" * 28 + "cdef"]
    assert done.report["pages"]["tickets"] == 1
    assert not any(secret.encode() in said for said in done.files.values() for secret in (key, tickets))


def test_tickets_are_counted_where_no_key_would_send_them(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("escalate: {ticket: [info]}\n")
    recorded = [line(0, alert("Down")), line(5000, alert("Slow", "web", severity="info"))]
    done = backtest(tmp_path, recorded, config=config)
    assert [each["action"] for each in done.lines("decisions")] == ["page", "ticket"]
    assert done.report["pages"]["tickets"] == 1
    assert "1 tickets" in done.result.stdout


def test_growth_is_told_as_updates_of_one_page(tmp_path: Path) -> None:
    recorded = [line(0, alert("Down")), *(line(60 * n, alert(f"Kind{n}")) for n in range(1, 10))]
    report = backtest(tmp_path, recorded).report
    assert (report["pages"]["calls"], report["pages"]["updates"] > 0) == (1, True)
    assert report["services"] == [{"service": "db", "nights_disturbed": 0, "pages": 1}]


def test_pages_at_night_count_for_the_evening_before(tmp_path: Path) -> None:
    hours = [10.5, 15, 34]  # 22:30, 03:00 of the next day, 22:00 of the next day
    recorded = [line(3600 * hour, alert(f"Down{n}", starts=at(3600 * hour))) for n, hour in enumerate(hours)]
    report = backtest(tmp_path, recorded).report
    assert report["services"] == [{"service": "db", "nights_disturbed": 2, "pages": 3}]


def test_the_page_shows_the_chain_needs_nothing_else_and_trusts_no_text(tmp_path: Path) -> None:
    hostile = alert("Down", service="<script>alert(1)</script>")
    page = backtest(tmp_path, [line(0, hostile)]).files["report.html"].decode()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "prefers-color-scheme: dark" in page
    assert "<b>correlate</b>" in page


def test_the_page_of_a_large_incident_says_what_it_leaves_out(tmp_path: Path) -> None:
    recorded = [line(90 * n, alert(f"Kind{n}")) for n in range(40)]
    page = backtest(tmp_path, recorded).files["report.html"].decode()
    assert re.search(r"\b\d+ of 40 are listed", page)
    assert "changes of its middle are left out" in page


def test_feedback_counts_from_its_moment_on(tmp_path: Path) -> None:
    """Twenty labels make a first version of the model; what was decided before that has no probability."""
    names = [f"Rule{n}" for n in range(30)]
    recorded = [line(60 * n, alert(name, f"s{n}")) for n, name in enumerate(names)]
    labels = [
        {"at": at(60 * 20 + 30), "alert": alert_id(name), "field": "page", "value": n % 2 == 0}
        for n, name in enumerate(names[:20])
    ]
    done = backtest(tmp_path, recorded, feedback=jsonl(tmp_path / "feedback.jsonl", labels))
    unsure = [each["p_page"] == 0.5 for each in done.lines("decisions")]
    assert unsure == [True] * 21 + [False] * 9
    assert done.report["feedback"]["applied"] == 20


def test_feedback_that_cannot_be_used_is_counted(tmp_path: Path) -> None:
    said = [
        {"at": at(5), "alert": alert_id("Down"), "field": "severity", "value": "info"},
        {"at": at(-5), "alert": alert_id("Down"), "field": "page", "value": False},
        {"at": at(9), "alert": "nobody", "field": "page", "value": False},
        {"at": at(9), "alert": "nobody", "field": "mood", "value": False},
        "{",
    ]
    done = backtest(tmp_path, [line(0, alert("Down"))], feedback=jsonl(tmp_path / "feedback.jsonl", said))
    feedback = done.report["feedback"]
    assert (feedback["lines"], feedback["applied"], feedback["unknown_alert"]) == (3, 0, 2)
    assert feedback["unused"] == {"severity": 1}
    assert [fault["line"] for fault in feedback["bad_lines"]["first"]] == [4, 5]
    assert "feedback line 4 is left out: field:" in done.told
    assert "1 lines of feedback are about severity, which nothing learns from yet" in done.told


def test_the_replay_begins_with_the_first_line(tmp_path: Path) -> None:
    done = backtest(tmp_path, [line(0, alert("Down"))])
    assert done.report["input"]["from"] == done.report["input"]["to"] == T0.isoformat()


def test_the_page_tells_the_largest_incidents_and_says_how_many(tmp_path: Path) -> None:
    recorded = [line(n, alert(f"Down{n}", f"s{n}")) for n in range(STORIES + 5)]
    done = backtest(tmp_path, [*recorded, line(99, alert("More", "s3"))])
    page = done.files["report.html"].decode()
    assert f"The {STORIES} largest of {STORIES + 5}" in page
    assert page.count("<summary><b>") == STORIES
    assert page.index("Down3 of s3 (+1 more)") < page.index("Down1 of s1")
