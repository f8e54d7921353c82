"""Environment and file -> frozen Settings, made of the parts' own Config models. The only reader of the environment."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from streamproc.core.errors import Unusable
from streamproc.gateway.config import GatewayConfig, is_loopback
from streamproc.policies import Policies
from streamproc.runtime.embedded.runtime import Config as EmbeddedConfig
from streamproc.runtime.faust.config import Config as KafkaConfig
from streamproc.runtime.redis.config import Config as RedisConfig
from streamproc.runtime.traces.config import Config as TracesConfig
from streamproc.sinks.heartbeat import HeartbeatConfig
from streamproc.sinks.pagerduty.config import ApiConfig, RestConfig
from streamproc.stages.classify import Config as ClassifyConfig
from streamproc.stages.correlate import Config as CorrelateConfig
from streamproc.stages.deduplicate import Config as DeduplicateConfig
from streamproc.stages.enrich import Config as EnrichConfig
from streamproc.stages.escalate import Config as EscalateConfig
from streamproc.stages.escalate import Destination
from streamproc.stages.learn import Config as LearnConfig
from streamproc.stages.normalise import Config as NormaliseConfig

DEFAULT_FILE = Path("streamproc.yaml")
ENVIRONMENTS = Literal["dev", "staging", "prod"]
LEVELS = Literal["debug", "info", "warning", "error"]
Place = tuple[str, ...]
ELSEWHERE: Mapping[Place, Place] = {
    ("gateway", "webhook_validation"): ("pagerduty", "security", "webhook_validation"),
    ("normalise", "default_environment"): ("environment",),
    ("correlate", "reopen_within"): ("pagerduty", "incidents", "auto_resolve_threshold"),
    ("classify", "ai_classification"): ("pagerduty", "incidents", "ai_classification"),
    ("escalate", "escalation_timeout"): ("pagerduty", "incidents", "escalation_timeout"),
    ("escalate", "destinations"): ("pagerduty", "destinations"),
}
"""Settings of parts that stand under another name for people: where they may not be given, and where they are."""


class Section(BaseModel):
    """Base of the sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Incidents(Section):
    """What PagerDuty's incidents follow."""

    auto_resolve_threshold: int = Field(default=300, ge=0, le=3600)
    """Seconds: an incident whose alerts come back so soon after it resolved is the same one, reopened, and is paged
    again only if it stays."""
    escalation_timeout: int = Field(default=900, ge=1)
    """Seconds until a page that nobody acknowledges goes to the service's second destination."""
    ai_classification: bool = True
    """Whether the learned model may decide where it is sure; it learns either way."""


class Notifications(Section):
    """Ways to people beside PagerDuty: told when PagerDuty does not answer, and when streamproc itself fails."""

    channels: tuple[SecretStr, ...] = ()
    """Apprise URLs (mail, chat, SMS ...); all of them are told."""
    rate_limit: int = Field(default=10, ge=1)
    """Messages a minute at most; what comes on top is counted and named in the next one."""
    fallback_after: int = Field(default=300, ge=1)
    """Seconds that a page may wait for PagerDuty before the channels are told."""


class Security(Section):
    """What is demanded of connections."""

    encryption: bool = True
    """Events leave over TLS only: an events address with http:// is refused, unless it is on this machine."""
    webhook_validation: bool = True
    """PagerDuty's webhooks must be signed. False takes unsigned ones: for a test on this machine only."""
    token_rotation: int = Field(default=3600, ge=1)
    """Seconds: so often `gateway.ingest_tokens` and `gateway.webhook_secrets` are read from the settings file again, so
    that new ones count without a restart."""


