"""Plays a scenario over real HTTP: webhooks to the gateway, people's deeds to PagerDuty."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import groupby

import httpx

from streamproc.demo.scenario import Deed, Post, Scenario

LOOK_EVERY = 0.1
"""Seconds between two looks for a page, or two attempts to reach the gateway."""
FIRING = ("triggered",)
ANY = ("triggered", "acknowledged", "resolved")


class Player:
    """Sends what a scenario says, when it says it.

    Args:
        gateway: client of the gateway.
        pagerduty: client of the PagerDuty emulator.
        speed: seconds of scenario in a second.
        patience: seconds that a sender, or a person who looks for a page, goes on trying.
    """

    def __init__(
        self, gateway: httpx.AsyncClient, pagerduty: httpx.AsyncClient, speed: float, patience: float = 30.0
    ) -> None:
        self._gateway = gateway
        self._pagerduty = pagerduty
        self._speed = speed
        self._patience = patience
        self._answered: dict[str, asyncio.Event] = {}
        self._decided: Callable[[], bool] = lambda: True
        self._mishap = math.inf
        self.webhooks = 0
        """Webhooks that were taken."""
        self.alerts = 0
        """Alerts that the gateway said it took, the unreadable ones included."""
        self.failures: list[str] = []
        """What did not happen as it should have, in words."""

    async def play(self, scenario: Scenario, start: float, decided: Callable[[], bool] = lambda: True) -> None:
        """Play it to its end, whatever fails on the way.

        Args:
            scenario: what to play.
            start: time of the event loop at second 0.
            decided: whether all that was told by now is decided.
        """
        self._decided = decided
        self._mishap = math.inf if scenario.mishap is None else scenario.mishap
        self._answered = {deed.service: asyncio.Event() for deed in scenario.deeds}
        lanes = sorted(scenario.posts, key=lambda post: (post.lane, post.at))
        async with asyncio.TaskGroup() as group:
            for _, posts in groupby(lanes, key=lambda post: post.lane):
                group.create_task(self._send_all(list(posts), start))
            group.create_task(self._do_all(scenario.deeds, start))

    async def _send_all(self, posts: Sequence[Post], start: float) -> None:
        for post in posts:
            await self._until(post.at, start)
            if post.follows:
                async with self._bound(f"nobody was paged for {post.follows}"):
                    await self._find(post.follows, ANY)
            if post.awaits:
                await self._heard(post.awaits)
            if post.awaits and post.at > self._mishap:
                await self._all_decided()
            await self._send(post)

    async def _do_all(self, deeds: Iterable[Deed], start: float) -> None:
        for deed in deeds:
            await self._until(deed.at, start)
            await self._do(deed)
            self._answered[deed.service].set()

    async def _until(self, at: float, start: float) -> None:
        await asyncio.sleep(start + at / self._speed - asyncio.get_running_loop().time())

    async def _heard(self, service: str) -> None:
        """Wait until people have heard of a service's trouble, and have done about it what the scenario has them do."""
        answered = self._answered.get(service)
        async with self._bound(f"nobody heard of the trouble of {service}"):
            if answered is not None:
                await answered.wait()
            else:
                await self._find(service, ANY)

    async def _all_decided(self) -> None:
        async with self._bound("what was told was not decided"):
            while not self._decided():  # noqa: ASYNC110  it is seen by looking
                await asyncio.sleep(LOOK_EVERY)

    async def _send(self, post: Post) -> None:
        """Send a webhook until it is taken, as Alertmanager and Datadog do."""
        headers = {"Content-Type": "application/json", "User-Agent": post.agent}
        path = f"/v1/ingest/{post.source}"
        async with self._bound(f"the gateway took no webhook of {post.source}"):
            while True:
                try:
                    answer = await self._gateway.post(path, content=post.body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(LOOK_EVERY)
                    continue
                if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                    break
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
            if answer.status_code == HTTPStatus.ACCEPTED:
                self.webhooks += 1
                self.alerts += int(answer.json()["accepted"])
            else:
                self.failures.append(f"the gateway refused a webhook of {post.source}: {answer.text[:200]}")

    async def _do(self, deed: Deed) -> None:
        """Wait for the page, then do what a person does to its incident."""
        async with self._bound(f"no page of {deed.service} came for {deed.by}"):
            incident = await self._find(deed.service, FIRING)
            path = f"/_emulator/incidents/{incident}/{deed.deed}"
            answer = await self._pagerduty.post(path, json={"by": deed.by})
            if not answer.is_success:
                self.failures.append(f"{deed.by} could not {deed.deed} {deed.service}: {answer.text[:200]}")

    async def _find(self, service: str, statuses: Collection[str]) -> str:
        while True:
            for alert in (await self._pagerduty.get("/_emulator/alerts")).json():
                if alert["status"] in statuses and alert["event"]["payload"].get("component") == service:
                    return str(alert["incident_id"])
            await asyncio.sleep(LOOK_EVERY)

    @asynccontextmanager
    async def _bound(self, words: str) -> AsyncIterator[None]:
        """Bound what stands inside, and note what did not happen."""
        try:
            async with asyncio.timeout(self._patience):
                yield
        except TimeoutError:
            self.failures.append(f"{words} within {self._patience:g} s")
