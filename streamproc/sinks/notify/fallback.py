"""The fallback notifier: what is said, and where, while PagerDuty does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import apprise
import structlog

from streamproc.core.errors import Unusable

log = structlog.get_logger(__name__)


class Fallback:
    """Tells people by any of apprise's ways (mail, chat, SMS, ...).

    Args:
        urls: apprise URLs; all of them are told.
        timeout: seconds for one message to all of them.

    Raises:
        Unusable: apprise cannot read a URL. The message names its place and scheme only, since URLs hold passwords.
    """

    def __init__(self, urls: Sequence[str], timeout: float = 15.0) -> None:
        self._apprise = apprise.Apprise()
        self._timeout = timeout
        for number, url in enumerate(urls, start=1):
            if not self._apprise.add(url):
                raise Unusable(
                    f"fallback URL {number} ({urlsplit(url).scheme or 'no scheme'}://...) is none that apprise knows; "
                    "see https://github.com/caronc/apprise/wiki for their form"
                )

    async def tell(self, title: str, body: str) -> bool:
        """Tell all destinations; True where every one took the message. Never raises for an outside failure."""
        told = bool(await asyncio.to_thread(self._apprise.notify, body=body, title=title, timeout=self._timeout))
        if not told:
            log.error("The fallback destination did not take the message.", title=title)
        return told
