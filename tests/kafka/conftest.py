"""A broker for the session, one for each process of xdist.

Where none can be had the tests are skipped, but not in CI: there that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from streamproc.runtime.faust.config import Config
from tests.kafka.broker import Broker, config_for, why_not


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    if reason := why_not():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    one = Broker(tmp_path_factory.mktemp("kafka"))
    one.start()
    yield one
    one.stop()


@pytest.fixture
def config(broker: Broker) -> Config:
    """Settings for topics that no other test uses."""
    return config_for(broker)
