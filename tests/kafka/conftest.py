"""Settings for the broker of the session, which tests/conftest.py starts."""

from __future__ import annotations

import pytest

from streamproc.runtime.faust.config import Config
from tests.kafka.broker import Broker, config_for


@pytest.fixture
def config(broker: Broker) -> Config:
    """Settings for topics that no other test uses."""
    return config_for(broker)
