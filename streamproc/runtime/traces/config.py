"""Where spans go, and of how much."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from streamproc.core.step import StageConfig

PATH = "/v1/traces"


class Config(StageConfig):
    """Traces by OpenTelemetry; none are made where no endpoint is set."""

    endpoint: str | None = None
    """Base address of a collector, or of Jaeger, that takes OTLP over HTTP, for example `http://127.0.0.1:4318`; spans
    are posted to `/v1/traces` there. Credentials, timeouts and certificates: OpenTelemetry's own variables, such as
    OTEL_EXPORTER_OTLP_HEADERS."""
    ratio: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the webhooks without a `traceparent` of their own of which a trace is made. A webhook that brings one is
    traced if its sender says so."""
    queue: int = Field(default=8192, ge=1)
    """Spans that may wait for the collector; what comes on top is dropped, and counted."""

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, given: str | None) -> str | None:
        if given is None or not given.strip():
            return None
        base = given.strip().rstrip("/").removesuffix(PATH)
        try:
            parts = urlsplit(base)
            known = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            known = False
        if not known or parts.query or parts.fragment:
            raise ValueError("not the address of a collector; give for example http://127.0.0.1:4318")
        return base
