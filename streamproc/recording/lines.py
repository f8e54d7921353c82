"""A raw request -> the line of a recording, as `backtest --input` reads it. Pure."""

from __future__ import annotations

from datetime import datetime

import orjson

from streamproc.core.record import Record


def line_of(at: datetime, source: str, body: bytes) -> bytes:
    """Return the line of a request, without its end.

    Args:
        at: when it came in.
        source: `alertmanager`, `datadog` or `generic`; empty where nobody said.
        body: as posted. One that is no JSON is kept as text.
    """
    moment = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    told = {"at": moment, "source": source} if source else {"at": moment}
    try:
        return orjson.dumps({**told, "body": orjson.Fragment(_checked(body))})
    except orjson.JSONDecodeError:
        return orjson.dumps({**told, "body": body.decode(errors="replace")})


def recorded(record: Record) -> bytes:
    """Return the line of a record of `alerts.raw`."""
    return line_of(record.now, record.headers.get("source", b"").decode("ascii", "replace"), record.value)


def _checked(body: bytes) -> bytes:
    """Return a body as one line of JSON."""
    return orjson.dumps(orjson.loads(body))
