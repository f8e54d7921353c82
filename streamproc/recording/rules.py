"""What of a recording is redacted, as people name it: `labels.instance`, `annotations.*`, `email`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

from streamproc.core.errors import Unusable

DETECTED = ("email", "ip", "token", "host")
"""What is found in any text: e-mail addresses, IP addresses, secrets of well-known form, host names of addresses."""
DEFAULT = ("email", "ip", "token")
"""What is redacted where nobody says otherwise."""
KEPT = frozenset(f"labels.{name}" for name in ("alertname", "name", "severity", "priority", "level", "service", "job"))
"""What no pattern with `*` takes: how bad it is, what it is, whose it is."""
Kind = Literal["labels", "annotations", "fields"]
KINDS = ("labels", "annotations", "fields")


@dataclass(frozen=True)
class Rules:
    """What is redacted.

    Args:
        patterns: `labels.NAME`, `annotations.NAME`, `fields.NAME`, with `*` and `?`.
        kept: the same, for what stays although a pattern takes it.
        detected: which of `DETECTED`.
    """

    patterns: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    detected: frozenset[str] = frozenset(DEFAULT)

    @classmethod
    def of(cls, redact: Iterable[str], keep: Iterable[str]) -> Rules:
        """Return the rules that people wrote; several may stand in one text, with commas between.

        Raises:
            Unusable: one of them is none.
        """
        wanted, unwanted = tuple(_parts(redact)), tuple(_parts(keep))
        detected = {*DEFAULT, *(one for one in wanted if one in DETECTED)} - set(unwanted)
        patterns = tuple(one for one in wanted if one not in DETECTED)
        kept = tuple(one for one in unwanted if one not in DETECTED)
        return cls(patterns, kept, frozenset(detected))

    def takes(self, kind: Kind, name: str) -> bool:
        """Return whether a label, an annotation, or another field of a body is redacted as a whole."""
        return _takes(self.patterns, self.kept, f"{kind}.{name}")


@lru_cache(maxsize=4096)
def _takes(patterns: tuple[str, ...], kept: tuple[str, ...], name: str) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in kept):
        return False
    return any(name == pattern or (name not in KEPT and fnmatchcase(name, pattern)) for pattern in patterns)


def _parts(given: Iterable[str]) -> Iterable[str]:
    for one in (part.strip() for text in given for part in text.split(",")):
        kind, dot, name = one.partition(".")
        if one in DETECTED or (kind in KINDS and dot and name):
            yield one
        elif one:
            raise Unusable(
                f"{one!r} names nothing that can be redacted; write labels.NAME, annotations.NAME or fields.NAME "
                f"(with * for any), or one of {', '.join(DETECTED)}"
            )
