"""Reads the incidents of the existing route from PagerDuty, into the book. Reads only, and never stops the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from streamproc.beside.book import Book
from streamproc.beside.theirs import TheirPage, heading_of
from streamproc.core.errors import Rejected, Transient, Unusable
from streamproc.sinks.pagerduty.resources import Incident, IncidentQuery
from streamproc.sinks.pagerduty.rest import PagerDutyRest

OVERLAP = timedelta(hours=1)
"""So much is listed again: a list that is read in pages while people work may miss one."""
CHUNK = 100
"""Incidents that are kept at once."""


class Reader:
    """Reads what is new and what may have changed.

    Args:
        rest: asks PagerDuty.
        book: keeps it.
        services: ids of PagerDuty's services whose incidents count; all of them where empty.
    """

    def __init__(self, rest: PagerDutyRest, book: Book, services: Sequence[str] = ()) -> None:
        self._rest = rest
        self._book = book
        self._services = tuple(services)

    async def read(self, now: datetime) -> str:
        """Read once; return what went wrong, empty where nothing did. What was read before that is kept."""
        try:
            await self._list(now)
            await asyncio.to_thread(self._book.set, "error", "")
            await asyncio.to_thread(self._book.mark, "read", now)
            await self._read_unread(now)
        except (Transient, Unusable, Rejected) as error:
            await asyncio.to_thread(self._book.set, "error", str(error))
            return str(error)
        return ""

    async def _list(self, now: datetime) -> None:
        read = await asyncio.to_thread(self._book.moment, "read")
        began = await asyncio.to_thread(self._book.moment, "began")
        listed: list[Incident] = []
        query = IncidentQuery(since=(read or began or now) - OVERLAP, until=now, service_ids=self._services)
        async for incident in self._rest.incidents(query):
            listed.append(incident)
            if len(listed) == CHUNK:
                await asyncio.to_thread(self._keep, listed, now)
                listed = []
        await asyncio.to_thread(self._keep, listed, now)

    def _keep(self, listed: Sequence[Incident], now: datetime) -> None:
        known = ((incident, self._book.page(incident.id)) for incident in listed)
        self._book.put([heading_of(one) if page is None else page.listed(one) for one, page in known], now)

    async def _read_unread(self, now: datetime) -> None:
        for page in await asyncio.to_thread(self._book.unread):
            incident = await self._rest.incident(page.incident_id)
            if incident is None:
                await asyncio.to_thread(self._book.close_page, page.incident_id)
                continue
            read = await self._whole(page, incident)
            await asyncio.to_thread(self._book.put, [read], now)

    async def _whole(self, page: TheirPage, incident: Incident) -> TheirPage:
        alerts = await self._rest.alerts(incident.id)
        return page.listed(incident).read(alerts, await self._rest.log_entries(incident.id))
