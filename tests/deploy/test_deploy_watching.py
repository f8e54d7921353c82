"""Dashboards and alert rules: every metric, label and reason that they name exists, and Prometheus understands them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamproc.core.fold import FOLD, FoldReason
from streamproc.topology import TOPOLOGY

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus-rules.yml"
RULE_TESTS = Path(__file__).parent / "rules-test.yml"
BOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
OF_HOST = {
    "node_filesystem_avail_bytes": {"mountpoint"},
    "node_filesystem_size_bytes": {"mountpoint"},
    "node_timex_offset_seconds": set(),
    "node_timex_sync_status": set(),
}
"""Metrics of Prometheus' node exporter, with the labels that are asked for."""
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds to every series."""
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)
NAME = re.compile(r"\b(?:streamproc|process|python|node)_\w+|\bup\b")
SELECTOR = re.compile(r'(\w+)\{((?:[^{}"]|"[^"]*")*)\}')
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$job": "streamproc"}


def known() -> dict[str, set[str]]:
    """Return each series that is documented, with its labels; tests/test_docs.py holds that list to the code."""
    found = {"up": set[str](), **OF_HOST}
    for name, kind, labels in ROW.findall((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")):
        named = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            found |= {f"{name}_bucket": {*named, "le"}, f"{name}_sum": named, f"{name}_count": named}
        else:
            found[name] = named
    return found


def faults(expression: str) -> list[str]:
    """Return what an expression names and there is not."""
    series, said = known(), []
    unquoted = re.sub(r'"[^"]*"', '""', expression)
    said += [f"no metric {name}" for name in NAME.findall(unquoted) if name not in series]
    for name, matchers in SELECTOR.findall(expression):
        given = dict(MATCHER.findall(matchers))
        said += [f"{name} has no label {label}" for label in given.keys() - series.get(name, set()) - OF_PROMETHEUS]
        if name == "streamproc_decisions_total" and "stage" in given:
            said += list(_unknown_reasons(given["stage"], given.get("reason", "")))
    return said


def _unknown_reasons(stage: str, asked: str) -> Iterator[str]:
    reasons = {one.name: {str(reason) for reason in one.reasons} for node in TOPOLOGY for one in node.stages}
    reasons[FOLD] = {str(reason) for reason in FoldReason}
    if stage not in reasons:
        yield f"no stage {stage}"
        return
    yield from (
        f"{stage} has no reason {reason}" for reason in filter(None, asked.split("|")) if reason not in reasons[stage]
    )


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def panels(board: Path) -> list[dict[str, Any]]:
    return [panel for panel in json.loads(board.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; without one the test is skipped, but not in CI."""
    program = shutil.which("promtool")
    if program is None:
        reason = "there is no promtool: install Prometheus (Debian: apt-get install prometheus)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603  found above


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        pytest.param('sum(rate(streamproc_deliveries_total{verdict="again"}[5m]))', [], id="all is there"),
        pytest.param("streamproc_pages_total > 0", ["no metric streamproc_pages_total"], id="no such metric"),
        pytest.param(
            "rate(streamproc_step_seconds[5m])", ["no metric streamproc_step_seconds"], id="a histogram itself"
        ),
        pytest.param(
            'streamproc_lag_records{pod="x"}', ["streamproc_lag_records has no label pod"], id="no such label"
        ),
        pytest.param(
            'streamproc_decisions_total{stage="fold",reason="x"}', ["fold has no reason x"], id="no such reason"
        ),
        pytest.param('streamproc_decisions_total{stage="x"}', ["no stage x"], id="no such stage"),
        pytest.param(
            'streamproc_http_requests_total{route="/v1/ingest/{source}",status="503"}', [], id="braces in a value"
        ),
    ],
)
def test_what_is_found_wrong_with_an_expression(expression: str, said: list[str]) -> None:
    assert faults(expression) == said


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_names_what_there_is(rule: dict[str, Any]) -> None:
    assert faults(rule["expr"]) == []
    assert rule["alert"].startswith("Streamproc"), "so that Alertmanager can route it past streamproc"
    assert rule["labels"]["severity"] in ("critical", "error", "warning")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_has_a_runbook(rule: dict[str, Any]) -> None:
    place, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / place).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_a_dashboard_names_what_there_is(board: Path) -> None:
    asked = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    assert asked
    assert [fault for expression in asked for fault in faults(expression)] == []


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_a_dashboard_can_be_taken_anywhere(board: Path) -> None:
    told = json.loads(board.read_text(encoding="utf-8"))
    assert told["id"] is None
    assert told["uid"] == f"streamproc-{board.stem}"
    assert {"datasource", "job"} <= {variable["name"] for variable in told["templating"]["list"]}
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels(board):
        assert panel["datasource"] == source
        assert all(target["datasource"] == source for target in panel["targets"])
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_no_panel_covers_another(board: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(board.read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_metric_of_ours_is_watched_somewhere_or_left_out_on_purpose() -> None:
    asked = " ".join(rule["expr"] for rule in rules())
    asked += " ".join(target["expr"] for board in BOARDS for panel in panels(board) for target in panel["targets"])
    sending = {name for name in known() if re.match(r"streamproc_(deliver|waiting|alarms|errors|lag|partition)", name)}
    shown = {name for name in sending if name in asked}
    assert {name for name in sending - shown if not name.endswith(("_sum", "_count"))} == set()


def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_example_configuration() -> None:
    done = promtool("check", "config", ROOT / "deploy" / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_fires_when_it_should_and_not_else() -> None:
    done = promtool("test", "rules", RULE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_is_tested() -> None:
    cases = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == names


def test_a_rule_that_does_not_fire_is_found_out(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path / "rules.yml")
    told = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))
    case = told["tests"][0]
    case["input_series"][0]["values"] = "1x30"
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [case]}), encoding="utf-8")
    done = promtool("test", "rules", tmp_path / "test.yml")
    assert done.returncode != 0
    assert "StreamprocDown" in done.stdout + done.stderr


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_prometheus_takes_the_queries_of_a_dashboard(board: Path, tmp_path: Path) -> None:
    asked = [target["expr"] for panel in panels(board) for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        asked = [expression.replace(variable, value) for expression in asked]
    records = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    file = tmp_path / "asked.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": records}]}), encoding="utf-8")
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deploy" / "grafana" / "provisioning").rglob("*.yaml")), ids=lambda file: file.parent.name
)
def test_provisioning_is_of_the_version_that_grafana_knows(file: Path) -> None:
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert told.pop("apiVersion") == 1
    assert all(one["name"] and one["type"] for listed in told.values() for one in listed)
