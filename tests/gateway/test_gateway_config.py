"""Settings of the gateway, and where it may listen."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from streamproc.core.errors import Unusable
from streamproc.gateway.config import GatewayConfig, check_binding, hash_token

TOKEN = (hash_token("long and random"),)


def test_unsigned_webhooks_are_taken_on_loopback_only() -> None:
    check_binding(GatewayConfig(webhook_validation=False))
    with pytest.raises(Unusable, match=r"bind to 127\.0\.0\.1, or let webhooks be signed"):
        check_binding(GatewayConfig(host="10.0.0.7", ingest_tokens=TOKEN, webhook_validation=False))


def test_a_token_is_kept_as_its_hash() -> None:
    assert hash_token("tökén") == hashlib.sha256("tökén".encode()).hexdigest()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"ingest_tokens": ["plain"]}, id="a token that is no hash"),
        pytest.param({"hots": "127.0.0.1"}, id="an unknown key"),
        pytest.param({"webhook_timeout": 6}, id="longer than PagerDuty waits"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GatewayConfig.model_validate(given)


def test_secrets_are_not_printed() -> None:
    assert "whsec" not in repr(GatewayConfig.model_validate({"webhook_secrets": ["whsec"]}))


@pytest.mark.parametrize(
    ("host", "tokens", "fine"),
    [
        pytest.param("127.0.0.1", (), True, id="loopback"),
        pytest.param("127.8.8.8", (), True, id="all of 127/8"),
        pytest.param("::1", (), True, id="loopback v6"),
        pytest.param("localhost", (), True, id="localhost"),
        pytest.param("0.0.0.0", (), False, id="every address"),  # noqa: S104  that is the case
        pytest.param("", (), False, id="empty means every address"),
        pytest.param("10.0.0.7", (), False, id="a private address"),
        pytest.param("gateway.example.com", (), False, id="a name"),
        pytest.param("0.0.0.0", TOKEN, True, id="every address, with a token"),  # noqa: S104  that is the case
    ],
)
def test_without_tokens_only_loopback(host: str, tokens: tuple[str, ...], *, fine: bool) -> None:
    config = GatewayConfig(host=host, ingest_tokens=tokens)
    if fine:
        check_binding(config)
    else:
        with pytest.raises(Unusable, match="ingest_tokens"):
            check_binding(config)
