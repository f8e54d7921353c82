"""Real rows for a table test: the committed ones and the activated versions that a case starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from streamproc.core.fold import Lookups, Overlay
from streamproc.core.step import ACTIVE, ActiveRow, Step
from streamproc.core.table import Row, RowKey, RowStore
from streamproc.state import TABLES


def rows_of(
    rows: Mapping[RowKey, Row] | None = None, artifacts: Mapping[str, tuple[int, str]] | None = None
) -> Overlay:
    """Return what a stage sees where `rows` are committed and `artifacts` (kind: version and body) are activated."""
    bodies = {_checksum(body): body for _, body in (artifacts or {}).values()}
    active: dict[RowKey, Row] = {
        ACTIVE.at(kind): ActiveRow(kind=kind, version=version, checksum=_checksum(body))
        for kind, (version, body) in (artifacts or {}).items()
    }
    store = RowStore(TABLES)
    store.apply({**(rows or {}), **active})
    return Overlay(store, {table.name: table for table in TABLES}, Lookups(bodies.get))


def commit(rows: Overlay, step: Step) -> None:
    """Let the next step see what this one changed."""
    rows.record = dict(step.changes)
    rows.keep()


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
