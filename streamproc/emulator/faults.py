"""Faults on demand: which request fails, and how."""

from __future__ import annotations

import random
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class FaultKind(StrEnum):
    """How a request fails."""

    STATUS_500 = "status_500"
    """Not taken; answered with 500."""
    STATUS_429 = "status_429"
    """Not taken; answered with 429."""
    STALL = "stall"
    """Not taken; no answer for `seconds`, then the connection is closed."""
    SLOW = "slow"
    """Taken, and answered only after `seconds`."""
    DROP_BEFORE = "drop_before"
    """Not taken; the connection is closed without an answer."""
    DROP_AFTER = "drop_after"
    """Taken; the connection is closed without an answer, so that the sender cannot know."""
    SWALLOW = "swallow"
    """Answered as if it were taken, and nothing comes of it. Of the Events API alone."""


class Fault(BaseModel):
    """A fault that was asked for. It meets requests until its count is used up or faults are cleared."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    kind: FaultKind
    """How the requests fail."""
    count: int | None = Field(default=None, ge=1)
    """How many requests fail; None for all."""
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the matching requests that fail."""
    seed: int = 0
    """Of the draw, so that a run can be repeated."""
    routing_key: str | None = None
    """Only requests with this routing key."""
    action: str | None = None
    """Only requests with this action: trigger, acknowledge, resolve, change, or rest for those to the REST API."""
    seconds: float = Field(default=30.0, ge=0.0)
    """How long a stall lasts, or a slow answer takes."""
    retry_after: str | None = None
    """Retry-After header of a 429 or 500."""
    hits: int = 0
    """How many requests failed by it."""


class Faults:
    """The faults in force, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, random.Random]] = []

    @property
    def all(self) -> list[Fault]:
        """Every fault asked for since the last clearing, used up or not."""
        return [fault for fault, _ in self._armed]

    def add(self, fault: Fault) -> None:
        """Put a fault in force."""
        self._armed.append((fault, random.Random(fault.seed)))  # noqa: S311  a repeatable draw, no secret

    def clear(self) -> None:
        """End all faults."""
        self._armed.clear()

    def pick(self, routing_key: str, action: str) -> Fault | None:
        """Return the first fault that meets a request, and count it; None where it passes."""
        for fault, draw in self._armed:
            if fault.count is not None and fault.hits >= fault.count:
                continue
            if fault.routing_key not in (None, routing_key) or fault.action not in (None, action):
                continue
            if draw.random() < fault.probability:
                fault.hits += 1
                return fault
        return None
