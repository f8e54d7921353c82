"""Valid payloads made hostile: one generator, driven by hypothesis in tests and by plain `random` in the long run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

RAW = {
    "@@infinite@@": "1e400",
    "@@nan@@": "NaN",
    "@@huge@@": "9" * 400,
    "@@minus@@": "-0",
    "@@exact@@": "12345678901234567890.123456789",
}
"""Texts that are written as bare tokens, which no Python value stands for."""
MOMENTS = (
    *("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2031-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"),
    *("0001-01-01T00:00:00+23:59", "2026-02-30T00:00:00Z", "2026-01-01", "20260101T000000Z", "2026-W01-1", "24:00"),
    *(0, -1, -(10**12), 1767225600, 1767225600000, 10**17, 2**63, 1.5e300, -0.5, "9" * 5000, "٣", "²"),
)
WORDS = (
    *(
        "",
        " ",
        "\0",
        "\x1b[31m",
        "\ud800",
        "\udfff\ud800",
        "\u202e",
        "null",
        "true",
        "é" * 300,
        "\U0001d518",
        "\r\n",
        "{{",
        "%s%n",
    ),
    *(
        "resolved",
        "firing",
        "OK",
        "Warn",
        "$ALERT_CYCLE_KEY",
        "$TAGS[x]",
        "[TEST] [P1] [Triggered on {host:a}] ",
        "[P1]",
    ),
    *(
        "javascript:alert(1)",
        "https://" + "a" * 5000,
        "in:v1:a:b:0",
        "in:v1:::",
        "arm",
        "fp:v1:00",
        "sev1",
        ":",
        ",,,",
        "a:b:c",
    ),
    *(
        "/monitors/1",
        "/monitors#" + "9" * 60,
        "=~",
        "(a+)+$",
        "a{9999999999999}",
        "[[",
        "(?P<x",
        "__class__",
        "!!python/x",
    ),
)
NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 0.1, 1e308, 5e-324, True, False, None)
BATTERY: tuple[Any, ...] = (*MOMENTS, *WORDS, *NUMBERS, *RAW, [], {}, [None], [[]], {"": ""}, {"a": {"b": 1}})


def hostile(rng: Random) -> Any:
    """Return something that should not stand anywhere."""
    choice = rng.randrange(64)
    if choice == 0:
        return _nested(rng.choice((50, 240, 260, 900)))
    if choice == 1:
        return "x" * rng.choice((300, 1025, 8193, 70_000))
    if choice == 2:
        return {f"label{n}": "v" for n in range(rng.choice((65, 300)))}
    if choice == 3:
        return [rng.choice(BATTERY) for _ in range(rng.choice((3, 120)))]
    return rng.choice(BATTERY)


def mutated(rng: Random, seed: Any, most: int = 4) -> Any:
    """Return a copy of a JSON value with up to `most` hostile changes; unchanged parts are shared."""
    value = seed
    for _ in range(rng.randrange(most + 1)):
        value = _changed(rng, value)
    return value


def _changed(rng: Random, value: Any) -> Any:
    """Change one place of a value: a branch is gone down with a probability, so that every depth is reached."""
    if isinstance(value, dict) and value and rng.randrange(6):
        key = rng.choice(tuple(value))
        act = rng.randrange(10)
        if act == 0:
            return {name: inner for name, inner in value.items() if name != key}
        if act == 1:
            return {(str(rng.choice(WORDS)) if name == key else name): inner for name, inner in value.items()}
        if act == 2:
            return {**value, str(rng.choice((*WORDS, key.upper()))): hostile(rng)}
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.randrange(6):
        at = rng.randrange(len(value))
        act = rng.randrange(8)
        if act == 0:
            return value[:at] + value[at + 1 :]
        if act == 1:
            return value + value[at : at + 1] * rng.choice((1, 130))
        if act == 2:
            return [*value, hostile(rng)]
        return [*value[:at], _changed(rng, value[at]), *value[at + 1 :]]
    if isinstance(value, str) and value and rng.randrange(3) == 0:
        at = rng.randrange(len(value) + 1)
        return value[:at] + str(rng.choice(WORDS)) + value[at:]
    return hostile(rng)


def _nested(depth: int) -> Any:
    value: Any = 1
    for at in range(depth):
        value = [value] if at % 2 else {"a": value}
    return value


def written(rng: Random, value: Any) -> bytes:
    """Return a value as bytes: mostly as JSON, at times with what JSON does not allow, torn or spoilt."""
    text = json.dumps(value, ensure_ascii=bool(rng.randrange(2)))
    for mark, token in RAW.items():
        text = text.replace(f'"{mark}"', token)
    raw = text.encode("utf-8", "surrogatepass")
    act = rng.randrange(24)
    if act < len(_SPOILS):
        at = rng.randrange(len(raw) + 1)
        return _SPOILS[act](raw, at)
    return raw


_SPOILS: tuple[Callable[[bytes, int], bytes], ...] = (
    lambda raw, at: raw[:at],
    lambda raw, at: raw[at:],
    lambda raw, at: raw[:at] + bytes([at % 256]) + raw[at + 1 :],
    lambda raw, at: b"\xef\xbb\xbf" + raw,
    lambda raw, at: raw[:1] + b'"status":"firing","status":7,"labels":{},"alerts":null,' + raw[1:],
    lambda raw, at: raw + raw[:at],
    lambda raw, at: raw[:at] + b"\xff\xfe\x00" + raw[at:],
)


def payload(rng: Random, seeds: Sequence[Any]) -> bytes:
    """Return hostile bytes that began as one of the seeds."""
    return written(rng, mutated(rng, rng.choice(seeds)))


def sentence(rng: Random, seeds: Sequence[str]) -> str:
    """Return a hostile text that began as one of the seeds."""
    text = rng.choice(seeds)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(text) + 1)
        act = rng.randrange(4)
        if act == 0:
            text = text[:at] + str(rng.choice(WORDS)) + text[at:]
        elif act == 1:
            text = text[:at] + text[min(len(text), at + rng.randrange(1, 6)) :]
        elif act == 2:
            text = text + text[at:]
        else:
            text = text[:at] + rng.choice("\"'\\{}[]()=!~:-&*#|>%@`,\n\t ") + text[at:]
    return text
