"""What is kept of one incident until nothing more can come of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamproc.events.alert import Severity

FIRST, LAST = 6, 14
"""Publications of an incident that are kept for its timeline: so many of its beginning and of its end."""
ACTIONS = {"page": "page", "ticket": "ticket", "hold": "suppress", "none": "suppress"}
"""The pipeline's actions in the words of the outputs."""
UNSURE = 0.5
"""Probability that is told where no model has said anything."""


class Ends:
    """The first and the last of many values."""

    def __init__(self) -> None:
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque(maxlen=LAST)
        self.count = 0

    def add(self, value: bytes) -> None:
        """Take one more."""
        self.count += 1
        if len(self._first) < FIRST:
            self._first.append(value)
        else:
            self._last.append(value)

    @property
    def kept(self) -> list[bytes]:
        """Those that are kept, in order."""
        return [*self._first, *self._last]


@dataclass(slots=True)
class Dossier:
    """One incident, as its publications told it."""

    incident_id: str
    opened_at: str
    root_alert: str = ""
    root_candidates: list[str] = field(default_factory=list)
    rule: str = ""
    service: str = ""
    severity: str = ""
    """The worst that it had."""
    title: str = ""
    resolved_at: str | None = None
    alerts: list[str] = field(default_factory=list)
    """The producers' ids of its alerts, in the order in which they were decided."""
    total: int = 0
    """Episodes that joined it."""
    standing: dict[str, Any] = field(default_factory=dict)
    """The decision that stands, in the words of `decisions.jsonl`; that of its last open moment once it is resolved."""
    reasons: dict[tuple[str, str], None] = field(default_factory=dict)
    """Every (action, reason) that stood, in order."""
    open_keys: set[str] = field(default_factory=set)
    """Dedup keys that are open at PagerDuty."""
    calls: int = 0
    """Triggers that opened an alert at PagerDuty: somebody is called."""
    updates: int = 0
    """Triggers that said more of one that was open."""
    publications: Ends = field(default_factory=Ends)
    pages: Ends = field(default_factory=Ends)

    def publish(self, told: Mapping[str, Any], value: bytes) -> None:
        """Take in a publication: the incident as JSON, and the same as bytes."""
        root = told["root"]
        self.root_alert, self.rule, self.service = root["alert_id"], root["name"], told["service"]
        self.root_candidates = told["root_candidates"] or [root["alert_id"]]
        self.title, self.total = told["title"], told["total_count"]
        self.resolved_at = told["resolved_at"] if told["status"] == "resolved" else None
        self.publications.add(value)
        if self.resolved_at is None or not self.standing:
            self.severity = max(filter(None, (self.severity, told["severity"])), key=lambda each: Severity(each).rank)
            self.standing = _decision(told)
            self.reasons[told["decision"]["action"], told["decision"]["reason"]] = None

    def line(self) -> dict[str, Any]:
        """Return its line of `incidents.jsonl`."""
        return {
            "incident_id": self.incident_id,
            "opened_at": self.opened_at,
            "resolved_at": self.resolved_at,
            "alerts": self.alerts,
            "root_alert": self.root_alert,
            "root_candidates": self.root_candidates,
        }

    @property
    def outcome(self) -> tuple[str, str]:
        """What came of it in the end, and why: a page if anybody was called, else what stood last."""
        found = list(self.reasons)
        if self.calls:
            return "page", next((reason for action, reason in found if action == "page"), found[0][1])
        action, reason = found[-1]
        return ACTIONS[action], reason


def _decision(told: Mapping[str, Any]) -> dict[str, Any]:
    said, decision = told["classification"] or {}, told["decision"]
    p_page = said.get("p_page")
    return {
        "action": ACTIONS[decision["action"]],
        "p_page": UNSURE if p_page is None else p_page,
        "severity": told["severity"],
        "urgency": said.get("urgency"),
        "category": said.get("category"),
        "confidence": said.get("confidence") or 0.0,
        "abstain": said.get("abstain", True),
        "reason": decision["reason"],
    }
