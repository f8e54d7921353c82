"""The whole pipeline with Redis: pages go out whether it is there, frozen, or was never there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import stamina
from prometheus_client import CollectorRegistry

from streamproc.runtime.allowance import OwnAllowance
from streamproc.service import account_of, redis_of
from streamproc.settings import Settings, load
from tests.redis.servers import Server
from tests.service.standing import Standing, free_port, now_alert, samples, standing

# apprise's email plugin imports a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
WAYS = ("leased", "alone")
BOUND = {"account_requests_per_minute": 60}


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


async def page(stand: Standing, name: str) -> None:
    before = len(stand.alerts)
    await stand.post(now_alert(name, name))
    await stand.until(lambda: len(stand.alerts) == before + 1)


async def measured(stand: Standing) -> dict[str, float]:
    return samples((await stand.http.get("/metrics")).text)


async def test_pages_go_out_while_redis_is_there_is_frozen_is_emptied_and_is_gone(
    tmp_path: Path, server: Server
) -> None:
    redis = {"url": server.url, "timeout": 1.0}
    async with standing(tmp_path / "data", redis=redis, pagerduty=BOUND) as stand:
        await page(stand, "a")
        server.freeze()
        await page(stand, "b")
        server.thaw()
        await server.flush()
        await page(stand, "c")
        server.stop()
        await page(stand, "d")
        found = await measured(stand)
        spent = {
            source: found[f'streamproc_budget_spent_total{{budget="events",source="{source}"}}'] for source in WAYS
        }
        assert sum(spent.values()) == 4


async def test_a_redis_that_never_answers_stops_nothing(tmp_path: Path) -> None:
    redis = {"url": f"redis://127.0.0.1:{free_port()}"}
    async with standing(tmp_path / "data", redis=redis, pagerduty=BOUND) as stand:
        await page(stand, "a")
        found = await measured(stand)
        assert found["streamproc_redis_up"] == 0
        assert found['streamproc_budget_spent_total{budget="events",source="alone"}'] == 1


async def test_without_redis_nothing_of_it_is_there(tmp_path: Path) -> None:
    async with standing(tmp_path / "data") as stand:
        await page(stand, "a")
        assert not [name for name in await measured(stand) if "redis" in name or "budget" in name]


@pytest.mark.parametrize(
    ("bound", "kind"),
    [
        pytest.param({}, type(None), id="no bound by default"),
        pytest.param(BOUND, OwnAllowance, id="without Redis each process has all of it"),
    ],
)
async def test_what_bounds_the_account(bound: dict[str, Any], kind: type) -> None:
    settings = Settings.model_validate({"pagerduty": bound})
    async with AsyncExitStack() as stack:
        redis = await redis_of(settings, CollectorRegistry(), stack)
        assert redis is None
        assert isinstance(await account_of(settings, redis, stack), kind)


def test_the_address_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "rediss://:hunter2@redis.example.com:6379/1")
    file = tmp_path / "streamproc.yaml"
    file.write_text("redis: {prefix: ours}\n")
    settings = load(file)
    assert settings.redis.url is not None
    assert settings.redis.url.get_secret_value().startswith("rediss://")
    assert settings.redis.prefix == "ours"
    assert "hunter2" not in repr(settings)