class PagerDuty(Section):
    """PagerDuty: where events go, and how."""

    api: ApiConfig = ApiConfig()
    """The Events API."""
    rest: RestConfig = RestConfig()
    """The REST API."""
    destinations: dict[str, Destination] = {}
    """Routing keys by name; `default` is the catch-all for services without a destination of their own."""
    requests_per_minute: int = Field(default=120, ge=1)
    """Events a minute for each routing key: PagerDuty takes about 120."""
    account_requests_per_minute: int | None = Field(default=None, ge=1)
    """Events a minute for all routing keys together; no bound of that kind where none is set. Several workers share it
    through Redis (`redis.url`); without Redis it counts for each process."""
    reconcile_every: int = Field(default=300, ge=0)
    """Seconds between looks at what PagerDuty holds of ours, which mend what differs; 0 for none. They need
    `rest.api_key`."""
    incidents: Incidents = Incidents()
    """What incidents follow."""
    notifications: Notifications = Notifications()
    """Ways to people beside PagerDuty."""
    security: Security = Security()
    """What is demanded of connections."""


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_REPORT_AT = re.compile(r"(?P<day>[A-Za-z]+) (?P<hour>\d{1,2}):(?P<minute>\d{2})(?: (?P<zone>\S+))?")


def report_at(text: str) -> tuple[int, time, tzinfo]:
    """Return weekday (0 for Monday), time of day and time zone of `beside.report_at`.

    Raises:
        ValueError: it cannot be read.
    """
    found = _REPORT_AT.fullmatch(" ".join(text.split()))
    days = [] if found is None else [n for n, day in enumerate(WEEKDAYS) if day.startswith(found["day"].lower())]
    if found is None or len(days) != 1:
        raise ValueError("not a weekday with a time of day, for example `monday 09:00 Europe/Berlin`")
    zone = found["zone"] or "UTC"
    try:
        where: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # ValueError: a name that is no path; OSError: a folder
        raise ValueError(f"there is no time zone {zone}; name one as `Europe/Berlin`") from None
    return days[0], time(int(found["hour"]), int(found["minute"])), where


class Beside(Section):
    """`run --beside`: next to another route to PagerDuty, delivering nothing; see beside.md."""

    report_at: str = "monday 09:00 UTC"
    """Weekday, time of day and time zone of the weekly report, for example `friday 16:30 Europe/Berlin`."""
    read_every: int = Field(default=900, ge=60, le=86_400)
    """Seconds between looks at PagerDuty's incidents, where `pagerduty.rest.api_key` is set."""
    keep_days: int = Field(default=90, ge=14, le=366)
    """Days that PagerDuty's incidents and the reports are kept."""
    services: tuple[str, ...] = Field(default=(), max_length=50)
    """Ids of the PagerDuty services whose incidents count (`PABC123`); those of all services where none is named."""

    @field_validator("report_at")
    @classmethod
    def _readable(cls, given: str) -> str:
        report_at(given)
        return given


class Logs(Section):
    """What the process says of itself."""

    level: LEVELS = "info"
    """Least level that is written."""
    form: Literal["auto", "console", "json"] = "auto"
    """`auto` writes for people on a terminal, and JSON elsewhere."""


