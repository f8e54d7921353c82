"""Matchers as people write them for Alertmanager: `service="checkout"`, `alertname=~"Node.*"`, `env!=dev`."""

from __future__ import annotations

import re
from typing import Literal, cast

from streamproc.core.errors import Unusable
from streamproc.events.feedback import Matcher

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PLAIN_VALUE = r"""[^\s{}!=~,\\"'`]*"""
_FORM = re.compile(
    rf"\s*(?P<name>{_QUOTED}|[a-zA-Z_:][a-zA-Z0-9_:.\-/]*)\s*(?P<op>=~|!~|!=|=)\s*(?P<value>{_QUOTED}|{_PLAIN_VALUE})\s*"
)
_ESCAPES = {"n": "\n"}
Op = Literal["=", "!=", "=~", "!~"]


def parse(text: str) -> Matcher:
    """Return the matcher that a person wrote.

    Raises:
        Unusable: it is none, or its regular expression does not compile.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise Unusable(f"""{text!r} is no matcher; write for example 'service="checkout"' or 'alertname=~"Node.*"'""")
    matcher = Matcher(name=_plain(form["name"]), op=cast("Op", form["op"]), value=_plain(form["value"]))
    if matcher.op in ("=~", "!~"):
        try:
            re.compile(matcher.value)
        except re.error as error:
            raise Unusable(f"{text!r}: the regular expression does not compile: {error}") from None
    return matcher


def written(matcher: Matcher) -> str:
    """Return a matcher as `parse` reads it."""
    value = matcher.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{matcher.name}{matcher.op}"{value}"'


def _plain(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), text[1:-1])
