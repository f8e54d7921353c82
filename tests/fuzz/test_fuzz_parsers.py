"""A share of the fuzzing of every parser; `python -m tests.fuzz.long` does more of the same. And what it has found."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import matching
from streamproc.beginning import catalogue_of
from streamproc.core.errors import Unusable
from streamproc.core.fold import LARGEST
from streamproc.events.incident import Incident
from streamproc.settings import load
from streamproc.sources import Envelope, envelope
from tests.conformance.play import Play
from tests.fuzz.mutation import mutated, payload
from tests.fuzz.parsers import PARSERS, SEEDS, Parser


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of `re`, about what a pattern may mean one day
@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_nothing_breaks_a_parser(parser: Parser) -> None:
    @given(st.randoms(use_true_random=False))
    def attack(rng: Random) -> None:
        assert parser.attack(rng) >= 1

    attack()


def test_the_generator_reaches_what_it_should() -> None:
    """Else the laws would hold of nothing."""
    rng = Random(1)  # noqa: S311  the same on every run
    bodies = [payload(rng, SEEDS["alertmanager"]) for _ in range(3000)]
    for mark in (
        b"\\ud800",
        b"1e400",
        b"NaN",
        b"9999-12-31",
        b"\xff",
        b'[{"a": [{"a": [',
        b"\\u0000",
        b"true",
        b"x" * 8193,
    ):
        assert any(mark in body for body in bodies), mark
    assert len({body[-20:] for body in bodies}) > 300
    whole = mutated(Random(1), SEEDS["generic"][0], 0)  # noqa: S311
    assert whole == SEEDS["generic"][0]


YAML = [
    pytest.param("gateway: {port: 2026-99-99}\n", id="a date that is none"),
    pytest.param("gateway: {port: !!float y}\n", id="a number that is none"),
    pytest.param("a: " + "[" * 1200, id="nested too deep"),
    pytest.param("gateway: &g\n  inner: *g\n", id="nested in itself"),
]


@pytest.mark.parametrize("text", YAML)
def test_a_settings_file_that_yaml_stumbles_over_is_one_clear_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "streamproc.yaml"
    file.write_text(text)
    with pytest.raises(Unusable, match=r"streamproc.yaml"):
        load(file)


@pytest.mark.parametrize("text", YAML)
def test_a_catalogue_that_yaml_stumbles_over_is_one_clear_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(text)
    with pytest.raises(Unusable, match=r"services.yaml"):
        catalogue_of(file)


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("(a{1000}){1000}", id="a million times"),
        pytest.param("a" * 300_000, id="300 KB"),
        pytest.param("(" * 2000, id="2,000 deep and open"),
        pytest.param("\udcff", id="no text"),
    ],
)
def test_an_expression_that_is_too_large_is_one_clear_line(pattern: str) -> None:
    with pytest.raises(Unusable, match="the regular expression"):
        matching.parse(f'service=~"{pattern}"')


@pytest.mark.parametrize(
    "alert",
    [
        pytest.param({"labels": {f"label{n}": "v" for n in range(100_000)}}, id="100,000 labels"),
        pytest.param({"labels": {"a": "x" * 1_000_000}}, id="a label value of 1 MB"),
        pytest.param({"labels": {"a" * 1_000_000: "x"}}, id="a label name of 1 MB"),
        pytest.param({"annotations": {f"a{n}": "é" * 10_000 for n in range(100)}}, id="1 MB of annotations"),
        pytest.param({"links": [f"https://a/{n}" for n in range(100_000)]}, id="100,000 links"),
        pytest.param({"summary": "\0" * 1_000_000, "name": "\0" * 1_000_000}, id="NULs"),
        pytest.param({"severity": "x" * 1_000_000, "id": "y" * 1_000_000, "group": "z" * 1_000_000}, id="long words"),
        pytest.param({"cluster": "c" * 1_000_000, "environment": "\0" * 500}, id="a long scope"),
    ],
)
def test_a_huge_alert_becomes_a_small_one(alert: dict[str, object]) -> None:
    """Every record behind normalise must fit into the log, whatever came in."""
    play = Play()
    play.configure()
    play.post({"name": "huge", "status": "firing", "severity": "critical", **alert})
    play.post({"name": "small", "status": "firing", "severity": "critical"})
    play.run()
    assert play.letters() == []
    assert sum(record.headers["type"] == b"alert.v1" for record in play.memory.records("alerts")) == 2
    assert play.memory.records("incidents.enriched")
    behind = (topic for topic, _ in play.memory.journal.logs if topic != "alerts.raw")
    largest = max(len(each.value) + len(each.key) for topic in behind for each in play.memory.records(topic))
    assert largest < 1_000_000


def test_a_silence_of_a_huge_incident_fits_into_the_log() -> None:
    """It tells every member of it at once."""
    play = Play()
    play.configure()
    play.arm(adopt=False)
    labels = {f"label{n}": "x" * 250 for n in range(20)}
    play.post({"alerts": [{"id": str(n), "name": "huge", "service": "web", "severity": "critical", "labels": labels}
                          for n in range(900)]})  # fmt: skip
    play.run()
    play.wait(1)
    play.silence("web", 60)
    play.wait(1)
    told = [Incident.decode(each.value, each.headers) for each in play.memory.records("incidents.enriched")]
    muted = [incident for incident in told if incident.muted]
    assert len(muted[-1].joined) == 900
    assert all(member.muted_by for member in muted[-1].joined)
    assert [len(each.labels) > 0 for each in muted[-1].joined].count(True) < 300
    assert max(len(each.value) for each in play.memory.records("incidents.enriched")) < LARGEST
    assert play.letters() == []


def test_a_flood_of_huge_alerts_in_one_scope_fits_into_the_log() -> None:
    play = Play()
    play.configure()
    play.arm(adopt=False)
    labels = {f"label{n}": "é" * 1000 for n in range(60)}
    for start in range(0, 300, 100):
        play.post({"alerts": [{"id": str(n), "name": "huge", "service": "web", "severity": "critical", "labels": labels,
                               "summary": "é" * 9000} for n in range(start, start + 100)]})  # fmt: skip
    play.run()
    play.wait(1)
    behind = (topic for topic, _ in play.memory.journal.logs if topic != "alerts.raw")
    largest = max(len(each.value) for topic in behind for each in play.memory.records(topic))
    rows = max(len(raw) for part in play.memory.engine.parts for raw in part.rows.raw().values())
    assert max(largest, rows) < LARGEST
    assert play.letters() == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"])
def test_a_policy_at_the_end_of_the_calendar_is_refused(moment: str) -> None:
    """Found by fuzzing: once armed so, every later decision failed."""
    play = Play()
    play.configure()
    play.want(policy_id="arm", kind="arm", starts_at=moment)
    play.want(policy_id="p", matchers=[{"name": "a", "op": "=", "value": "b"}], ends_at=moment)
    play.fire("a", severity="critical")
    play.wait(5)
    assert [letter.reason for letter in play.letters()] == ["bad_time", "bad_time"]
    assert play.memory.records("incidents.enriched")


def test_a_first_alert_nested_too_deep_does_not_keep_the_others_out() -> None:
    """Found by fuzzing: the door refused the whole body, and senders drop what is refused."""
    deep = b"[" * 300 + b"]" * 300
    body = b'[{"name": "a", "group": %b}, {"name": "b"}]' % deep
    assert envelope("generic", body) == Envelope(2, "")
    play = Play()
    play.post(body)
    play.run()
    assert [letter.reason for letter in play.letters()] == ["too_deep"]
    assert len(play.memory.records("alerts")) == 1
