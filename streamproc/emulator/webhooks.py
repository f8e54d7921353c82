"""Webhooks v3: what happened to an incident, signed, sent in order per incident and again until it is taken.

Source: PagerDuty/developer-docs, `docs/webhooks/{01-Overview,02-Behavior,04-Signatures}.md`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from collections import defaultdict
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal

import httpx
from pydantic import BaseModel

from streamproc.emulator.account import Incident
from streamproc.emulator.config import EmulatorConfig

_ANSWER_WITHIN = 5.0
_LONGEST_PAUSE = 30.0
_SITE = "https://emulator.pagerduty.test"
_API = "https://api.pagerduty.test"


class Delivery(BaseModel):
    """One webhook and how it fares."""

    id: str
    event_type: str
    incident_id: str
    state: Literal["pending", "delivered", "dropped"] = "pending"
    attempts: int = 0
    status: int | None = None
    """Of the last attempt, None where there was no answer."""


def sign(secret: str, body: bytes) -> str:
    """Return the value of X-PagerDuty-Signature."""
    return f"v1={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


class Webhooks:
    """Sends webhooks beside the requests that cause them."""

    def __init__(self, config: EmulatorConfig, transport: httpx.AsyncBaseTransport | None) -> None:
        self._config = config
        self._http = httpx.AsyncClient(transport=transport, timeout=_ANSWER_WITHIN)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.deliveries: list[Delivery] = []

    def tell(self, event_type: str, incident: Incident, now: datetime, by: str = "", note: str = "") -> None:
        """Send `incident.<event_type>` as the incident stands now; returns at once.

        Args:
            event_type: without `incident.`.
            incident: what it happened to.
            now: when.
            by: the person who did it; empty where an event of the API did.
            note: content of an annotation.
        """
        if not self._config.webhook_url:
            return
        event = {
            # Never the same again, in whichever run: receivers tell redeliveries by it.
            "id": secrets.token_hex(13).upper(),
            "event_type": f"incident.{event_type}",
            "resource_type": "incident",
            "occurred_at": _moment(now),
            "agent": _reference("user", "users", by) if by else None,
            "client": {"name": incident.client} if incident.client and not by else None,
            "data": _note(incident, note) if event_type == "annotated" else _incident(incident),
        }
        delivery = Delivery(id=secrets.token_hex(13), event_type=event["event_type"], incident_id=incident.id)
        self.deliveries.append(delivery)
        body = json.dumps({"event": event}, separators=(",", ":")).encode()
        task = asyncio.create_task(self._deliver(delivery, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until every webhook is delivered or dropped."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def aclose(self) -> None:
        """Give up what is not delivered."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    async def _deliver(self, delivery: Delivery, body: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "PagerDuty-Webhook/V3.0",
            "X-PagerDuty-Signature": sign(self._config.webhook_secret, body),
            "X-Webhook-Id": delivery.id,
            "X-Webhook-Subscription": "PEMULATOR",
        }
        # A lock wakes its waiters in the order in which they came: later events of an incident queue behind.
        async with self._turns[delivery.incident_id]:
            while delivery.state == "pending":
                delivery.attempts += 1
                delivery.status = await self._post(body, headers)
                delivery.state = self._judge(delivery)
                if delivery.state == "pending":
                    pause = self._config.webhook_backoff * 2 ** min(delivery.attempts - 1, 16)
                    await asyncio.sleep(min(pause, _LONGEST_PAUSE))

    async def _post(self, body: bytes, headers: dict[str, str]) -> int | None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return (await self._http.post(self._config.webhook_url, content=body, headers=headers)).status_code
        except (httpx.HTTPError, TimeoutError):
            return None

    def _judge(self, delivery: Delivery) -> Literal["pending", "delivered", "dropped"]:
        status = delivery.status
        if status is not None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return "delivered"
        final = status is not None and 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS  # noqa: PLR2004  4xx
        return "dropped" if final or delivery.attempts >= self._config.webhook_attempts else "pending"


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reference(kind: str, path: str, summary: str) -> dict[str, str]:
    name = f"P{hashlib.sha256(f'{kind}/{summary}'.encode()).hexdigest()[:6].upper()}"
    return {
        "html_url": f"{_SITE}/{path}/{name}",
        "id": name,
        "self": f"{_API}/{path}/{name}",
        "summary": summary,
        "type": f"{kind}_reference",
    }


def _incident(incident: Incident) -> dict[str, Any]:
    priority = incident.priority
    return {
        "id": incident.id,
        "type": "incident",
        "self": f"{_API}/incidents/{incident.id}",
        "html_url": f"{_SITE}/incidents/{incident.id}",
        "number": incident.number,
        "status": incident.status,
        "incident_key": incident.incident_key,
        "created_at": _moment(incident.created_at),
        "title": incident.title,
        "service": _reference("service", "services", f"Service of key ...{incident.routing_key[-4:]}"),
        "assignees": [_reference("user", "users", incident.assignee)],
        "escalation_policy": _reference("escalation_policy", "escalation_policies", "Default"),
        "teams": [],
        "priority": _reference("priority", "priorities", priority) if priority else None,
        "urgency": incident.urgency,
        "conference_bridge": None,
        "resolve_reason": None,
        "incident_type": {"name": "incident_default"},
    }


def _note(incident: Incident, content: str) -> dict[str, Any]:
    return {
        "incident": {
            "html_url": f"{_SITE}/incidents/{incident.id}",
            "id": incident.id,
            "self": f"{_API}/incidents/{incident.id}",
            "summary": incident.title,
            "type": "incident_reference",
        },
        "id": f"N{len(incident.notes):06d}",
        "content": content,
        "trimmed": False,
        "type": "incident_note",
    }
