"""How PagerDuty's Events API is reached."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

US_EVENTS = "https://events.pagerduty.com"
EU_EVENTS = "https://events.eu.pagerduty.com"

_SUFFIXES = ("/v2/change/enqueue", "/v2/enqueue", "/v2")


class RetryConfig(BaseModel):
    """How often a request is tried before it is left for later."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_attempts: int = Field(default=3, ge=1, le=20)
    """Most attempts in a row for one request; after them it waits its turn again."""
    backoff_factor: float = Field(default=2.0, ge=1.0, le=10.0)
    """Factor by which the pause grows from one attempt to the next; the first is 1 to 2 s, none is over 30 s."""


class ApiConfig(BaseModel):
    """PagerDuty's Events API v2."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base_url: str = US_EVENTS
    """Where events are sent: `https://events.pagerduty.com` (US) or `https://events.eu.pagerduty.com` (EU). The full
    address ending in /v2/enqueue is taken too."""
    version: Literal["v2"] = "v2"
    """Version of the Events API."""
    timeout: float = Field(default=10.0, gt=0.0, le=120.0)
    """Seconds after which an attempt without an answer is given up."""
    retry_config: RetryConfig = RetryConfig()
    """How often a request is tried before it is left for later."""

    @field_validator("base_url")
    @classmethod
    def _base(cls, given: str) -> str:
        base = given.strip().rstrip("/")
        for suffix in _SUFFIXES:
            base = base.removesuffix(suffix)
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"not the address of an Events API; give for example {US_EVENTS} or {EU_EVENTS}")
        return base
