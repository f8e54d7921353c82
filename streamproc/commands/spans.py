"""Spans and moments as people write them: `2h`, `1h30m`, `2026-12-24T18:00`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from streamproc.core.errors import Unusable

_SIZES = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_FORM = re.compile(r"(?:\d+[wdhms])+")


def span(text: str) -> timedelta:
    """Return the span that a person wrote: a number and w, d, h, m or s, as often as wanted.

    Raises:
        Unusable: it is none, or is nothing.
    """
    seconds = 0
    if _FORM.fullmatch(text.strip()):
        seconds = sum(int(number) * _SIZES[unit] for number, unit in re.findall(r"(\d+)([wdhms])", text))
    if not 0 < seconds <= _SIZES["w"] * 520:
        raise Unusable(f"{text!r} is no span of time; write for example 30m, 2h or 1d12h")
    return timedelta(seconds=seconds)


def moment(text: str) -> datetime:
    """Return the moment that a person wrote in ISO 8601; without an offset it is UTC.

    Raises:
        Unusable: it is none.
    """
    try:
        given = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Unusable(
            f"{text!r} is no moment; write for example 2026-12-24T18:00+01:00 (without offset: UTC)"
        ) from None
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
