"""Clean and cut text and details, so that what is left is valid JSON and says what is gone. Pure."""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from streamproc.core.event import Scalar

Detail = Scalar | list[str]

LEAST = 256
"""Bytes of JSON that a cut detail keeps at least; room for the mark that says it was cut."""

_UNREADABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_INTEGER_BITS = 64


def dump(value: Any) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def size(value: Any) -> int:
    """Return the bytes of `value` as JSON."""
    return len(dump(value))


def clean(text: str) -> str:
    """Return `text` with control characters (but tab and line feed) and lone surrogates replaced by U+FFFD."""
    return _UNREADABLE.sub("\ufffd", text.replace("\r\n", "\n"))


def shorten(text: str, most: int) -> str:
    """Return at most `most` characters of `text`; the last is an ellipsis where some are gone."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def plain(value: Detail) -> Detail:
    """Return a detail that any JSON reader takes: clean text, finite floats, integers of at most 64 bits."""
    match value:
        case str():
            return clean(value)
        case list():
            return [clean(entry) for entry in value]
        case float() if not math.isfinite(value):
            return str(value)
        case int() if value.bit_length() > _INTEGER_BITS:
            return hex(value)
        case _:
            return value


def fit(details: Mapping[str, Detail], room: int) -> tuple[dict[str, Detail], list[str]]:
    """Cut plain details to `room` bytes of JSON, the longest first, all that are cut to one common length.

    Where even the least of each is too much, later details are left out.

    Returns:
        The details that are left, in order, and for each that lost something a note that says so.
    """
    names = {name: size(name) + 2 for name in details}
    sizes = {name: size(value) for name, value in details.items()}
    if sum(names.values()) + sum(sizes.values()) <= room:
        return dict(details), []
    kept: list[str] = []
    left = room
    for name in details:
        least = names[name] + min(sizes[name], LEAST)
        if least <= left:
            kept.append(name)
            left -= least

    def needed(length: int) -> int:
        return sum(names[name] + min(sizes[name], length) for name in kept)

    common = LEAST + bisect.bisect_right(range(LEAST, max(room, LEAST) + 1), room, key=needed) - 1
    fitted: dict[str, Detail] = {}
    notes: list[str] = []
    for name in kept:
        value = details[name]
        if sizes[name] > common and isinstance(value, str | list):
            fitted[name] = cut(value, common)
            notes.append(f"{shorten(name, 60)}: cut, {len(value):,} {_unit(value)} in all")
        else:
            fitted[name] = value
    gone = [name for name in details if name not in fitted]
    if gone:
        notes.append(f"{len(gone):,} details left out: {shorten(', '.join(gone), 500)}")
    return fitted, notes


def cut(value: str | list[str], most: int) -> str | list[str]:
    """Return the beginning of a text, or of a list of texts, in at most `most` (>= `LEAST`) bytes of JSON."""
    mark = f"… [cut: {len(value):,} {_unit(value)} in all]"
    if isinstance(value, str):
        text = value[:most]
        return text[: _longest(len(text), most, lambda n: text[:n] + mark)] + mark
    count = _longest(len(value), most, lambda n: [*value[:n], mark])
    if count == 0:
        head = cut(value[0], most - size([mark]) - 1)
        return [str(head), mark]
    return [*value[:count], mark]


def unique(names: Iterable[tuple[str, Detail]], taken: Iterable[str], most: int) -> dict[str, Detail]:
    """Return details under clean names of at most about `most` characters, none of them one that is taken."""
    reserved = set(taken)
    named: dict[str, Detail] = {}
    for name, value in names:
        free = shorten(clean(name), most)
        while free in reserved or free in named:
            free += "_"
        named[free] = plain(value)
    return named


def _longest(length: int, most: int, build: Any) -> int:
    return max(0, bisect.bisect_right(range(length + 1), most, key=lambda n: size(build(n))) - 1)


def _unit(value: str | list[str]) -> str:
    return "characters" if isinstance(value, str) else "entries"
