"""Immutable versions of large things: how a new one is put into the log and switched to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from streamproc.core.event import Activated, Artifact
from streamproc.core.fold import CONFIG
from streamproc.core.step import ActiveRow
from streamproc.events.feedback import Policy
from streamproc.policies import POLICIES, body_of, policies_of, wishes
from streamproc.ports import Entry
from streamproc.services import CATALOGUE, Catalogue

FILE = "file"
"""Kind of the artifact that says what the settings file of the last start was, and whether something else counts."""
CHANGED = (CONFIG, CATALOGUE.name, POLICIES)
"""Kinds that settings consist of: they are promoted and rolled back together."""
EMPTY = {CATALOGUE.name: Catalogue().model_dump_json(), POLICIES: body_of({})}
"""What stands for a version where there has been none."""


def checksum_of(body: str) -> str:
    """Return the name of a version: the SHA-256 of its body."""
    return hashlib.sha256(body.encode()).hexdigest()


def activation(
    kind: str, body: str, active: ActiveRow | None, author: str, reason: str, topic: str = "policies"
) -> list[Entry]:
    """Return the records that make `body` the active version; none where it is active already.

    Args:
        kind: `config`, `catalogue` or another.
        body: the whole version; its SHA-256 names it.
        active: what is active now, None while nothing is.
        author: who changes it.
        reason: why.
        topic: where the switch is told; `policies` tells it to every node.
    """
    checksum = checksum_of(body)
    if active is not None and active.checksum == checksum:
        return []
    version = 1 if active is None else active.version + 1
    artifact = Artifact(kind=kind, version=version, checksum=checksum, body=body)
    switch = Activated(kind=kind, version=version, checksum=checksum, author=author, reason=reason)
    return [Entry.of("versions", artifact, artifact.artifact_id), Entry.of(topic, switch)]


def switched(
    bodies: Mapping[str, str],
    active: Mapping[str, ActiveRow],
    known: Iterable[Policy],
    now: datetime,
    author: str,
    reason: str,
) -> list[Entry]:
    """Return the records that make settings those that count: artifacts first, then the switches, then the policies.

    Args:
        bodies: the settings of the stages, the catalogue and the policies, each by its kind; what is left out stays.
        active: what is active now, by kind.
        known: the newest version of every policy.
        now: the moment.
        author: who changes it.
        reason: why.
    """
    entries: list[Entry] = []
    for kind in CHANGED:
        body, row = bodies.get(kind), active.get(kind)
        if body is not None and (row is not None or kind != POLICIES or body != EMPTY[POLICIES]):
            entries.extend(activation(kind, body, row, author, reason))
    if POLICIES in bodies:
        wanted = wishes(policies_of(bodies[POLICIES]), known, now)
        entries.extend(Entry.of("policies", policy) for policy in wanted)
    return sorted(entries, key=lambda entry: entry.topic != "versions")


def file_body(told: str, *, replaced: bool) -> str:
    """Return the body of the artifact `file`.

    Args:
        told: what a start was told by its settings file.
        replaced: whether something was promoted, or rolled back to, since that start.
    """
    return json.dumps({"told": checksum_of(told), "replaced": replaced})


def as_replaced(body: str) -> str:
    """Return the body of `file` once something else counts than the settings file of the last start."""
    return json.dumps({**json.loads(body), "replaced": True})
