"""The settings as a tree that can be written down: what `init` and the reference docs are made from. Pure."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import AwareDatetime, BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from streamproc.settings import ELSEWHERE, Environment, Settings

Path_ = tuple[str, ...]
EXAMPLE = "default"
"""Name under which the entries of a mapping of sections are shown."""


@dataclass(frozen=True)
class Setting:
    """One key."""

    path: Path_
    kind: str
    """What it takes, in words."""
    default: Any
    """As JSON; None where it is empty, or has none."""
    required: bool
    explanation: str
    variable: str = ""
    """Environment variable that stands over it."""


@dataclass(frozen=True)
class Section:
    """A key with keys of its own."""

    path: Path_
    explanation: str
    children: tuple[Setting | Section, ...]


def settings_tree() -> Section:
    """Return all settings, in the order of their models."""
    return _section(Settings, (), "", _variables())


def every_section(tree: Section) -> Iterator[Section]:
    """Yield a section and all within it, in order."""
    yield tree
    for child in tree.children:
        if isinstance(child, Section):
            yield from every_section(child)


def _section(model: type[BaseModel], path: Path_, explanation: str, variables: Mapping[Path_, str]) -> Section:
    children: list[Setting | Section] = []
    for name, field in model.model_fields.items():
        at = (*path, name)
        if at in ELSEWHERE:
            continue
        said = " ".join((field.description or "").split())
        if (inner := _model(field.annotation)) is not None:
            children.append(_section(inner, at, said, variables))
        elif (entry := _mapped(field.annotation)) is not None:
            shown = _section(entry, (*at, EXAMPLE), "", variables)
            children.append(Section(at, said, (shown,)))
        else:
            required = field.is_required()
            default = None if required else _json(field.get_default(call_default_factory=True))
            children.append(Setting(at, _kind(field), default, required, said, variables.get(at, "")))
    return Section(path, explanation, tuple(children))


def _model(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _mapped(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a mapping's values, None where it is no mapping of sections."""
    origin, inner = get_origin(annotation), get_args(annotation)
    return _model(inner[1]) if isinstance(origin, type) and issubclass(origin, Mapping) else None


def _json(value: Any) -> Any:
    if isinstance(value, (frozenset, set)):
        return sorted(to_jsonable_python(value))
    return to_jsonable_python(value)


def _kind(field: FieldInfo) -> str:
    bounds = {annotated_types.Ge: "ge", annotated_types.Gt: "gt", annotated_types.Le: "le", annotated_types.Lt: "lt"}
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    said = [
        f"{words[bounds[type(one)]]} {_bound(getattr(one, bounds[type(one)]))}"
        for one in field.metadata
        if type(one) in bounds
    ]
    return ", ".join((_words(field.annotation), *said))


def _bound(value: object) -> str:
    return str(_json(value)) if isinstance(value, timedelta) else f"{value:,}"


def _words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("empty" if one is type(None) else _words(one) for one in inner)
    if origin in (tuple, frozenset, list):
        return f"list of {_words(inner[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {_words(inner[0])} to {_words(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{one.value}`" for one in annotation)
    if (model := _model(annotation)) is not None:
        return f"sections of {', '.join(f'`{name}`' for name in model.model_fields)}"
    return _NAMES[annotation]


_NAMES: dict[Any, str] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    SecretStr: "text (secret)",
    Path: "path of a file",
    timedelta: "span of time",
    AwareDatetime: "moment (ISO 8601 with an offset)",
}


def _variables() -> dict[Path_, str]:
    """Return the environment variable of each setting that has one, as `Environment` itself places them."""
    found = {}
    for name, field in Environment.model_fields.items():
        value: Any = SecretStr("x") if SecretStr in get_args(field.annotation) else "x"
        placed = Environment.model_construct(**{name: value}).over({})
        found[_deepest(placed)] = name.upper()
    return found


def _deepest(placed: Mapping[str, Any]) -> Path_:
    ((name, value),) = placed.items()
    return (name, *_deepest(value)) if isinstance(value, Mapping) else (name,)
