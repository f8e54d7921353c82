"""Matchers as people write them for Alertmanager: `service="checkout"`, `alertname=~"Node.*"`, `env!=dev`.

Regular expressions are RE2's, as Alertmanager's are: it matches in time linear in the text, whatever the expression, so
nobody can stop the pipeline with one that backtracks. It has no backreferences and no look-around.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, cast

import re2  # type: ignore[import-untyped]

from streamproc.core.errors import Unusable
from streamproc.events.feedback import Matcher

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PLAIN_VALUE = r"""[^\s{}!=~,\\"'`]*"""
_FORM = re.compile(
    rf"\s*(?P<name>{_QUOTED}|[a-zA-Z_:][a-zA-Z0-9_:.\-/]*)\s*(?P<op>=~|!~|!=|=)\s*(?P<value>{_QUOTED}|{_PLAIN_VALUE})\s*"
)
_ESCAPES = {"n": "\n"}
SYNTAX = "RE2's syntax, as in Alertmanager: no backreferences, no look-around"
_OPTIONS = re2.Options()
_OPTIONS.max_mem = 1024 * 1024  # bytes for an expression and the automaton that it grows
_OPTIONS.log_errors = False
Op = Literal["=", "!=", "=~", "!~"]


def parse(text: str) -> Matcher:
    """Return the matcher that a person wrote.

    Raises:
        Unusable: it is none, or `fault_of` its regular expression.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise Unusable(f"""{text!r} is no matcher; write for example 'service="checkout"' or 'alertname=~"Node.*"'""")
    matcher = Matcher(name=_plain(form["name"]), op=cast("Op", form["op"]), value=_plain(form["value"]))
    if wrong := fault_of(matcher):
        raise Unusable(f"{text!r}: {wrong}")
    return matcher


def fault_of(matcher: Matcher) -> str:
    """Return why the regular expression of a matcher cannot be used; empty where it can, or where there is none."""
    if matcher.op in ("=", "!="):
        return ""
    try:
        _pattern(matcher.value)
    except re2.error as error:
        (said,) = error.args
        return f"the regular expression does not compile: {said.decode(errors='replace')} ({SYNTAX})"
    except UnicodeEncodeError:
        return "the regular expression is no text"
    return ""


def written(matcher: Matcher) -> str:
    """Return a matcher as `parse` reads it."""
    value = matcher.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{matcher.name}{matcher.op}"{value}"'


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Return whether every matcher holds; a missing label is the empty string."""
    return all(matches(matcher, labels.get(matcher.name, "")) for matcher in matchers)


def matches(matcher: Matcher, value: str) -> bool:
    """Return whether one matcher holds for a label's value; regular expressions match the whole value.

    Raises:
        re2.error: `fault_of` the matcher is not empty.
    """
    if matcher.op in ("=", "!="):
        return (value == matcher.value) is (matcher.op == "=")
    return (_pattern(matcher.value).fullmatch(value) is not None) is (matcher.op == "=~")


@lru_cache(maxsize=1024)
def _pattern(text: str) -> Any:
    return re2.compile(text, _OPTIONS)


def _plain(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), text[1:-1])
