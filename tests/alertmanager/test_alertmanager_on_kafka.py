"""Two real Alertmanagers that cannot see each other post to a gateway on Kafka: a group pages once all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from streamproc.distributed import apply_topics, both
from streamproc.emulator.emulator import Emulator
from tests.alertmanager.alertmanagers import Alertmanager, Ringing, alertmanager
from tests.embedded.pipelines import PATIENCE
from tests.kafka.broker import Broker, config_for
from tests.service.standing import pagerduty, settings_of, until, until_told

pytestmark = [pytest.mark.alertmanager, pytest.mark.xdist_group("processes")]


def stands(emulator: Emulator) -> Counter[tuple[str, str]]:
    """Return how often PagerDuty has an alert of a service in a status."""
    return Counter((one.event["payload"]["component"], one.status) for one in emulator.account.alerts.values())


async def members(http: httpx.AsyncClient) -> dict[str, set[str]]:
    """Return the names of the alerts of each incident, by service."""

    async def ask(path: str) -> Any:
        answer = await http.get(path)
        return answer.json() if answer.status_code == 200 else {"incidents": []}

    listed = (await ask("/v1/incidents?status=all"))["incidents"]
    views = [(one["service"], await ask(f"/v1/incidents/{one['incident_id']}")) for one in listed]
    return {service: {member["member"]["name"] for member in view.get("members", ())} for service, view in views}


async def posted(pair: tuple[Alertmanager, Alertmanager], times: int) -> None:
    """Wait until each has posted so often, and nothing of that failed."""

    async def enough() -> bool:
        return min([await one.count("alertmanager_notifications_total") for one in pair]) >= times

    await until_told(enough)
    assert [await one.count("alertmanager_notification_requests_failed_total") for one in pair] == [0, 0]


async def test_what_a_pair_posts_is_paged_once_grows_and_resolves(broker: Broker, tmp_path: Path) -> None:
    async with pagerduty() as (emulator, url):
        settings = settings_of(url, tmp_path / "data", kafka=config_for(broker))
        await apply_topics(settings)
        async with both(settings, armed=True) as running:
            webhook = f"{running.url}/v1/ingest/alertmanager"
            async with (
                alertmanager(tmp_path / "one", webhook) as one,
                alertmanager(tmp_path / "two", webhook) as two,
                httpx.AsyncClient(base_url=running.url, timeout=PATIENCE) as http,
            ):
                began = datetime.now(UTC)
                down, slow, other = (
                    Ringing(*named, began) for named in (("Down", "checkout"), ("Slow", "checkout"), ("Full", "search"))
                )
                await asyncio.gather(*(each.fire(down, other) for each in (one, two)))
                await posted((one, two), 2)
                await until(lambda: stands(emulator) == Counter([("checkout", "triggered"), ("search", "triggered")]))
                await asyncio.gather(*(each.fire(down, slow) for each in (one, two)))

                async def grown() -> bool:
                    return await members(http) == {"checkout": {"Down", "Slow"}, "search": {"Full"}}

                await until_told(grown)
                await asyncio.gather(*(each.resolve(down, slow) for each in (one, two)))
                await posted((one, two), 4)
                await until(lambda: stands(emulator) == Counter([("checkout", "resolved"), ("search", "triggered")]))
                status = (await http.get("/v1/status")).json()
                assert (status["armed"], status["dead_letters"]) == (True, 0)
    effects = Counter((taken.action, str(taken.effect)) for taken in emulator.requests)
    assert effects["trigger", "opened"] == 2
    assert effects["resolve", "resolved"] == 1
