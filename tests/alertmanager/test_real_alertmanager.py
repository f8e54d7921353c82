"""A real Alertmanager posts to a real process: a group pages once, whatever is repeated, doubled or killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from streamproc.emulator.emulator import Emulator
from tests.alertmanager.alertmanagers import Alertmanager, Ringing, alertmanager
from tests.crash.processes import Killable, ask, every, killable
from tests.embedded.pipelines import PATIENCE
from tests.service.standing import pagerduty, until, until_told

pytestmark = [pytest.mark.alertmanager, pytest.mark.xdist_group("processes")]


@dataclass
class House:
    """Alertmanagers, a pipeline and PagerDuty."""

    managers: list[Alertmanager]
    pipeline: Killable
    emulator: Emulator
    http: httpx.AsyncClient

    async def fire(self, *ringing: Ringing) -> None:
        for manager in self.managers:
            await manager.fire(*ringing)

    async def resolve(self, *ringing: Ringing) -> None:
        for manager in self.managers:
            await manager.resolve(*ringing)

    @property
    def stands(self) -> Counter[tuple[str, str]]:
        """How often PagerDuty has an alert of a service in a status."""
        alerts = self.emulator.account.alerts.values()
        return Counter((one.event["payload"]["component"], one.status) for one in alerts)

    async def until(self, *stands: tuple[str, str]) -> None:
        """Wait until PagerDuty has just these alerts."""
        await until(lambda: self.stands == Counter(stands))

    async def counted(self, metric: str, times: int) -> None:
        """Wait until each Alertmanager has counted something of its webhooks so often."""

        async def enough() -> bool:
            return min([await manager.count(metric) for manager in self.managers]) >= times

        await until_told(enough)

    async def until_members(self, **members: set[str]) -> None:
        """Wait until the incidents have just these alerts."""

        async def just_these() -> bool:
            return await self.members() == members

        await until_told(just_these)

    async def members(self) -> dict[str, set[str]]:
        """Return the names of the alerts of each incident, by service."""
        found = {}
        for one in await every(self.pipeline, self.http, "/v1/incidents", "incidents", status="all"):
            view = await ask(self.pipeline, self.http, f"/v1/incidents/{one['incident_id']}")
            found[one["service"]] = {member["member"]["name"] for member in view["members"]}
        return found


@asynccontextmanager
async def house(tmp_path: Path, managers: int = 1) -> AsyncIterator[House]:
    async with (
        pagerduty() as (emulator, url),
        killable(tmp_path, url) as pipeline,
        httpx.AsyncClient(timeout=PATIENCE) as http,
    ):
        webhook = f"{pipeline.url}/v1/ingest/alertmanager"
        await ask(pipeline, http, "/v1/status")
        if managers == 1:
            async with alertmanager(tmp_path / "am", webhook) as one:
                yield House([one], pipeline, emulator, http)
        else:
            async with alertmanager(tmp_path / "am", webhook) as one, alertmanager(tmp_path / "am2", webhook) as two:
                yield House([one, two], pipeline, emulator, http)


def ringing(name: str, service: str) -> Ringing:
    return Ringing(name, service, datetime.now(UTC))


async def test_a_group_pages_once_grows_and_resolves(tmp_path: Path) -> None:
    async with house(tmp_path) as stand:
        down, slow, other = ringing("Down", "checkout"), ringing("Slow", "checkout"), ringing("Full", "search")
        await stand.fire(down, other)
        await stand.until(("checkout", "triggered"), ("search", "triggered"))
        await stand.fire(down, slow)
        await stand.until_members(checkout={"Down", "Slow"}, search={"Full"})
        await stand.resolve(other)
        await stand.until(("checkout", "triggered"), ("search", "resolved"))
        await stand.resolve(down, slow)
        await stand.until(("checkout", "resolved"), ("search", "resolved"))
        assert (await ask(stand.pipeline, stand.http, "/v1/status"))["dead_letters"] == 0


async def test_it_survives_our_death(tmp_path: Path) -> None:
    async with house(tmp_path) as stand:
        first, second = ringing("Down", "checkout"), ringing("Slow", "checkout")
        await stand.fire(first)
        await stand.until(("checkout", "triggered"))
        await stand.pipeline.end()
        await stand.fire(second, ringing("Full", "search"))  # Alertmanager posts it again until somebody answers
        await stand.counted("alertmanager_notification_requests_failed_total", 1)
        await stand.pipeline.start()
        await stand.until_members(checkout={"Down", "Slow"}, search={"Full"})
        await stand.until(("checkout", "triggered"), ("search", "triggered"))
        await stand.pipeline.end()
        await stand.pipeline.start()
        await stand.resolve(first, second)
        await stand.until(("checkout", "resolved"), ("search", "triggered"))


async def test_a_pair_that_cannot_see_each_other_pages_once(tmp_path: Path) -> None:
    async with house(tmp_path, managers=2) as stand:
        down, slow = ringing("Down", "checkout"), ringing("Slow", "checkout")
        await stand.fire(down, slow)
        await stand.counted("alertmanager_notifications_total", 1)
        await stand.until(("checkout", "triggered"))
        await stand.resolve(down, slow)
        await stand.counted("alertmanager_notifications_total", 2)
        await stand.until(("checkout", "resolved"))
        opened = [taken for taken in stand.emulator.requests if str(taken.effect) == "opened"]
        assert len(opened) == 1
