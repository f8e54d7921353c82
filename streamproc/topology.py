"""THE pipeline, in flow order: data, so that it can be drawn, checked, simulated and run."""

from __future__ import annotations

from streamproc import catalog
from streamproc.core.step import Everywhere, Node, Topology
from streamproc.stages import (
    classify,
    correlate,
    deduplicate,
    deliver,
    enrich,
    escalate,
    learn,
    normalise,
    relay,
    suppress,
)

TOPICS = catalog.load()

INBOXES = tuple(TOPICS[name] for name in ("alerts.raw", "alerts", "episodes", "escalations", "training"))

TOPOLOGY: Topology = (
    Node("relay-policies", TOPICS["policies"], (relay.POLICY,), tuple(Everywhere(inbox) for inbox in INBOXES)),
    Node("normalise", TOPICS["alerts.raw"], (normalise.STAGE,), (TOPICS["alerts"],)),
    Node("deduplicate", TOPICS["alerts"], (deduplicate.STAGE,), (TOPICS["episodes"],)),
    Node("relay-feedback", TOPICS["feedback"], (relay.FEEDBACK,), (TOPICS["episodes"],)),
    Node(
        "decide",
        TOPICS["episodes"],
        (correlate.STAGE, suppress.STAGE, enrich.STAGE, classify.STAGE, escalate.STAGE),
        (TOPICS["incidents.enriched"], TOPICS["escalations"], TOPICS["training"], TOPICS["episodes"]),
    ),
    Node("deliver", TOPICS["escalations"], (deliver.STAGE,), (TOPICS["pages"],)),
    Node("learn", TOPICS["training"], (learn.STAGE,), (TOPICS["versions"], TOPICS["policies"])),
)

LETTERS = TOPICS["dead-letters"]
"""Where every node puts what it cannot use."""
