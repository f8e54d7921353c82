"""The hand-written documents say what the code does: links, commands, settings, metrics."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

from streamproc.beginning import catalogue_of
from streamproc.cli import COMMANDS, load
from streamproc.core.fold import FOLD, UNINTENDED, FoldReason
from streamproc.gateway.refusal import ErrorBody
from streamproc.gateway.telemetry import ENVELOPE_REASONS, REASONS, Telemetry
from streamproc.runtime.clock import SystemClock
from streamproc.runtime.heartbeat import HeartMetrics
from streamproc.runtime.latency import NodeLatency
from streamproc.runtime.metrics import Metrics
from streamproc.runtime.reconcile_metrics import ReconcileMetrics
from streamproc.runtime.redis.metrics import RedisMetrics
from streamproc.runtime.sender_metrics import SenderMetrics
from streamproc.runtime.standing_metrics import StandingMetrics
from streamproc.runtime.traces.otlp import counter
from streamproc.runtime.worker_metrics import WorkerMetrics
from streamproc.services import Catalogue, problems
from streamproc.settings import Settings
from streamproc.settings import load as load_settings
from streamproc.shadow.metrics import ShadowMetrics
from streamproc.topology import TOPOLOGY

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")])
SETTINGS = [*sorted((ROOT / "docs" / "examples").glob("settings-*.yaml")), ROOT / "deploy" / "streamproc.yaml"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
METRIC_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\|", re.MULTILINE)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    assert [link for link in _links(document) if not _leads_somewhere(document, link)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_shown_exists(document: Path) -> None:
    assert [f"{line}: {fault}" for line in _commands(document) if (fault := _fault(line))] == []


def test_commands_are_found_in_the_documents() -> None:
    shown = {line.split()[1] for document in DOCUMENTS for line in _commands(document)}
    assert {"try", "init", "check", "run", "arm", "explain", "silence", "dead-letters"} <= shown


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param("streamproc arm --yes", "", id="a command with an option"),
        pytest.param("streamproc arm -y", "", id="a short option"),
        pytest.param("streamproc dead-letters retry --all", "", id="a command of a group"),
        pytest.param("streamproc --version", "", id="an option of all"),
        pytest.param("streamproc page-me", "there is no command page-me", id="no such command"),
        pytest.param("streamproc arm --now", "arm has no option --now", id="no such option"),
        pytest.param("streamproc silence drop", "silence has no command drop", id="no such command of a group"),
    ],
)
def test_what_is_found_wrong_with_a_command(line: str, fault: str) -> None:
    assert _fault(line) == fault


def test_the_metrics_are_those_of_the_code() -> None:
    rows = METRIC_ROW.findall(METRICS)
    told = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert told == {name: (kind, labels) for name, kind, labels in _metrics()}


def test_the_reasons_are_those_of_the_code() -> None:
    stages = [stage for node in TOPOLOGY for stage in node.stages]
    known = {stage.name: [(reason.value, reason in stage.unintended) for reason in stage.reasons] for stage in stages}
    known[FOLD] = [(reason.value, reason in UNINTENDED) for reason in FoldReason]
    rows = re.findall(r"^\| `([\w-]+)` \| (\**`.*) \|$", METRICS, re.MULTILINE)
    told = {stage: [(name, bool(bold)) for bold, name in re.findall(r"(\**)`(\w+)`", said)] for stage, said in rows}
    assert told == known


def test_the_alert_rules_ask_for_metrics_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus-rules.yml").read_text(encoding="utf-8"))
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    named = (name for expression in asked for name in re.findall(r"streamproc_\w+", expression))
    used = {name.removesuffix("_bucket") for name in named}
    assert used
    assert used <= {name for name, _, _ in _metrics()}


def test_every_reason_of_a_refused_request_is_explained() -> None:
    document = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert [reason for reason in (*REASONS, *ENVELOPE_REASONS) if f"`{reason}`" not in document] == []
    shown = next(block for kind, block in FENCE.findall(document) if kind == "json" and '"error"' in block)
    ErrorBody.model_validate_json(shown)


@pytest.mark.parametrize("file", SETTINGS, ids=named)
def test_the_example_settings_are_valid(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PAGERDUTY_ROUTING_KEY", "PAGERDUTY_EVENTS_URL", "PAGERDUTY_WEBHOOK_SECRET", "ENVIRONMENT"):
        monkeypatch.delenv(variable, raising=False)
    settings = load_settings(file)
    if settings.services is not None:
        assert settings.services.is_file()


def test_the_example_catalogue_fits_the_example_settings() -> None:
    settings = load_settings(ROOT / "docs" / "examples" / "settings-teams.yaml")
    assert settings.services is not None
    assert problems(Catalogue.of(catalogue_of(settings.services)), settings.pagerduty.destinations) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_setting_shown_is_one(document: Path) -> None:
    for kind, block in FENCE.findall(document.read_text(encoding="utf-8")):
        shown = yaml.safe_load(block) if kind == "yaml" else {}
        if isinstance(shown.get("services"), dict):
            Catalogue.model_validate(shown)
        elif shown.keys() <= Settings.model_fields.keys():
            assert _unknown(Settings, shown) == []


def _links(document: Path) -> Iterator[str]:
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    yield from (link for link in LINK.findall(text) if "://" not in link and not link.startswith("mailto:"))


def _leads_somewhere(document: Path, link: str) -> bool:
    place, _, anchor = link.partition("#")
    target = (document.parent / place).resolve() if place else document
    if not target.exists():
        return False
    return not anchor or anchor in _anchors(target)


def _anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _commands(document: Path) -> Iterator[str]:
    """Yield every line of a shell block, and every piece of inline code, that calls streamproc."""
    text = document.read_text(encoding="utf-8")
    for kind, block in FENCE.findall(text):
        if kind == "sh":
            yield from (at[1] for line in block.splitlines() if (at := _called(line)))
    yield from re.findall(r"`(streamproc [a-z-][^`\n]*)`", FENCE.sub("", text))


def _called(line: str) -> re.Match[str] | None:
    """Return where a line calls streamproc: by its name, by its path, or in a container."""
    return re.search(r"(?:^|bin/|exec streamproc )(streamproc [a-z-]+[^#]*)", line)


def _fault(line: str) -> str:
    """Return what is wrong with a call of streamproc, nothing where it could be called so."""
    options = [word for word in shlex.split(line)[1:] if word.startswith("-") and len(word) > 1]
    words = [word for word in shlex.split(line)[1:] if not word.startswith("-")]
    if not words:
        return ""
    entry = next((entry for entry in COMMANDS if entry.name == words[0]), None)
    if entry is None:
        return f"there is no command {words[0]}"
    command: Any = load(entry)
    inner = getattr(command, "commands", None)
    if inner is not None and len(words) > 1:
        if words[1] not in inner:
            return f"{words[0]} has no command {words[1]}"
        command = inner[words[1]]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [option for option in options if option.partition("=")[0] not in {*known, "--help"}]
    return f"{words[0]} has no option {unknown[0]}" if unknown else ""


def _metrics() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield name, type and labels of every metric of a running pipeline."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    Metrics(TOPOLOGY, registry)
    SenderMetrics(registry)
    WorkerMetrics(TOPOLOGY, registry)
    RedisMetrics(registry)
    HeartMetrics(registry)
    ShadowMetrics(registry, SystemClock())
    ReconcileMetrics(registry)
    Telemetry(registry)
    NodeLatency(TOPOLOGY, registry, SystemClock())
    StandingMetrics(tuple, registry)
    counter(registry)
    for family in registry.collect():
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, _labels(family)


def _labels(family: Metric) -> frozenset[str]:
    """Return the labels of a metric, every one of which has a series from the start."""
    return frozenset(family.samples[0].labels) - {"le"}


def _unknown(model: Any, shown: Any, place: str = "") -> list[str]:
    """Return keys that the settings do not have; sections of free names (destinations) are taken as they are."""
    found = []
    for key, value in shown.items():
        field = model.model_fields.get(key)
        if field is None:
            found.append(f"{place}{key}")
        elif isinstance(value, dict) and hasattr(field.annotation, "model_fields"):
            found += _unknown(field.annotation, value, f"{place}{key}.")
    return found
