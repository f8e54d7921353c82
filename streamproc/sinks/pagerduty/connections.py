"""Pooled connections for the Events API: aiohttp's, behind httpx's interface of a transport.

httpx's own pool asks every idle connection at every request whether it is still alive: with 64 requests at once it
takes 2.4 ms of CPU a request where aiohttp takes 0.14, more than everything else that we do for a page (measured as
`make bench BENCH=deliver` does).
"""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

MOST = 64
"""Connections at once."""
KEPT_FOR = 60.0
"""Seconds that an idle connection is kept open."""


class Connections(httpx.AsyncBaseTransport):
    """Sends requests over at most `MOST` connections. No timeouts of its own: who calls bounds the whole."""

    def __init__(self) -> None:
        self._tls = httpx.create_ssl_context()
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read the whole answer.

        Raises:
            httpx.TransportError: there was no answer, or not the whole of it.
        """
        session = self._session = self._session or self._open()
        try:
            async with session.request(
                request.method,
                str(request.url),
                headers=request.headers.multi_items(),
                data=await request.aread(),
                allow_redirects=False,
            ) as answer:
                return httpx.Response(answer.status, headers=answer.raw_headers, content=await answer.read())
        except aiohttp.ClientConnectorError as failure:
            raise httpx.ConnectError(str(failure)) from failure
        except aiohttp.ClientError as failure:
            raise httpx.ReadError(str(failure)) from failure

    def _open(self) -> aiohttp.ClientSession:
        """Open a session; its event loop must run."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MOST, keepalive_timeout=KEPT_FOR, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def connections_to(url: str) -> httpx.AsyncBaseTransport | None:
    """Return connections to an address, None where the environment names a proxy for it: httpx knows more kinds."""
    to = httpx.URL(url)
    named = getproxies()
    proxied = (to.scheme in named or "all" in named) and not proxy_bypass(to.host)
    return None if proxied else Connections()
