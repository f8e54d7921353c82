"""A real Redis for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.redis.servers import Server, redis_server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A Redis that answers."""
    with redis_server(tmp_path) as made:
        await made.start()
        yield made
