"""What an answer of the Events API means. Pure, total: an answer may be empty, cut or not JSON at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from streamproc.events.escalation import Verdict

_MOST = 500
_OVERLOADED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict and PagerDuty's own words."""

    verdict: Verdict
    message: str
    """At most 500 characters; never empty."""


def verdict(status: int | None, body: bytes) -> Answer:
    """Judge an answer.

    Args:
        status: HTTP status, None where there was no answer.
        body: what came with it.

    Returns:
        2xx is delivered, 4xx but 408 and 429 refused. All else asks to be sent again: 429, 408, 5xx and no answer by
        PagerDuty's table; redirects and other oddities, because they are a proxy's and say nothing of the event.
    """
    if status is None:
        return Answer(Verdict.AGAIN, "no answer")
    message = _words(body) or f"HTTP {status}"
    if status // 100 == HTTPStatus.OK // 100:
        return Answer(Verdict.DELIVERED, message)
    if status // 100 == HTTPStatus.BAD_REQUEST // 100 and status not in _OVERLOADED:
        return Answer(Verdict.REFUSED, message)
    return Answer(Verdict.AGAIN, message)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a Retry-After header asks to wait (RFC 9110, 10.2.3), None where it says nothing.

    Args:
        header: whole seconds, or an HTTP date.
        now: the moment of the answer, with an offset.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


def _words(body: bytes) -> str:
    raw = body.decode("utf-8", "replace").strip()
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return raw[:_MOST]
    if not isinstance(answer, dict) or not isinstance(message := answer.get("message"), str):
        return raw[:_MOST]
    errors = answer.get("errors")
    given = [str(error) for error in errors] if isinstance(errors, list) else []
    return f"{message}: {'; '.join(given)}"[:_MOST] if given else message[:_MOST]