class Settings(Section):
    """Everything that can be set."""

    environment: ENVIRONMENTS | None = None
    """Environment of alerts that name none; empty leaves it empty."""
    services: Path | None = None
    """The service catalogue (services.yaml), read at start; relative to the settings file."""
    policies: Policies = {}
    """Silences and maintenance windows by name. What leaves the file is withdrawn at the next start."""
    gateway: GatewayConfig = GatewayConfig()
    """HTTP in."""
    pagerduty: PagerDuty = PagerDuty()
    """PagerDuty."""
    beside: Beside = Beside()
    """Next to another route to PagerDuty: what is compared, and when it is reported."""
    embedded: EmbeddedConfig = EmbeddedConfig()
    """The runtime on one machine."""
    kafka: KafkaConfig = KafkaConfig()
    """Kafka, for `topics` and `worker`: where it is, and who we are there."""
    redis: RedisConfig = RedisConfig()
    """Redis, which nothing needs: see redis.md."""
    heartbeat: HeartbeatConfig = HeartbeatConfig()
    """Who watches the watcher: a heartbeat to the outside while the pipeline is healthy from end to end."""
    logs: Logs = Logs()
    """Logs."""
    traces: TracesConfig = TracesConfig()
    """Traces, for Jaeger and others: see operations.md."""
    normalise: NormaliseConfig = NormaliseConfig()
    """Producers' words."""
    deduplicate: DeduplicateConfig = DeduplicateConfig()
    """Episodes."""
    correlate: CorrelateConfig = CorrelateConfig()
    """Incidents."""
    enrich: EnrichConfig = EnrichConfig()
    """What the catalogue adds."""
    classify: ClassifyConfig = ClassifyConfig()
    """Category, urgency and the learned model."""
    escalate: EscalateConfig = EscalateConfig()
    """Pages. `destinations` are set under `pagerduty`."""
    learn: LearnConfig = LearnConfig()
    """The learner."""

    @model_validator(mode="after")
    def _in_their_place(self) -> Settings:
        for (section, name), place in ELSEWHERE.items():
            if name in getattr(self, section).model_fields_set:
                raise ValueError(f"{section}.{name}: set it as {'.'.join(place)}")
        return self

    @model_validator(mode="after")
    def _encrypts(self) -> Settings:
        url = urlsplit(self.pagerduty.api.base_url)
        if self.pagerduty.security.encryption and url.scheme != "https" and not is_loopback(url.hostname or ""):
            raise ValueError(
                f"pagerduty.api.base_url is {self.pagerduty.api.base_url}, which is not encrypted: use https://, or "
                "set pagerduty.security.encryption to false"
            )
        beats = urlsplit("" if self.heartbeat.url is None else self.heartbeat.url.get_secret_value())
        if self.pagerduty.security.encryption and beats.scheme == "http" and not is_loopback(beats.hostname or ""):
            raise ValueError(
                "heartbeat.url is not encrypted: use https://, or set pagerduty.security.encryption to false"
            )
        return self

    def listening(self) -> GatewayConfig:
        """Return the settings of the gateway, with what is demanded of connections."""
        return self.gateway.model_copy(update={"webhook_validation": self.pagerduty.security.webhook_validation})

    def told(self) -> str:
        """Return what was given of all that decides, as JSON without defaults: the same in every version of streamproc.

        The service catalogue is left out: it stands in a file of its own.
        """
        decides = {*_StageSections.model_fields, "environment", "policies"}
        parts: Any = {**dict.fromkeys(decides, True), "pagerduty": {"destinations", "incidents"}}
        given = self.model_dump(include=parts, exclude_unset=True)
        dumped = self.model_dump(include=parts, exclude_unset=True, mode="json")
        return json.dumps(_ordered(given, dumped), ensure_ascii=False, sort_keys=True)

    def stages(self) -> str:
        """Return the settings of every stage as the body of the artifact `config`; routing keys are in it."""
        incidents = self.pagerduty.incidents
        escalation = self.escalate.model_copy(
            update={
                "destinations": self.pagerduty.destinations,
                "escalation_timeout": timedelta(seconds=incidents.escalation_timeout),
            }
        )
        reopening = self.correlate.model_copy(
            update={"reopen_within": timedelta(seconds=incidents.auto_resolve_threshold)}
        )
        learned = self.classify.model_copy(update={"ai_classification": incidents.ai_classification})
        named = self.normalise.model_copy(update={"default_environment": self.environment or ""})
        sections = _StageSections(
            normalise=named,
            deduplicate=self.deduplicate,
            correlate=reopening,
            enrich=self.enrich,
            classify=learned,
            escalate=escalation,
            learn=self.learn,
        )
        return json.dumps(_ordered(sections.model_dump(), sections.model_dump(mode="json")), ensure_ascii=False)


class _StageSections(Section):
    """The body of the artifact `config`."""

    normalise: NormaliseConfig
    deduplicate: DeduplicateConfig
    correlate: CorrelateConfig
    enrich: EnrichConfig
    classify: ClassifyConfig
    escalate: EscalateConfig
    learn: LearnConfig


