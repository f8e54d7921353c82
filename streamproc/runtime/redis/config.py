"""How to reach Redis."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from streamproc.core.step import StageConfig

SCHEMES = ("redis://", "rediss://", "unix://")


class Config(StageConfig):
    """Redis."""

    url: SecretStr | None = None
    """`redis://user:password@host:6379/0`, `rediss://` with TLS, `unix:///path`; no Redis is used where none is set."""
    prefix: str = Field(default="streamproc", pattern=r"^[A-Za-z0-9._-]+$")
    """Stands before the name of every key, for several installations on one server. What shares one PagerDuty account
    must share it too."""
    timeout: float = Field(default=0.2, gt=0.0, le=5.0)
    """Seconds that an answer may take; then Redis is left alone for some seconds."""
    tls_ca: Path | None = None
    """Authorities that the server's certificate is checked against; the system's where none is set."""

    @field_validator("url")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(SCHEMES):
            raise ValueError(f"an address of Redis begins with {', '.join(SCHEMES)}")
        return url
