"""Real processes, killed at random moments under load, and what the outside sees of it: nothing lost, nothing doubled.

`CRASH_ROUNDS` says how often they are killed, `CRASH_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from streamproc.emulator.emulator import Emulator
from streamproc.emulator.faults import Fault, FaultKind
from streamproc.runtime.embedded.journal import SqliteJournal
from streamproc.topology import LETTERS, TOPICS, TOPOLOGY
from tests.crash.processes import Killable, Senders, ask, every, killable
from tests.embedded.pipelines import PATIENCE, alert, body, raws
from tests.service.standing import free_port, pagerduty, until, until_told
from tests.support.replay import replay_all

pytestmark = [pytest.mark.crash, pytest.mark.xdist_group("processes")]

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "4"))
SENDERS, SERVICES = 6, 6
PAGING = ("critical", "page", "error")


@dataclass
class Service:
    """What one service goes through: its alerts fire, are repeated, and resolve."""

    name: str
    severity: str
    hasty: bool
    """True where it resolves at once, so that PagerDuty may never hear of it."""
    began: datetime
    posts: list[bytes] = field(default_factory=list)

    @property
    def pages(self) -> bool:
        return self.severity in PAGING

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [
            alert(name, self.name, since=self.began + timedelta(seconds=n), severity=self.severity)
            for n, name in enumerate(("down", "slow", "full"))
        ]

    @property
    def fingerprints(self) -> set[str]:
        return {f"fp:v1:{one['fingerprint']}" for one in self.alerts}

    def say(self, *alerts: dict[str, Any], status: str = "firing") -> bytes:
        """Return a body that no other post has."""
        ends = {"endsAt": datetime.now(UTC).isoformat()} if status == "resolved" else {}
        told = [{**one, **ends, "status": status, "generatorURL": f"http://p/{len(self.posts)}"} for one in alerts]
        self.posts.append(body(*told))
        return self.posts[-1]


class Load:
    """Everything that is posted, from a seed."""

    def __init__(self, seed: int, senders: Senders, emulator: Emulator) -> None:
        self.draw = random.Random(seed)  # noqa: S311  a repeatable run, no secret
        self.senders = senders
        self.emulator = emulator
        severities = [*PAGING, *PAGING, "warning", "info"]
        self.services = [
            [
                Service(
                    f"svc-{sender}-{n}",
                    self.draw.choice(severities),
                    self.draw.random() < 0.2,
                    datetime.now(UTC) - timedelta(seconds=60),
                )
                for n in range(SERVICES)
            ]
            for sender in range(SENDERS)
        ]
        self.garbage: list[bytes] = []

    @property
    def size(self) -> int:
        """How many posts it is."""
        return SENDERS * (5 * SERVICES + (SERVICES + 4) // 5)

    def each(self) -> Iterator[Service]:
        return (service for services in self.services for service in services)

    async def run(self) -> None:
        """Post everything, senders beside one another, each in its own order."""
        await asyncio.gather(*[self.send(number, services) for number, services in enumerate(self.services)])

    async def send(self, number: int, services: Sequence[Service]) -> None:
        for n, service in enumerate(services):
            first, second, third = service.alerts
            await self.post(service.say(first, second))
            await self.post(service.say(first, third))
            await self.post(service.say(first, second, third))
            if n % 5 == 0:
                self.garbage.append(b'{"no":"alert","of":"%d-%d"}' % (number, n))
                await self.senders.post("generic", self.garbage[-1])
            if service.hasty:
                await self.resolve(service)
        for service in services:
            if not service.hasty:
                if service.pages:
                    await self.paged(service)
                await self.resolve(service)

    async def resolve(self, service: Service) -> None:
        first, second, third = service.alerts
        await self.post(service.say(second, status="resolved"))
        await self.post(service.say(first, third, status="resolved"))

    async def post(self, content: bytes) -> None:
        await self.senders.post("alertmanager", content)

    async def paged(self, service: Service) -> None:
        """Wait until PagerDuty has an alert of the service."""
        await until(lambda: service.name in {one.event["payload"]["component"] for one in self.pages})

    @property
    def pages(self) -> list[Any]:
        return list(self.emulator.account.alerts.values())


def a_seed() -> int:
    seed = int(os.environ.get("CRASH_SEED", "0")) or secrets.randbelow(2**31)
    print(f"CRASH_SEED={seed}")  # noqa: T201  pytest shows it where the test fails
    return seed


async def kill_again_and_again(
    load: Load, pipeline: Killable, http: httpx.AsyncClient, number: int, rounds: int
) -> None:
    """End the process at random moments of the load, and start it again each time."""
    for taken in sorted(load.draw.sample(range(load.size), rounds)):
        await load.senders.until(taken)
        if number == signal.SIGTERM:  # Python itself dies of it before it has come to our code
            await ask(pipeline, http, "/v1/status")
        await asyncio.sleep(load.draw.uniform(0, 0.05))  # anywhere between a request, its answer and its page
        code = await pipeline.end(number)
        assert code == (0 if number == signal.SIGTERM else -number)
        await pipeline.start()
        if load.draw.random() < 0.3:  # while it starts, too
            await asyncio.sleep(load.draw.uniform(0, 1.5))
            await pipeline.end()
            await pipeline.start()


async def quiet(pipeline: Killable, http: httpx.AsyncClient) -> None:
    """Wait until nothing is on its way any more."""

    async def at_rest() -> bool:
        stands = await ask(pipeline, http, "/v1/status")
        lag = sum(node["lag"] for node in stands["nodes"])
        return not (lag or stands["waiting_to_send"] or stands["open_incidents"])

    await until_told(at_rest)


async def check_from_outside(pipeline: Killable, http: httpx.AsyncClient, load: Load) -> None:
    """Assert that every alert that was taken is where it belongs, here and at PagerDuty."""
    listed = await every(pipeline, http, "/v1/incidents", "incidents", status="all")
    assert {one["status"] for one in listed} == {"resolved"}
    by_service = {one["service"]: one for one in listed}
    assert Counter(one["service"] for one in listed) == Counter(service.name for service in load.each())
    pages = Counter(page.dedup_key for page in load.pages)
    assert set(pages) <= {one["incident_id"] for one in listed}, "PagerDuty has what was never posted"
    for service in load.each():
        incident_id = by_service[service.name]["incident_id"]
        view = await ask(pipeline, http, f"/v1/incidents/{incident_id}")
        members = Counter(one["member"]["fingerprint"] for one in view["members"])
        assert members == Counter(service.fingerprints), f"members of {service.name}"
        assert not [one for one in view["members"] if one["firing"]]
        told = pages[incident_id]
        if service.hasty and service.pages and not told:
            # Overtaken by its resolve; where that was in doubt after a crash, the resolve was sent all the same.
            assert "trigger" not in {page["action"] for page in view["pages"]}
        else:
            assert told == int(service.pages), f"{service.name} ({service.severity}) is at PagerDuty {told} times"
    assert {page.status for page in load.pages} <= {"resolved"}
    letters = await every(pipeline, http, "/v1/dead-letters", "dead_letters")
    assert {one["preview"] for one in letters} == {garbage.decode() for garbage in load.garbage}


def check_log(folder: Path, load: Load) -> None:
    """Assert that every body that was taken is in the log, and that all rows are what the fold makes of the log."""
    held = Counter(raws(folder))
    posted = {post for service in load.each() for post in service.posts} | set(load.garbage)
    assert set(held) == posted
    with closing(SqliteJournal(folder, TOPICS)) as journal:
        for (node, partition), made in replay_all(TOPOLOGY, LETTERS, journal).items():
            kept, position = journal.load(node, partition)
            assert dict(kept) == dict(made.rows.raw()), f"rows of {node}"
            assert position is None or position == made.position


@pytest.mark.parametrize(
    ("number", "rounds"),
    [pytest.param(signal.SIGKILL, ROUNDS, id="kill -9"), pytest.param(signal.SIGTERM, 2, id="told to stop")],
)
async def test_nothing_is_lost_and_nothing_doubled(tmp_path: Path, number: int, rounds: int) -> None:
    seed, port = a_seed(), free_port()
    async with (
        pagerduty(webhook_url=f"http://127.0.0.1:{port}/v1/feedback/pagerduty") as (emulator, url),
        killable(tmp_path, url, port) as pipeline,
        httpx.AsyncClient(timeout=PATIENCE) as http,
    ):
        emulator.faults.add(Fault(kind=FaultKind.DROP_AFTER, count=2, probability=0.1, seed=seed))
        emulator.faults.add(Fault(kind=FaultKind.STALL, count=1, probability=0.1, seed=seed, seconds=0.5))
        senders = Senders(pipeline, http)
        load = Load(seed, senders, emulator)
        async with asyncio.TaskGroup() as both:
            both.create_task(load.run())
            both.create_task(kill_again_and_again(load, pipeline, http, number, rounds))
        assert senders.taken == load.size
        await quiet(pipeline, http)
        await check_from_outside(pipeline, http, load)
        assert await pipeline.end(signal.SIGTERM) == 0
    check_log(tmp_path / "data", load)


async def test_a_stop_while_pagerduty_stalls_is_bounded_and_the_page_goes_out_later(tmp_path: Path) -> None:
    async with (
        pagerduty() as (emulator, url),
        killable(tmp_path, url) as pipeline,
        httpx.AsyncClient(timeout=PATIENCE) as http,
    ):
        emulator.faults.add(Fault(kind=FaultKind.STALL, seconds=600))
        began = datetime.now(UTC)
        await Senders(pipeline, http).post("alertmanager", body(alert("down", "checkout", since=began)))
        await until(lambda: any(fault.hits for fault in emulator.faults.all))
        assert await pipeline.end(signal.SIGTERM) == 0
        emulator.faults.clear()
        await pipeline.start()
        await until(lambda: len(emulator.account.alerts) == 1)
        (page,) = emulator.account.alerts.values()
        assert page.event["payload"]["component"] == "checkout"


async def test_a_pipeline_that_stops_itself_says_so_by_its_exit_code(tmp_path: Path) -> None:
    async with pagerduty() as (_, url), killable(tmp_path, url) as pipeline, httpx.AsyncClient() as http:
        began = datetime.now(UTC)
        await Senders(pipeline, http).post("alertmanager", body(alert("down", "checkout", since=began)))
        await pipeline.end(signal.SIGTERM)
        with (tmp_path / "data" / "streamproc.db").open("r+b") as file:
            file.write(b"not a database any more")
        await pipeline.start()
        assert pipeline.process is not None
        assert await asyncio.wait_for(pipeline.process.wait(), PATIENCE) == 4
        said = pipeline.log.read_text().splitlines()[-1]
        assert said.startswith("streamproc: ")
        assert "file is not a database; see docs/operations.md, 'A damaged data directory'" in said
