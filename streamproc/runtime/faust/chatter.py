"""What aiokafka and Faust say in their logs, bounded: a broker that is away made them say thousands of lines."""

from __future__ import annotations

import logging
import time

QUIET = 30.0
"""Seconds in which the same thing is said once."""
KEPT = 500
LOGGERS = ("aiokafka", "faust", "mode")


class _Once(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether it is worth saying: not the same words of the same place again so soon."""
        at, now = (record.pathname, record.lineno), time.monotonic()
        last = self._said.get(at)
        if last is not None and now - last < QUIET:
            return False
        if len(self._said) > KEPT:
            self._said.clear()
        self._said[at] = now
        return True


def bound() -> None:
    """Let the libraries' loggers say warnings only, and each at most twice a minute."""
    once = _Once()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        if not logger.handlers:
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            handler.addFilter(once)
            logger.addHandler(handler)
            logger.propagate = False