def _ordered(given: Any, dumped: Any) -> Any:
    """Return what was dumped, sets in order: else each process would write them in another one, as a new version."""
    if isinstance(given, (set, frozenset)):
        return sorted(dumped)
    if isinstance(given, Mapping):
        return {name: _ordered(one, dumped[name]) for name, one in given.items()}
    if isinstance(given, tuple):
        return [_ordered(one, shown) for one, shown in zip(given, dumped, strict=True)]
    return dumped


class Environment(BaseSettings):
    """Environment variables; each stands over the same setting of the file."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True, env_ignore_empty=True)

    pagerduty_routing_key: SecretStr | None = None
    """PAGERDUTY_ROUTING_KEY: routing key of the destination `default`."""
    pagerduty_events_url: str | None = None
    """PAGERDUTY_EVENTS_URL: address of the Events API."""
    pagerduty_api_key: SecretStr | None = None
    """PAGERDUTY_API_KEY: key of the REST API."""
    pagerduty_api_url: str | None = None
    """PAGERDUTY_API_URL: address of the REST API."""
    pagerduty_from_email: str | None = None
    """PAGERDUTY_FROM_EMAIL: address of the user in whose name incidents are changed."""
    pagerduty_webhook_secret: SecretStr | None = None
    """PAGERDUTY_WEBHOOK_SECRET: signing secret of the webhook subscription; several with commas between."""
    ml_confidence_threshold: str | None = None
    """ML_CONFIDENCE_THRESHOLD: below it the learned model abstains."""
    environment: str | None = None
    """ENVIRONMENT: dev, staging or prod."""
    log_level: str | None = Field(default=None, validation_alias=AliasChoices("LOG_LEVEL"))
    """LOG_LEVEL: debug, info, warning or error."""
    heartbeat_url: SecretStr | None = None
    """HEARTBEAT_URL: asked for while the pipeline is healthy from end to end."""
    kafka_bootstrap: str | None = None
    """KAFKA_BOOTSTRAP: brokers to begin with, `host:port`; several with commas between."""
    kafka_instance: str | None = None
    """KAFKA_INSTANCE: name of this worker, kept over restarts: its supervisor knows it."""
    kafka_password: SecretStr | None = None
    """KAFKA_PASSWORD: for PLAIN and SCRAM."""
    redis_url: SecretStr | None = None
    """REDIS_URL: address of Redis."""
    otel_exporter_otlp_endpoint: str | None = None
    """OTEL_EXPORTER_OTLP_ENDPOINT: base address of a collector for traces, OTLP over HTTP."""

    def over(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the file with those of the environment over them."""
        merged = dict(given)
        for name, value in self._given():
            _put(merged, PLACES[name], value)
        return merged

    def variable(self, place: Place) -> str:
        """Return the variable that a setting came from, empty where it did not come from one."""
        found = (name for name, _ in self._given() if PLACES[name] == place[: len(PLACES[name])])
        return next(found, "").upper()

    def _given(self) -> Iterator[tuple[str, Any]]:
        for name in PLACES:
            value = getattr(self, name, None)
            if value is None:
                continue
            text = (value.get_secret_value() if isinstance(value, SecretStr) else value).strip()
            if name in LISTS:
                yield name, [part.strip() for part in text.split(",") if part.strip()]
            else:
                yield name, text.lower() if name == "log_level" else text


PLACES: Mapping[str, Place] = {
    "pagerduty_routing_key": ("pagerduty", "destinations", "default", "routing_key"),
    "pagerduty_events_url": ("pagerduty", "api", "base_url"),
    "pagerduty_api_key": ("pagerduty", "rest", "api_key"),
    "pagerduty_api_url": ("pagerduty", "rest", "base_url"),
    "pagerduty_from_email": ("pagerduty", "rest", "from_email"),
    "pagerduty_webhook_secret": ("gateway", "webhook_secrets"),
    "ml_confidence_threshold": ("classify", "confidence_threshold"),
    "environment": ("environment",),
    "log_level": ("logs", "level"),
    "heartbeat_url": ("heartbeat", "url"),
    "kafka_bootstrap": ("kafka", "bootstrap"),
    "kafka_instance": ("kafka", "instance"),
    "kafka_password": ("kafka", "password"),
    "redis_url": ("redis", "url"),
    "otel_exporter_otlp_endpoint": ("traces", "endpoint"),
}
"""The setting that each variable stands over."""
LISTS = frozenset({"pagerduty_webhook_secret", "kafka_bootstrap"})
"""Variables that may hold several values, with commas between."""


