"""docs/sources.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from streamproc.sources import SOURCES, Refused
from streamproc.sources.datadog import TEMPLATE
from streamproc.sources.severity import SEVERITIES
from streamproc.stages.normalise import Config

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")


def test_the_template_to_paste_is_the_one_that_is_read() -> None:
    assert f"```json\n{TEMPLATE}```" in DOCUMENT


def test_the_severity_table_is_the_vocabulary() -> None:
    rows = re.findall(r"^\| (critical|error|warning|info) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    told = {word.lower(): severity for severity, words in rows for word in words.split(", ")}
    assert told == {word: str(severity) for word, severity in SEVERITIES.items() if "-" not in word}


@pytest.mark.parametrize("place", ["environment", "cluster", "service", "team", "resource"])
def test_the_label_table_is_the_default_settings(place: str) -> None:
    assert f"| {place} | {', '.join(getattr(Config(), f'{place}_labels'))} |" in DOCUMENT


def test_every_refusal_and_every_source_is_explained() -> None:
    assert [reason for reason in Refused if f"`{reason}`" not in DOCUMENT] == []
    assert [name for name in SOURCES if f"/v1/ingest/{name}" not in DOCUMENT] == []


def test_every_setting_shown_is_valid() -> None:
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)]
    settings = [Config.model_validate(block["normalise"]) for block in shown if "normalise" in block]
    assert len(settings) == 2
    assert len(settings[1].rules) == 3
