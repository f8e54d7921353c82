"""How PagerDuty's Events API and its REST API are reached."""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

US_EVENTS = "https://events.pagerduty.com"
EU_EVENTS = "https://events.eu.pagerduty.com"
US_REST = "https://api.pagerduty.com"
EU_REST = "https://api.eu.pagerduty.com"

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


class RestConfig(BaseModel):
    """PagerDuty's REST API v2: what people did there, and what the account holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    base_url: str = US_REST
    """Where it is asked: `https://api.pagerduty.com` (US) or `https://api.eu.pagerduty.com` (EU). Plain http:// is
    taken for this machine only: the key goes with every request."""
    api_key: SecretStr = SecretStr("")
    """An API access key; empty where the REST API is not used."""
    from_email: str = ""
    """Email address of the PagerDuty user in whose name incidents are changed and noted; a key of the account (not of a
    user) needs it."""
    timeout: float = Field(default=10.0, gt=0.0, le=120.0)
    """Seconds after which an attempt without an answer is given up."""
    requests_per_minute: int = Field(default=480, ge=10, le=960)
    """Requests a minute at most. PagerDuty takes 960 for each key or user: the rest is for whatever else uses it."""
    retry_config: RetryConfig = RetryConfig()
    """How often a request is tried."""

    @field_validator("base_url")
    @classmethod
    def _base(cls, given: str) -> str:
        base = given.strip().rstrip("/")
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"not the address of a REST API; give for example {US_REST} or {EU_REST}")
        if parts.scheme == "http" and not is_local(parts.hostname):
            raise ValueError("the API key would go out unencrypted: use https://")
        return base


def is_local(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