def load(file: Path | None = None, over: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of a YAML file and the environment.

    Args:
        file: the file; without one `streamproc.yaml` in the working directory is read where there is one.
        over: settings that stand over those of the file.

    Raises:
        Unusable: the file cannot be read, or says something wrong; every fault with its place, and what was meant.
    """
    chosen = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    given = _merged({} if chosen is None else _read(chosen), over or {})
    environment = Environment()
    try:
        settings = Settings.model_validate(environment.over(given))
    except ValidationError as error:
        # Without the cause: it shows what was given, secrets too.
        raise Unusable("; ".join(_faults(error, environment, chosen))) from None
    if settings.services is not None and chosen is not None and not settings.services.is_absolute():
        settings = settings.model_copy(update={"services": chosen.parent / settings.services})
    return settings


def _read(file: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
        filled: dict[str, Any] = _filled(given, Settings) if isinstance(given, dict) else {}
    except OSError as error:
        raise Unusable(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unusable(f"{file} cannot be read: it is not UTF-8") from None
    except yaml.YAMLError as error:
        raise Unusable(f"{file} cannot be read: {_yaml_fault(error)}") from None
    except ValueError as error:  # PyYAML's own, for dates and numbers that are none
        raise Unusable(f"{file} cannot be read: {error}") from None
    except RecursionError:
        raise Unusable(f"{file} cannot be read: it is nested too deep, or in itself") from None
    if given is not None and not isinstance(given, dict):
        raise Unusable(f"{file}: settings are sections with keys, for example `gateway:`")
    return filled


def _yaml_fault(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, without the line itself: it may hold a key."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "it is no YAML"
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"


def _filled(given: Mapping[Any, Any], model: type[BaseModel] | None) -> dict[str, Any]:
    """Return a section without keys that nothing stands behind; a section of which all is commented out is empty."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key)
        inner = None if model is None else _inner(model, name)
        if isinstance(value, Mapping):
            found[name] = _filled(value, inner)
        elif value is not None:
            found[name] = value
        elif inner is not None or model is None or name not in model.model_fields:
            found[name] = {}
    return found


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of which those of `over` stand over the others, section by section."""
    merged = dict(under)
    for key, value in over.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(known, value) if both else value  # type: ignore[arg-type]  # both are mappings
    return merged


def _put(into: dict[str, Any], path: Place, value: Any) -> None:
    *sections, last = path
    for section in sections:
        inner = into.get(section, {})
        if not isinstance(inner, Mapping):
            return  # what stands there is wrong, and will be said
        into[section] = dict(inner)
        into = into[section]
    into[last] = value


def _faults(error: ValidationError, environment: Environment, file: Path | None) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        place = tuple(str(part) for part in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        variable = environment.variable(place)
        if variable:
            yield f"{variable}: {said}"
            continue
        if fault["type"] == "extra_forbidden":
            said = f"there is no such setting{_meant(place)}"
        yield ": ".join(filter(None, (str(file or ""), ".".join(place), said)))


def _meant(path: Place) -> str:
    """Return ", did you mean ...?" for a key that is almost one."""
    model: type[BaseModel] | None = Settings
    for part in path[:-1]:
        model = None if model is None else _inner(model, part)
    known = [name for name in model.model_fields if (*path[:-1], name) not in ELSEWHERE] if model else []
    near = difflib.get_close_matches(path[-1], known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known here: {', '.join(known)}" if known else ""


def _inner(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = model.model_fields.get(name)
    if field is None:
        # A key of a mapping (the name of a destination): its values are the model that the mapping was found by.
        return model
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None
