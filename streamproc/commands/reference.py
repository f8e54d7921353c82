"""The reference docs, from the code alone: settings, topics and events. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamproc.commands.fields import EXAMPLE, Section, Setting, every_section
from streamproc.commands.schemas import schema
from streamproc.core.event import Activated, Event, Wake
from streamproc.core.step import Topology
from streamproc.core.topic import Topic
from streamproc.graph import mermaid

MADE = "<!-- Made by `streamproc generate` from the code. Do not edit. -->\n"
SETTINGS_INTRO = """\
A YAML file (`streamproc.yaml` in the working directory, or `--config FILE`) and environment variables, which stand over
the file. `streamproc init` writes a commented file; `streamproc check` says what is wrong with one. An unknown key is
an error. Spans of time are seconds, or ISO 8601 (`PT20M`, `P1D`).
"""
TOPICS_INTRO = """\
Public topics are a stable interface: fields may be added, and nothing is taken away or changes its meaning within a
version. Headers of every record: `type` (the event's wire name) and `now` (ISO 8601; the moment that decisions count
from). The value is JSON, but for `raw-alert.v1`.
"""
GRAPH_INTRO = """\
Public topics have a thick border. Dotted arrows go to every partition. What a node cannot use goes to `dead-letters`.
"""
LONGEST = 60
"""Characters of a default that stands in a table; a longer one is counted."""


def settings_page(tree: Section) -> str:
    """Return docs/settings.md."""
    blocks = [
        MADE,
        "# Settings\n",
        SETTINGS_INTRO,
    ]
    for section in every_section(tree):
        own = [child for child in section.children if isinstance(child, Setting)]
        name = ".".join("NAME" if part == EXAMPLE else part for part in section.path)
        blocks.append(f"## {f'`{name}`' if name else 'At the top'}\n")
        if section.explanation:
            blocks.append(f"{section.explanation}\n")
        if own:
            rows = [(f"`{one.path[-1]}`", one.kind, _default(one), _meaning(one)) for one in own]
            blocks.append(_table(("Key", "Takes", "Default", "Meaning"), rows))
    return "\n".join(blocks)


def topics_page(topics: Mapping[str, Topic], events: Mapping[str, type[Event]]) -> str:
    """Return docs/topics.md."""
    rows = [_topic_row(topic) for topic in topics.values()]
    inner = ", ".join(f"`{kind.TYPE}`" for kind in (Wake, Activated))
    blocks = [
        MADE,
        "# Topics and events\n",
        TOPICS_INTRO,
        _table(("Topic", "Holds", "Key", "Partitions", "Kept", "From", "To"), rows),
        f"An inbox may also hold {inner}: timers, and switches to another version of a large thing.\n",
        "# Events\n",
    ]
    for name, kind in events.items():
        made = schema(kind)
        blocks += [f"## `{name}`\n", f"{made['description']} Schema: [{name}.json](../schemas/{name}.json).\n"]
        needed = made.get("required", ())
        fields = [
            (f"`{field}`", _shape(shape), "yes" if field in needed else "", shape.get("description", ""))
            for field, shape in made.get("properties", {}).items()
        ]
        if fields:
            blocks.append(_table(("Field", "Type", "Required", "Meaning"), fields))
    return "\n".join(blocks)


def topics_readme(topics: Mapping[str, Topic], topology: Topology) -> str:
    """Return topics/README.md."""
    listed = "".join(
        f"- `{topic.name}`{' (public)' if topic.public else ''}: {topic.title}\n" for topic in topics.values()
    )
    return "\n".join(
        (
            MADE,
            "# Topics, in flow order\n",
            "One file a topic, `NN-name.vN.toml`: the only list there is. Code that names another fails at start.\n",
            listed,
            GRAPH_INTRO,
            f"```mermaid\n{mermaid(topology)}```\n",
        )
    )


def _topic_row(topic: Topic) -> tuple[str, ...]:
    kept = "newest of each key" if topic.cleanup == "compact" else f"{topic.retention_hours // 24} days"
    name = f"`{topic.name}`{' **public**' if topic.public else ''}"
    holds = f"{topic.title} {', '.join(f'`{event}`' for event in topic.events)}"
    key = f"`{topic.key}`" if topic.key else ""
    return name, holds, key, str(topic.partitions), kept, topic.producer, ", ".join(topic.consumers)


def _table(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(_lines(titles, rows)) + "\n"


def _lines(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'|'.join(' --- ' for _ in titles)}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _default(one: Setting) -> str:
    if one.required:
        return "must be given"
    if one.default is None:
        return "empty"
    told = json.dumps(one.default, ensure_ascii=False)
    return f"`{told}`" if len(told) <= LONGEST or not isinstance(one.default, list) else f"{len(one.default)} built in"


def _meaning(one: Setting) -> str:
    return f"{one.explanation} Environment: `{one.variable}`." if one.variable else one.explanation


def _shape(shape: Mapping[str, Any]) -> str:
    """Return the type that a piece of JSON schema describes, in words."""
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if "anyOf" in shape:
        return " or ".join(_shape(one) for one in shape["anyOf"])
    if "enum" in shape or "const" in shape:
        return ", ".join(f"`{value}`" for value in shape.get("enum", (shape.get("const"),)))
    kind = str(shape.get("type", "anything"))
    if kind == "array":
        return f"list of {_shape(shape.get('items', {}))}"
    if kind == "object" and isinstance(inner := shape.get("additionalProperties"), Mapping):
        return f"mapping to {_shape(inner)}"
    return {"date-time": "moment", "base64": "bytes (base64)"}.get(str(shape.get("format", "")), kind)
