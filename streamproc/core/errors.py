"""The one exception tree.

StreamprocError
|-- Rejected    the input is at fault: it becomes a dead letter, and nothing else is harmed by it
|-- Transient   the outside failed: the same request may succeed later
|-- Unusable    what the user gave (settings, files, arguments) cannot be used; one line, with the mend
`-- Defect      the runtime itself is at fault: fail-stop, before a wrong thing is committed
"""

from __future__ import annotations


class StreamprocError(Exception):
    """Root of every error that streamproc raises on purpose."""


class Rejected(StreamprocError):
    """An input that cannot be used; `reason` is a short stable word, the message says what is wrong with it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Transient(StreamprocError):
    """An outside failure that may pass; `retry_after` is in seconds, None where the outside named no time."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unusable(StreamprocError):
    """Settings, a file or an argument of the user cannot be used; the message names the place and the mend."""


class Defect(StreamprocError):
    """A promise of the runtime does not hold; the process must stop before harm is done."""
