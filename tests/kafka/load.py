"""Alerts over HTTP as Alertmanager sends them: each group in order, each request again until it is answered 2xx."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from streamproc.ports import Entry

CLUSTERS, SERVICES = 32, ("checkout", "payments", "search")
AGAIN_AFTER = 0.3
GIVES_UP_AFTER = 240.0
REQUEST_WITHIN = 12.0


@dataclass
class Story:
    """A group of alerts that fire, and resolve or not."""

    number: int
    cluster: str
    service: str
    severity: str
    members: int
    resolves: bool
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    def body(self, status: str, turn: int) -> bytes:
        ended = datetime.now(UTC).isoformat() if status == "resolved" else "0001-01-01T00:00:00Z"
        alerts = [
            {
                "status": status,
                "labels": {
                    "alertname": f"Story{self.number}",
                    "environment": "prod",
                    "cluster": self.cluster,
                    "service": self.service,
                    "severity": self.severity,
                    "instance": f"i{member}",
                },
                "annotations": {"summary": f"story {self.number}", "turn": str(turn)},
                "startsAt": self.begun.isoformat(),
                "endsAt": ended,
                "generatorURL": "",
                "fingerprint": f"{self.number:012x}{member:04x}",
            }
            for member in range(self.members)
        ]
        key = f'{{}}:{{alertname="Story{self.number}"}}'
        labels = {"alertname": f"Story{self.number}"}
        frame: dict[str, Any] = {"version": "4", "groupKey": key, "groupLabels": labels, "status": status}
        return json.dumps({**frame, "alerts": alerts}).encode()


@dataclass
class HttpLoad:
    """Stories told to gateways. A request that is not answered 2xx may have been taken, and is sent again."""

    gateways: Sequence[str]
    seed: int
    acknowledged: list[Entry] = field(default_factory=list)
    doubtful: list[Entry] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    posts: int = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Begin stories at a rate; return once the last of them is told."""
        chance, begun = random.Random(self.seed), time.monotonic()  # noqa: S311  a schedule, no secret
        async with httpx.AsyncClient(timeout=REQUEST_WITHIN) as http, asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
                self.stories.append(
                    Story(
                        number,
                        f"c{chance.randrange(CLUSTERS)}",
                        chance.choice(SERVICES),
                        chance.choice(("critical", "critical", "critical", "error", "warning")),
                        chance.randrange(1, 4),
                        resolves=chance.random() < 0.9,
                    )
                )
                tasks.create_task(self._tell(http, self.stories[-1], random.Random(chance.random())))  # noqa: S311

    async def _tell(self, http: httpx.AsyncClient, story: Story, chance: random.Random) -> None:
        for turn in range(chance.randrange(1, 3)):
            await self._post(http, story.body("firing", turn), chance)
            await asyncio.sleep(0.5 + chance.random() * 3)
        if story.resolves:
            await self._post(http, story.body("resolved", 9), chance)

    async def _post(self, http: httpx.AsyncClient, body: bytes, chance: random.Random) -> None:
        peers = 2 if chance.random() < 0.1 else 1  # a pair of Alertmanagers: both tell
        for _ in range(peers):
            await self._until_taken(http, body, chance)

    async def _until_taken(self, http: httpx.AsyncClient, body: bytes, chance: random.Random) -> None:
        entry = Entry("alerts.raw", json.loads(body)["groupKey"].encode(), body)
        until = time.monotonic() + GIVES_UP_AFTER
        gateway = chance.randrange(len(self.gateways))
        while True:
            self.posts += 1
            try:
                answer = await http.post(f"{self.gateways[gateway]}/v1/ingest/alertmanager", content=body)
                taken, said = answer.is_success, str(answer.status_code)
            except httpx.HTTPError as error:
                taken, said = False, repr(error)
            if taken:
                self.acknowledged.append(entry)
                return
            self.doubtful.append(entry)
            assert time.monotonic() < until, f"no gateway takes an alert: {said}"
            gateway = (gateway + 1) % len(self.gateways)
            await asyncio.sleep(AGAIN_AFTER)
