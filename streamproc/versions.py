"""Immutable versions of large things: how a new one is put into the log and switched to."""

from __future__ import annotations

import hashlib

from streamproc.core.event import Activated, Artifact
from streamproc.core.step import ActiveRow
from streamproc.ports import Entry


def activation(kind: str, body: str, active: ActiveRow | None, author: str, reason: str) -> list[Entry]:
    """Return the records that make `body` the active version; none where it is active already.

    Args:
        kind: `config` or `catalogue`.
        body: the whole version; its SHA-256 names it.
        active: what is active now, None while nothing is.
        author: who changes it.
        reason: why.
    """
    checksum = hashlib.sha256(body.encode()).hexdigest()
    if active is not None and active.checksum == checksum:
        return []
    version = 1 if active is None else active.version + 1
    artifact = Artifact(kind=kind, version=version, checksum=checksum, body=body)
    switch = Activated(kind=kind, version=version, checksum=checksum, author=author, reason=reason)
    return [Entry.of("versions", artifact, artifact.artifact_id), Entry.of("policies", switch)]
