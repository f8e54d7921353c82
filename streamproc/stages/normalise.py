"""RawAlert -> Alert: every producer's payload in our own words; what cannot be used becomes a dead letter of its own.

Inbox alerts.raw; emits alerts, keyed by fingerprint. Owns no table: it remembers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import orjson
from pydantic import Field, field_validator

from streamproc.core.event import DeadLetter, Scalar
from streamproc.core.identity import digest, scope
from streamproc.core.step import Stage, StageConfig, Step
from streamproc.core.table import Rows
from streamproc.events.alert import Alert, Link, Severity
from streamproc.events.raw import RawAlert
from streamproc.sources import SOURCES, ForeignAlert, recognise
from streamproc.sources.mapping import Name, Rule, RuleSet
from streamproc.sources.severity import SEVERITIES

RUNBOOKS = ("runbook_url", "runbook", "runbookURL", "runbook_link")
MAX_ID = 255
"""Longest alert id and group, in characters; a longer one is cut and closed with a hash."""
MAX_LINKS = 8
"""Most links of an alert."""
MAX_HREF = 2048
"""Longest address of a link or runbook, in characters; a longer one is left out, since a cut one leads nowhere."""
MAX_LINE = 1024
"""Longest summary, in characters: PagerDuty's own limit."""
MAX_CAPTION = 128
"""Longest text of a link, in characters."""
SAYS = ("alertname", "severity")
"""Labels that are kept before others, beside those that the settings name."""


class Config(StageConfig):
    """How producers' words become ours."""

    severities: dict[str, Severity] = {}
    """Your own severity words, over the built-in ones: `{sev1: error, gold: critical}`. Case does not matter."""
    default_severity: Severity = Severity.ERROR
    """For an alert that states none, or one that nobody knows (counted)."""
    environment_labels: tuple[str, ...] = ("environment", "env", "stage", "installation", "deployment_environment")
    """Labels that name the environment; the first that an alert has is taken."""
    default_environment: str = ""
    """Environment of an alert that names none."""
    cluster_labels: tuple[str, ...] = (
        "cluster",
        "cluster_id",
        "cluster_name",
        "kubernetes_cluster",
        "k8s_cluster",
        "kube_cluster_name",
    )
    """Labels that name the cluster."""
    service_labels: tuple[str, ...] = (
        "service",
        "service_name",
        "app",
        "application",
        "app_kubernetes_io_name",
        "app.kubernetes.io/name",
        "k8s_service",
        "kube_service",
        "deployment",
        "statefulset",
        "daemonset",
        "kube_deployment",
        "kube_stateful_set",
        "kube_daemon_set",
        "job",
    )
    """Labels that name the service."""
    team_labels: tuple[str, ...] = ("team", "owner", "squad")
    """Labels that name the team."""
    resource_labels: tuple[str, ...] = (
        "resource",
        "pod",
        "pod_name",
        "persistentvolumeclaim",
        "node",
        "host",
        "hostname",
        "nodename",
        "instance",
        "device",
    )
    """Labels that name what is broken. A pod or node stands before `instance`, which is often only the exporter."""
    exporters: frozenset[str] = frozenset(
        {
            "kube-state-metrics",
            "node",
            "node-exporter",
            "node_exporter",
            "kubelet",
            "cadvisor",
            "blackbox",
            "blackbox-exporter",
            "blackbox_exporter",
            "pushgateway",
            "kubernetes-pods",
            "kubernetes-nodes",
            "kubernetes-cadvisor",
            "kubernetes-service-endpoints",
        }
    )
    """Values of service labels that name who measures, not what is broken: they are passed over, else every alert about
    every pod would be of one service."""
    scope: tuple[Name, ...] = Field(default=("environment", "cluster"), min_length=1)
    """What keeps alerts apart for good: environment, cluster, service, team, or else a label (`tenant`)."""
    max_labels: int = Field(default=64, ge=1)
    """Most labels, and most annotations, of an alert; more are dropped (counted), those named here last."""
    max_label: int = Field(default=1024, ge=16)
    """Longest name and value of a label, in characters; longer ones are cut (counted)."""
    max_text: int = Field(default=8192, ge=256)
    """Longest text and annotation, in characters; longer ones are cut (counted)."""
    max_all_labels: int = Field(default=8_192, ge=1_024)
    """Most bytes of all labels of an alert together, as JSON; what goes beyond is dropped (counted). An incident's
    record holds 200 alerts, and must fit into the log."""
    max_all_text: int = Field(default=65_536, ge=4_096)
    """The same for annotations."""
    rules: tuple[Rule, ...] = ()
    """Mapping rules, for what labels alone do not say."""

    @field_validator("severities")
    @classmethod
    def _fold_case(cls, given: dict[str, Severity]) -> dict[str, Severity]:
        return {word.strip().lower(): severity for word, severity in given.items()}

    @cached_property
    def kept(self) -> frozenset[str]:
        """Names of labels and annotations that are dropped last."""
        places = (self.environment_labels, self.cluster_labels, self.service_labels, self.team_labels)
        return frozenset(SAYS).union(self.scope, RUNBOOKS, self.resource_labels, *places)

    @cached_property
    def vocabulary(self) -> dict[str, Severity]:
        """Severity by word, lower case."""
        return {**SEVERITIES, **self.severities}

    @cached_property
    def rule_set(self) -> RuleSet:
        """The rules, compiled once."""
        return RuleSet(self.rules)


