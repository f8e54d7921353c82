"""Pseudonyms: the same for the same value and key, another for any other, and of no use without the key. Pure.

HMAC-SHA-256 (RFC 2104), cut to 64 bits: among a million values two are one with a chance of 1 in 37 million.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import quote

PREFIX = "px-"
HEX = 16
LEAST_KEY = 16
"""Bytes that a key has at least."""
SHORTEST = 3
"""A value of fewer characters is not looked for in other texts: it would be found everywhere."""
_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9A-Fa-f:]*\d)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])"
)
_DASHED = re.compile(r"(?<=ip-)(?:\d{1,3}-){3}\d{1,3}(?!\d)")
"""As AWS names machines: ip-10-0-0-1."""
_TOKEN = re.compile(
    r"""(?x)
    (?<![A-Za-z0-9])(?:
      gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,} | glpat-[\w-]{16,}
    | xox[abeoprs]-[\w-]{10,} | (?:AKIA|ASIA)[A-Z0-9]{16}
    | sk-[\w-]{20,} | sk_live_\w{16,} | AIza[\w-]{30,} | npm_\w{30,} | pypi-[\w-]{30,} | hvs\.[\w-]{20,}
    | eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?
    | [A-Fa-f0-9]{40,} | [A-Fa-f0-9]{32}
    )(?![A-Za-z0-9])
    | (?<=hooks\.slack\.com/services/)[\w/]+
    """
)
"""Secrets that say what they are: of GitHub, GitLab, Slack, AWS, OpenAI, Stripe, Google, npm, PyPI, Vault; JWTs; and
hexadecimal keys of 128 bits and more, as PagerDuty's and Datadog's are."""
_SECRET = re.compile(
    r"(?i)((?:\b|[_?&])(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|token|routing[_-]?key|sig|signature)"
    r"\s*[=:]\s*\"?|\b(?:bearer|basic)\s+)([^\s\"'&,;<>]{4,})"
)
"""A secret that is named: `password=...`, `Authorization: Bearer ...`."""
_USERINFO = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)")
_HOST = re.compile(r"(?<=://)(?:[^/\s@?#]*@)?([A-Za-z0-9][A-Za-z0-9.-]*)")
_MATCHER = re.compile(r"(?<![\w.])([A-Za-z_][\w./-]*)(=~|!~|!=|=|:(?!//))(\"(?:[^\"\\]|\\.)*\"|[^\s,;)}\]\"]+)")
"""`name="value"` of group keys and expressions, `name:value` of tags."""
_BEGINS = r"(?:(?<=%[0-9A-Fa-f]{2})|(?<![A-Za-z0-9]))"
"""A value stands for itself where no letter or digit is before it, or an escape of an address."""
_PORT = re.compile(r"(?P<host>.+):(?P<port>\d{1,5})")
_MADE = re.compile(rf"{PREFIX}[0-9a-f]{{{HEX}}}(?:@example\.invalid)?")


class Pseudonyms:
    """Makes pseudonyms with one key.

    Args:
        key: a secret of at least `LEAST_KEY` bytes; it stands in no output.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def digest(self, value: str) -> str:
        """Return 16 hex digits that stand for a value."""
        return hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:HEX]

    def of(self, value: str) -> str:
        """Return the pseudonym of a value, in its shape: an e-mail address stays one, a port stays; nothing stays."""
        if not value or _MADE.fullmatch(value):
            return value
        if _EMAIL.fullmatch(value):
            return f"{PREFIX}{self.digest(value)}@example.invalid"
        port = _PORT.fullmatch(value)
        if port is not None and not _is_ip(value):
            return f"{self.of(port['host'].strip('[]'))}:{port['port']}"
        return f"{PREFIX}{self.digest(value)}"

    def in_text(self, text: str, detected: frozenset[str], takes: Callable[[str], bool]) -> str:
        """Return a text without what can be told to be private by itself, whatever else is known.

        Args:
            text: any.
            detected: `email`, `ip`, `token`, `host`.
            takes: whether the label of a `name="value"` or `name:value` within is redacted.
        """
        text = _MATCHER.sub(lambda found: self._matcher(found, takes), text)
        if "token" in detected:
            text = _USERINFO.sub(self._whole, text)
            text = _SECRET.sub(lambda found: found[1] + self.of(found[2]), text)
            text = _TOKEN.sub(self._whole, text)
        if "email" in detected:
            text = _EMAIL.sub(self._whole, text)
        if "ip" in detected:
            text = _IPV4.sub(self._address, text)
            text = _IPV6.sub(self._address, text)
            text = _DASHED.sub(lambda found: self.of(found[0].replace("-", ".")), text)
        if "host" in detected:
            text = _HOST.sub(lambda found: found[0].removesuffix(found[1]) + self.of(found[1]), text)
        return text

    def known(self, text: str, values: dict[str, str]) -> str:
        """Return a text without some values, also as they stand in an address; longer ones first."""
        for value, pseudonym in sorted(values.items(), key=lambda each: (-len(each[0]), each[0])):
            for form in dict.fromkeys((value, quote(value, safe=""))):
                if form in text:
                    text = re.sub(rf"{_BEGINS}{re.escape(form)}(?![A-Za-z0-9])", pseudonym, text)
        return text

    def _whole(self, found: re.Match[str]) -> str:
        return self.of(found[0])

    def _address(self, found: re.Match[str]) -> str:
        return self.of(found[0]) if _is_ip(found[0]) else found[0]

    def _matcher(self, found: re.Match[str], takes: Callable[[str], bool]) -> str:
        name, op, value = found.groups()
        if not takes(name) or (op == ":" and value[0] in "\"'"):
            return found[0]
        if value.startswith('"'):
            return f'{name}{op}"{self.of(value[1:-1])}"'
        return f"{name}{op}{self.of(value)}"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
