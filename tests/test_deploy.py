"""What deploy/ shows can be used: it parses, its commands and options exist, its settings are settings."""

from __future__ import annotations

from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamproc.cli import COMMANDS, load
from streamproc.runtime.faust.config import Config
from streamproc.settings import PLACES, Settings
from streamproc.settings import load as load_settings

DEPLOY = Path(__file__).parents[1] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OBJECTS = [each for file in MANIFESTS for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
COMPOSE = sorted(DEPLOY.glob("compose*.yaml"))
UNITS = sorted(DEPLOY.glob("*.service"))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in OBJECTS if each["kind"] == kind]


def pods() -> dict[str, dict[str, Any]]:
    return {
        each["metadata"]["name"]: each["spec"]["template"] for each in OBJECTS if "template" in each.get("spec", {})
    }


def commands() -> Iterator[Any]:
    """Yield every command line of ours in deploy/, without the program."""
    for name, pod in pods().items():
        for container in pod["spec"]["containers"]:
            yield pytest.param(container["args"], id=f"kubernetes {name}")
    for file in COMPOSE:
        for name, service in yaml.safe_load(file.read_text(encoding="utf-8"))["services"].items():
            if service["image"].startswith("streamproc:") and "command" in service:
                yield pytest.param(service["command"], id=f"{file.name} {name}")
    for file in UNITS:
        yield pytest.param(unit(file)["Service"]["ExecStart"].split()[1:], id=file.name)


def unit(file: Path) -> RawConfigParser:
    parser = RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read_string(file.read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_and_its_options_exist(line: list[str]) -> None:
    name, *rest = line
    command: Any = load(next(entry for entry in COMMANDS if entry.name == name))
    if (inner := getattr(command, "commands", None)) is not None:
        command, rest = inner[rest[0]], rest[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in rest if word.startswith("--") and word not in options] == []


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.name)
def test_a_unit_restarts_what_a_guard_has_ended(file: Path) -> None:
    service = unit(file)["Service"]
    worker = "worker" in file.name
    assert service["Restart"] == ("always" if worker else "on-failure")
    assert float(service["RestartSec"]) < Config().session_timeout or not worker
    assert float(service["TimeoutStopSec"]) > 10
    variables = [word.split("=")[0] for word in service.get("Environment", "").split()]
    assert {variable.lower() for variable in variables} <= PLACES.keys()


@pytest.mark.parametrize("file", [*COMPOSE, DEPLOY / "streamproc-kafka.yaml"], ids=lambda file: file.name)
def test_what_stands_beside_compose_is_there(file: Path) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    for service in document.get("services", {}).values() if file in COMPOSE else ():
        for volume in service.get("volumes", ()):
            place = volume.split(":")[0]
            assert not place.startswith("./") or (DEPLOY / place).is_file() or "token" in place
        assert set(service.get("depends_on", ())) <= document["services"].keys()


def test_the_settings_of_kafka_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in PLACES:
        monkeypatch.delenv(variable.upper(), raising=False)
    assert not load_settings(DEPLOY / "streamproc-kafka.yaml").kafka.production
    given = next(iter(of_kind("ConfigMap")))["data"]["streamproc.yaml"]
    file = tmp_path / "streamproc.yaml"
    file.write_text(given, encoding="utf-8")
    settings = load_settings(file)
    assert settings.kafka.production
    assert settings.gateway.host != Settings().gateway.host, "it must be reached from other pods"


def test_variables_in_kubernetes_are_settings() -> None:
    named = {name for secret in of_kind("Secret") for name in secret["stringData"]}
    for pod in pods().values():
        named |= {each["name"] for container in pod["spec"]["containers"] for each in container.get("env", ())}
    assert named
    assert {name.lower() for name in named} <= PLACES.keys()


def test_a_worker_in_kubernetes_keeps_its_name_and_is_asked() -> None:
    (container,) = pods()["streamproc-worker"]["spec"]["containers"]
    (name,) = container["env"]
    assert name == {"name": "KAFKA_INSTANCE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    (port,) = container["ports"]
    assert container["args"][-2:] == ["--port", str(port["containerPort"])]
    assert pods()["streamproc-worker"]["spec"]["terminationGracePeriodSeconds"] > 10


@pytest.mark.parametrize("name", sorted(pods()))
def test_a_pod_is_whole(name: str) -> None:
    pod = pods()[name]
    (container,) = pod["spec"]["containers"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    ports = {port["name"] for port in container.get("ports", ())}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert (probe in container) == bool(ports)
        if ports:
            assert container[probe]["httpGet"]["port"] in ports
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget"])
def test_what_selects_pods_finds_them(kind: str) -> None:
    labels = [pod["metadata"]["labels"] for pod in pods().values()]
    for each in of_kind(kind):
        selector = each["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= found.items() for found in labels), each["metadata"]["name"]
