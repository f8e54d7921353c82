"""RawAlert: the bytes that a producer posted, untouched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from streamproc.core.event import Event


class RawAlert(Event):
    """One request body of a producer. The record's value is the body itself, so bridges may produce it directly."""

    TYPE: ClassVar[str] = "raw-alert.v1"

    body: bytes
    source: str = ""
    """`alertmanager`, `datadog` or `generic`, from the header `source`; empty where a bridge sent none."""
    group: str = ""
    """What keeps records of one sender's group in order: the record key."""

    def encode(self) -> bytes:
        """Return the body."""
        return self.body

    def extra_headers(self) -> dict[str, bytes]:
        """Return the header `source`."""
        return {"source": self.source.encode()} if self.source else {}

    @classmethod
    def decode(cls, value: bytes, headers: Mapping[str, bytes]) -> Self:
        """Return the raw alert of any record: no body is refused here."""
        return cls(body=value, source=headers.get("source", b"").decode("ascii", "replace"))
