"""The settings file that `init` writes: every setting with its explanation, at its default, commented out. Pure.

Commented out, so that a later streamproc's better default counts for whoever did not choose another.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from streamproc.commands.fields import Path_, Section, Setting

WIDTH = 110
HEAD = """\
## Settings of streamproc. Lines with ## explain; lines with # are settings at their defaults: take the # away, and the
## one of the section above it, to change one. Spans of time are seconds, or ISO 8601: PT20M is 20 minutes, P1D a day.
## `streamproc check` says what is wrong with it. This file may hold keys: keep it readable by its owner alone.
"""


def settings_file(tree: Section, given: Mapping[Path_, Any]) -> str:
    """Return the text of a settings file.

    Args:
        tree: all settings.
        given: settings that are set, by path; all others stand as comments.
    """
    lines = [HEAD]
    for child in tree.children:
        lines.extend(_written(child, given))
        lines.append("")
    return "\n".join(lines)


def _written(item: Section | Setting, given: Mapping[Path_, Any]) -> Iterator[str]:
    indent = "  " * (len(item.path) - 1)
    for line in textwrap.wrap(item.explanation, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False):
        yield f"{indent}## {line}"
    if isinstance(item, Section):
        live = any(path[: len(item.path)] == item.path for path in given)
        yield f"{'' if live else '#'}{indent}{item.path[-1]}:"
        for child in item.children:
            yield from _written(child, given)
        return
    if item.variable:
        yield f"{indent}## The environment variable {item.variable} stands over it."
    mark = "" if item.path in given else "#"
    for line in _yaml(item.path[-1], given.get(item.path, item.default), WIDTH - len(indent)):
        yield f"{mark}{indent}{line}"


def _yaml(key: str, value: Any, width: int) -> list[str]:
    if value is None:
        return [f"{key}:"]
    if not isinstance(value, (list, dict)):
        return yaml.safe_dump({key: value}, allow_unicode=True).splitlines()
    first, *more = yaml.safe_dump(value, default_flow_style=True, width=width, allow_unicode=True).splitlines()
    return [f"{key}: {first}", *(f"  {line.strip()}" for line in more)]
