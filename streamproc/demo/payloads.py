"""Webhooks as Alertmanager and Datadog write them. Pure: the same arguments give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from string import Template
from typing import Any, Literal, Self
from urllib.parse import quote

import orjson

from streamproc.sources.datadog import TEMPLATE

AGENT = "Alertmanager/0.28.1"
DATADOG_AGENT = "Datadog/webhooks"
NONE = "0001-01-01T00:00:00Z"
"""How Alertmanager writes "not ended"."""
_OFFSET, _PRIME = 14695981039346656037, 1099511628211
_SEPARATOR = 255

Transition = Literal["Triggered", "Re-Triggered", "Warn", "No Data", "Recovered"]


@dataclass(frozen=True, slots=True)
class PromAlert:
    """One alert of a Prometheus rule."""

    labels: Mapping[str, str]
    summary: str
    description: str
    expr: str
    starts_at: datetime
    fingerprint: str
    """What `label_fingerprint` says of the labels."""
    ends_at: datetime | None = None

    def ended(self, at: datetime) -> Self:
        """Return the alert as it is told once it is over."""
        return replace(self, ends_at=at)

    def written(self) -> dict[str, Any]:
        """Return it as it stands in a webhook."""
        name = self.labels["alertname"]
        return {
            "status": "resolved" if self.ends_at else "firing",
            "labels": dict(self.labels),
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"https://runbooks.example.com/{self.labels['service']}/{name}",
            },
            "startsAt": _rfc3339(self.starts_at),
            "endsAt": _rfc3339(self.ends_at) if self.ends_at else NONE,
            "generatorURL": f"https://prometheus.example.com/graph?g0.expr={quote(self.expr)}&g0.tab=1",
            "fingerprint": self.fingerprint,
        }


def webhook(alerts: Sequence[PromAlert], group_by: Sequence[str], *, peer: int, spoiled: Iterable[Any] = ()) -> bytes:
    """Return the body of an Alertmanager webhook, version 4.

    Args:
        alerts: the alerts of one group, at least one.
        group_by: labels that the route groups by.
        peer: which of the high availability pair sends it.
        spoiled: what stands among the alerts without being any.
    """
    written = [alert.written() for alert in alerts]
    first = alerts[0].labels
    group = {name: first[name] for name in group_by}
    listed = ", ".join(f'{name}="{value}"' for name, value in sorted(group.items()))
    body = {
        "receiver": "streamproc",
        "status": "resolved" if all(alert.ends_at for alert in alerts) else "firing",
        "alerts": [*written, *spoiled],
        "groupLabels": group,
        "commonLabels": _common(alert["labels"] for alert in written),
        "commonAnnotations": _common(alert["annotations"] for alert in written),
        "externalURL": f"http://alertmanager-{peer}.monitoring:9093",
        "version": "4",
        "groupKey": f'{{}}/{{team="{first["team"]}"}}:{{{listed}}}',
        "truncatedAlerts": 0,
    }
    return orjson.dumps(body)


@dataclass(frozen=True, slots=True)
class Monitor:
    """One monitor of Datadog."""

    number: int
    name: str
    message: str
    query: str
    scope: str
    tags: str
    priority: str = ""

    def said(self, transition: Transition, at: datetime, event: int) -> bytes:
        """Return the webhook of a transition, by our recommended template; what Datadog leaves unset stays literal.

        Args:
            transition: what happened.
            at: when, by Datadog's clock.
            event: number of the event.
        """
        kind = {"Warn": "warning", "Recovered": "success"}.get(transition, "error")
        status = {"Warn": "Warn", "Recovered": "OK", "No Data": "No Data"}.get(transition, "Alert")
        values = {
            "ID": str(event),
            "DATE": str(_milliseconds(at)),
            "LAST_UPDATED": str(_milliseconds(at)),
            "EVENT_TYPE": "query_alert_monitor",
            "EVENT_TITLE": f"[{transition} on {{{self.scope}}}] {self.name}",
            "TEXT_ONLY_MSG": self.message,
            "ALERT_ID": str(self.number),
            "ALERT_CYCLE_KEY": str(self.number * 1000),
            "AGGREG_KEY": f"monitor-{self.number}",
            "ALERT_TRANSITION": transition,
            "ALERT_STATUS": status,
            "ALERT_TYPE": kind,
            "ALERT_SCOPE": self.scope,
            "ALERT_QUERY": self.query,
            "LINK": f"https://app.datadoghq.eu/monitors/{self.number}",
            "TAGS": self.tags,
            "ORG_ID": "100042",
            "ORG_NAME": "Example Shop",
        }
        if self.priority:
            values["ALERT_PRIORITY"] = self.priority
        return Template(TEMPLATE).safe_substitute(values).encode()


def label_fingerprint(labels: Mapping[str, str]) -> str:
    """Return Prometheus' fingerprint of a label set: FNV-1a, 64 bits, names sorted, each text closed by 0xff.

    Source: prometheus/common, `model/fingerprinting.go` and `model/fnv.go`.
    """
    state = _OFFSET
    for name in sorted(labels):
        for text in (name, labels[name]):
            for byte in (*text.encode(), _SEPARATOR):
                state = ((state ^ byte) * _PRIME) & (2**64 - 1)
    return f"{state:016x}"


def _common(each: Iterable[dict[str, str]]) -> dict[str, str]:
    first, *others = each
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
