"""The catalogue of topics: one file each, and a clear word where one is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamproc.catalog import folder, load
from streamproc.core.errors import Unusable
from streamproc.topology import TOPICS, TOPOLOGY

GOOD = """
name = "alerts"
version = 2
title = "Alerts."
key = "fingerprint"
events = ["alert.v2"]
partitions = 8
producer = "us"
consumers = ["you"]
"""


def write(where: Path, **files: str) -> Path:
    for name, text in files.items():
        (where / f"{name}.toml").write_text(text)
    return where


def test_the_real_one_is_in_flow_order_and_named_by_its_nodes() -> None:
    assert list(TOPICS)[:4] == ["alerts.raw", "alerts", "episodes", "escalations"]
    assert len(TOPICS) == len(list(folder().glob("*.toml")))
    nodes = {node.inbox.name: node.name for node in TOPOLOGY}
    for name, node in nodes.items():
        assert node in " ".join(TOPICS[name].consumers)


def test_topics_come_in_the_order_of_their_files(tmp_path: Path) -> None:
    other = GOOD.replace('"alerts"', '"first"')
    found = load(write(tmp_path, **{"20-alerts.v2": GOOD, "10-first.v2": other}))
    assert list(found) == ["first", "alerts"]
    assert (found["alerts"].version, found["alerts"].retention_hours, found["alerts"].cleanup) == (2, 168, "delete")


def test_an_unknown_topic_is_said_with_the_known_ones(tmp_path: Path) -> None:
    found = load(write(tmp_path, **{"10-alerts.v2": GOOD}))
    with pytest.raises(Unusable, match=r"^no topic is called 'alarms'; topics/ has alerts$"):
        found["alarms"]
    assert "alarms" not in found
    assert found.get("alarms") is None


def both(where: Path) -> Path:
    return write(where, **{"10-alerts.v2": GOOD, "11-alerts.v2": GOOD})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        pytest.param(lambda where: where, "no topic files in", id="none"),
        pytest.param(
            lambda where: write(where, alerts=GOOD), "alerts.toml: a topic file is called NN-name.vN", id="name"
        ),
        pytest.param(
            lambda where: write(where, **{"10-alerts.v1": GOOD}), "the file says alerts.v2", id="another version"
        ),
        pytest.param(
            lambda where: write(where, **{"10-alarms.v2": GOOD}), "the file says alerts.v2", id="another name"
        ),
        pytest.param(lambda where: write(where, **{"10-alerts.v2": "name ="}), "10-alerts.v2.toml: ", id="no TOML"),
        pytest.param(
            lambda where: write(where, **{"10-alerts.v2": GOOD + 'colour = "red"'}),
            "10-alerts.v2.toml: .*colour",
            id="an unknown key",
        ),
        pytest.param(both, "alerts is the name of two files", id="twice"),
    ],
)
def test_what_is_wrong_is_said_with_its_file(tmp_path: Path, made: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(Unusable, match=says):
        load(made(tmp_path))
