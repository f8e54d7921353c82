from __future__ import annotations

from pathlib import Path

import pytest

from streamproc import catalog
from streamproc.core.errors import Unusable

GOOD = """
name = "alerts"
version = 1
title = "Alerts."
key = "fingerprint"
events = ["alert.v1"]
partitions = 8
producer = "normalise"
consumers = ["deduplicate"]
"""


def test_topics_are_read_in_the_order_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "20-alerts.v1.toml").write_text(GOOD)
    (tmp_path / "10-episodes.v2.toml").write_text(
        GOOD.replace('"alerts"', '"episodes"').replace("version = 1", "version = 2")
    )
    found = catalog.load(tmp_path)
    assert list(found) == ["episodes", "alerts"]
    assert len(found) == 2
    assert (found["alerts"].partitions, found["alerts"].cleanup, found["alerts"].public) == (8, "delete", False)


def test_the_catalogue_of_the_product_can_be_read() -> None:
    assert "alerts.raw" in catalog.load()


def test_an_unknown_topic_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "20-alerts.v1.toml").write_text(GOOD)
    with pytest.raises(Unusable, match="no topic is called 'alarms'; topics/ has alerts"):
        catalog.load(tmp_path)["alarms"]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        pytest.param("alerts.toml", GOOD, "alerts.toml: a topic file is called NN-name.vN.toml", id="misnamed"),
        pytest.param("20-alerts.v2.toml", GOOD, r"the file says alerts\.v1", id="another version"),
        pytest.param("20-alarms.v1.toml", GOOD, r"the file says alerts\.v1", id="another name"),
        pytest.param("20-alerts.v1.toml", "name =", "20-alerts.v1.toml: ", id="no TOML"),
        pytest.param("20-alerts.v1.toml", f"{GOOD}\nkeys = 1", "(?s)20-alerts.v1.toml: .*keys", id="unknown key"),
        pytest.param("20-alerts.v1.toml", GOOD.replace("= 8", "= 0"), "(?s)v1.toml: .*partitions", id="no partition"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, file: str, text: str, said: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(Unusable, match=said):
        catalog.load(tmp_path)


def test_a_folder_without_topics_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="no topic files in"):
        catalog.load(tmp_path)
