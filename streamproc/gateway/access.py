"""Who may come in: bearer tokens, kept as hashes, and no web page of somebody else."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from streamproc.gateway.config import GatewayConfig
from streamproc.gateway.refusal import Refusal

SCHEME = "token"
"""Name of the security scheme in OpenAPI."""
LOCAL_NAMES = ("localhost", "internal", "local", "lan", "test", "home.arpa")
"""Last parts of names that nobody can register: a foreign site cannot point one of them here."""
_CHALLENGE = {"www-authenticate": 'Basic realm="streamproc", Bearer realm="streamproc"'}
_MEND = (
    "Send `Authorization: Bearer TOKEN` with a token whose SHA-256 stands in gateway.ingest_tokens; where a sender "
    "knows Basic authentication only, the token is the password and any user name will do."
)


class Keys:
    """The tokens and signing secrets that count; `renew` makes others count from the next request on."""

    def __init__(self, config: GatewayConfig) -> None:
        self.tokens: tuple[bytes, ...] = ()
        self.secrets: tuple[bytes, ...] = ()
        self.renew(config)

    def renew(self, config: GatewayConfig) -> bool:
        """Take over the tokens and secrets of newer settings, nothing else of them; return whether they are others."""
        before = self.tokens, self.secrets
        self.tokens = tuple(text.encode() for text in config.ingest_tokens)
        self.secrets = tuple(secret.get_secret_value().encode() for secret in config.webhook_secrets)
        return (self.tokens, self.secrets) != before


class Gate(SecurityBase):
    """Lets a request in or refuses it; also the FastAPI dependency of the operations API.

    Tokens never come in the query: addresses end up in logs. Without configured tokens everybody on this machine may
    come in, so two tricks of foreign web pages in a local browser are refused: posting across sites, and a public
    name that was pointed at loopback.
    """

    def __init__(self, keys: Keys) -> None:
        self.model = HTTPBearer(
            description="A token whose SHA-256 is configured; or Basic authentication with it as the password. "
            "Not needed while no token is configured."
        )
        self.scheme_name = SCHEME
        self._keys = keys

    async def __call__(self, request: Request) -> None:
        """Let a request in.

        Raises:
            Refusal: 401 for a missing or wrong token, 403 for a web page of another site.
        """
        self.admit(request.method, dict(request.scope["headers"]))

    def admit(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Let a request in, from its method and headers alone.

        Raises:
            Refusal: 401 for a missing or wrong token, 403 for a web page of another site.
        """
        if self._keys.tokens:
            self._refuse_pages(method, headers)
            self._check(headers.get(b"authorization", b""))
        else:
            self.admit_local(method, headers)

    def admit_local(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Let a request of a program on this machine in, whatever tokens there are.

        Raises:
            Refusal: 403 for a web page of another site.
        """
        self._refuse_pages(method, headers)
        if not _local(headers.get(b"host", b"")):
            message = "The Host header is a public name, but no token is configured, so only this machine may come in."
            raise Refusal(
                403, "public_host", message, "Use localhost or an address, or configure gateway.ingest_tokens."
            )

    def _refuse_pages(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        if method not in {"GET", "HEAD"} and _foreign(headers):
            message = "A web page of another site sent this request."
            raise Refusal(403, "cross_site", message, "Send it from a program, or from this gateway's own pages.")

    def _check(self, authorization: bytes) -> None:
        if not authorization:
            raise Refusal(401, "unauthorized", "The request has no token.", _MEND, _CHALLENGE)
        offered = hashlib.sha256(_token(authorization)).hexdigest().encode()
        known = False
        for stored in self._keys.tokens:
            known |= hmac.compare_digest(stored, offered)
        if not known:
            raise Refusal(401, "unauthorized", "The token is not one that may come in.", _MEND, _CHALLENGE)


def _token(authorization: bytes) -> bytes:
    scheme, _, given = authorization.partition(b" ")
    given = given.strip()
    if scheme.lower() == b"bearer":
        return given
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _foreign(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser says that a page of another site is behind the request; programs say nothing."""
    if headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"//")[2].lower() != headers.get(b"host", b"").lower()


@lru_cache(maxsize=64)
def _local(host: bytes) -> bool:
    """Return whether a Host header is an address, or a name that no foreign site can own."""
    try:
        name = urlsplit("//" + host.decode("latin-1")).hostname or ""
    except ValueError:
        return False
    if "." not in name or name.endswith(tuple(f".{last}" for last in LOCAL_NAMES)):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
