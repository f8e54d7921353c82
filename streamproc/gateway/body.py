"""Request bodies: read within limits of size and time, unpacked where they come compressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping

from starlette.types import Message, Receive

from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.refusal import Refusal

READABLE = frozenset(
    {
        b"",
        b"application/json",
        b"text/json",
        b"text/plain",
        b"application/octet-stream",
        b"application/x-www-form-urlencoded",
    }
)
"""JSON is read from all of these: senders are odd, and `curl -d` claims a form. What is no JSON is refused as such."""
DRAIN = 4
"""A body of up to this many times the limit is read off and thrown away, so that its sender sees the answer."""


Hold = Callable[[int], None]
"""Counts that many more bytes as held, fewer where it is negative; raises a Refusal where there is no room for them."""


async def read_json(headers: Mapping[bytes, bytes], receive: Receive, config: GatewayConfig, hold: Hold) -> bytes:
    """Return the body of a request that should hold JSON, unpacked but not parsed.

    Raises:
        Refusal: 413 too large, 415 another type or encoding, 400 broken compression or cut short, 503 too slow or no
            room.
    """
    _check_type(headers.get(b"content-type", b""))
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in {b"", b"identity", b"gzip", b"x-gzip"}:
        message = f"The content encoding {_shown(encoding)} is not understood."
        raise Refusal(415, "content_encoding", message, "Send the body as it is, or gzip.", {"accept-encoding": "gzip"})
    body = await read_body(headers, receive, config, hold)
    if encoding not in {b"gzip", b"x-gzip"}:
        return body
    plain = unzip(body, config.body_limit)
    hold(len(plain) - len(body))
    return plain


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, config: GatewayConfig, hold: Hold) -> bytes:
    """Return the body of a request as it was sent, never holding more than the limit, whatever Content-Length says.

    Raises:
        Refusal: 413 too large, 400 cut short, 503 no room or too slow (a 4xx would make the sender drop it, and the
            fault may be ours).
    """
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared[:20]) > config.body_limit * DRAIN:
        raise _too_large(config.body_limit)
    try:
        # The first piece too: a client may declare a body and never begin it.
        async with asyncio.timeout(config.body_timeout):
            return await _gather(receive, config.body_limit, hold)
    except TimeoutError:
        text = f"The body was not complete after {config.body_timeout:g} s."
        mend = "Send it again; gateway.body_timeout sets the time."
        headers_ = {"retry-after": str(config.retry_after), "connection": "close"}
        raise Refusal(503, "body_too_slow", text, mend, headers_) from None


async def _gather(receive: Receive, limit: int, hold: Hold) -> bytes:
    held, seen = bytearray(), 0
    while True:
        message: Message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "cut_short", "The connection ended before the body was complete.", "Send it again.")
        piece: bytes = message.get("body", b"")
        seen += len(piece)
        if seen <= limit:
            hold(len(piece))
            held += piece
        elif held:
            hold(-len(held))
            held.clear()
        more = message.get("more_body", False)
        if seen > limit and (not more or seen > limit * DRAIN):
            raise _too_large(limit)
        if not more:
            return bytes(held)


def unzip(body: bytes, limit: int) -> bytes:
    """Return a gzip body unpacked.

    Raises:
        Refusal: 413 larger than `limit` bytes once unpacked, 400 no gzip or cut short.
    """
    parts: list[bytes] = []
    room = limit
    while body:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            part = member.decompress(body, room + 1)
        except zlib.error:
            raise _broken_gzip("is not gzip") from None
        room -= len(part)
        if room < 0:
            raise _too_large(limit)
        if not member.eof:
            raise _broken_gzip("ends early")
        parts.append(part)
        body = member.unused_data
    return b"".join(parts)


def _check_type(content_type: bytes) -> None:
    media = content_type.partition(b";")[0].strip().lower()
    if media in READABLE or (media.startswith(b"application/") and media.endswith(b"+json")):
        return
    message = f"The content type {_shown(media)} is not JSON."
    raise Refusal(415, "content_type", message, "Send JSON with `Content-Type: application/json`.")


def _shown(text: bytes) -> str:
    return text[:60].decode("latin-1").encode("unicode_escape").decode()


def _too_large(limit: int) -> Refusal:
    message = f"The body is larger than {limit} bytes."
    mend = "Send fewer alerts a request (Alertmanager: max_alerts in webhook_configs), or raise gateway.body_limit."
    return Refusal(413, "too_large", message, mend, {"connection": "close"})


def _broken_gzip(what: str) -> Refusal:
    return Refusal(400, "broken_gzip", f"The body {what}.", "Send the body as it is, or as complete gzip.")
