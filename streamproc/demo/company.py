"""The company of the demo: its services, and the settings of a streamproc that works for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from streamproc.demo.chapters import HUNG_ON_NODES, TEAMS

KEY_LENGTH = 32
CATALOGUE_FILE = "services.yaml"
UPDATE_EVERY = 3
"""Seconds between two updates of a page: what takes minutes elsewhere takes seconds here."""


def services() -> dict[str, Any]:
    """Return the service catalogue, as it stands in a services.yaml."""
    found: dict[str, Any] = {
        "frontend": _service("frontend", 1, "Nobody can buy", ["cart", "checkout", "payments"]),
        "cart": _service("cart", 1, "Carts are lost", ["checkout", "payments"]),
        "checkout": _service("checkout", 1, "Orders cannot be placed", ["payments"]),
        "payments": _service("payments", 1, "Money cannot be taken", ["payments-db"]),
        "payments-db": {"team": "payments", "tier": 1, "destination": "payments"},
        "reporting": _service("reporting", 3, "Yesterday's figures are late", []),
        "search": _service("search", 2, "Customers find nothing", []),
        "mail": _service("mail", 3, "Confirmations are late", []),
        "vpn": _service("vpn", 4, "Nobody can work from home", []),
        "network": _service("network", 1, "A cluster is cut off", []),
        "nodes": _service("nodes", 2, "Pods have nowhere to run", ["network"]),
    }
    found |= {
        name: _service(name, 3, f"{name.capitalize()} is missing", ["nodes", "network"]) for name in HUNG_ON_NODES
    }
    found["payments"] |= {"destination": "payments", "second_destination": "payments-lead"}
    return {"services": found}


def told(folder: Path, events_url: str, port: int, webhook_secret: str) -> dict[str, Any]:
    """Return the settings of the demo as a settings file says them, the catalogue written beside the data.

    Args:
        folder: the data directory.
        events_url: address of the PagerDuty emulator.
        port: of the gateway; 0 takes a free one.
        webhook_secret: key of PagerDuty's signatures.
    """
    catalogue = folder / CATALOGUE_FILE
    catalogue.write_text(yaml.safe_dump(services(), sort_keys=False))
    return {
        "services": str(catalogue.absolute()),
        "gateway": {"port": port, "webhook_secrets": [webhook_secret]},
        "pagerduty": {
            "api": {"base_url": events_url},
            "destinations": {
                name: {"routing_key": name.ljust(KEY_LENGTH, "0")} for name in ("default", "payments", "payments-lead")
            },
        },
        "escalate": {"update_every": UPDATE_EVERY},
    }


def _service(name: str, tier: int, impact: str, depends_on: list[str]) -> dict[str, Any]:
    return {
        "team": TEAMS.get(name, "platform"),
        "tier": tier,
        "impact": impact,
        "depends_on": depends_on,
        "runbook": f"https://runbooks.example.com/{name}",
    }
