"""Connections with limits: uvicorn's HTTP protocol, and what it leaves to a proxy that may not be there.

uvicorn waits for ever for a request's head and for a client that does not read, and takes heads of any length. Here a
head has a time and a size, an answer must be taken, and where too many connections are open the one that has been
without a request the longest gives way, so that a thousand idle ones keep nobody out.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from typing import Any, cast

from prometheus_client import Counter
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from streamproc.gateway.joining import Joining
from streamproc.gateway.refusal import Refusal, Reply

MOST_CONNECTIONS = 4096
RESERVED_FILES = 256
"""File descriptors that connections leave to the log, the broker and PagerDuty."""
LINGERING = 64
"""Connections beyond the most that may wait for a client to read why it was refused."""
LINGER = 2.0
"""Seconds that one waits so: closed at once, what the client still sends would be answered by a reset, and the reset
would take the answer with it."""
DROPPED = ("answer_not_read", "crowded_out", "head_too_large", "head_too_slow", "malformed", "too_many_connections")
"""Why a connection is closed against its client's will."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may take."""

    connections: int = MOST_CONNECTIONS
    head_bytes: int = 65_536
    """Longest head, in bytes; a piece that comes at once may be longer, by what the loop reads at once."""
    head_seconds: float = 10.0
    """From the first byte, or the opening of the connection, to the end of the head."""
    answer_seconds: float = 30.0
    """How long a client may leave unread what is sent to it."""


def fitting(most: int = MOST_CONNECTIONS) -> Limits:
    """Return the limits for this process: no more connections than its file descriptors allow."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = most if files == resource.RLIM_INFINITY else files - RESERVED_FILES
    return Limits(connections=max(1, min(most, allowed)))


class Wire:
    """The connections of one server."""

    def __init__(self, limits: Limits, dropped: Counter) -> None:
        self.limits = limits
        self.dropped = dropped
        self.waiting: dict[Connection, None] = {}
        """Those without a request under way, the longest first."""

    def connect(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """Return the protocol of a new connection, as uvicorn asks for it."""
        return Connection(self, config, server_state, app_state, _loop)


class Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        wire: Wire,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._wire = wire
        self._head: int | None = None
        """Bytes of the head so far that came after its first piece; None outside a head."""
        self._timer: asyncio.TimerHandle | None = None
        """Ends the wait for a head, or for the end of a connection that is closing."""
        self._unread: asyncio.TimerHandle | None = None
        """Ends the wait for a client to read."""
        self._over = False
        """True once it was refused: what still comes is thrown away."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for a head; somebody else may have to go."""
        super().connection_made(transport)
        self._joining = Joining(transport, self.loop)
        if len(self.connections) > self._wire.limits.connections:
            longest = next(iter(self._wire.waiting), None)
            if longest is None:
                self._drop("too_many_connections", _CROWDED)
                return
            longest.crowd_out()
        self._wire.waiting[self] = None
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._wire.waiting.pop(self, None)
        self._cancel()
        self._read()

    def data_received(self, data: bytes) -> None:
        """Read on; what comes between requests must become a head in time."""
        if self._over or self.transport.is_closing():
            return
        if self._head is not None:
            self._head += len(data)
        if self._timer is None and self in self._wire.waiting:
            self._await_head()
        super().data_received(data)
        if self._head is not None and self._head > self._wire.limits.head_bytes:
            self._drop("head_too_large", _HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._head = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what follows a body in chunks is nobody's, and would change a request under way."""
        if self._head is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request."""
        self._head = None
        self._cancel()
        self._wire.waiting.pop(self, None)
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", self._joining)  # it writes, closes, and asks whether it is

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the client to take the last answer."""
        self._joining.flush()
        super().on_response_complete()
        if self.transport.is_closing():
            self._cancel()
            self._timer = self.loop.call_later(self._wire.limits.answer_seconds, self.transport.abort)
        elif self.cycle.response_complete:
            self._wire.waiting[self] = None
            if self._head is not None:
                self._await_head()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        del msg  # uvicorn's own words
        self._drop("malformed", _MALFORMED)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._wire.limits.answer_seconds, self._cut, "answer_not_read")

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._read()

    def crowd_out(self) -> None:
        """Give way to a newer connection."""
        self._cut("crowded_out")

    def _await_head(self) -> None:
        self._timer = self.loop.call_later(self._wire.limits.head_seconds, self._cut, "head_too_slow")

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _cut(self, reason: str) -> None:
        """Close without an answer: senders repeat what they got none for, and the fault may be ours."""
        self._wire.dropped.labels(reason).inc()
        self._wire.waiting.pop(self, None)
        self._cancel()
        self.transport.abort()

    def _drop(self, reason: str, answer: bytes) -> None:
        """Refuse what comes; where an earlier request still waits for its answer, this one could be taken for it."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body or cycle.response_started or self.pipeline:
                self._cut(reason)
                return
            cycle.disconnected = True  # it is this request's own body: nobody else answers it
            cycle.message_event.set()
        self._wire.dropped.labels(reason).inc()
        self._wire.waiting.pop(self, None)
        self._cancel()
        self._over = True
        self.transport.write(answer)
        if len(self.connections) > self._wire.limits.connections + LINGERING:
            self.transport.close()
            return
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER, self.transport.abort)


def _answer(line: bytes, refusal: Refusal) -> bytes:
    reply = Reply.of(refusal)
    heads = b"".join(b"%s: %s\r\n" % (name.encode(), text) for name, text in reply.headers.items())
    return b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n%s" % (
        line,
        len(reply.body),
        heads,
        reply.body,
    )


_CROWDED = _answer(
    b"503 Service Unavailable",
    Refusal(
        503,
        "too_many_connections",
        "Every connection that may be open has a request under way.",
        "Send it again after the seconds in Retry-After.",
        {"retry-after": "5"},
    ),
)
_HEAD_TOO_LARGE = _answer(
    b"431 Request Header Fields Too Large",
    Refusal(431, "head_too_large", "The head of the request is too large.", "Send fewer and shorter headers."),
)
_MALFORMED = _answer(
    b"400 Bad Request", Refusal(400, "malformed", "This is no request of HTTP/1.1.", "Send HTTP/1.1, without TLS.")
)
