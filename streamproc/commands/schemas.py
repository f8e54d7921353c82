"""The schema of every event, from its model and the docstrings of its fields. Pure but for reading our own source."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from streamproc import topology
from streamproc.core.event import Event, Explained
from streamproc.events.shadow import Difference, Progress

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ROOT = topology.__name__.partition(".")[0]
OUTSIDE: tuple[type[Event], ...] = (Difference, Progress)
"""Events that no node of the topology takes or emits."""


def events() -> dict[str, type[Event]]:
    """Return every event that travels, by wire name: all are known once the topology is loaded, but for `OUTSIDE`."""
    kinds = (*_subclasses(Event), *OUTSIDE)
    found = {kind.TYPE: kind for kind in kinds if kind is not Explained and kind.__module__.startswith(ROOT)}
    return dict(sorted(found.items()))


def schema(kind: type[Event]) -> dict[str, Any]:
    """Return the JSON schema of the record value of an event."""
    head = {"$schema": DIALECT, "$id": f"{kind.TYPE}.json", "title": kind.__name__, "description": _about(kind)}
    if kind.encode is not Event.encode:
        return head  # its value is not the model's JSON: any bytes are
    made = kind.model_json_schema()
    models = {model.__name__: model for model in _models(kind)}
    _describe(made, kind)
    for name, definition in made.get("$defs", {}).items():
        if name in models:
            _describe(definition, models[name])
    return {**head, **{key: value for key, value in made.items() if key not in head}}


def written(kind: type[Event]) -> str:
    """Return the schema as its file holds it."""
    return json.dumps(schema(kind), indent=2, ensure_ascii=False) + "\n"


def _describe(definition: dict[str, Any], model: type[BaseModel]) -> None:
    definition["description"] = _about(model)
    said = explanations(model)
    for name, shape in definition.get("properties", {}).items():
        shape.pop("title", None)
        if name in said:
            shape["description"] = said[name]


def explanations(model: type[BaseModel]) -> dict[str, str]:
    """Return what the source says of each field: the string that stands below it."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if kind.__module__.startswith(ROOT):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
            assert isinstance(body, ast.ClassDef)  # noqa: S101  the source of a class is one
            for field, below in zip(body.body, body.body[1:], strict=False):
                text = _text(below)
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and text:
                    found[field.target.id] = text
    return found


def _text(node: ast.stmt) -> str:
    constant = node.value if isinstance(node, ast.Expr) else None
    value = constant.value if isinstance(constant, ast.Constant) else None
    return " ".join(value.split()) if isinstance(value, str) else ""


def _about(model: type[BaseModel]) -> str:
    return " ".join((inspect.getdoc(model) or "").split())


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for kind in _within(field.annotation):
            yield from _models(kind)


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _within(inner)


def _subclasses(kind: type[Event]) -> Iterator[type[Event]]:
    for found in kind.__subclasses__():
        yield found
        yield from _subclasses(found)
