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

from streamproc.emulator.config import EmulatorConfig
from streamproc.emulator.directory import Directory
from streamproc.emulator.incident import Incident
from streamproc.emulator.shapes import moment, reference, webhook_incident, webhook_note
from streamproc.emulator.subscriptions import OWN, Subscription

_ANSWER_WITHIN = 5.0
_LONGEST_PAUSE = 30.0


class Delivery(BaseModel):
    """One webhook and how it fares."""

    id: str
    event_type: str
    incident_id: str
    """Empty for a ping."""
    subscription_id: str
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
        self._turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self.deliveries: list[Delivery] = []
        self.subscriptions: dict[str, Subscription] = {}
        self.reset()

    def reset(self) -> None:
        """Forget deliveries, and all subscriptions but the one of the settings."""
        self.deliveries.clear()
        self.subscriptions.clear()
        if self._config.webhook_url:
            own = Subscription(id=OWN, url=self._config.webhook_url, secret=self._config.webhook_secret)
            self.subscriptions[OWN] = own

    def tell(
        self, event_type: str, incident: Incident, directory: Directory, now: datetime, by: str = "", note: str = ""
    ) -> None:
        """Send `incident.<event_type>` as the incident stands now to whoever wants it; returns at once.

        Args:
            event_type: without `incident.`.
            incident: what it happened to.
            directory: the account's.
            now: when.
            by: the person who did it; empty where an event of the API did.
            note: content of an annotation.
        """
        shown = webhook_incident(incident, directory)
        event: dict[str, Any] = {
            # Never the same again, in whichever run: receivers tell redeliveries by it.
            "id": secrets.token_hex(13).upper(),
            "event_type": f"incident.{event_type}",
            "resource_type": "incident",
            "occurred_at": moment(now),
            "agent": reference("user", by) if by else None,
            "client": {"name": incident.client} if incident.client and not by else None,
            "data": webhook_note(incident, note) if event_type == "annotated" else shown,
        }
        for subscription in self.subscriptions.values():
            if subscription.wants(event["event_type"], shown):
                self._send(subscription, event, incident.id)

    def ping(self, subscription: Subscription, now: datetime) -> None:
        """Send a test event; returns at once."""
        event = {
            "id": secrets.token_hex(13).upper(),
            "event_type": "pagey.ping",
            "resource_type": "pagey",
            "occurred_at": moment(now),
            "agent": None,
            "client": None,
            "data": {"message": "Hello from your friend Pagey!", "type": "ping"},
        }
        self._send(subscription, event, "")

    def _send(self, subscription: Subscription, event: dict[str, Any], incident_id: str) -> None:
        delivery = Delivery(
            id=secrets.token_hex(13),
            event_type=event["event_type"],
            incident_id=incident_id,
            subscription_id=subscription.id,
        )
        self.deliveries.append(delivery)
        body = json.dumps({"event": event}, separators=(",", ":")).encode()
        task = asyncio.create_task(self._deliver(subscription, delivery, body))
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

    async def _deliver(self, subscription: Subscription, delivery: Delivery, body: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "PagerDuty-Webhook/V3.0",
            "X-PagerDuty-Signature": sign(subscription.secret, body),
            "X-Webhook-Id": delivery.id,
            "X-Webhook-Subscription": subscription.id,
        }
        # A lock wakes its waiters in the order in which they came: later events of an incident queue behind.
        async with self._turns[subscription.id, delivery.incident_id]:
            while delivery.state == "pending":
                delivery.attempts += 1
                delivery.status = await self._post(subscription.url, body, headers)
                delivery.state = self._judge(delivery)
                if delivery.state == "pending":
                    pause = self._config.webhook_backoff * 2 ** min(delivery.attempts - 1, 16)
                    await asyncio.sleep(min(pause, _LONGEST_PAUSE))
            subscription.judge(delivered=delivery.state == "delivered")

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int | None:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                return (await self._http.post(url, content=body, headers=headers)).status_code
        except (httpx.HTTPError, TimeoutError):
            return None

    def _judge(self, delivery: Delivery) -> Literal["pending", "delivered", "dropped"]:
        status = delivery.status
        if status is not None and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return "delivered"
        final = status is not None and 400 <= status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS  # noqa: PLR2004  4xx
        return "dropped" if final or delivery.attempts >= self._config.webhook_attempts else "pending"
