"""An answer as one piece: its head waits for its body, for a turn of the event loop at most."""

from __future__ import annotations

import asyncio

HEAD = b"HTTP/1.1 "


class Joining:
    """The way of answers to one connection's transport.

    uvicorn writes the head and the body one after the other: two system calls and two packets, and the client wakes up
    twice. Where a body does not follow at once, the head goes out alone.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, piece: bytes) -> None:
        """Write a piece; a head is held, what follows takes it along."""
        if self._held:
            piece, self._held = self._held + piece, b""
        elif piece.startswith(HEAD):  # a body that begins so is late by a turn of the loop, and whole nevertheless
            self._held = piece
            self._loop.call_soon(self.flush)
            return
        self._transport.write(piece)

    def flush(self) -> None:
        """Write what is held."""
        if self._held and not self._transport.is_closing():
            self._transport.write(self._held)
        self._held = b""

    def close(self) -> None:
        """Write what is held, then close."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the transport is closing."""
        return self._transport.is_closing()
