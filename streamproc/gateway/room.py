"""Room for what is read or waits for the log, shared by all who post, so that one that floods leaves room for others.

The rule is that of dynamic thresholds: nobody may hold more than what is still free. Alone, one may hold half of
everything; two that flood a third each; and whoever comes next always finds some. Nothing has to be known about who
there is. Source: Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", IEEE/ACM
Transactions on Networking 6 (1998), with alpha = 1.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Self

from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.refusal import Refusal


class Room:
    """How many requests, and how many bytes of them, are held at the moment, and by whom."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def enter(self, party: str) -> Place:
        """Return a place for one request of a party, a context manager; what it holds is free again at its end.

        Raises:
            Refusal: 503, as many requests as may wait do wait, or the party has its share of them.
        """
        held, free = self._requests[party], self._config.max_in_flight - self._requests.total()
        if held >= free:
            if free <= 0:
                raise self._full("too_many_in_flight", f"{-free + self._config.max_in_flight} requests already wait.")
            raise self._full("over_share", f"{held} requests of {party} already wait, which is its share.")
        self._requests[party] += 1
        return Place(self, party)

    def leave(self, party: str, size: int) -> None:
        """Give back the place of one request with its bytes."""
        self._requests[party] -= 1
        self._bytes[party] -= size

    def hold(self, party: str, size: int) -> None:
        """Count bytes that a request of a party holds from now on.

        Raises:
            Refusal: 503, the party would hold more than is left; nothing was counted.
        """
        held, free = self._bytes[party] + size, self._config.max_in_flight_bytes - self._bytes.total() - size
        if held > free:
            raise self._full("over_share", f"Requests of {party} already hold their share of memory.", close=True)
        self._bytes[party] += size

    def _full(self, reason: str, message: str, *, close: bool = False) -> Refusal:
        mend = (
            "Send it again after the seconds in Retry-After; gateway.max_in_flight and gateway.max_in_flight_bytes "
            "set what may wait."
        )
        headers = {"retry-after": str(self._config.retry_after)}
        return Refusal(503, reason, message, mend, headers | ({"connection": "close"} if close else {}))


class Place:
    """One request's place in the room."""

    __slots__ = ("_party", "_room", "_size")

    def __init__(self, room: Room, party: str) -> None:
        self._room = room
        self._party = party
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._room.leave(self._party, self._size)

    def hold(self, size: int) -> None:
        """Hold `size` more bytes; fewer where it is negative.

        Raises:
            Refusal: 503, that would be more than the party's share.
        """
        self._room.hold(self._party, size)
        self._size += size
