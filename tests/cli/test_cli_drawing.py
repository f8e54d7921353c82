from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from streamproc import catalog, cli
from streamproc.commands.schemas import events, explanations, schema
from streamproc.core.step import Everywhere
from streamproc.events.feedback import Feedback
from streamproc.graph import mermaid, text
from streamproc.topology import TOPICS, TOPOLOGY
from tests.cli.playing import call

ROOT = catalog.folder().parent
SAMPLES = ROOT / "schemas" / "samples"


# -- graph ------------------------------------------------------------------------------------------------------------


def test_the_drawing_has_every_node_and_every_edge() -> None:
    drawn = mermaid(TOPOLOGY)
    lines = drawn.splitlines()
    assert lines[0] == "flowchart LR"
    edges = 0
    for node in TOPOLOGY:
        name = node.name.replace("-", "_")
        assert any(line.startswith(f"  {name}_node[") for line in lines)
        assert f"  {node.inbox.name.replace('.', '_')} --> {name}_node" in lines
        for written in node.writes:
            topic = written.topic if isinstance(written, Everywhere) else written
            arrow = "-.->" if isinstance(written, Everywhere) else "-->"
            assert f"  {name}_node {arrow} {topic.name.replace('.', '_').replace('-', '_')}" in lines
            edges += 1
    assert sum("-->" in line or "-.->" in line for line in lines) == edges + len(TOPOLOGY)
    assert len(lines) == len(set(lines))


def test_identifiers_are_ones_that_mermaid_takes() -> None:
    for line in mermaid(TOPOLOGY).splitlines()[1:]:
        assert re.fullmatch(r"  (\w+\[.+\]|\w+ (-->|-\.->) \w+|classDef .+|class [\w,]+ public)", line), line


def test_the_text_names_stages_and_tables_and_where_it_goes() -> None:
    told = text(TOPOLOGY)
    assert "decide: correlate > suppress > enrich > classify > escalate" in told
    assert "    keeps active, incident, member, policy, mute, class, page, heard\n" in told
    assert "    -> incidents.enriched (public)\n" in told
    assert "    -> escalations (every partition)\n" in told
    assert "alerts (8 partitions by fingerprint)" in told
    assert "policies (1 partition)" in told


def test_graph_on_the_command_line() -> None:
    assert call("graph").output == text(TOPOLOGY)
    assert call("graph", "--format", "mermaid").output == mermaid(TOPOLOGY)
    assert call("graph", "--format", "png").exit_code == 2


# -- generated files --------------------------------------------------------------------------------------------------


def test_what_is_committed_is_what_the_code_says() -> None:
    answer = call("generate", "--check")
    assert answer.exit_code == 0, answer.output


def test_drift_is_named_and_mended(tmp_path: Path) -> None:
    first = call("generate", "--root", str(tmp_path))
    assert "wrote schemas/alert.v1.json" in first.output
    assert call("generate", "--root", str(tmp_path)).output == ""
    (tmp_path / "docs" / "settings.md").write_text("another")
    (tmp_path / "schemas" / "gone.v1.json").write_text("{}")
    checked = call("generate", "--check", "--root", str(tmp_path))
    assert checked.exit_code == 1
    assert [line.split()[0] for line in checked.output.splitlines()] == ["docs/settings.md", "schemas/gone.v1.json"]
    mended = call("generate", "--root", str(tmp_path))
    assert mended.output == "wrote docs/settings.md\nremoved schemas/gone.v1.json\n"
    assert call("generate", "--check", "--root", str(tmp_path)).exit_code == 0


def test_every_event_that_a_topic_declares_has_a_schema() -> None:
    declared = {name for topic in TOPICS.values() for name in topic.events}
    assert declared <= set(events())
    assert "wake.v1" in events()


def test_a_schema_explains_its_fields() -> None:
    made = schema(Feedback)
    assert made["properties"]["incident_id"]["description"] == "Ours: the `dedup_key` of the page."
    assert made["required"] == ["feedback_id", "incident_id", "kind", "at"]
    assert "scope" in explanations(Feedback)
    assert "by" not in explanations(Feedback)
    inner = schema(events()["alert.v1"])["$defs"]["Why"]
    assert inner["properties"]["origin"]["description"].startswith("`topic/partition/offset`")


@pytest.mark.parametrize("name", sorted(file.stem for file in SAMPLES.glob("*.json")))
def test_samples_of_every_version_ever_shipped_still_parse(name: str) -> None:
    kind = events()[name]
    value = (SAMPLES / f"{name}.json").read_bytes()
    event = kind.decode(value, {"source": b"alertmanager"})
    assert kind.decode(event.encode(), event.extra_headers()) == event


def test_every_event_has_a_sample() -> None:
    assert {file.stem for file in SAMPLES.glob("*.json")} == set(events())


@pytest.mark.parametrize("file", ["settings.md", "topics.md"])
def test_no_row_of_the_reference_is_broken(file: str) -> None:
    titles = 0
    for line in (ROOT / "docs" / file).read_text().splitlines():
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line)) - 1
            titles = titles or cells
            assert cells == titles, line
        else:
            titles = 0


# -- emulator ---------------------------------------------------------------------------------------------------------


def test_the_emulator_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    record = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "streamproc", "emulator", "--port", "0", "--record", str(record)]
    with subprocess.Popen(  # noqa: S603  our own program
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[2]
        body = {"routing_key": "k" * 32, "event_action": "trigger", "dedup_key": "1"}
        payload = {"summary": "s", "source": "s", "severity": "error"}
        assert httpx.post(f"{url}/v2/enqueue", json={**body, "payload": payload}).status_code == 202
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert record.read_text().count("\n") == 1


def test_the_emulator_says_what_is_wrong_with_its_port(tmp_path: Path) -> None:
    answer = call("emulator", "--record", str(tmp_path / "no" / "file"))
    assert answer.exit_code == 2
    assert "cannot write the record" in answer.stderr
