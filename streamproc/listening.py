"""Listening sockets for the servers of this package."""

from __future__ import annotations

import errno
import socket

from streamproc.core.errors import Unusable

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket that an event loop can take.

    Args:
        host: an address or name; empty for every address.
        port: 0 takes a free one.

    Raises:
        Unusable: the address cannot be listened on; the message says why, and the mend.
    """
    try:
        # asyncio switches Nagle's algorithm off only where a socket names its protocol, which those of
        # socket.create_server do not: every answer would wait 40 ms for a delayed acknowledgement.
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise Unusable(f"cannot listen on {host or 'every address'} port {port}: {_why(error)}") from None
    return listener


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program does; stop it, or choose another port"
    if error.errno == errno.EACCES:
        return "ports below 1024 need privileges; choose another port"
    return error.strerror or str(error)
