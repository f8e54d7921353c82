"""Fallback notifier: what arrives, and that nothing of the outside is raised."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from apprise import decorators
from apprise.decorators.base import N_MGR

from streamproc.core.errors import Unusable
from streamproc.sinks.notify.fallback import Fallback

# apprise's email plugin imports a module that Python 3.13 no longer has.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

told: list[tuple[str, str]] = []
release = threading.Event()


def take(body: str, title: str, *_: Any, **__: Any) -> bool:
    told.append((title, body))
    return True


def refuse(*_: Any, **__: Any) -> bool:
    return False


def crash(*_: Any, **__: Any) -> bool:
    raise ZeroDivisionError


def hang(*_: Any, **__: Any) -> bool:
    return release.wait(30)


@pytest.fixture(autouse=True)
def _ways() -> Iterator[None]:
    told.clear()
    release.clear()
    ways = {"takes": take, "refuses": refuse, "crashes": crash, "hangs": hang}
    register: Any = decorators.notify
    for schema, way in ways.items():
        register(on=schema)(way)
    yield
    release.set()
    plugins: Any = N_MGR
    plugins.remove(*ways)


async def test_all_destinations_are_told() -> None:
    assert await Fallback(["takes://one", "takes://two"]).tell("PagerDuty does not answer", "3 pages wait")
    assert told == [("PagerDuty does not answer", "3 pages wait")] * 2


@pytest.mark.parametrize(
    "urls",
    [
        pytest.param(["refuses://"], id="refused"),
        pytest.param(["crashes://"], id="a plugin crashes"),
        pytest.param(["takes://", "refuses://"], id="one of two refuses"),
    ],
)
async def test_a_failure_is_said_and_logged(urls: list[str]) -> None:
    with structlog.testing.capture_logs() as logs:
        assert not await Fallback(urls).tell("title", "body")
    assert [entry["event"] for entry in logs] == ["The fallback destination did not take the message."]


async def test_a_destination_that_hangs_is_given_up() -> None:
    assert not await Fallback(["hangs://"], timeout=0.05).tell("title", "body")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        pytest.param("nosuch://user:secret@host", "fallback URL 2 (nosuch://...)", id="unknown scheme"),
        pytest.param("secret", "fallback URL 2 (no scheme://...)", id="no URL"),
        pytest.param("", "fallback URL 2 (no scheme://...)", id="empty"),
    ],
)
def test_a_url_that_apprise_cannot_read_is_named_without_its_secrets(url: str, named: str) -> None:
    with pytest.raises(Unusable) as failure:
        Fallback(["takes://", url])
    assert named in str(failure.value)
    assert "secret" not in str(failure.value)
