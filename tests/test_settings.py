"""Settings: the environment over the file, every fault at its place, and nothing secret in what is said."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from streamproc.core.errors import Unusable
from streamproc.core.fold import CONFIG
from streamproc.core.step import Stage, StageConfig
from streamproc.gateway.config import hash_token
from streamproc.settings import ELSEWHERE, PLACES, Environment, Settings, load
from streamproc.stages.escalate import Config as EscalateConfig
from streamproc.topology import TOPOLOGY

KEY = "R0123456789abcdef0123456789abcde"
SECRET = "whsec-do-not-tell"
CHANNEL = "mailto://ops:do-not-tell@example.com"


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def file(given: Any, name: str = "streamproc.yaml") -> Path:
    """Write a settings file."""
    made = Path(name)
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(given if isinstance(given, str) else yaml.safe_dump(given), encoding="utf-8")
    return made


def at(settings: BaseModel, *path: str) -> Any:
    """Return what stands at a place, secrets in clear."""
    found: Any = settings
    for part in path:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    if isinstance(found, tuple):
        return [one.get_secret_value() if hasattr(one, "get_secret_value") else one for one in found]
    return found.get_secret_value() if hasattr(found, "get_secret_value") else found


# -- where they come from --------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_stand() -> None:
    assert load() == Settings()


def test_a_file_in_the_working_directory_is_read() -> None:
    file({"gateway": {"port": 1234}})
    assert load().gateway.port == 1234
    assert load(file({"gateway": {"port": 77}}, "other.yaml")).gateway.port == 77


@pytest.mark.parametrize(
    ("variable", "given", "in_file", "stands"),
    [
        pytest.param("PAGERDUTY_ROUTING_KEY", f" {KEY}\n", "x" * 32, KEY, id="routing key"),
        pytest.param(
            "PAGERDUTY_EVENTS_URL",
            "https://events.eu.pagerduty.com/v2/enqueue",
            "https://events.pagerduty.com",
            "https://events.eu.pagerduty.com",
            id="events url",
        ),
        pytest.param("PAGERDUTY_API_KEY", f" {SECRET}\n", "u+x", SECRET, id="API key"),
        pytest.param("PAGERDUTY_FROM_EMAIL", "a@example.com", "b@example.com", "a@example.com", id="From"),
        pytest.param(
            "PAGERDUTY_API_URL",
            "http://127.0.0.1:1",
            "https://api.eu.pagerduty.com",
            "http://127.0.0.1:1",
            id="REST API",
        ),
        pytest.param("PAGERDUTY_WEBHOOK_SECRET", "one, two,", ["three"], ["one", "two"], id="webhook secrets"),
        pytest.param("ML_CONFIDENCE_THRESHOLD", "0.91", 0.7, 0.91, id="confidence"),
        pytest.param("ENVIRONMENT", "staging", "prod", "staging", id="environment"),
        pytest.param("LOG_LEVEL", "WARNING", "debug", "warning", id="log level"),
        pytest.param("HEARTBEAT_URL", "https://a.test/1", "https://b.test/2", "https://a.test/1", id="heartbeat"),
        pytest.param("KAFKA_BOOTSTRAP", "k1:9092, k2:9092", ["k3:9092"], ["k1:9092", "k2:9092"], id="brokers"),
        pytest.param("KAFKA_INSTANCE", "worker-0", "worker-1", "worker-0", id="name of the worker"),
        pytest.param("KAFKA_PASSWORD", "over", "under", "over", id="Kafka's password"),
    ],
)
def test_the_environment_stands_over_the_file(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str, in_file: Any, stands: Any
) -> None:
    path = PLACES[variable.lower()]
    document: Any = in_file
    for part in reversed(path):
        document = {part: document}
    file(document)
    assert at(load(), *path) == in_file
    monkeypatch.setenv(variable, given)
    assert at(load(), *path) == stands
    monkeypatch.setenv(variable, "")
    assert at(load(), *path) == in_file


def test_every_variable_has_its_place() -> None:
    assert set(PLACES) == set(Environment.model_fields)


def test_a_routing_key_of_the_environment_leaves_the_rest_of_its_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    file({"pagerduty": {"destinations": {"default": {"routing_key": "x" * 32, "ticket_routing_key": "y" * 32}}}})
    monkeypatch.setenv("PAGERDUTY_ROUTING_KEY", KEY)
    default = load().pagerduty.destinations["default"]
    assert (at(default, "routing_key"), at(default, "ticket_routing_key")) == (KEY, "y" * 32)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("# nothing yet\n", {}, id="comments alone"),
        pytest.param("pagerduty:\n  # api:\n", {}, id="a section of comments"),
        pytest.param("pagerduty:\n  api:\n    # timeout: 3\n", {}, id="a section within a section"),
        pytest.param("services:\nenvironment:\n", {}, id="keys without a value"),
        pytest.param(
            "pagerduty: {destinations: {default: {routing_key: k, ticket_routing_key: }}}",
            {"pagerduty": {"destinations": {"default": {"routing_key": "k"}}}},
            id="an empty key in a destination",
        ),
    ],
)
def test_what_is_commented_out_is_not_set(given: str, expected: dict[str, Any]) -> None:
    file(given)
    assert load() == Settings.model_validate(expected)


def test_the_catalogue_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    assert load(file({"services": "services.yaml"}, "conf/streamproc.yaml")).services == Path("conf/services.yaml")
    absolute = tmp_path / "elsewhere.yaml"
    assert load(file({"services": str(absolute)}, "conf/streamproc.yaml")).services == absolute
    assert load(file({"services": "services.yaml"})).services == Path("services.yaml")


# -- what is wrong with them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({"gatway": {}}, "gatway: there is no such setting; did you mean `gateway`?", id="a section"),
        pytest.param({"gatway": None}, "gatway: there is no such setting", id="an empty section"),
        pytest.param(
            {"gateway": {"prot": 1}}, "gateway.prot: there is no such setting; did you mean `port`?", id="a key"
        ),
        pytest.param(
            {"pagerduty": {"api": {"retry_config": {"max_attempt": 1}}}},
            "pagerduty.api.retry_config.max_attempt: there is no such setting; did you mean `max_attempts`?",
            id="deep within",
        ),
        pytest.param(
            {"pagerduty": {"destinations": {"default": {"routing_kye": KEY}}}},
            "pagerduty.destinations.default.routing_kye: there is no such setting; did you mean `routing_key`?",
            id="in a destination",
        ),
        pytest.param(
            {"normalise": {"rules": [{"name": "x", "wen": "true"}]}},
            "normalise.rules.0.wen: there is no such setting; did you mean `when`?",
            id="in a list of sections",
        ),
        pytest.param(
            {"logs": {"zzz": 1}}, "logs.zzz: there is no such setting; known here: level, form", id="nothing like it"
        ),
        pytest.param({"gateway": 5}, "gateway: Input should be a valid dictionary", id="no section"),
        pytest.param({"gateway": {"port": 70_000}}, "gateway.port: Input should be less than", id="out of bounds"),
        pytest.param({"environment": "moon"}, "environment: Input should be 'dev', 'staging' or 'prod'", id="a word"),
        pytest.param(
            {"pagerduty": {"destinations": {"default": None}}},
            "pagerduty.destinations.default.routing_key: Field required",
            id="a destination without a key",
        ),
        pytest.param(
            {"pagerduty": {"api": {"base_url": "http://events.example.com"}}},
            "base_url is http://events.example.com, which is not encrypted: use https://, or set",
            id="not encrypted",
        ),
        pytest.param(
            {"pagerduty": {"api": {"base_url": "ftp://x"}}},
            "pagerduty.api.base_url: not the address of an Events API",
            id="no address",
        ),
        pytest.param("a: [", "streamproc.yaml cannot be read: line 1, column 5: ", id="no YAML"),
        pytest.param("a: \x00", "streamproc.yaml cannot be read: it is no YAML", id="no text"),
        pytest.param("- a\n", "settings are sections with keys, for example `gateway:`", id="a list"),
        pytest.param("text", "settings are sections with keys", id="a word alone"),
    ],
)
def test_a_fault_is_said_with_its_place(given: Any, says: str) -> None:
    file(given)
    with pytest.raises(Unusable) as fault:
        load()
    assert says in str(fault.value)
    assert str(fault.value).startswith("streamproc.yaml")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(("path", "place"), ELSEWHERE.items(), ids=[".".join(path) for path in ELSEWHERE])
def test_what_stands_elsewhere_is_refused_with_its_place(path: tuple[str, str], place: tuple[str, ...]) -> None:
    values: dict[str, Any] = {
        "webhook_validation": False,
        "default_environment": "prod",
        "reopen_within": 60,
        "ai_classification": False,
        "escalation_timeout": 60,
        "destinations": {"default": {"routing_key": KEY}},
    }
    file({path[0]: {path[1]: values[path[1]]}})
    with pytest.raises(Unusable) as fault:
        load()
    assert f"{'.'.join(path)}: set it as {'.'.join(place)}" in str(fault.value)


@pytest.mark.parametrize(
    ("variable", "given", "says"),
    [
        pytest.param("ML_CONFIDENCE_THRESHOLD", "high", "ML_CONFIDENCE_THRESHOLD: Input should be", id="no number"),
        pytest.param("ENVIRONMENT", "production", "ENVIRONMENT: Input should be 'dev'", id="a word"),
        pytest.param("LOG_LEVEL", "loud", "LOG_LEVEL: Input should be 'debug'", id="a level"),
        pytest.param("PAGERDUTY_EVENTS_URL", "nowhere", "PAGERDUTY_EVENTS_URL: not the address", id="an address"),
    ],
)
def test_a_fault_of_the_environment_is_said_to_be_its(
    monkeypatch: pytest.MonkeyPatch, variable: str, given: str, says: str
) -> None:
    file({})
    monkeypatch.setenv(variable, given)
    with pytest.raises(Unusable) as fault:
        load()
    assert str(fault.value).startswith(says)


def test_the_environment_does_not_hide_a_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    file({"pagerduty": 5})
    monkeypatch.setenv("PAGERDUTY_ROUTING_KEY", KEY)
    with pytest.raises(Unusable, match="pagerduty: Input should be a valid dictionary"):
        load()


def test_all_faults_are_said_at_once() -> None:
    file({"gateway": {"port": -1, "prot": 2}, "logs": {"level": "loud"}})
    with pytest.raises(Unusable, match=r"gateway\.port: .*gateway\.prot: .*logs\.level: "):
        load()


@pytest.mark.parametrize(
    ("made", "says"),
    [
        pytest.param(lambda: Path("gone.yaml"), r"gone\.yaml cannot be read: No such file", id="absent"),
        pytest.param(Path.cwd, "cannot be read: Is a directory", id="a directory"),
    ],
)
def test_a_file_that_cannot_be_read(made: Any, says: str) -> None:
    with pytest.raises(Unusable, match=says):
        load(made())


def test_a_file_that_is_no_text() -> None:
    Path("streamproc.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(Unusable, match="it is not UTF-8"):
        load()


@pytest.mark.parametrize(
    ("url", "encryption", "fine"),
    [
        pytest.param("https://events.example.com", True, True, id="https"),
        pytest.param("http://events.example.com", True, False, id="http"),
        pytest.param("http://events.example.com", False, True, id="http, and that is wanted"),
        pytest.param("http://127.0.0.1:8081", True, True, id="this machine"),
        pytest.param("http://[::1]:8081", True, True, id="this machine, v6"),
        pytest.param("http://localhost:8081", True, True, id="this machine by name"),
    ],
)
def test_events_leave_encrypted_or_not_at_all(url: str, *, encryption: bool, fine: bool) -> None:
    file({"pagerduty": {"api": {"base_url": url}, "security": {"encryption": encryption}}})
    if fine:
        assert load().pagerduty.api.base_url == url
    else:
        with pytest.raises(Unusable, match="which is not encrypted"):
            load()


@pytest.mark.parametrize(
    ("url", "encryption", "fine"),
    [
        pytest.param("https://watch.test/1", True, True, id="https"),
        pytest.param("http://watch.test/1", True, False, id="http"),
        pytest.param("http://watch.test/1", False, True, id="http, and that is wanted"),
        pytest.param("http://127.0.0.1:8000/1", True, True, id="this machine"),
    ],
)
def test_heartbeats_leave_encrypted_or_not_at_all(url: str, *, encryption: bool, fine: bool) -> None:
    file({"heartbeat": {"url": url}, "pagerduty": {"security": {"encryption": encryption}}})
    if fine:
        assert at(load(), "heartbeat", "url") == url
    else:
        with pytest.raises(Unusable, match="is not encrypted: use https") as fault:
            load()
        assert "watch.test" not in str(fault.value)


# -- secrets ---------------------------------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "gateway": {"webhook_secrets": [SECRET], "ingest_tokens": [hash_token("token")]},
    "pagerduty": {
        "destinations": {"default": {"routing_key": KEY, "ticket_routing_key": KEY[::-1]}},
        "notifications": {"channels": [CHANNEL]},
    },
}
HIDDEN = (SECRET, KEY, KEY[::-1], CHANNEL)


def test_secrets_are_not_shown() -> None:
    file(FULL)
    settings = load()
    for shown in (repr(settings), str(settings), str(settings.model_dump()), repr(settings.pagerduty)):
        assert not [secret for secret in HIDDEN if secret in shown]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"gateway": {"port": -1}}, id="a fault beside them"),
        pytest.param({"gateway": {"webhook_secrets": {SECRET: 1}}}, id="a fault in them"),
        pytest.param({"pagerduty": {"destinations": {"default": [KEY]}}}, id="a list for a section"),
        pytest.param({"pagerduty": {"destinations": {"default": {"routing_key": {"x": KEY}}}}}, id="a section for one"),
        pytest.param({"pagerduty": {"notifications": {"channels": CHANNEL}}}, id="one for a list"),
    ],
)
def test_secrets_are_not_in_errors(broken: dict[str, Any]) -> None:
    file({name: {**FULL.get(name, {}), **section} for name, section in broken.items()})
    with pytest.raises(Unusable) as fault:
        load()
    assert fault.value.__cause__ is None
    assert fault.value.__suppress_context__
    assert not [secret for secret in HIDDEN if secret in str(fault.value)]


def test_secrets_are_not_in_errors_of_yaml() -> None:
    file(f'pagerduty:\n  destinations:\n    default: {{routing_key: "{KEY}\n')
    with pytest.raises(Unusable, match="line ") as fault:
        load()
    assert KEY not in str(fault.value)


# -- what the parts make of them -------------------------------------------------------------------------------------

STAGES: dict[str, Stage] = {stage.name: stage for node in TOPOLOGY for stage in node.stages}
CONFIGURED = {name: stage for name, stage in STAGES.items() if stage.config is not StageConfig}


def told(settings: Settings) -> dict[str, StageConfig]:
    """Return what each stage reads in the artifact `config`."""
    sections = json.loads(settings.stages())
    return {name: stage.config.model_validate(sections[name]) for name, stage in CONFIGURED.items()}


def test_every_stage_with_settings_has_a_section_and_reads_its_defaults() -> None:
    assert set(json.loads(Settings().stages())) == set(CONFIGURED)
    defaults = {name: stage.config() for name, stage in CONFIGURED.items()}
    assert told(Settings()) == defaults
    assert set(CONFIGURED) <= set(Settings.model_fields)
    assert {name: Settings.model_fields[name].annotation for name in CONFIGURED} == {
        name: stage.config for name, stage in CONFIGURED.items()
    }
    assert CONFIG not in CONFIGURED


def test_what_people_set_reaches_the_stages() -> None:
    file(
        {
            **FULL,
            "environment": "staging",
            "pagerduty": {
                **FULL["pagerduty"],
                "incidents": {"auto_resolve_threshold": 60, "escalation_timeout": 30, "ai_classification": False},
            },
            "enrich": {"most_listed": 3},
            "deduplicate": {"expire_after": "PT30H"},
            "normalise": {"severities": {"gold": "critical"}},
        }
    )
    stages: Any = told(load())
    assert stages["normalise"].default_environment == "staging"
    assert stages["normalise"].severities == {"gold": "critical"}
    assert stages["correlate"].reopen_within == timedelta(seconds=60)
    assert stages["escalate"].escalation_timeout == timedelta(seconds=30)
    assert at(stages["escalate"].destinations["default"], "routing_key") == KEY
    assert at(stages["escalate"].destinations["default"], "ticket_routing_key") == KEY[::-1]
    assert stages["classify"].ai_classification is False
    assert stages["enrich"].most_listed == 3
    assert stages["deduplicate"].expire_after == timedelta(hours=30)


def test_the_stages_settings_are_the_same_text_in_every_process() -> None:
    script = "from streamproc.settings import Settings; print(Settings().stages())"
    made = {
        subprocess.run(  # noqa: S603  no input from outside
            [sys.executable, "-c", script],
            check=True,
            capture_output=True,
            cwd=Path(__file__).parent.parent,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert [hashlib.sha256(text).hexdigest() for text in made] == [
        hashlib.sha256(f"{Settings().stages()}\n".encode()).hexdigest()
    ]


def test_the_gateway_hears_of_webhook_validation() -> None:
    assert Settings().listening().webhook_validation is True
    file({"pagerduty": {"security": {"webhook_validation": False}}, "gateway": {"port": 7}})
    listening = load().listening()
    assert (listening.webhook_validation, listening.port) == (False, 7)


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _models(field.annotation)


def test_every_section_is_frozen_and_knows_its_keys() -> None:
    sections = list(_models(Settings))
    assert EscalateConfig in sections
    for model in sections:
        assert model.model_config.get("frozen"), model
        assert model.model_config.get("extra") == "forbid", model


def test_every_setting_is_used_by_something() -> None:
    package = Path(__file__).parent.parent / "streamproc"
    using = [
        one for one in package.rglob("*.py") if one.parent.name not in {"commands", "demo"} or one.name == "run.py"
    ]
    text = "\n".join(source.read_text() for source in using)
    settings = [(model.__name__, name) for model in _models(Settings) for name in model.model_fields]
    assert [(model, name) for model, name in settings if f".{name}" not in text] == []
