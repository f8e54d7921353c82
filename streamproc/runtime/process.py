"""Who this process is."""

from __future__ import annotations

import os
import socket


def this_process() -> str:
    """Return what names this process among all others: its machine and its number there."""
    return f"{socket.gethostname()}/{os.getpid()}"
