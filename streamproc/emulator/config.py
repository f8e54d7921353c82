"""How the emulator behaves."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class EmulatorConfig(BaseModel):
    """Settings of one emulator."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rate_limit: int | None = Field(default=None, ge=1)
    """Requests a minute that one routing key may send, then 429; None for no limit. PagerDuty's is about 120."""
    api_key: str = ""
    """The key that the REST API takes; any where empty."""
    rest_rate_limit: int = Field(default=960, ge=1)
    """Requests a minute to the REST API for each API key, then 429."""
    record: Path | None = None
    """File that every accepted event is appended to, one JSON object a line, before it is answered."""
    webhook_url: str = ""
    """Where webhooks are sent; empty for none."""
    webhook_secret: str = ""
    """Key of their signatures."""
    webhook_attempts: int = Field(default=8, ge=1)
    """Attempts for one webhook before it is dropped (PagerDuty goes on for 48 h)."""
    webhook_backoff: float = Field(default=0.5, ge=0.0)
    """Seconds before the second attempt; doubled for each further one, at most 30."""
    keep_requests: int = Field(default=200_000, ge=1)
    """Requests that are remembered; older ones are forgotten. Alerts and incidents are kept until a reset."""
