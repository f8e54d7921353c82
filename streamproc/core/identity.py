"""Identities: typed, versioned, independent of wording, wall clock and order of arrival."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote

PLAIN_HEX = re.compile(r"[0-9a-f]{8,64}")
SCOPE_PART = 48
"""Longest component of a scope; a longer one is cut and closed with a hash, so that ids stay under 255 characters."""


def digest(*parts: str) -> str:
    """Return the SHA-256 of `parts` with explicit lengths, so that "ab" + "c" differs from "a" + "bc"."""
    raw = [part.encode("utf-8", "surrogatepass") for part in parts]
    return hashlib.sha256(b"".join([b"%d:%b" % (len(each), each) for each in raw])).hexdigest()


def fingerprint(source: str, labels: Mapping[str, str]) -> str:
    """Return the fingerprint of a label set: `fp:v1:<32 hex>`. Order and wording elsewhere do not matter."""
    flat = [part for name in sorted(labels) for part in (name, labels[name])]
    return f"fp:v1:{digest(source, *flat)[:32]}"


def given_fingerprint(source: str, text: str) -> str:
    """Return the fingerprint for one that the producer itself states: kept verbatim where it is plain hex."""
    plain = text.lower()
    if PLAIN_HEX.fullmatch(plain):
        return f"fp:v1:{plain}"
    return f"fp:v1:{digest(source, text)[:32]}"


def scope(*parts: str) -> str:
    """Return a scope from its components, percent-quoted and joined with ":" (`prod:eu-1`); an empty one is "-"."""
    return ":".join(_part(part) for part in parts)


def _part(text: str) -> str:
    quoted = quote(text, safe="") or "-"
    if len(quoted) <= SCOPE_PART:
        return quoted
    return f"{quoted[: SCOPE_PART - 9].rstrip('%')}~{digest(text)[:8]}"


def incident_id(scope_: str, member: str, starts: str) -> str:
    """Return the id of the incident that `member` opens; it carries the scope: `in:v1:<scope>:<16 hex>`."""
    return f"in:v1:{scope_}:{digest(scope_, member, starts)[:16]}"


SUFFIX = re.compile(r"/(2|critical|error|warning)$")
"""What a dedup key may carry after the incident id: the second destination, or growth after an acknowledgement."""


def incident_of(dedup_key: str) -> str:
    """Return the incident id that a dedup key names, empty where it is none of ours."""
    incident = SUFFIX.sub("", dedup_key)
    return "" if scope_of(incident) is None else incident


def scope_of(incident: str) -> str | None:
    """Return the scope that an incident id carries, or None where the text is no incident id."""
    parts = incident.split(":")
    if len(parts) < 4 or parts[:2] != ["in", "v1"]:  # noqa: PLR2004  prefix, scope, hash
        return None
    return ":".join(parts[2:-1])
