"""A policy test file, read: every fault with its line, and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from streamproc.core.errors import Unusable
from streamproc.policytest.format import Suite

ENDINGS = (".test.yaml", ".test.yml")
Place = tuple[str | int, ...]
MOST = 20
"""Faults of a file that are told."""


@dataclass(frozen=True, slots=True)
class Read:
    """A file of policy tests."""

    file: Path
    suite: Suite
    root: yaml.Node

    def line(self, *place: str | int) -> int:
        """Return the line (from 1) at which something of the file stands."""
        return line_of(self.root, place)


class Unreadable(Unusable):
    """A file holds no policy tests; `faults` has a line for each thing that is wrong."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def find(given: list[Path]) -> list[Path]:
    """Return the files that are meant: those named, and those in folders that end as test files do, in order.

    Raises:
        Unusable: something does not exist, or there is no test file.
    """
    found: list[Path] = []
    for place in given:
        if place.is_dir():
            found += sorted(file for file in place.rglob("*") if file.name.endswith(ENDINGS) and file.is_file())
        elif place.is_file():
            found.append(place)
        else:
            raise Unusable(f"{place} does not exist")
    if not found:
        raise Unusable(f"{', '.join(map(str, given))}: there is no file whose name ends with {' or '.join(ENDINGS)}")
    return list(dict.fromkeys(found))


def read(file: Path) -> Read:
    """Return the tests of a file.

    Raises:
        Unreadable: it cannot be read, is no YAML, or no policy tests.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable([f"{file} cannot be read: {error}"]) from None
    root, given = _parsed(file, text)
    if not isinstance(root, yaml.MappingNode):
        raise Unreadable([f"{file}: policy tests are a mapping with `cases:`"])
    doubled = [f"{file}:{line}: `{key}` stands here a second time" for key, line in _doubled(root)]
    if doubled:
        raise Unreadable(doubled[:MOST])
    try:
        return Read(file, Suite.model_validate(given), root)
    except ValidationError as error:
        raise Unreadable(list(faults(error, file, root))[:MOST]) from None


def _parsed(file: Path, text: str) -> tuple[yaml.Node | None, Any]:
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            return root, None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f":{mark.line + 1}"
        raise Unreadable([f"{file}{where}: it is no YAML: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable([f"{file}: it is no YAML: {' '.join(str(error).split())}"]) from None


def faults(error: ValidationError, file: Path, root: yaml.Node) -> Iterator[str]:
    """Yield what is wrong, as `file:line: place: fault`."""
    found = error.errors(include_url=False, include_input=False)
    for fault in found:
        if fault["type"] == "too_short":
            if any(one["loc"][: len(fault["loc"])] == fault["loc"] for one in found if one is not fault):
                continue  # what stands there was refused, each by a fault of its own
            fault["msg"] = "it is empty; at least one is needed"
        place: Place = tuple(part for part in fault["loc"] if part != "[key]")
        said = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            said = f"there is no such key{_meant(place)}"
        shown = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        yield f"{file}:{line_of(root, place)}: {shown}: {said}"


def line_of(root: yaml.Node, place: Place) -> int:
    """Return the line (from 1) of the deepest node on the way to `place`."""
    node, line = root, root.start_mark.line
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1


def _doubled(root: yaml.Node) -> Iterator[tuple[str, int]]:
    """Yield keys that stand twice in one mapping, of which YAML readers would take the last in silence."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                name = str(key.value)
                if name in keys and name != "<<":
                    yield name, key.start_mark.line + 1
                keys.add(name)
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)


def _meant(place: Place) -> str:
    model: type[BaseModel] | None = Suite
    for part in place[:-1]:
        model = model if isinstance(part, int) or model is None else _inner(model, part)
    if model is None:
        return ""
    known = [field.alias or name for name, field in model.model_fields.items()]
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(known)}"


def _inner(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the model of a field, also within a tuple or beside None."""
    field = model.model_fields.get(name)
    waiting = [] if field is None else [field.annotation]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
        waiting.extend(get_args(kind))
    return None


def shown(wanted: BaseModel) -> Mapping[str, Any]:
    """Return what was written of a model, as it was written."""
    found: dict[str, Any] = wanted.model_dump(mode="json", exclude_unset=True, by_alias=True)
    return found
