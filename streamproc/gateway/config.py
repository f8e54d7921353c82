"""Settings of the gateway, and what must hold before it listens."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from streamproc.core.errors import Unusable

TokenHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class GatewayConfig(BaseModel):
    """How the gateway listens, whom it lets in and how much it takes at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `ingest_tokens`."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 takes any free one."""
    ingest_tokens: tuple[TokenHash, ...] = ()
    """SHA-256 hashes (hex) of the bearer tokens that may post alerts and use the operations API. Several stand beside
    each other while tokens are rotated. Tokens must be long and random: they are not stretched."""
    webhook_secrets: tuple[SecretStr, ...] = ()
    """Signing secrets of PagerDuty webhook subscriptions; several while they are rotated. Without any, the webhook
    endpoint answers 503, which PagerDuty sends again for 48 hours."""
    webhook_validation: bool = True
    """Whether PagerDuty's webhooks must be signed; unsigned ones are taken from this machine only. Set it as
    `pagerduty.security.webhook_validation`."""
    body_limit: int = Field(default=5_000_000, ge=1_000)
    """Largest body of a request in bytes, also after decompression. On Kafka at most 5,400,000."""
    max_in_flight: int = Field(default=512, ge=1)
    """Requests that may be read or wait for the log at the same time; one more is answered 503 at once. A source may
    have as many as are left free, so half of them alone, and one that floods leaves room for the others."""
    max_in_flight_bytes: int = Field(default=128_000_000, ge=2_000)
    """Bytes that these requests may hold, shared in the same way; at least twice `body_limit`."""
    body_timeout: float = Field(default=10.0, gt=0)
    """Seconds that a body may take to come."""
    append_timeout: float = Field(default=10.0, gt=0)
    """Seconds that an ingest request waits for the log before it is answered 503; Datadog gives up after 15."""
    webhook_timeout: float = Field(default=4.0, gt=0, lt=5)
    """The same for PagerDuty's webhooks: PagerDuty gives up after 5."""
    retry_after: int = Field(default=5, ge=1)
    """Seconds in `Retry-After` of a 503 where the log names no time itself."""

    @model_validator(mode="after")
    def _takes_a_body(self) -> Self:
        if self.max_in_flight_bytes < 2 * self.body_limit:
            message = "max_in_flight_bytes is less than twice body_limit, so the largest body could never come in"
            raise ValueError(message)
        return self


def hash_token(token: str) -> str:
    """Return the form in which a token stands in the settings: the hex SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(token.encode()).hexdigest()


def check_binding(config: GatewayConfig) -> None:
    """Check that a gateway without tokens, or one that takes unsigned webhooks, is reachable from this machine alone.

    Raises:
        Unusable: the host is not loopback, and no token is configured or webhooks need no signature.
    """
    if is_loopback(config.host):
        return
    if not config.webhook_validation:
        raise Unusable(
            f"gateway.host is {config.host or 'every address'!r}, but pagerduty.security.webhook_validation is false, "
            "so anyone could acknowledge incidents: bind to 127.0.0.1, or let webhooks be signed"
        )
    if config.ingest_tokens:
        return
    raise Unusable(
        f"gateway.host is {config.host or 'every address'!r}, but gateway.ingest_tokens is empty, so anyone could post "
        "alerts and read incidents: bind to 127.0.0.1, or put the SHA-256 of a long random token into "
        "gateway.ingest_tokens"
    )


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
