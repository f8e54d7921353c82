"""One emulator: the account, the faults, the limits, and the record of everything that was asked of it."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import httpx
from pydantic import BaseModel

from streamproc.core.errors import Defect, Unusable
from streamproc.emulator.account import Account, Deed, Effect
from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.contract import Kind
from streamproc.emulator.directory import Directory
from streamproc.emulator.faults import FaultKind, Faults
from streamproc.emulator.incident import Alert, Incident
from streamproc.emulator.webhooks import Webhooks

_MINUTE = timedelta(seconds=60)


class Taken(BaseModel):
    """One request, whatever came of it."""

    n: int
    """Counts requests from 1, in order of arrival."""
    at: datetime
    path: str
    action: str
    """trigger, acknowledge, resolve or change; empty where the body could not be read."""
    routing_key: str
    dedup_key: str
    status: int | None
    """HTTP status answered, None where there was no answer."""
    effect: Effect | None = None
    """What it did, None where it was not taken."""
    fault: FaultKind | None = None
    errors: tuple[str, ...] = ()
    incident_id: str = ""
    event: dict[str, Any] = {}
    raw: str = ""
    """The beginning of a body that is not JSON."""


class Asked(BaseModel):
    """One request to the REST API."""

    at: datetime
    method: str
    path: str
    query: str
    status: int | None
    """HTTP status answered, None where there was no answer."""
    fault: FaultKind | None = None


class Connections:
    """The open connections by their address, so that one can be closed without an answer."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int] | None, asyncio.Transport] = {}

    def add(self, client: tuple[str, int] | None, transport: asyncio.Transport) -> None:
        """Remember a connection."""
        self._open[client] = transport

    def remove(self, client: tuple[str, int] | None) -> None:
        """Forget a connection that is closed."""
        self._open.pop(client, None)

    def abort(self, client: tuple[str, int] | None) -> None:
        """Close a connection at once.

        Raises:
            Defect: the connection was not made through `serve`, so it cannot be closed.
        """
        transport = self._open.get(client)
        if transport is None:
            raise Defect("a fault that drops or stalls needs the emulator to be run by `serve`")
        transport.abort()


class Emulator:
    """State of one emulator.

    Args:
        config: how it behaves.
        clock: the time in UTC.
        webhook_transport: what carries webhooks; httpx's own by default.

    Raises:
        Unusable: the record cannot be written.
    """

    def __init__(
        self,
        config: EmulatorConfig,
        clock: Callable[[], datetime],
        webhook_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.config = config
        self.clock = clock
        self.account = Account()
        self.faults = Faults()
        self.webhooks = Webhooks(config, webhook_transport)
        self.connections = Connections()
        self.requests: deque[Taken] = deque(maxlen=config.keep_requests)
        self.rest_requests: deque[Asked] = deque(maxlen=config.keep_requests)
        self.rest_limit = config.rest_rate_limit
        self.directory = Directory()
        self._count = 0
        self._recent: defaultdict[str, deque[datetime]] = defaultdict(deque)
        self._record = _append_to(config.record) if config.record else None

    async def aclose(self) -> None:
        """Stop webhooks and close the record."""
        await self.webhooks.aclose()
        if self._record is not None:
            self._record.close()

    def reset(self) -> None:
        """Forget everything since the start but the record file."""
        self.account = Account()
        self.faults.clear()
        self.requests.clear()
        self.rest_requests.clear()
        self.rest_limit = self.config.rest_rate_limit
        self.directory = Directory()
        self.webhooks.reset()
        self._recent.clear()
        self._count = 0

    def limited(self, routing_key: str) -> bool:
        """Count a request against the limit of its key over the last 60 s; True where it is over it."""
        return self.config.rate_limit is not None and self._spend(routing_key, self.config.rate_limit) < 0

    def rest_left(self, api_key: str) -> tuple[int, int]:
        """Count a request to the REST API; return how many are left in the last 60 s, -1 where it is over the limit.

        The second figure is the seconds until one more is.
        """
        name = f"rest/{api_key}"
        left = self._spend(name, self.rest_limit)
        recent = self._recent[name]
        wait = _MINUTE - (self.clock() - recent[0]) if recent else _MINUTE
        return left, max(1, math.ceil(wait.total_seconds()))

    def _spend(self, name: str, limit: int) -> int:
        now = self.clock()
        recent = self._recent[name]
        while recent and now - recent[0] >= _MINUTE:
            recent.popleft()
        if len(recent) >= limit:
            return -1
        recent.append(now)
        return limit - len(recent)

    def note(self, kind: Kind, path: str, event: dict[str, Any], **told: Any) -> Taken:
        """Remember a request; `told` are further fields of `Taken`."""
        self._count += 1
        action = "change" if kind == "change" and event else str(event.get("event_action", ""))
        fields = {
            "n": self._count,
            "at": self.clock(),
            "path": path,
            "action": action,
            "routing_key": str(event.get("routing_key", "")),
            "dedup_key": str(event.get("dedup_key", "")),
            "event": event,
        }
        taken = Taken.model_validate(fields | told)
        self.requests.append(taken)
        return taken

    def take(self, kind: Kind, path: str, event: dict[str, Any], status: int | None, fault: FaultKind | None) -> Taken:
        """Take a valid event: change state, record it (on disk before this returns), tell webhooks."""
        now = self.clock()
        incident: Incident | None = None
        dedup_key = ""
        if kind == "change":
            effect = Effect.CHANGE
            self.account.changes.append(event)
        else:
            dedup_key = event.get("dedup_key") or secrets.token_hex(16)
            effect, incident = self.account.take(event, dedup_key, now)
        taken = self.note(
            kind,
            path,
            event,
            at=now,
            dedup_key=dedup_key,
            status=status,
            fault=fault,
            effect=effect,
            incident_id=incident.id if incident else "",
        )
        if self._record is not None:
            self._record.write(json.dumps(taken.model_dump(mode="json"), ensure_ascii=False) + "\n")
            self._record.flush()
        told = _TOLD.get(effect)
        if incident is not None and told and not (told == "resolved" and incident.status != "resolved"):
            self.webhooks.tell(told, incident, self.directory, now)
        return taken

    def act(self, incident: Incident, deed: Deed, by: str, value: str) -> None:
        """Do what a person does to an incident, and tell webhooks.

        Raises:
            Rejected: the incident's state does not allow it.
        """
        now = self.clock()
        self.account.act(incident, deed, by, value, now)
        told = "escalated" if deed is Deed.LEVEL else str(deed)
        self.webhooks.tell(told, incident, self.directory, now, by=by, note=value)

    def merge(self, target: Incident, sources: list[Incident], by: str) -> None:
        """Merge incidents into one as a person does, and tell webhooks of those that are resolved by it.

        Raises:
            Rejected: the target does not allow it.
        """
        now = self.clock()
        self.account.merge(target, sources, by, now)
        for source in sources:
            self.webhooks.tell("resolved", source, self.directory, now, by=by)

    def resolve_alert(self, alert: Alert, by: str) -> None:
        """Resolve one alert as a person does, and tell webhooks where its incident is resolved with it."""
        now = self.clock()
        if self.account.resolve_alert(alert, by, now):
            incident = self.account.incidents[alert.incident_id]
            self.webhooks.tell("resolved", incident, self.directory, now, by=by)


def _append_to(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as failure:
        raise Unusable(f"cannot write the record {path}: {failure.strerror}; name a file that can be") from failure


_TOLD = {Effect.OPENED: "triggered", Effect.ACKNOWLEDGED: "acknowledged", Effect.RESOLVED: "resolved"}
