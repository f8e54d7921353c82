"""What a worker shows of a node partition, for others to see: the words beside its group offset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from streamproc.core.event import iso
from streamproc.runtime.engine import BEGINNING


@dataclass(frozen=True, slots=True)
class Shown:
    """How a node partition stands, as its owner has last told."""

    now: datetime = BEGINNING
    """The clamp of its position."""
    rows: int = 0
    """Rows that it held when it was told; a change of them alone is not told."""
    ready: bool = False
    """Whether it is folded up to what had waited when it was claimed, and is owned still."""
    worker: str = ""
    """Who owns it, or did last; empty where that was not told."""


def shown_text(shown: Shown) -> str:
    """Return the words for a group offset: compact JSON. Brokers take 4 KiB of them (offset.metadata.max.bytes)."""
    return orjson.dumps(
        {"now": iso(shown.now).decode(), "rows": shown.rows, "ready": shown.ready, "worker": shown.worker}
    ).decode()


def read_shown(metadata: str) -> Shown:
    """Return what is shown.

    Args:
        metadata: the words beside a group offset: ours, a plain ISO stamp (a worker that is not upgraded yet), or
            anything else (someone has reset the offset by a tool): that tells nothing, as if nothing was folded.
    """
    try:
        told: Any = orjson.loads(metadata) if metadata.startswith("{") else {"now": metadata}
        now = datetime.fromisoformat(told["now"])
        rows, worker = told.get("rows", 0), told.get("worker", "")
        if now.tzinfo is None or not isinstance(rows, int) or not isinstance(worker, str):
            return Shown()
        return Shown(now, rows, told.get("ready") is True, worker)
    except (ValueError, KeyError, TypeError):
        return Shown()
