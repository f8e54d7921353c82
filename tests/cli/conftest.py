from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.cli.playing import Pipeline


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """Commands configure logging for their process; no other test shall feel it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def pipeline(folder: Path) -> Iterator[Pipeline]:
    made = Pipeline(folder)
    yield made
    made.close()
