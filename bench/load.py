"""Alerts to measure with: about 850 bytes each, as Alertmanager sends them. Deterministic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def alert(number: int, *, service: str = "checkout", status: str = "firing") -> dict[str, Any]:
    """Return one alert of Alertmanager's webhook; `number` makes it another alert."""
    began = BEGAN + timedelta(milliseconds=number)
    return {
        "status": status,
        "labels": {
            "alertname": "HighRequestLatency",
            "cluster": "eu-1",
            "environment": "prod",
            "instance": f"10.2.{number // 250 % 250}.{number % 250}:9100",
            "namespace": "shop",
            "pod": f"{service}-{number:08d}",
            "prometheus": "monitoring/k8s",
            "service": service,
            "severity": "critical",
            "team": "shop",
        },
        "annotations": {
            "description": "The 99th percentile of request latency has been over one second for five minutes. " * 2,
            "runbook_url": "https://runbooks.example.com/HighRequestLatency",
            "summary": f"Requests of {service} are slow",
        },
        "startsAt": began.isoformat(),
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else (began + timedelta(minutes=5)).isoformat(),
        "generatorURL": "http://prometheus.example.com/graph?g0.expr=histogram_quantile%280.99%29&g0.tab=1",
        "fingerprint": f"{number:016x}",
    }


def body(alerts: list[dict[str, Any]]) -> bytes:
    """Return a webhook of Alertmanager; it groups by nothing, so that every alert stands for itself."""
    return orjson.dumps(
        {
            "version": "4",
            "groupKey": "{}:{}",
            "status": "firing",
            "receiver": "streamproc",
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://alertmanager.example.com",
            "alerts": alerts,
        }
    )


def bodies(count: int, size: int, *, services: int = 1, first: int = 0) -> list[bytes]:
    """Return webhooks with `count` different alerts in all, `size` in each, over so many services."""
    made = [alert(n, service=f"service-{n % services}") for n in range(first, first + count)]
    return [body(made[at : at + size]) for at in range(0, count, size)]