class Reason(StrEnum):
    """What became of a body."""

    NORMALISED = "normalised"
    CUT = "cut"
    EMPTY = "empty"
    PARTLY_REFUSED = "partly_refused"
    ALL_REFUSED = "all_refused"


@dataclass(slots=True)
class _Tally:
    """What was noticed on the way; goes into the figures where it is not nothing."""

    unknown: set[str] = field(default_factory=set)
    rules: set[str] = field(default_factory=set)
    failed_rules: int = 0
    cut: int = 0
    refused: int = 0
    truncated: int = 0

    def figures(self) -> dict[str, Scalar]:
        found: dict[str, Scalar] = {
            "refused": self.refused,
            "truncated": self.truncated,
            "unknown_severities": ", ".join(sorted(self.unknown))[:200],
            "rules": ", ".join(sorted(self.rules))[:200],
            "failed_rules": self.failed_rules,
            "cut": self.cut,
        }
        return {name: value for name, value in found.items() if value}


def step(event: RawAlert, rows: Rows, now: datetime, config: Config) -> Step:  # noqa: ARG001  a stage may read rows
    """Read a body and normalise each of its alerts.

    Raises:
        Rejected: the body as a whole is unusable; the fold makes it a dead letter.
    """
    source, body = recognise(event)
    foreign, refusals = SOURCES[source].read(body, now)
    tally = _Tally()
    alerts = [_normalise(alert, config, tally) for alert in foreign]
    letters = [DeadLetter(reason=one.reason, detail=one.detail, value=one.body) for one in refusals]
    tally.refused, tally.truncated = len(refusals), foreign[0].truncated if foreign else 0
    figures = {"source": source, "alerts": len(alerts), **tally.figures()}
    return Step({}, decide(len(alerts), len(refusals), tally.cut), (*alerts, *letters), figures=figures)


def decide(alerts: int, refused: int, cut: int) -> Reason:
    """Return what became of a body with so many usable and so many refused alerts, and so much cut off them."""
    if refused:
        return Reason.PARTLY_REFUSED if alerts else Reason.ALL_REFUSED
    if cut:
        return Reason.CUT
    return Reason.NORMALISED if alerts else Reason.EMPTY


