"""The commands on a data directory whose pipeline does not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamproc.runtime.embedded.inboxes import EmbeddedInboxes
from streamproc.service import at_start
from streamproc.settings import Settings
from streamproc.shadow.follower import Follower
from tests.cli.playing import KEY, T0, Pipeline, call

DESTINATIONS = {"destinations": {"default": {"routing_key": KEY}}}


class Site:
    """A data directory, a candidate's file, and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = Pipeline(folder / "data")
        given = Settings.model_validate({"pagerduty": DESTINATIONS})
        self.pipeline.append(at_start(given, None, {}, {}, armed=True, now=T0, author="run"))
        self.file = folder / "b.yaml"
        self.write(escalate={"page": ["critical"]})

    def write(self, **sections: Any) -> None:
        self.file.write_text(yaml.safe_dump({"pagerduty": DESTINATIONS, **sections}))

    def call(self, *words: str, code: int = 0) -> str:
        answer = call(*words, "--data-dir", str(self.pipeline.folder))
        assert answer.exit_code == code, answer.output
        self.pipeline.run()
        return answer.output

    def follow(self) -> None:
        with EmbeddedInboxes(self.pipeline.folder) as inboxes:
            Follower(
                inboxes, lambda entries: self.pipeline.append(list(entries)), self.pipeline.clock, timedelta(0)
            ).step()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.pipeline.journal.close()


def test_from_a_candidate_to_its_promotion_and_back(site: Site) -> None:
    assert "There never was a candidate" in site.call("shadow", "status")
    assert "there is no candidate" in site.call("shadow", "promote", "--reason", "x", code=2)
    site.write(escalate={"page": ["critical"]}, services="services.yaml")
    (site.file.parent / "services.yaml").write_text("services: {db: {destination: nowhere}}\n")
    said = site.call("shadow", "start", str(site.file), "--author", "ann", "--reason", "nights")
    assert "No pipeline runs here now" in said
    assert "nowhere" in said
    assert "No difference is settled so far." in site.call("shadow", "diff")
    site.pipeline.advance(minutes=1)
    site.pipeline.alert("Slow", severity="error", service="db")
    site.pipeline.advance(minutes=61)
    site.follow()
    (one,) = json.loads(site.call("shadow", "diff", "--json"))
    assert (one["relation"], one["parted_at"]) == ("only_a", "enrich")
    assert "no page any more" in site.call("shadow", "diff")
    assert "CANDIDATE" in site.call("shadow", "diff", one["about"][:6])
    assert "0 differences begin with 'zz'" in site.call("shadow", "diff", "zz", code=2)
    assert "1 now, 0 by the candidate" in site.call("shadow", "status")
    assert "is promoted" in site.call("shadow", "promote", "--reason", "better", "--author", "ann")
    now, before = json.loads(site.call("history", "--json"))
    assert (now["changed"], before["changed"]) == (["config", "catalogue"], ["config"])
    assert "better" in site.call("history")
    assert f"{now['number']} is what counts already." in site.call(
        "rollback", "--to", str(now["number"]), "--reason", "x"
    )
    assert f"Back to {before['number']}" in site.call("rollback", "--reason", "worse")


def test_a_candidate_is_stopped(site: Site) -> None:
    site.call("shadow", "start", str(site.file))
    assert "The candidate is ended." in site.call("shadow", "stop", "--reason", "enough")
    assert "There is no candidate." in site.call("shadow", "stop")
    assert json.loads(site.call("shadow", "status", "--json"))["ended"] is not None


def test_who_is_not_armed_is_told_that_nothing_pages(site: Site) -> None:
    site.call("disarm", "--yes")
    assert "The pipeline is not armed" in site.call("shadow", "start", str(site.file))


def test_without_settings_there_is_no_history(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    assert "No settings were ever active." in call("history", "--data-dir", str(tmp_path)).output
    pipeline.journal.close()
