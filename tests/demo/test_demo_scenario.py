from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from streamproc.demo.chapters import CHAPTERS
from streamproc.demo.company import services
from streamproc.demo.payloads import label_fingerprint
from streamproc.demo.scenario import Scenario, write
from streamproc.services import Catalogue, problems
from streamproc.sources import SOURCES, envelope

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = START + timedelta(minutes=5)


def scenario(storm: int = 200, speed: float = 1.0, seed: int = 7) -> Scenario:
    return write(START, CHAPTERS, storm=storm, speed=speed, seed=seed)


def bodies(played: Scenario, source: str) -> list[dict[str, Any]]:
    return [orjson.loads(post.body) for post in played.posts if post.source == source]


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert scenario() == scenario()
    assert scenario() != scenario(seed=8)


@pytest.mark.parametrize("storm", [10, 81, 82, 2000])
def test_the_storm_has_as_many_different_alerts_as_asked_for(storm: int) -> None:
    found = _of_the_storm(scenario(storm))
    assert len(found) == storm


def _of_the_storm(played: Scenario) -> set[str]:
    found = set()
    for post in played.posts:
        if post.lane.startswith("storm"):
            found |= {alert["fingerprint"] for alert in orjson.loads(post.body)["alerts"]}
    return found


def test_every_webhook_is_one_that_the_gateway_takes_and_a_source_reads() -> None:
    played = scenario()
    for post in played.posts:
        assert envelope(post.source, post.body).count == post.alerts + post.spoiled
        alerts, refusals = SOURCES[post.source].read(orjson.loads(post.body), NOW)
        assert (len(alerts), len(refusals)) == (post.alerts, post.spoiled)
    assert played.spoiled == 2


def test_a_pair_sends_every_webhook_of_alertmanager_twice() -> None:
    pairs = Counter[bytes]()
    senders = set()
    for body in bodies(scenario(), "alertmanager"):
        senders.add(body.pop("externalURL"))
        pairs[orjson.dumps(body)] += 1
    assert len(senders) == 2
    assert all(times % 2 == 0 for times in pairs.values())


def test_a_webhook_of_alertmanager_holds_one_group() -> None:
    for body in bodies(scenario(), "alertmanager"):
        for alert in body["alerts"]:
            if isinstance(alert["labels"], dict):
                assert body["groupLabels"].items() <= alert["labels"].items()
                assert body["commonLabels"].items() <= alert["labels"].items()


@pytest.mark.parametrize("speed", [0.5, 1.0, 20.0])
def test_nothing_is_told_before_it_happens(speed: float) -> None:
    for post in scenario(speed=speed).posts:
        sent = START + timedelta(seconds=post.at / speed)
        alerts, _ = SOURCES[post.source].read(orjson.loads(post.body), NOW)
        assert all(alert.at <= sent for alert in alerts)


def test_all_that_fires_resolves_by_event_time() -> None:
    last: dict[str, tuple[datetime, str]] = {}
    for post in scenario().posts:
        for alert in SOURCES[post.source].read(orjson.loads(post.body), NOW)[0]:
            known = last.get(alert.fingerprint, (START, ""))
            last[alert.fingerprint] = max(known, (alert.at, alert.status))
    assert {status for _, status in last.values()} == {"resolved"}


def test_datadog_arrives_out_of_order_and_leaves_unset_variables_as_they_are() -> None:
    sent = [body for body in bodies(scenario(), "datadog") if body["alert_id"] == "4711"]
    dates = [int(body["date"]) for body in sent]
    assert dates != sorted(dates)
    assert {body["alert_transition"] for body in sent} == {"Triggered", "Re-Triggered", "Warn", "No Data", "Recovered"}
    assert {body["alert_priority"] for body in sent} == {"$ALERT_PRIORITY"}


def test_fingerprints_are_those_of_alertmanager() -> None:
    labels = {  # of a webhook that a real Alertmanager 0.25 sent
        "alertname": "CiliumNetworkPolicyFailed",
        "area": "platform",
        "cancel_if_outside_working_hours": "true",
        "severity": "page",
        "team": "cabbage",
        "topic": "cilium",
    }
    assert label_fingerprint(labels) == "7236acaf00fcdfec"


def test_the_catalogue_knows_every_service_of_the_stories() -> None:
    catalogue = Catalogue.of(orjson.dumps(services()).decode())
    named = {service for story in scenario().stories for service in story.services}
    assert {service for service in named if catalogue.find(service) is None} == set()
    said = problems(catalogue, {"default", "payments", "payments-lead"})
    assert [line for line in said if "names no destination" not in line] == []
