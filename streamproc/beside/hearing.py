"""Takes what PagerDuty's webhooks tell of the existing route's incidents, for those who give no REST key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from streamproc.beside.book import Book
from streamproc.beside.theirs import MOST_DEEDS, TheirDeed, TheirPage
from streamproc.events.feedback import FeedbackKind
from streamproc.gateway.pagerduty import Foreign, ForeignIncident


class Hearer:
    """Keeps what webhooks tell. They tell no details of alerts, so what is the same is found by title and time.

    Args:
        book: keeps it.
        now: the moment.
    """

    def __init__(self, book: Book, now: Callable[[], datetime]) -> None:
        self._book = book
        self._now = now

    async def __call__(self, told: Foreign) -> None:
        """Keep what one webhook told; durable when this returns."""
        await asyncio.to_thread(self._keep, told)

    def _keep(self, told: Foreign) -> None:
        now = self._now()
        self._book.update(told.incident_id, lambda page: heard(page, told), now)
        self._book.mark("heard", now)


def heard(page: TheirPage | None, told: Foreign) -> TheirPage | None:
    """Return a page as it is after a webhook; None where the incident is not known.

    Webhooks come in order for each incident, and again where they were not answered: neither changes what is known.
    """
    known = page if told.incident is None else _taken_over(page, told.incident, told)
    if known is None or not told.person:
        return known
    if told.kind is FeedbackKind.TRIGGERED:
        return known.model_copy(update={"by_hand": True})
    deed = TheirDeed(what=told.kind.value, by=told.by, at=told.at)
    if deed in known.deeds:
        return known
    return known.model_copy(update={"deeds": (*known.deeds, deed)[-MOST_DEEDS:]})


def _taken_over(page: TheirPage | None, incident: ForeignIncident, told: Foreign) -> TheirPage:
    if page is not None and (told.at < page.changed_at or page.source == "rest"):
        return page
    shown = TheirPage(
        incident_id=incident.id,
        number=incident.number,
        title=incident.title,
        status=incident.status,
        urgency=incident.urgency,
        service=incident.service.summary or "",
        key=incident.incident_key or "",
        url=incident.html_url or "",
        created_at=incident.created_at,
        changed_at=told.at,
        source="webhook",
        # From its trigger on, what people do is told; of one that was open before, something may have gone before.
        deeds_known=told.kind is FeedbackKind.TRIGGERED,
    )
    if page is None:
        return shown
    kept = {"deeds": page.deeds, "by_hand": page.by_hand, "deeds_known": page.deeds_known}
    same = page.status == shown.status
    return shown.model_copy(update={**kept, "changed_at": page.changed_at if same else told.at})