def _normalise(foreign: ForeignAlert, config: Config, tally: _Tally) -> Alert:
    labels = _bounded(foreign.labels, config, config.max_label, config.max_all_labels, tally)
    annotations = _bounded(foreign.annotations, config, config.max_text, config.max_all_text, tally)
    said: dict[str, Any] = {
        "severity": _severity(foreign.severity_text, config, tally),
        "environment": _first(labels, config.environment_labels) or config.default_environment,
        "cluster": _first(labels, config.cluster_labels),
        "service": _first(labels, config.service_labels, config.exporters),
        "team": _first(labels, config.team_labels),
        "resource": _first(labels, config.resource_labels),
        "summary": _cut(foreign.summary, min(config.max_text, MAX_LINE), tally),
    }
    if config.rules:
        read = {**_plain(foreign), "labels": labels, "annotations": annotations}
        matched, failed = config.rule_set.apply(said, read)
        tally.rules.update(matched)
        tally.failed_rules += failed
    return Alert.trusted(
        fingerprint=foreign.fingerprint,
        alert_id=_identifier(foreign.alert_id),
        source=foreign.source,
        status=foreign.status,
        name=_cut(foreign.name, config.max_label, tally),
        description=_cut(foreign.description, config.max_text, tally),
        labels=labels,
        annotations=annotations,
        scope=_scope(*[said[part] if part in said else labels.get(part, "") for part in config.scope]),
        group=_identifier(foreign.group),
        starts_at=foreign.starts_at,
        ends_at=foreign.ends_at,
        at=foreign.at,
        runbook=_runbook(_first(annotations, RUNBOOKS) or _first(labels, RUNBOOKS), tally),
        links=_links(foreign.links, tally),
        expires=foreign.expires,
        **said,
    )


def _plain(foreign: ForeignAlert) -> dict[str, str]:
    return {
        name: getattr(foreign, name) for name in ("source", "name", "status", "severity_text", "description", "group")
    }


_scope = lru_cache(maxsize=1024)(scope)


def _severity(said: str, config: Config, tally: _Tally) -> Severity:
    word = said.strip().lower()
    if not word:
        return config.default_severity
    severity = config.vocabulary.get(word)
    if severity is None:
        tally.unknown.add(word[:40])
        return config.default_severity
    return severity


def _first(labels: Mapping[str, str], names: Sequence[str], but: frozenset[str] = frozenset()) -> str:
    for name in names:
        value = labels.get(name)
        if value and value not in but:
            return value
    return ""


def _bounded(texts: dict[str, str], config: Config, longest: int, room: int, tally: _Tally) -> dict[str, str]:
    """Return labels or annotations within the limits of number, length and total, by name where some must go."""
    most = config.max_labels
    size = len(orjson.dumps(texts))
    if len(texts) <= most and size <= room and (size <= longest or _longest(texts) <= longest):
        return texts
    bounded: dict[str, str] = {}
    for name in sorted(texts, key=lambda name: (name not in config.kept, name)):
        short, value = _cut(name, longest, tally), _cut(texts[name], longest, tally)
        room -= len(orjson.dumps((short, value)))
        if len(bounded) == most or room < 0:
            break
        bounded[short] = value
    tally.cut += len(texts) - len(bounded)
    return bounded


def _longest(texts: dict[str, str]) -> int:
    return max(*map(len, texts), *map(len, texts.values()))


def _runbook(href: str, tally: _Tally) -> str:
    if len(href) <= MAX_HREF:
        return href
    tally.cut += 1
    return ""


def _links(links: tuple[Link, ...], tally: _Tally) -> tuple[Link, ...]:
    if not links:
        return links
    kept = [link for link in links if len(link.href) <= MAX_HREF and link.href.isprintable()][:MAX_LINKS]
    tally.cut += len(links) - len(kept)
    return tuple(_captioned(link, tally) for link in kept)


def _captioned(link: Link, tally: _Tally) -> Link:
    if len(link.text) <= MAX_CAPTION:
        return link
    return Link(href=link.href, text=_cut(link.text, MAX_CAPTION, tally))


def _cut(text: str, longest: int, tally: _Tally) -> str:
    if len(text) <= longest:
        return text
    tally.cut += 1
    return f"{text[: longest - 1]}…"


def _identifier(text: str) -> str:
    return text if len(text) <= MAX_ID else f"{text[: MAX_ID - 17]}~{digest(text)[:16]}"


STAGE = Stage(
    "normalise",
    step,
    takes=(RawAlert,),
    reasons=Reason,
    config=Config,
    unintended=frozenset({Reason.PARTLY_REFUSED, Reason.ALL_REFUSED}),
)
